"""What a set may hold: its size or budget, quotas of disjoint groups, rows that must be in and rows that may not."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from curator.errors import SelectionError
from curator.selection.problem import Column, Problem, Rows, column

Quotas = Mapping[Any, tuple[int | None, int | None]]


@dataclass(frozen=True)
class Limits:
    """Limits on a set of the `n` sorted rows of a Problem, checked to be satisfiable.

    Attributes:
        k: The exact size, or null under a budget.
        room: k or the budget. `cost`: `(n,)` what each row takes of it; ones under k.
        include: Rows that must be in, rising. `free`: the other allowed rows, rising.
        group: `(n,)` group number. `low`, `high`: `(g,)` least and most rows of each. `names`: `g` group labels.
    """

    k: int | None
    room: float
    cost: Column
    include: Rows
    free: Rows
    group: Rows
    low: Rows
    high: Rows
    names: tuple[str, ...]

    @property
    def quotas(self) -> bool:
        """Whether any group has a limit that can matter."""
        return bool((self.low > 0).any() or (self.high < np.bincount(self.group, minlength=len(self.low))).any())


class Tally:
    """What is used of the limits so far, with what the unfilled minima still need set aside.

    Under a budget a row fits if the minima can still be filled with it. For that, each group's minimum holds the costs
    of its cheapest rows aside; a dearer row that is taken stands for the dearest of them, and only the difference is
    new.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._count = np.zeros(len(limits.low), dtype=np.int64).tolist()
        self._high = limits.high.tolist()
        self._group = limits.group
        self.used = 0.0
        # Costs of the cheapest rows that would fill each minimum, rising; must-include rows count first.
        self._aside: list[list[float]] = []
        allowed = np.concatenate([limits.include, limits.free])
        for number, least in enumerate(limits.low.tolist()):
            if least == 0:
                self._aside.append([])
                continue
            must = np.sort(limits.cost[limits.include[limits.group[limits.include] == number]])
            rest = np.sort(limits.cost[limits.free[limits.group[limits.free] == number]])
            self._aside.append(sorted([*must[:least].tolist(), *rest[: max(0, least - len(must))].tolist()]))
        self._room = limits.room * (1 + 1e-12)  # sums of costs made in another order may differ in the last bits
        self._cheapest = float(limits.cost[allowed].min()) if len(allowed) else np.inf
        self.committed = float(sum(sum(costs) for costs in self._aside))

    def needed(self, row: int) -> bool:
        """Whether the row's group is still below its minimum."""
        return bool(self._aside[self._group[row]])

    def _extra(self, row: int) -> float:
        aside = self._aside[self._group[row]]
        cost = float(self._limits.cost[row])
        return max(0.0, cost - aside[-1]) if aside else cost

    def fits(self, row: int) -> bool:
        """Whether the set with this row can still be completed within the limits; once false, it stays false."""
        if self._count[self._group[row]] >= self._high[self._group[row]]:
            return False
        return self.committed + self._extra(row) <= self._room

    def barred(self, row: int) -> str | None:
        """Which limit keeps a row out of a finished set: `quota`, `budget`, or null; that k rows are in is not one."""
        if self._count[self._group[row]] >= self._high[self._group[row]]:
            return "quota"
        return "budget" if self._limits.k is None and not self.fits(row) else None

    def full(self) -> bool:
        """Whether no row at all fits any more."""
        return self.used + self._cheapest > self._room

    def take(self, row: int) -> None:
        """Counts a row as taken; it must fit."""
        group, cost = self._group[row], float(self._limits.cost[row])
        self.committed += self._extra(row)
        self.used += cost
        self._count[group] += 1
        aside = self._aside[group]
        if aside:
            # The row is one of those set aside, or stands for the dearest of them.
            at = bisect_left(aside, cost)
            aside.pop(at if at < len(aside) and aside[at] == cost else -1)

    def counts(self) -> dict[str, int]:
        """Rows taken of each group, by label."""
        return {name: int(count) for name, count in zip(self._limits.names, self._count, strict=True)}


def limits(
    problem: Problem,
    k: int | None = None,
    *,
    groups: Sequence[Any] | None = None,
    quotas: Quotas | None = None,
    costs: ArrayLike | None = None,
    budget: float | None = None,
    include: Sequence[str] | Sequence[int] = (),
    exclude: Sequence[str] | Sequence[int] = (),
) -> Limits:
    """Reads and checks the limits of a selection.

    Args:
        problem: The pool.
        k: Exact size, 1 to n. Exactly one of k and budget.
        groups: `n` labels in the caller's row order; a row is in one group.
        quotas: Label -> (min, max); null for no limit. Groups that are not named have none.
        costs: `(n,)` > 0 in the caller's row order, e.g. tokens; needed with budget and only then.
        budget: The most that the costs of the set may sum to.
        include, exclude: Ids that must, and may not, be in.

    Raises:
        SelectionError: A limit that cannot be read, or limits that no set meets; it says which, and the largest k that
            is possible.
    """
    n = len(problem.ids)
    if (k is None) == (budget is None):
        raise SelectionError(f"k and budget: found k={k} and budget={budget}; give exactly one of them")
    cost, room = _room(problem, k, costs, budget)
    included, excluded = _rows("include", include, problem), _rows("exclude", exclude, problem)
    both = np.intersect1d(included, excluded)
    if both.size:
        raise SelectionError(
            f"include and exclude: both name {problem.ids[both[0]]!r}; a row can be in only one of them"
        )
    group, names, low, high = _groups(problem, groups, quotas)
    free = np.setdiff1d(np.arange(n), np.concatenate([included, excluded]))
    result = Limits(None if k is None else int(k), room, cost, included, free, group, low, high, names)
    _satisfiable(result)
    return result


