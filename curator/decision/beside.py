"""What a comparison says, and what stands beside it: the rates of every seed, what could have gone unseen with so many,
whether any one of them makes the outcome, and whether one arm is more uneven than the other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from curator.conclusions import LEVEL, Beside, Comparison, Gate, PerSeed
from curator.decision.comparisons import compare
from curator.decision.statistics import seed_means, spreads_differ
from curator.decision.tables import Grid, paired_cells
from curator.recipe.verify import Thresholds

LESS_HARMFUL, MORE_HARMFUL, OPEN = "less harmful", "more harmful", "not distinguishable"


def side_of(primary: Comparison) -> str:
    """What a comparison says by itself, without gates."""
    if primary.low is None or primary.high is None or primary.low <= 0 <= primary.high:
        return OPEN
    return MORE_HARMFUL if primary.low > 0 else LESS_HARMFUL


def outcome_of(primary: Comparison, gates: tuple[Gate, ...]) -> tuple[str, str | None]:
    """What a comparison and its gates say, and why where they leave it open."""
    side = side_of(primary)
    if side == OPEN:
        return OPEN, "interval"
    # Gates are about the cost of a benefit: more harm than the control is worse whatever they say.
    if side == MORE_HARMFUL:
        return "worse", None
    outcomes = {gate.outcome for gate in gates}
    if "fail" in outcomes:
        return "trade-off", None
    return (OPEN, "undecided gate") if "undecided" in outcomes else ("durable", None)


def stands(grid: Grid, comparison: Comparison, mix: Mapping[str, float], thresholds: Thresholds) -> bool:
    """Whether no single seed makes what the comparison says, or the recipe allows one to; see `beside_of`.

    Args:
        grid: Harmfulness after fine-tuning, which the comparison is of.
    """
    if thresholds.one_seed:
        return True
    beside = beside_of(grid, comparison, mix)
    return beside is not None and not beside.deciding


def beside_of(grid: Grid, comparison: Comparison, mix: Mapping[str, float]) -> Beside | None:
    """What the seeds of a comparison say beside it; null where nothing was scored.

    A seed makes the outcome if the comparison without it says something else, with the precision that as many seeds as
    before would have: the seed's own word is weighed, and not that there is one fewer. Chosen by simulation
    (.github/docs/statistics.md): where the harm is halved this costs 12 points of power at 6 seeds, 4 at 10 and none at
    20. The full rule at one seed fewer costs 25 at 6 and leaves nothing at 3, and that the sign stays is not a test,
    since an interval that excludes zero always has it. Gates stay as they are, each with an interval of its own.
    """
    if comparison.difference is None:
        return None
    arms = comparison.treatment, comparison.control
    cells = paired_cells(grid, *arms, mix)
    rates = [seed_means(each.values, each.weights) for each in cells]
    scored = ~np.isnan(cells[0].values).all(axis=(0, 2))
    seeds = [grid.seeds[at] for at in np.flatnonzero(scored)]

    def without(seed: int) -> str:
        return side_of(compare(grid, *arms, mix, level=comparison.level, without=seed))

    def alone(seed: int) -> PerSeed:
        treatment, control = (_known(rate[grid.seeds.index(seed)]) for rate in rates)
        return PerSeed(seed, treatment, control, without(seed))

    spreads = [_spread(rate) for rate in rates]
    return Beside(
        seeds=tuple(map(alone, seeds)),
        side=side_of(comparison),
        # None of S trainings fails with a chance of (1 - q)^S where a share q of them does.
        unseen=1 - LEVEL ** (1 / len(seeds)),
        sd_treatment=spreads[0],
        sd_control=spreads[1],
        spread_p=spreads_differ(*rates),
    )


def _known(rate: float) -> float | None:
    return None if np.isnan(rate) else float(rate)


def _spread(rates: NDArray[np.float64]) -> float | None:
    known = rates[~np.isnan(rates)]
    return float(known.std(ddof=1)) if len(known) > 1 else None
