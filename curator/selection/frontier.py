"""The frontier between coverage and similarity, for a set that was given, or chosen at a weight or by trials.

`floor` tries lambdas until one keeps the floor. Here a few are tried only for a plot: they show what other sets within
the same limits reach, beside the set and random ones. They do not change the choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curator.selection.certificate import RANDOM_SETS, largest_sum, random_rows, rounding
from curator.selection.floor import FRONTIER_SCHEMA, Row
from curator.selection.greedy import objective_value, penalties, pick
from curator.selection.objectives import coverage_term

if TYPE_CHECKING:
    from curator.records import Selection
    from curator.selection.limits import Limits
    from curator.selection.problem import Problem

_STEPS = (1.0, 4.0)
"""The lambdas tried beside 0, as multiples of the lambda at which coverage alone and similarity alone tie."""


def frontier(
    problem: Problem, bounds: Limits, selection: Selection, *, stochastic: float | None = None
) -> tuple[Row, ...]:
    """The set, greedy sets at lambda 0 and at _STEPS with the set's sign, and 16 random sets within the same limits.

    Args:
        problem, bounds: What the selection was solved from.
        selection: A selection without a floor; with one, its own `frontier` holds all of this.
        stochastic: As in `select`.

    Returns:
        Rows in the columns of FRONTIER_SCHEMA, by rising |lambda|, then random sets. The set's `kind` is `lambda` if
        greedy chose it, else `given`; `bound` is its certificate, null for the others.
    """
    term = coverage_term(selection.objective, problem, selection.parameters["objective"])
    unit, free = penalties(problem, bounds, 1.0), np.zeros(len(problem.ids))
    term.clear()
    start = term.gains()

    def measured(rows: list[int]) -> tuple[float, float]:
        return objective_value(term, free, rows), float(unit[rows].sum())

    def at(weight: float) -> tuple[float, float]:
        generator = np.random.default_rng(selection.seed)
        (rows, _), _ = pick(term, weight * unit, bounds, stochastic=stochastic, generator=generator, start=start)
        return measured(rows)

    generator = np.random.default_rng(selection.seed)
    draws = [measured(random_rows(bounds, generator).tolist()) for _ in range(RANDOM_SETS)]
    random = float(np.mean([coverage for coverage, _ in draws]))
    row_of = {row_id: row for row, row_id in enumerate(problem.ids)}
    chosen = measured([row_of[row_id] for row_id in selection.ids])
    tries = {0.0: at(0.0)}
    sign = -1.0 if selection.weight < 0.0 else 1.0
    reach = abs(tries[0.0][1] + sign * largest_sum(bounds, -sign * unit))
    span = max(0.0, tries[0.0][0] - random)
    if reach > 1e-9 and span > 0.0:
        tries |= {sign * step * span / reach: at(sign * step * span / reach) for step in _STEPS}
    greedy = selection.parameters["greedy"] != "given"
    if greedy:
        tries[selection.weight] = chosen  # replaces the point of the same lambda, so that the set appears once
    most = max(coverage for coverage, _ in [chosen, *tries.values()])

    def row(kind: str, values: tuple[float, float], *, weight: float | None = None, is_chosen: bool = False) -> Row:
        coverage, similarity = values
        share = (coverage - random) / (most - random) if most - random > rounding(most) else None
        value = None if weight is None else coverage - weight * similarity
        bound = selection.bound if is_chosen else None
        return dict(
            zip(FRONTIER_SCHEMA, (kind, weight, coverage, share, similarity, value, bound, is_chosen), strict=True)
        )

    return (
        *(
            row("lambda", tries[weight], weight=weight, is_chosen=greedy and weight == selection.weight)
            for weight in sorted(tries, key=abs)
        ),
        *([] if greedy else [row("given", chosen, weight=selection.weight, is_chosen=True)]),
        *(row("random", draw) for draw in draws),
    )
