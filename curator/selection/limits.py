"""What a set may hold: its size or budget, quotas of disjoint groups, caps on rows that share a label, rows that must
be in and rows that may not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from curator.errors import SelectionError
from curator.selection.caps import Caps, CapsGiven, read, sized
from curator.selection.plan import Network, Plan
from curator.selection.problem import Column, Listed, Rows, column
from curator.wording import these

Quotas = Mapping[Any, tuple[int | None, int | None]]


@dataclass(frozen=True)
class Limits:
    """Limits on a set of the `n` sorted rows of a Problem; some set meets them all.

    Attributes:
        k: The exact size, or null under a budget.
        room: k or the budget. `cost`: `(n,)` cost of each row; ones under k.
        include: Rows that must be in, ascending. `free`: the other allowed rows, ascending.
        group: `(n,)` group number. `low`, `high`: `(g,)` least and most rows of each. `names`: `g` group labels.
        caps: Caps on rows that share a label, beside the quotas.
        closed: Row that a limit keeps out whatever is chosen -> the name of the limit.
        grouped: The name of the limit on groups.
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
    caps: Caps
    closed: Mapping[int, str] = field(default_factory=dict)
    grouped: str = "quota"

    @cached_property
    def quotas(self) -> bool:
        """Whether any group has a limit that can bind."""
        return bool((self.low > 0).any() or (self.high < np.bincount(self.group, minlength=len(self.low))).any())

    @cached_property
    def without_caps(self) -> Limits:
        """These limits without the caps; at least as many sets meet them."""
        return replace(self, caps=sized((), self.caps.size, self.free, ())) if self.caps else self

    @cached_property
    def without_quotas(self) -> Limits:
        """These limits without the quotas; at least as many sets meet them."""
        n = len(self.group)
        group, low, high = np.zeros(n, dtype=np.int64), np.array([0]), np.array([n])
        return replace(self, group=group, low=low, high=high, names=("all",)) if self.quotas else self

    @cached_property
    def network(self) -> Network:
        """Rows that may be chosen, counted by kind."""
        return Network.of(self)

    @cached_property
    def _filled(self) -> Rows:
        assert self.k is not None
        return self.network.filled(self.k - len(self.include))[1]

    def plan(self) -> Plan | None:
        """A plan that keeps greedy from stopping short of k; null unless there are both quotas and caps."""
        return Plan(self.network, self._filled) if self.k is not None and self.quotas and self.caps else None

    def largest(self) -> int:
        """The most rows that a set within the quotas' maxima and the caps can have."""
        if not self.caps:
            available = np.bincount(self.group[np.concatenate([self.include, self.free])], minlength=len(self.low))
            return int(np.minimum(self.high, available).sum())
        if not self.quotas:
            return len(self.include) + int(self.caps.kept(self.free, self.caps.used(self.include)).sum())
        return len(self.include) + self.network.filled(minima=False)[0]


