"""What a piece of a run was computed with, and whether the pieces of one run were computed in the same way.

Sums over another number of threads, on another device, in another dtype or by another version of a library round
differently. None of this is in a key: a run that moves to another machine keeps its pieces. So each piece's marker
records what it was computed with, written by the process that computed it.

A grid in which some pieces were computed on another device, in another dtype or by other versions stops unless the
recipe says `engine.mix: true`: its models would differ in more than the arm. Another number of threads is reported but
allowed: it follows from the machine's cores and from `engine.workers`, which a user may change when continuing a run,
and affects only last bits.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version

from curator import __version__
from curator.errors import RunError

DECIDING = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "vllm")
"""Libraries that train and generate answers; pieces of one grid must have the same version of each."""

FAISS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12", "faiss-gpu-cuvs", "faiss-gpu-cu12-cuvs", "faiss-cuda")
"""The names under which faiss is installed. Two of them share one folder, and overwrite each other's files."""

LIBRARIES = (
    *DECIDING, "tokenizers", "sentence-transformers", *FAISS, "polars", "pyarrow", "datasets", "numpy",
    "scipy",
)  # fmt: skip
"""Libraries that can change a number."""

REFUSED = ("device", "dtype", "answered_by", *DECIDING)
"""Facts in which pieces of one grid must not differ, unless the recipe mixes them."""

_noted: list[dict[str, object]] = [{}]


@contextmanager
def noting() -> Iterator[None]:
    """While the block runs, facts given to `note` apply to one piece, and not to an outer one."""
    _noted.append({})
    try:
        yield
    finally:
        _noted.pop()


def note(**facts: object) -> None:
    """Records facts about the current piece that only the code that computes it knows: the dtype of its products, or
    the result of `computed_with` in other processes that computed it.
    """
    _noted[-1].update(facts)


def note_dtype(model: object) -> None:
    """Records the torch dtype of the current piece: that of a loaded model, or the one of this name."""
    dtype = model if isinstance(model, str) else getattr(model, "dtype", None)
    if dtype is not None:
        note(dtype=str(dtype).removeprefix("torch."))


def computed_with() -> dict[str, object]:
    """For this process and piece: `versions` of LIBRARIES, and, if torch is loaded, `threads`, `device` and, if it was
    noted, `dtype`. A process that computes nothing does not load torch for this.
    """
    facts: dict[str, object] = {"versions": versions()}
    torch = sys.modules.get("torch")
    if torch is not None:
        cuda = bool(torch.cuda.is_available())
        facts["threads"] = int(torch.get_num_threads())
        facts["device"] = torch.cuda.get_device_name() if cuda else "cpu"
    return facts | _noted[-1]


@cache
def versions() -> dict[str, str]:
    """Version of Python, of curator and of every library of LIBRARIES that is installed."""
    installed = {"python": python_version(), "curator": __version__}
    for name in LIBRARIES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def counted(pieces: Iterable[Mapping[str, object]]) -> dict[str, Counter[str]]:
    """For threads, device, dtype, the engine of answers and each library: the number of pieces by value.

    Args:
        pieces: The record in each marker of where the piece was made. Pieces of earlier versions without such a record
            are left out: unknown is not different.
    """
    counts: dict[str, Counter[str]] = {}
    for piece in pieces:
        for name, value in _values(piece).items():
            counts.setdefault(name, Counter())[value] += 1
    return counts


def _values(piece: Mapping[str, object]) -> dict[str, str]:
    values = {name: piece[name] for name in ("threads", "device", "dtype", "answered_by") if name in piece}
    versions = piece.get("versions")
    return {name: str(value) for name, value in (values | (versions if isinstance(versions, dict) else {})).items()}


def _listed(values: Counter[str]) -> str:
    return " and ".join(f"{value} ({count})" for value, count in sorted(values.items()))


def mixture(pieces: Iterable[Mapping[str, object]]) -> str | None:
    """A sentence about differences between pieces; null if they were computed in the same way. `pieces` as in
    `counted`.
    """
    counts = {name: values for name, values in counted(pieces).items() if name in ("threads", *REFUSED)}
    differences = [f"{name} {_listed(values)}" for name, values in counts.items() if len(values) > 1]
    if not differences:
        return None
    return (
        f"The models of this run were not all trained and evaluated with the same settings: {'; '.join(differences)} "
        "(numbers of trainings and sets of answers in brackets). Rounding then differs, which can change single "
        "answers."
    )


def require_alike(pieces: Mapping[str, Mapping[str, object]], here: Mapping[str, object] | None = None) -> None:
    """Checks that pieces do not differ in REFUSED, for a recipe that does not mix them.

    Args:
        pieces: Folder of a finished piece -> the record in its marker of where it was made.
        here: What this process computes with, before it makes another piece; null to compare only the pieces.

    Raises:
        RunError: They differ; the message says how, which pieces, and what to do.
    """
    common = {name: values.most_common(1)[0][0] for name, values in counted(pieces.values()).items()}
    wanted = common if here is None else _values(here)
    others: dict[str, Counter[str]] = {}
    folders = []
    for folder, piece in sorted(pieces.items()):
        different = {
            name: value
            for name, value in _values(piece).items()
            if name in REFUSED and wanted.get(name, value) != value
        }
        for name, value in different.items():
            others.setdefault(name, Counter())[value] += 1
        folders += [folder] if different else []
    if not folders:
        return
    differences = "; ".join(
        f"{name} {' and '.join(sorted(values))} instead of {wanted[name]}" for name, values in others.items()
    )
    listed = ", ".join(folders[:3]) + (f" and {len(folders) - 3} more" if len(folders) > 3 else "")
    raise RunError(
        f"engine.mix: finished pieces of this grid ({listed}) were computed differently from "
        f"{'the others' if here is None else 'this process'}: {differences}. A difference between arms could come from "
        "that. Continue on the machine that made them, remove their folders to make them again, name another folder "
        "with --out, or set engine.mix to true to continue anyway; the report then says so"
    )
