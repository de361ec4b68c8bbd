"""Certificates: how far a set can be at most from the best possible one, which need not be known."""

from __future__ import annotations

import numpy as np

from curator.selection.greedy import objective_value
from curator.selection.limits import Limits, Tally
from curator.selection.objectives import Coverage
from curator.selection.problem import Column, Rows

_PREFIXES = 16
RANDOM_SETS = 16


def upper_bound(
    term: Coverage, penalty: Column, limits: Limits, picks: list[int], *, prefixes: int = _PREFIXES
) -> float | None:
    """A value of the objective that no set within the limits exceeds; null if the term is not monotone.

    For monotone submodular g and modular c of either sign, every set S and every feasible O: g(O) - c(O) <= g(S) + sum
    over o in O of (g(o | S) - c(o)). The right side is maximised over O, for S each of about `prefixes` prefixes of the
    picks and all of them, and the smallest is kept. Without monotonicity g(O) <= g(S with O) fails, so this bound does
    not hold.

    Args:
        term: A coverage term; its state is overwritten.
        penalty: `(n,)` what each row costs the objective.
        limits: Satisfiable limits.
        picks: The rows of a set, in the order picked.
        prefixes: About how many prefixes are evaluated.

    Source: the data-dependent bound of Leskovec et al. 2007 (Cost-effective outbreak detection), after Nemhauser,
    Wolsey and Fisher 1978.
    """
    # Why it holds: monotonicity gives g(O) <= g(S with O), and falling gains give g(S with O) <= g(S) + sum of g(o |
    # S). Rows of O that are in S have gain 0 but still cost c(o), which is modular and may have either sign.
    if not term.monotone:
        return None
    least = np.inf
    # Any S gives a bound, so the smallest over some prefixes of the picks is one too. It is loose at the empty set,
    # where nothing is covered yet, and at the whole set, where gains below the last one still count; the smallest lies
    # between.
    sizes = set(np.linspace(0, len(picks), min(prefixes, len(picks)) + 1).round().astype(int).tolist())
    term.clear()
    for size in range(len(picks) + 1):
        if size in sizes:
            least = min(least, term.value() + largest_sum(limits, term.gains() - penalty))
        if size < len(picks):
            term.add(picks[size])
    return float(least)


def rounding(value: float) -> float:
    """The largest difference from a value of the objective that sums in another order may make."""
    return 1e-9 * max(1.0, abs(value))


def largest_sum(limits: Limits, terms: Column) -> float:
    """The largest sum of `terms` `(n,)` over the sets within the limits; under a budget, of a relaxation of them.

    The relaxation is the fractional knapsack of the positive terms beside must-include rows, without quotas and caps.
    With quotas and caps under k it is the smaller of what either alone allow.
    """
    if limits.k is not None:
        # Without the caps, or without the quotas, more sets are allowed, so both are bounds.
        alone = [limits.without_caps, limits.without_quotas] if limits.quotas and limits.caps else [limits]
        return min(float(terms[best_rows(each, terms)].sum()) for each in alone)
    # Dantzig 1957: by falling value per cost until the budget is used up, the last row in part. Parts of rows and
    # ignored quotas only allow more sets, so this is still a bound.
    total = float(terms[limits.include].sum())
    room = limits.room - float(limits.cost[limits.include].sum())
    rows = limits.free[terms[limits.free] > 0.0]
    rows = rows[np.argsort(-terms[rows] / limits.cost[rows], kind="stable")]
    filled = np.cumsum(limits.cost[rows])
    share = np.clip(1.0 - (filled - room) / limits.cost[rows], 0.0, 1.0)
    return total + float(terms[rows] @ share)


def best_rows(limits: Limits, terms: Column) -> Rows:
    """The k rows within the limits with the largest sum of `terms`: minima filled with each group's best, then the best
    of the rest under the maxima; or the best rows within the caps. The limits may have quotas or caps, not both.
    """
    assert limits.k is not None
    assert not (limits.quotas and limits.caps)
    room = limits.k - len(limits.include)
    if limits.caps:
        rows = limits.free[np.argsort(-terms[limits.free], kind="stable")]
        within = rows[limits.caps.kept(rows, limits.caps.used(limits.include))]
        return np.concatenate([limits.include, within[:room]])
    if not limits.quotas:
        if room == 0:
            return limits.include
        return np.concatenate([limits.include, limits.free[np.argpartition(-terms[limits.free], room - 1)[:room]]])
    # `rank` is how many rows of its group come before a row, must-include rows first. Ranks below the minimum are in,
    # ranks from the maximum on are out, and the best of those between fill the rest. Exchanging a row for another of
    # its group, or one between for another between, never makes the sum larger.
    present = np.bincount(limits.group[limits.include], minlength=len(limits.low))
    rows = limits.free[np.argsort(-terms[limits.free], kind="stable")]
    group = limits.group[rows]
    by_group = np.argsort(group, kind="stable")
    starts = np.cumsum(np.bincount(group, minlength=len(limits.low))) - np.bincount(group, minlength=len(limits.low))
    rank = np.empty(len(rows), dtype=np.int64)
    rank[by_group] = np.arange(len(rows)) - starts[group[by_group]]
    rank += present[group]
    forced = rank < limits.low[group]
    rest = np.flatnonzero(~forced & (rank < limits.high[group]))[: room - int(forced.sum())]
    return np.concatenate([limits.include, rows[forced], rows[rest]])


def random_rows(limits: Limits, generator: np.random.Generator) -> Rows:
    """A random set within the limits; under a budget, rows are added in random order while one fits.

    Rows of the same groups are equally likely. With quotas and caps under k, rows are added in random order as long as
    the set can still be completed to k rows.
    """
    order = generator.random(len(limits.cost))
    if limits.k is not None and not (limits.quotas and limits.caps):
        return best_rows(limits, order)
    tally = Tally(limits)
    picks: list[int] = []
    free = limits.free[np.argsort(order[limits.free])].tolist()
    # Under k a row fits only if the minima can still be filled, so minima need no separate step.
    turns = [(limits.include.tolist(), False), *([(free, True)] if limits.k is None else []), (free, False)]
    for rows, only_needed in turns:
        picked = set(picks)
        for row in rows:
            if tally.full():
                break
            if row not in picked and (tally.needed(row) or not only_needed) and tally.fits(row):
                tally.take(row)
                picks.append(row)
    return np.array(picks, dtype=np.int64)


def random_mean(term: Coverage, penalty: Column, limits: Limits, generator: np.random.Generator) -> float:
    """Mean objective value of 16 random sets within the limits; `penalty` `(n,)` is that of each row."""
    sets = [random_rows(limits, generator).tolist() for _ in range(RANDOM_SETS)]
    return float(np.mean([objective_value(term, penalty, rows) for rows in sets]))
