"""Greedy maximisation of coverage minus penalty within limits: lazy or on random samples, ties by the earlier id."""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np

from curator.selection.limits import Limits, Tally
from curator.selection.objectives import Coverage
from curator.selection.problem import Column, Problem

Picks = tuple[list[int], list[float]]
_ENUMERATED = 200


def penalties(problem: Problem, bounds: Limits, weight: float) -> Column:
    """`(n,)` the penalty of each row in the objective: weight * z / k, or weight * z * cost / budget."""
    return weight * problem.z * bounds.cost / bounds.room


def pick(
    term: Coverage,
    penalty: Column,
    limits: Limits,
    *,
    stochastic: float | None,
    generator: np.random.Generator,
    start: Column | None = None,
) -> tuple[Picks, str]:
    """The picks of the greedy algorithm that suits the limits and `stochastic`, and its name; `start` as in
    `lazy_greedy`.
    """
    if limits.k is None:
        return budget_greedy(term, penalty, limits)
    if stochastic is not None:
        return stochastic_greedy(term, penalty, limits, stochastic, generator), "stochastic"
    return lazy_greedy(term, penalty, limits, start=start), "lazy"


def lazy_greedy(
    term: Coverage, penalty: Column, limits: Limits, *, per_cost: bool = False, start: Column | None = None
) -> Picks:
    """Rows in the order picked, each of the largest marginal value when it was picked, and these values.

    Must-include rows come first, in greedy order among themselves. Under k it goes on to k rows whatever their values;
    under a budget it takes a row only if its value is positive or its group is below its minimum.

    Args:
        term: Any coverage term; it is cleared first and holds the picked rows afterwards.
        penalty: `(n,)` penalty of each row in the objective.
        limits: Satisfiable limits.
        per_cost: Compare rows by value per cost.
        start: `(n,)` gains of all rows at the empty set, if they are known; they do not depend on the penalty.

    Gains never rise as rows are added, so an old gain is an upper bound and only the rows at the top of the heap are
    re-evaluated (Minoux 1978, Accelerated greedy algorithms for maximizing submodular set functions); the picks are
    those of the plain greedy algorithm, ties by the earlier id.
    """
    term.clear()
    tally = Tally(limits)
    unit = limits.cost if per_cost else np.ones(len(penalty))
    picks: list[int] = []
    values: list[float] = []
    for candidates, must in ((limits.include, True), (limits.free, False)):
        if not len(candidates) or tally.full():
            continue
        # `gains` sums over strips of columns and `gain` over one column, so the two differ in their last bits. The
        # bounds are raised slightly: a bound below the true gain would hide the best row.
        gains = (term.gains() if start is None or picks else start)[candidates]
        upper = gains + 1e-12 * (1.0 + np.abs(gains)) - penalty[candidates]
        heap = list(zip((-upper / unit[candidates]).tolist(), candidates.tolist(), strict=True))
        heapq.heapify(heap)
        while heap and not tally.full():
            # The heap's keys are stale: each was exact when its row was last evaluated, and has been an upper bound
            # since.
            _, row = heapq.heappop(heap)
            if not tally.fits(row):
                continue
            value = term.gain(row) - float(penalty[row])
            key = (-value / float(unit[row]), row)
            # A fresh value that beats the best stale bound beats all true values below it. Rows are numbered in the
            # order of their ids, so of two equal values the pair (-value, row) puts the earlier id first; a row with an
            # equal bound and an earlier id is thereby valued before this one is taken.
            if heap and key > heap[0]:
                heapq.heappush(heap, key)
                continue
            # Its value never rises later, so it need not be put back.
            if value <= 0.0 and limits.k is None and not must and not tally.needed(row):
                continue
            term.add(row)
            tally.take(row)
            picks.append(row)
            values.append(value)
    return picks, values


def budget_greedy(term: Coverage, penalty: Column, limits: Limits) -> tuple[Picks, str]:
    """The better of greedy by value and greedy by value per cost, and its name.

    For a pool of at most 200 rows also the best of both from every single row that has a positive value on its own. The
    value is at least (1 - 1/e) / 2 of the best if all penalties are zero or negative and there are no other limits.
    """
    # Greedy by value can spend the budget on one expensive row, and greedy by value per cost can leave too little room
    # for the row that matters. The better of both has the guarantee (Leskovec et al. 2007, Cost-effective outbreak
    # detection). Starts from every single row cost n times as much, and correct what both get wrong in small pools.
    starts = [limits]
    if len(penalty) <= _ENUMERATED:
        term.clear()
        first, tally = term.gains() - penalty, Tally(limits)
        for row in limits.include.tolist():
            tally.take(row)
        starts += [
            replace(limits, include=np.union1d(limits.include, [row]), free=np.setdiff1d(limits.free, [row]))
            for row in limits.free.tolist()
            if first[row] > 0.0 and tally.fits(row)
        ]
    best: Picks = ([], [])
    best_value, name = -np.inf, ""
    for start in starts:
        for per_cost, way in ((False, "uniform"), (True, "cost-benefit")):
            picks = lazy_greedy(term, penalty, start, per_cost=per_cost)
            value = objective_value(term, penalty, picks[0])
            if value > best_value:
                best, best_value, name = picks, value, way if start is limits else f"{way} from one row"
    return best, name


def stochastic_greedy(
    term: Coverage, penalty: Column, limits: Limits, epsilon: float, generator: np.random.Generator
) -> Picks:
    """`lazy_greedy` to k rows, but each pick is the best of a random sample of (n / k) log(1 / epsilon) rows.

    At most n log(1 / epsilon) gains are computed whatever k. Without penalties the expected value is at least 1 - 1/e -
    epsilon of the best (Mirzasoleiman et al. 2015, Lazier than lazy greedy, arXiv 1409.7938). Must-include rows come
    first, by id.

    Args:
        term, penalty, limits: As in `lazy_greedy`, with a size k.
        epsilon: In (0, 1); a smaller one gives larger samples.
        generator: Source of the samples.
    """
    assert limits.k is not None
    term.clear()
    tally = Tally(limits)
    picks: list[int] = []
    values: list[float] = []

    def take(row: int, value: float) -> None:
        term.add(row)
        tally.take(row)
        picks.append(row)
        values.append(value)

    for row in limits.include.tolist():
        take(row, term.gain(row) - float(penalty[row]))
    size = max(1, int(np.ceil(len(limits.free) / limits.k * np.log(1.0 / epsilon))))
    left = limits.free.tolist()
    while not tally.full():
        # The sample is moved to the end of the list, so a draw costs the same however many rows are left.
        sample: list[int] = []
        while left and len(sample) < size:
            at = int(generator.integers(len(left)))
            left[at], left[-1] = left[-1], left[at]
            row = left.pop()
            if tally.fits(row):
                sample.append(row)
        # The penalty less the gain is the negative value, so the smallest pair is the best row, ties by the earlier id.
        best = min((penalty[row] - term.gain(row), row) for row in sample)
        take(best[1], -float(best[0]))
        left += [row for row in sample if row != best[1]]
    return picks, values


def objective_value(term: Coverage, penalty: Column, rows: list[int]) -> float:
    """The objective's value of a set; the term holds the set afterwards."""
    term.clear()
    term.add_all(rows)
    return term.value() - float(penalty[rows].sum())


def follow(term: Coverage, penalty: Column, picks: list[int]) -> Picks:
    """These rows in this order and the value that each adds, for a set that is given and not chosen."""
    term.clear()
    values = []
    for row in picks:
        values.append(term.gain(row) - float(penalty[row]))
        term.add(row)
    return picks, values