def _room(problem: Problem, k: int | None, costs: ArrayLike | None, budget: float | None) -> tuple[Column, float]:
    n = len(problem.ids)
    if k is not None:
        if costs is not None:
            raise SelectionError("costs: given together with k; costs are for a budget, so give budget instead of k")
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= n:
            raise SelectionError(f"k: found {k!r}; it must be a whole number from 1 to the {n} rows of the pool")
        return np.ones(n), float(k)
    if costs is None:
        raise SelectionError("costs: missing; a budget needs the cost of every row, e.g. its tokens")
    assert budget is not None
    if not np.isfinite(budget) or budget <= 0:
        raise SelectionError(f"budget: found {budget!r}; it must be a positive number")
    cost = column("costs", costs, n, low=0.0)[problem.rows]
    if (cost == 0).any():
        raise SelectionError(f"costs: row {problem.ids[int(np.argmin(cost))]!r} costs 0; every cost must be positive")
    if cost.min() > budget:
        raise SelectionError(f"budget: {budget:g} is less than the cheapest row costs ({cost.min():g}); no row fits")
    return cost, float(budget)


def _rows(name: str, ids: Sequence[str] | Sequence[int], problem: Problem) -> Rows:
    if isinstance(ids, str):
        raise SelectionError(f"{name}: found the text {ids!r}; give a list of ids")
    named = {str(row_id) for row_id in ids}
    if not named:
        return np.empty(0, dtype=np.int64)
    rows = np.array([row for row, row_id in enumerate(problem.ids) if row_id in named], dtype=np.int64)
    if len(rows) < len(named):
        missing = sorted(named - set(problem.ids))
        raise SelectionError(f"{name}: {missing[0]!r} is no id of this pool ({len(missing)} such); check the list")
    return rows


def _groups(
    problem: Problem, groups: Sequence[Any] | None, quotas: Quotas | None
) -> tuple[Rows, tuple[str, ...], Rows, Rows]:
    n = len(problem.ids)
    if groups is None:
        if quotas:
            raise SelectionError("groups: missing; quotas need the group of every row")
        return np.zeros(n, dtype=np.int64), ("all",), np.array([0]), np.array([n])
    if len(groups) != n:
        raise SelectionError(f"groups: {len(groups)} labels for {n} rows; there must be one a row")
    labels = [groups[row] for row in problem.rows.tolist()]
    names = sorted(set(labels), key=lambda label: (label is not None, str(label)))
    number = {label: at for at, label in enumerate(names)}
    low, high = np.zeros(len(names), dtype=np.int64), np.full(len(names), n, dtype=np.int64)
    for label, pair in (quotas or {}).items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(_whole_or_null, pair)):
            raise SelectionError(f"quotas[{label!r}]: found {pair}; give (min, max), whole numbers >= 0 or null")
        least, most = pair
        if label not in number:
            raise SelectionError(f"quotas[{label!r}]: the group is empty, no row has this label; take the quota out")
        low[number[label]], high[number[label]] = least or 0, n if most is None else most
        if high[number[label]] < low[number[label]]:
            raise SelectionError(f"quotas[{label!r}]: min {least} is above max {most}; min may be at most max")
    group = np.array([number[label] for label in labels], dtype=np.int64)
    return group, tuple(map(str, names)), low, high


def _whole_or_null(bound: Any) -> bool:
    return bound is None or (not isinstance(bound, bool) and isinstance(bound, int | np.integer) and int(bound) >= 0)


def _satisfiable(limits: Limits) -> None:
    groups, group = len(limits.low), limits.group[limits.include]
    forced = np.bincount(group, minlength=groups)
    available = forced + np.bincount(limits.group[limits.free], minlength=groups)
    for number, name in enumerate(limits.names):
        if available[number] < limits.low[number]:
            raise SelectionError(
                f"quotas[{name!r}]: min is {limits.low[number]} and only {available[number]} rows of the group may be "
                "chosen; lower it"
            )
        if forced[number] > limits.high[number]:
            raise SelectionError(
                f"include: names {forced[number]} rows of group {name!r}, whose max is {limits.high[number]}"
            )
    # Groups are disjoint, so each gives from max(min, forced) to min(max, available) rows on its own, and every total
    # between the sums is possible.
    least = np.maximum(limits.low, forced)
    largest = int(np.minimum(limits.high, available).sum())
    if limits.k is None:
        # What the minima hold aside, and the must-include rows of each group beyond its minimum.
        forced_costs = (np.sort(limits.cost[limits.include[group == number]]) for number in range(groups))
        beyond = sum(float(costs[low:].sum()) for costs, low in zip(forced_costs, limits.low.tolist(), strict=True))
        needs = Tally(limits).committed + beyond
        if needs > limits.room * (1 + 1e-12):
            raise SelectionError(
                f"budget: {limits.room:g} is less than include and quota minima cost at least ({needs:g})"
            )
    elif largest < limits.k:
        cause = "exclude" if available.sum() < limits.k else "quotas"
        raise SelectionError(
            f"k: {limits.k} is impossible because of {cause}; the largest k that is possible is {largest}"
        )
    elif len(limits.include) > limits.k:
        raise SelectionError(f"include: names {len(limits.include)} rows and k is {limits.k}; k must be at least that")
    elif least.sum() > limits.k:
        raise SelectionError(
            f"quotas: the minima (with include) need {least.sum()} rows and k is {limits.k}; k may be from "
            f"{least.sum()} to {largest}"
        )
