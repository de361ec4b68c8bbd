"""What a piece of a run was computed with, and whether the pieces of one run were computed alike.

Sums over another number of threads, on another device, in another dtype or by another version of a library round
differently. None of this is in a key: a run that moves to another machine keeps what it has. So each piece's marker
says what it was computed with, and a run that mixes them is said to.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "vllm")
"""What trains and answers. Other libraries that change numbers are in the report's provenance."""


def computed_with() -> dict[str, Any]:
    """For this process: `threads`, `device`, `dtype` and `versions` of LIBRARIES; empty where torch is not loaded, so
    that a process which computes nothing does not load it.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    cuda = bool(torch.cuda.is_available())
    return {
        "threads": int(torch.get_num_threads()),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        # Of products; `model.load` keeps whole weights that are trained in float32 everywhere.
        "dtype": "bfloat16" if cuda else "float32",
        "versions": _versions(),
    }


@cache
def _versions() -> dict[str, str]:
    installed = {}
    for name in LIBRARIES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def mixture(pieces: Iterable[Mapping[str, Any]]) -> str | None:
    """What differs between pieces, as a sentence; null where they were computed alike.

    Args:
        pieces: What the marker of each says of where it was made. A piece of an earlier version, which did not say
            what it was computed with, is left out: unknown is not different.
    """
    counts: dict[str, Counter[str]] = {}
    for piece in pieces:
        values = {name: piece[name] for name in ("threads", "device", "dtype") if name in piece}
        values |= piece.get("versions", {})
        for name, value in values.items():
            counts.setdefault(name, Counter())[str(value)] += 1
    mixed = {name: values for name, values in counts.items() if len(values) > 1}
    if not mixed:
        return None
    differences = "; ".join(
        f"{name} {' and '.join(f'{value} ({count})' for value, count in sorted(values.items()))}"
        for name, values in mixed.items()
    )
    return (
        f"The models of this run were not all trained and evaluated with the same settings: {differences} (the number "
        "of trainings and sets of answers in brackets). Sums round differently, which can change single answers."
    )
