"""The outcome of a comparison and its diagnostics: the rates of every seed, the failures that this many seeds can miss,
whether a single seed decides, and whether the arms vary unequally over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from curator.conclusions import LEVEL, Beside, Comparison, Gate, PerSeed, Side
from curator.conclusions.part import Outcome
from curator.decision.comparisons import compare
from curator.decision.statistics import seed_means, spreads_differ
from curator.decision.tables import Grid, paired_cells
from curator.recipe.verify import Thresholds

LESS_HARMFUL: Final = "less harmful"
MORE_HARMFUL: Final = "more harmful"
OPEN: Final = "not distinguishable"


@dataclass(frozen=True)
class Unscored:
    """A gate whose outcome unscored answers could turn: the number of `pairs` with one, and whether it is `every`."""

    name: str
    pairs: int
    every: bool


def side_of(primary: Comparison) -> Side:
    """The outcome of a comparison by itself, without gates."""
    if primary.low is None or primary.high is None or primary.low <= 0 <= primary.high:
        return OPEN
    return MORE_HARMFUL if primary.low > 0 else LESS_HARMFUL


def outcome_of(primary: Comparison, gates: tuple[Gate, ...]) -> tuple[Outcome, str | None]:
    """The outcome of a comparison and its gates, with the reason if it is open."""
    side = side_of(primary)
    if side == OPEN:
        return OPEN, "interval"
    # Gates are about the cost of a benefit: more harm than the control is worse whatever their result.
    if side == MORE_HARMFUL:
        return "worse", None
    outcomes = {gate.outcome for gate in gates}
    if "fail" in outcomes:
        return "trade-off", None
    return (OPEN, "undecided gate") if "undecided" in outcomes else ("durable", None)


def stands(grid: Grid, comparison: Comparison, mix: Mapping[str, float], thresholds: Thresholds) -> bool:
    """Whether the outcome does not depend on a single seed, or the recipe allows that; see `beside_of`.

    Args:
        grid: Harmfulness after fine-tuning, which `comparison` was computed from.
    """
    if thresholds.one_seed:
        return True
    beside = beside_of(grid, comparison, mix)
    return beside is not None and not beside.deciding


def beside_of(grid: Grid, comparison: Comparison, mix: Mapping[str, float], *, cases: int = 1) -> Beside | None:
    """The diagnostics of a comparison by seed; null if nothing was scored. `cases` is that of `compare`.

    A seed decides the outcome if the comparison without it has another outcome, at the precision of the original number
    of seeds: this measures the influence of the seed, not the loss of one seed. The rule was chosen by simulation
    (.github/docs/statistics.md): if the harm is halved, it costs 12 points of power at 6 seeds, 4 at 10 and none at 20.
    The full rule with one seed fewer costs 25 points at 6 seeds and leaves no power at 3. Requiring only that the sign
    stays is not a test, since an interval that excludes zero always passes it. Gates are not recomputed; each has its
    own interval.
    """
    if comparison.difference is None:
        return None
    arms = comparison.treatment, comparison.control
    cells = paired_cells(grid, *arms, mix)
    rates = [seed_means(each.values, each.weights) for each in cells]
    scored = ~np.isnan(cells[0].values).all(axis=(0, 2))
    seeds = [grid.seeds[at] for at in np.flatnonzero(scored)]

    assert comparison.level is not None
    level = comparison.level

    def without(seed: int) -> Side:
        return side_of(compare(grid, *arms, mix, level=level, without=seed, cases=cases))

    def alone(seed: int) -> PerSeed:
        treatment, control = (_known(rate[grid.seeds.index(seed)]) for rate in rates)
        return PerSeed(seed=seed, treatment=treatment, control=control, without=without(seed))

    spreads = [_spread(rate) for rate in rates]
    each, side, spread_p = tuple(map(alone, seeds)), side_of(comparison), spreads_differ(*rates)
    return Beside(
        seeds=each,
        side=side,
        deciding=tuple(one.seed for one in each if one.without != side),
        # If a share q of trainings fails, none of S fails with probability (1 - q)^S.
        unseen=1 - LEVEL ** (1 / len(seeds)),
        sd_treatment=spreads[0],
        sd_control=spreads[1],
        spread_p=spread_p,
        uneven=spread_p is not None and spread_p <= LEVEL,
    )


def _known(rate: float) -> float | None:
    return None if np.isnan(rate) else float(rate)


def _spread(rates: NDArray[np.float64]) -> float | None:
    known = rates[~np.isnan(rates)]
    return float(known.std(ddof=1)) if len(known) > 1 else None