class Tally:
    """How much of the limits is used so far, with a reserve for the unfilled minima.

    Under a budget a row fits if the minima can still be filled with it. For that, each group's minimum reserves the
    costs of its cheapest rows; a more expensive row that is taken replaces the most expensive of them, and only the
    difference is added.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._count = np.zeros(len(limits.low), dtype=np.int64).tolist()
        self._high = limits.high.tolist()
        self._group = limits.group
        self._caps = limits.caps
        self._capped, self._most = [0] * len(limits.caps.most), limits.caps.most.tolist()
        self._plan = limits.plan()
        self.used = 0.0
        # Costs of the cheapest rows that would fill each minimum, ascending; must-include rows count first.
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
        if self._caps and self._at_cap(row) is not None:
            return False
        if self.committed + self._extra(row) > self._room:
            return False
        return self._plan is None or self._plan.fits(row)

    def _at_cap(self, row: int) -> int | None:
        """The innermost group of the row that is at its cap; null if there is none."""
        groups = self._caps.chain[row].tolist()
        return next((each for each in reversed(groups) if each >= 0 and self._capped[each] >= self._most[each]), None)

    def barred(self, row: int) -> str | None:
        """The limit that keeps a row out of a finished set: that on its group, the name of a cap, `budget`, or null.
        The size k does not count as one.
        """
        if self._count[self._group[row]] >= self._high[self._group[row]]:
            return self._limits.grouped
        if self._caps and (group := self._at_cap(row)) is not None:
            return self._caps.name(group)
        return "budget" if self._limits.k is None and not self.fits(row) else None

    def full(self) -> bool:
        """Whether no further row fits."""
        return self.used + self._cheapest > self._room

    def take(self, row: int) -> None:
        """Counts a row as taken; it must fit."""
        group, cost = self._group[row], float(self._limits.cost[row])
        self.committed += self._extra(row)
        self.used += cost
        self._count[group] += 1
        if self._caps:
            for each in self._caps.chain[row].tolist():
                if each >= 0:
                    self._capped[each] += 1
        if self._plan is not None:
            self._plan.take(row)
        aside = self._aside[group]
        if aside:
            # The row is one of those reserved, or replaces the most expensive of them.
            at = bisect_left(aside, cost)
            aside.pop(at if at < len(aside) and aside[at] == cost else -1)

    def counts(self) -> dict[str, int]:
        """The number of rows taken from each group, by label; groups whose labels read alike are one."""
        counts = dict.fromkeys(self._limits.names, 0)
        for name, count in zip(self._limits.names, self._count, strict=True):
            counts[name] += int(count)
        return counts


def limits(
    pool: Listed,
    k: int | None = None,
    *,
    groups: Sequence[object] | None = None,
    quotas: Quotas | None = None,
    costs: ArrayLike | None = None,
    budget: float | None = None,
    include: Sequence[str] | Sequence[int] = (),
    exclude: Sequence[str] | Sequence[int] = (),
    caps: CapsGiven | None = None,
    closed: Mapping[str, Sequence[str]] | None = None,
    grouped: str = "quota",
) -> Limits:
    """Reads and checks the limits of a selection.

    Args:
        pool: The rows that may be chosen.
        k: Exact size, 1 to n. Exactly one of k and budget.
        groups: `n` labels in the caller's row order; a row is in one group.
        quotas: Label -> (min, max); null for no limit. Groups that are not named have no limit.
        costs: `(n,)` > 0 in the caller's row order, e.g. tokens; needed with budget and only then.
        budget: The largest sum of the costs of a set.
        include, exclude: Ids that must, and must not, be in the set.
        caps: Name -> `n` labels in the caller's row order, and the largest share of the set that may have one label, in
            (0, 1]: floor(share * k) rows, but at least 1. Rows labelled null are in no group. Under a budget the shares
            refer to the number of rows that it buys at the pool's mean cost. Groups of two caps must be disjoint or
            nested, as identical answers are within one opener. A function of k may give the number of rows.
        closed: Name of a limit -> ids that it keeps out as `exclude` does.
        grouped: The name of the limit that the quotas stand for, by which `Tally.barred` calls it.

    Raises:
        SelectionError: A limit is malformed, or no set meets the limits; the message names the limit, and the largest
            possible k.
    """
    n = len(pool.ids)
    if (k is None) == (budget is None):
        raise SelectionError(f"k and budget: found k={k} and budget={budget}; give exactly one of them")
    cost, room = _room(pool, k, costs, budget)
    included, excluded = _rows("include", include, pool), _rows("exclude", exclude, pool)
    shut = {row: name for name, ids in (closed or {}).items() for row in _rows(name, ids, pool).tolist()}
    for row in excluded.tolist():
        shut.pop(row, None)
    excluded = np.union1d(excluded, np.array([*shut], dtype=np.int64))
    both = np.intersect1d(included, excluded)
    if both.size:
        raise SelectionError(f"include and exclude: both name {pool.ids[both[0]]!r}; remove it from one of them")
    group, names, low, high = _groups(pool, groups, quotas)
    free = np.setdiff1d(np.arange(n), np.concatenate([included, excluded]))
    allowed = np.concatenate([included, free])
    if budget is not None:
        if not allowed.size:
            raise SelectionError("exclude: names every row; name fewer")
        choosable = allowed[high[group[allowed]] > 0]
        if not choosable.size:
            raise SelectionError("quotas: every group that has rows may have at most 0 of them; raise a maximum")
        if (cheapest := float(cost[choosable].min())) > room:
            raise SelectionError(
                f"budget: found {room:g}, but the cheapest row that may be chosen costs {cheapest:g}; raise it"
            )
    whole = None if k is None else int(k)
    size = max(1, min(n, int(room / float(cost.mean())))) if whole is None else whole
    capped = sized(read(pool, caps), size, allowed, pool.ids)
    result = Limits(whole, room, cost, included, free, group, low, high, names, capped, shut, grouped)
    _satisfiable(result.without_caps, result, pool.ids)
    if result.caps:
        _within_caps(result, pool.ids)
    return result


def _room(pool: Listed, k: int | None, costs: ArrayLike | None, budget: float | None) -> tuple[Column, float]:
    n = len(pool.ids)
    if k is not None:
        if costs is not None:
            raise SelectionError("costs: only valid with a budget, and k is given; give budget instead of k")
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= n:
            raise SelectionError(f"k: found {k!r}; it must be a whole number from 1 to {n}, the rows of the pool")
        return np.ones(n), float(k)
    if costs is None:
        raise SelectionError("costs: missing; a budget needs the cost of every row, e.g. its tokens")
    assert budget is not None
    if not np.isfinite(budget) or budget <= 0:
        raise SelectionError(f"budget: found {budget!r}; it must be a positive number")
    cost = column("costs", costs, n, low=0.0)[pool.rows]
    if (cost == 0).any():
        raise SelectionError(f"costs: row {pool.ids[int(np.argmin(cost))]!r} costs 0; every cost must be positive")
    return cost, float(budget)


def _rows(name: str, ids: Sequence[str] | Sequence[int], pool: Listed) -> Rows:
    if isinstance(ids, str):
        raise SelectionError(f"{name}: found the text {ids!r}; give a list of ids")
    named = {str(row_id) for row_id in ids}
    if not named:
        return np.empty(0, dtype=np.int64)
    rows = np.array([row for row, row_id in enumerate(pool.ids) if row_id in named], dtype=np.int64)
    if len(rows) < len(named):
        missing = sorted(named - set(pool.ids))
        count = these(len(missing), "unknown id", "unknown ids")
        raise SelectionError(f"{name}: no row with id {missing[0]!r} in this pool ({count} in the list); correct it")
    return rows


def _groups(
    pool: Listed, groups: Sequence[object] | None, quotas: Quotas | None
) -> tuple[Rows, tuple[str, ...], Rows, Rows]:
    n = len(pool.ids)
    if groups is None:
        if quotas:
            raise SelectionError("groups: missing; quotas need the group of every row")
        return np.zeros(n, dtype=np.int64), ("all",), np.array([0]), np.array([n])
    if len(groups) != n:
        sizes = f"{these(len(groups), 'label', 'labels')} for {these(n, 'row', 'rows')}"
        raise SelectionError(f"groups: found {sizes}; give one per row")
    labels = [groups[row] for row in pool.rows.tolist()]
    names = sorted(set(labels), key=lambda label: (label is not None, str(label)))
    number = {label: at for at, label in enumerate(names)}
    low, high = np.zeros(len(names), dtype=np.int64), np.full(len(names), n, dtype=np.int64)
    for label, pair in (quotas or {}).items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(_whole_or_null, pair)):
            raise SelectionError(f"quotas[{label!r}]: found {pair}; give (min, max), whole numbers >= 0 or null")
        least, most = pair
        if label not in number:
            raise SelectionError(f"quotas[{label!r}]: no row has this label; remove the quota")
        low[number[label]], high[number[label]] = least or 0, n if most is None else most
        if high[number[label]] < low[number[label]]:
            raise SelectionError(f"quotas[{label!r}]: min ({least}) is above max ({most}); lower min, or raise max")
    group = np.array([number[label] for label in labels], dtype=np.int64)
    return group, tuple(map(str, names)), low, high


def _whole_or_null(bound: object) -> bool:
    return bound is None or (not isinstance(bound, bool) and isinstance(bound, int | np.integer) and int(bound) >= 0)


def _satisfiable(limits: Limits, capped: Limits, ids: Sequence[str]) -> None:
    """Raises if no set meets the limits; `capped` are the same with their caps, which the largest k meets too."""
    groups, group = len(limits.low), limits.group[limits.include]
    forced = np.bincount(group, minlength=groups)
    available = forced + np.bincount(limits.group[limits.free], minlength=groups)
    for number, name in enumerate(limits.names):
        if available[number] < limits.low[number]:
            raise SelectionError(
                f"quotas[{name!r}]: min is {limits.low[number]:,}, but only "
                f"{these(int(available[number]), 'row', 'rows')} of the group can be chosen; lower it"
            )
        if forced[number] > limits.high[number]:
            raise SelectionError(
                f"include: names {these(int(forced[number]), 'row', 'rows')} of group {name!r}, whose max is "
                f"{limits.high[number]:,}; name fewer, or raise max"
            )
    # Groups are disjoint, so each gives from max(min, forced) to min(max, available) rows on its own, and every total
    # between the sums is possible.
    least = np.maximum(limits.low, forced)
    largest = int(np.minimum(limits.high, available).sum())
    if limits.k is None:
        # The costs reserved for the minima, and the must-include rows of each group beyond its minimum.
        forced_costs = (np.sort(limits.cost[limits.include[group == number]]) for number in range(groups))
        beyond = sum(float(costs[low:].sum()) for costs, low in zip(forced_costs, limits.low.tolist(), strict=True))
        needs = Tally(limits).committed + beyond
        if needs > limits.room * (1 + 1e-12):
            raise SelectionError(
                f"budget: found {limits.room:g}, but include and the minima of quotas cost at least {needs:g}; raise it"
            )
    elif largest < limits.k:
        cause = "exclude" if available.sum() < limits.k else "quotas"
        fits = _largest_k(capped, ids) if capped.caps.given else largest
        raise SelectionError(f"k: {limits.k} is impossible because of {cause}; {_lower(fits)}")
    elif len(limits.include) > limits.k:
        raise SelectionError(
            f"include: names {these(len(limits.include), 'row', 'rows')}, but k is {limits.k}; raise k"
        )
    elif least.sum() > limits.k:
        raise SelectionError(
            f"quotas: the minima (with include) need {these(int(least.sum()), 'row', 'rows')}, but k is {limits.k}; "
            f"allowed: {least.sum()} to {largest}"
        )


def _within_caps(limits: Limits, ids: Sequence[str]) -> None:
    """Raises if no set meets the caps although some set meets the other limits."""
    caps, forced = limits.caps, limits.caps.used(limits.include)
    over = np.flatnonzero(forced > caps.most)
    if over.size:
        group = int(over[0])
        raise SelectionError(
            f"include: names {these(int(forced[group]), 'row', 'rows')} of {caps.name(group)} "
            f"{caps.labels[group]!r}, but the cap allows {caps.most[group]:,}; name fewer, or raise the cap"
        )
    minima = int(np.maximum(limits.low - np.bincount(limits.group[limits.include], minlength=len(limits.low)), 0).sum())
    if minima and limits.k is None:
        raise SelectionError(
            "quotas: minima, caps and a budget together are not supported; give k instead of the budget, or remove the "
            "minima or the caps"
        )
    if limits.k is None:
        return
    if minima and (filled := _minima_within(limits)) < minima:
        raise SelectionError(
            f"quotas: the minima need {these(minima, 'row', 'rows')} beside include, but no more than {filled:,} fit "
            f"{_named(limits, ids)}; lower the minima, or raise the caps"
        )
    if limits.largest() < limits.k:
        fits = _largest_k(limits, ids)
        advice = _lower(fits) + (", or raise the cap" if fits else "")
        # Where k is impossible without the quotas too, the caps are the cause.
        quotas = "quotas and " if limits.quotas and limits.without_quotas.largest() >= limits.k else ""
        raise SelectionError(f"k: {limits.k} is impossible because of {quotas}{_named(limits, ids)}; {advice}")


def _lower(fits: int | None) -> str:
    return f"lower k to at most {fits}" if fits else "no smaller k is possible either"


def _minima_within(limits: Limits) -> int:
    """How many rows of the minima the caps allow."""
    network = limits.network
    return network.filled(int(network.low.sum()))[0]


def _named(limits: Limits, ids: Sequence[str]) -> str:
    """The caps that make k impossible: each one whose removal would make it possible, or all if no single one would."""
    assert limits.k is not None
    caps = limits.caps
    allowed = np.concatenate([limits.include, limits.free])
    names = [caps.given[number].name for number in np.unique(caps.cap).tolist()]

    def possible(without: str) -> bool:
        rest = sized(
            [each for each in caps.given if each.name != without], caps.size, allowed, [""] * len(limits.group)
        )
        other = replace(limits, caps=rest)
        return _minima_within(other) == other.network.low.sum() and other.largest() >= (limits.k or 0)

    causes = [name for name in names if possible(name)] or names
    share = {each.name: "" if callable(each.share) else f"share {each.share:g}, " for each in caps.given}
    most = {caps.given[number].name: most for number, most in zip(caps.cap.tolist(), caps.most.tolist(), strict=True)}
    return " and ".join(
        f"caps[{name!r}] ({share[name]}at most {these(most[name], 'row', 'rows')} of one label)" for name in causes
    )


def _largest_k(limits: Limits, ids: Sequence[str]) -> int | None:
    """The largest k for which the same shares (or functions of k) leave k rows; null if there is none.

    A smaller k leaves fewer rows, so no k above the number left at a larger k is possible.
    """
    allowed = np.concatenate([limits.include, limits.free])
    least = int(np.maximum(limits.low, np.bincount(limits.group[limits.include], minlength=len(limits.low))).sum())
    k = limits.largest()
    while k >= max(1, least):
        smaller = replace(limits, k=k, room=float(k), caps=sized(limits.caps.given, k, allowed, ids))
        if (smaller.caps.used(limits.include) > smaller.caps.most).any():
            return None
        if _minima_within(smaller) < smaller.network.low.sum():
            return None
        if (left := smaller.largest()) >= k:
            return k
        k = left
    return None
