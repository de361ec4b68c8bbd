"""Sets whose groups have given shares, drawn at random or filled by coverage, within the limits on sets.

Letters: `n` rows of the pool, sorted by id; `g` groups.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from curator.errors import SelectionError
from curator.selection.limits import Limits, Tally
from curator.selection.objectives import Coverage
from curator.selection.problem import Column, Rows
from curator.wording import these

Following = Callable[[int, Tally], int | None]
"""Takes a group and the limits' tally; returns the group's next row that fits, or null if none does."""
Leading = Callable[[int, Tally], tuple[float, int] | None]
"""Takes a group and the limits' tally; returns the key of the group's next row that fits, or null if none does. The
smallest key leads, and the key of a group never falls as rows are taken.
"""


def _alike(number: int, tally: Tally) -> tuple[float, int]:
    """One key for all groups, so that the first of them leads."""
    return 0.0, 0


def filled(bounds: Limits, shares: Column, group: Rows, following: Following, leading: Leading = _alike) -> list[int]:
    """Rows in the order taken: the next is always of the group that is furthest behind its share, so that every prefix
    of the list has about these shares, and so does a set that a token budget ends.

    Groups are taken by Sainte-Lague's rule, (rows taken + 1/2) / share: each has its share of the set to within about
    one row. If a group runs out of rows, the others share its remainder in proportion to their shares. Rows that must
    be in come first.

    Args:
        bounds: Satisfiable limits.
        shares: `(g,)` >= 0, sum 1. Groups of share 0 fill what the others cannot.
        group: `(n,)` the group of each row.
        following: Returns the next row of a group.
        leading: Decides between groups that are equally behind, as all are at first if their shares are equal. If there
            are more groups than rows, it decides which groups are in the set.

    Raises:
        SelectionError: The set cannot reach its size k, because none of the remaining rows fits.
    """
    tally = Tally(bounds)
    picks: list[int] = bounds.include.tolist()
    taken = np.bincount(group[bounds.include], minlength=len(shares)).tolist()
    for must in picks:
        tally.take(must)

    def behind(number: int) -> tuple[float, tuple[float, int], int]:
        return (taken[number] + 0.5) / max(float(shares[number]), 1e-300), (-math.inf, 0), number

    waiting = [behind(number) for number in range(len(shares))]
    heapq.heapify(waiting)
    while waiting and not tally.full():
        ratio, _, number = heapq.heappop(waiting)
        key = leading(number, tally)
        if key is None:
            continue
        # A waiting key was exact when it was last computed, and has been a lower bound since.
        if waiting and (ratio, key, number) > waiting[0]:
            heapq.heappush(waiting, (ratio, key, number))
            continue
        row = following(number, tally)
        if row is None:
            continue
        tally.take(row)
        picks.append(row)
        taken[number] += 1
        heapq.heappush(waiting, behind(number))
    if bounds.k is not None and len(picks) < bounds.k:
        raise SelectionError(
            f"k: found {bounds.k}, but a random set within the limits has at most "
            f"{these(len(picks), 'row', 'rows')}; lower k, or relax the limits"
        )
    return picks


def drawn(bounds: Limits, shares: Column, group: Rows, generator: np.random.Generator) -> list[int]:
    """A random set with these shares: rows of a group are drawn uniformly without replacement.

    Raises:
        SelectionError: See `filled`.
    """
    members: list[list[int]] = [[] for _ in shares]
    for row in generator.permutation(bounds.free).tolist():
        members[group[row]].append(row)
    orders = [iter(rows) for rows in members]
    return filled(bounds, shares, group, lambda number, tally: next(filter(tally.fits, orders[number]), None))


def covering(bounds: Limits, shares: Column, group: Rows, term: Coverage, penalty: Column) -> list[int]:
    """A set with these shares that covers the pool: each group in its turn adds its row of largest value. Of groups
    that are equally behind their shares, the one whose row has the largest value is next.

    Without other limits and penalties the value is at least half that of the best set with these shares (Fisher,
    Nemhauser and Wolsey 1978, on greedy over a partition matroid). Gains never rise, so an old gain is an upper bound,
    and only the rows at the top of a heap are re-evaluated (Minoux 1978). Ties are broken by id.

    Args:
        term: A coverage term; it is cleared first, and holds the set afterwards.
        penalty: `(n,)` penalty of each row in the objective.

    Raises:
        SelectionError: See `filled`.
    """
    term.clear()
    term.add_all(bounds.include.tolist())
    gains = term.gains()
    upper = gains + 1e-12 * (1.0 + np.abs(gains)) - penalty  # as in `greedy.lazy_greedy`
    heaps: list[list[tuple[float, int]]] = [[] for _ in shares]
    for row in bounds.free.tolist():
        heaps[group[row]].append((-float(upper[row]), row))
    for heap in heaps:
        heapq.heapify(heap)

    def best(number: int, tally: Tally) -> tuple[float, int] | None:
        """The exact key of a group's best row, which is left on top of the group's heap."""
        heap = heaps[number]
        while heap:
            _, row = heapq.heappop(heap)
            if not tally.fits(row):
                continue
            key = (float(penalty[row]) - term.gain(row), row)
            heapq.heappush(heap, key)
            if heap[0] == key:
                return key
        return None

    def take(number: int, tally: Tally) -> int:
        """Adds the row that `best` has just left on top."""
        _, row = heapq.heappop(heaps[number])
        term.add(row)
        return row

    return filled(bounds, shares, group, take, best)


def numbered(labels: Sequence[str]) -> tuple[tuple[str, ...], Rows]:
    """The distinct labels, sorted, and the position of each row's label among them `(n,)`."""
    names, numbers = np.unique(np.array(labels, dtype=str), return_inverse=True)
    return tuple(map(str, names)), numbers.astype(np.int64)


def dirichlet(groups: int, concentration: float, generator: np.random.Generator) -> Column:
    """`(g,)` random shares with sum 1 from a symmetric Dirichlet distribution. The smaller the concentration, the fewer
    groups hold most of the mass.
    """
    shares: Column = generator.dirichlet(np.full(groups, concentration))
    return shares


def in_turn(first: Sequence[str], second: Sequence[float], count: int) -> Iterator[tuple[str, float]]:
    """`count` pairs: the first elements in turn, with the next second element after each full round."""
    return ((first[number % len(first)], second[number // len(first) % len(second)]) for number in range(count))
