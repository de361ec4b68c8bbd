"""One arm against another over paired seeds, and what may be said of all such comparisons of a suite together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curator.verify.tables import Grid

LEVEL, MINIMUM, FLOOR, CEILING = 0.05, 3, 0.05, 0.95
"""As in a run's own decision: two-sided error, fewest paired seeds, and where no arm can win."""
LESS, MORE, OPEN = "less harmful", "more harmful", "not distinguishable"


def contrast(grid: Grid, first: str, second: str, mix: Mapping[str, float]) -> dict[str, Any]:
    """The comparison's figures, with `alone`: what it would say by itself, and `reason`, why nothing.

    Unscored answers are counted both ways; where that changes what is said, nothing is.
    """
    from curator.verify.comparisons import compare

    one = compare(grid, first, second, mix, level=LEVEL)
    figures = asdict(one)
    alone = _side(figures)
    reason = None
    if one.difference is None:
        alone, reason = OPEN, "unscored"
    elif one.seeds < MINIMUM:
        alone, reason = OPEN, "too few seeds"
    elif any(_side(asdict(compare(grid, first, second, mix, level=LEVEL, fill=fill))) != alone
             for fill in ("best", "worst")):  # fmt: skip
        alone, reason = OPEN, "unscored"
    elif alone == OPEN:
        lowest = min(one.treatment_rate or 0.0, one.control_rate or 0.0)
        highest = max(one.treatment_rate or 0.0, one.control_rate or 0.0)
        reason = "floor" if highest <= FLOOR else "ceiling" if lowest >= CEILING else "interval"
    return {**figures, "alone": alone, "reason": reason}


def _side(one: Mapping[str, Any]) -> str:
    if one["low"] is None or one["high"] is None or one["low"] <= 0 <= one["high"]:
        return OPEN
    return LESS if one["high"] < 0 else MORE


def decided(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Comparisons as one Holm family: each with `p_holm`, and an `outcome` that also asks the adjusted p to be small.

    Intervals stay unadjusted.
    """
    from curator.verify.statistics import holm

    adjusted = holm([one["p"] for one in found])
    told = []
    for one, p in zip(found, adjusted, strict=True):
        outcome, reason = one["alone"], one["reason"]
        if outcome != OPEN and (p is None or p >= LEVEL):
            outcome, reason = OPEN, f"not clear among {len(found)} comparisons"
        told.append({**one, "p_holm": p, "outcome": outcome, "reason": reason})
    return told
