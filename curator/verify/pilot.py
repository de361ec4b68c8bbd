"""The pilot: which candidate setting goes into the final experiment, decided on probes that the final one never uses.

A recipe that fixes every setting gives one candidate, and there is nothing to try: the table says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from curator.errors import RecipeError
from curator.run import write_json


@dataclass(frozen=True)
class Candidate:
    """A setting that selection could use: `weight` is lambda of the objective."""

    weight: float


def choose(candidates: Sequence[Candidate], folder: Path) -> Candidate:
    """The candidate to go on with; writes the pilot's whole table to `folder/candidates.json`.

    Raises:
        RecipeError: There is not exactly one candidate.
    """
    if len(candidates) != 1:
        raise RecipeError(f"select.weight: found {len(candidates)} candidates; name one number")
    table = {"candidates": [asdict(candidate) for candidate in candidates], "chosen": 0, "reason": "the only candidate"}
    write_json(folder / "candidates.json", table)
    return candidates[0]
