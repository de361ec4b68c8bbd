"""Sets whose composition matches that of the curated set, or of the pool, by refusal, category and length.

A matched random set has the curated set's composition, which separates the effect of the composition from the effect of
the selection. `low-matched` and `high-matched` have the pool's composition, so that they differ in similarity but not
in the kind of answer that comes with it.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections import Counter
from collections.abc import Mapping, Sequence, Set

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curator.errors import SelectionError
from curator.selection.groups import Stratum, by_levels
from curator.selection.problem import column
from curator.wording import these

_QUANTILES = 4
PASSES = 4  # passes through a draw in which rows are exchanged

Ids = tuple[str, ...]
Group = tuple[str, ...]
Cell = tuple[Group, int]
"""A group, and a length quartile within it."""


def within_strata(order: Ids, strata: Mapping[str, Stratum], k: int) -> Ids:
    """The first `k` rows of an order, with the labels of the first grouping as frequent as in the whole order, within
    them those of the next, and so on, by largest remainder.

    Args:
        order: `n` ids, best first.
        strata: Id -> its stratum; the groupings that matter most come first.
        k: Number of rows, from 1 to n.
    """
    check_size(order, k)
    stock = Counter(strata[row_id] for row_id in order)
    left = by_levels(stock, k, range(len(strata[order[0]])))
    picks = []
    for row_id in order:
        if left[strata[row_id]]:
            left[strata[row_id]] -= 1
            picks.append(row_id)
    return tuple(picks)


def interleaved(order: Ids, strata: Mapping[str, Stratum], level: int = 0) -> Ids:
    """The rows rearranged so that every prefix has about the composition of the whole: the j-th of the n rows of a
    label of the first grouping comes at the share (j - 1/2) / n of the order, and the rows of a label are rearranged in
    the same way by the next grouping. `level` is the position of the first.
    """
    if level == len(strata[order[0]]):
        return order
    parts: dict[str | None, list[str]] = {}
    for row_id in order:
        parts.setdefault(strata[row_id][level], []).append(row_id)
    stands = {
        row_id: (place + 0.5) / len(part)
        for part in parts.values()
        for place, row_id in enumerate(interleaved(tuple(part), strata, level + 1))
    }
    return tuple(sorted(order, key=stands.__getitem__))  # ties keep their order


def matched_random(
    ids: Sequence[str],
    groups: Sequence[str | Group],
    lengths: ArrayLike,
    chosen: Sequence[str],
    *,
    drawable: Set[str] | None = None,
    generator: np.random.Generator,
) -> tuple[str, ...]:
    """As many ids as `chosen`, with as many of each group, and of each length quartile within it, as `chosen` has.

    Lengths are cut at the quartiles of the pool's lengths within the group; a cell always has enough rows, since it
    holds those of `chosen`. The draw may share rows with `chosen`, as any random draw may. If `drawable` leaves a cell
    too few rows, the rest is drawn from the nearest lengths of the same group, and when that is used up from other
    groups, those with the same first label first.

    Args:
        ids: `n` ids of the pool.
        groups: `n` labels, or tuples of labels, the one that matters most first.
        lengths: `(n,)` tokens.
        chosen: Ids to match, part of `ids`.
        drawable: Ids that may be drawn; null for all.
        generator: Source of randomness.

    Raises:
        SelectionError: Shapes differ, `chosen` is empty or holds unknown ids, or fewer rows than it holds may be drawn.
    """
    if len(groups) != len(ids):
        sizes = f"{these(len(groups), 'label', 'labels')} for {these(len(ids), 'id', 'ids')}"
        raise SelectionError(f"groups: found {sizes}; give one per id")
    cells = cells_of(ids, groups, column("lengths", lengths, len(ids)))
    unknown = sorted(set(chosen) - set(ids))
    if unknown or not chosen:
        raise SelectionError(f"chosen: found {unknown[0] if unknown else 'nothing'!r}; give ids of the pool")
    quota = Counter(cells[row_id] for row_id in chosen)
    stock: dict[Cell, list[str]] = {}
    for row_id in sorted(ids):
        if drawable is None or row_id in drawable:
            stock.setdefault(cells[row_id], []).append(row_id)
    picked: list[str] = []
    short: list[Cell] = []
    for cell in sorted(quota):
        members = stock.get(cell, [])
        count = min(quota[cell], len(members))
        picked += [members[row] for row in generator.choice(len(members), count, replace=False)]
        short += [cell] * (quota[cell] - count)
    picked += _nearest_cells(short, cells, sorted(set(drawable or ()) - set(picked)), generator)
    return tuple(picked[row] for row in generator.permutation(len(picked)))


def _nearest_cells(
    short: Sequence[Cell],
    cells: Mapping[str, Cell],
    spare: list[str],
    generator: np.random.Generator,
) -> list[str]:
    if len(spare) < len(short):
        raise SelectionError(
            f"k: the pool lacks {these(len(short) - len(spare), 'row', 'rows')}; lower k, or add sources"
        )
    spare = [spare[row] for row in generator.permutation(len(spare))]
    replacements = []
    for group, quartile in short:
        # Any row of the same group is nearer than every row of another group. min takes the first of equals, so the
        # shuffle above decides ties.
        distance = [
            (
                [label != wanted for label, wanted in zip(cells[row_id][0], group, strict=True)],
                abs(cells[row_id][1] - quartile),
            )
            for row_id in spare
        ]
        replacements.append(spare.pop(distance.index(min(distance))))
    return replacements


def nearer(
    drawn: Ids,
    ids: Sequence[str],
    cells: Mapping[str, Cell],
    tokens: Mapping[str, float],
    goal: float,
    *,
    generator: np.random.Generator,
) -> Ids:
    """The drawn rows, some exchanged so that they have about `goal` tokens together, and not more if possible.

    Rows are visited in random order; each is exchanged for the row of the same cell that brings the sum nearest to
    `goal`. Frequencies of groups and length quartiles do not change.

    Args:
        drawn: Part of `ids`, the rows that may be drawn.
        cells: Id -> group and length quartile.
        tokens: Id -> number of tokens.
        goal: Total number of tokens.
    """
    spare: dict[Cell, list[tuple[float, str]]] = {}
    for row_id in set(ids) - set(drawn):
        spare.setdefault(cells[row_id], []).append((tokens[row_id], row_id))
    for members in spare.values():
        members.sort()
    rows, over = list(drawn), sum(tokens[row_id] for row_id in drawn) - goal

    def rank(over: float) -> tuple[bool, float]:
        return over > 0.0, abs(over)

    for position in np.concatenate([generator.permutation(len(rows)) for _ in range(PASSES)]):
        members, old = spare.get(cells[rows[position]], []), (tokens[rows[position]], rows[position])
        after = bisect(members, (old[0] - over, ""))
        near = min(members[max(after - 1, 0) : after + 1], key=lambda row: rank(over + row[0] - old[0]), default=old)
        if rank(over + near[0] - old[0]) < rank(over):
            members.remove(near)
            insort(members, old)
            rows[position], over = near[1], over + near[0] - old[0]
    return tuple(rows)


def cells_of(ids: Sequence[str], groups: Sequence[str | Group], lengths: NDArray[np.float64]) -> dict[str, Cell]:
    """Id -> its group and its length quartile within the group."""
    labels = [group if isinstance(group, tuple) else (group,) for group in groups]
    by_group: dict[Group, list[float]] = {}
    for label, length in zip(labels, lengths, strict=True):
        by_group.setdefault(label, []).append(float(length))
    shares = np.arange(1, _QUANTILES) / _QUANTILES
    cuts = {label: np.quantile(values, shares) for label, values in by_group.items()}
    return {
        row_id: (label, int(np.searchsorted(cuts[label], length)))
        for row_id, label, length in zip(ids, labels, lengths, strict=True)
    }


def check_size(ids: Sequence[str], k: int) -> None:
    """Raises if a set of `k` of these rows is impossible.

    Raises:
        SelectionError: k is not from 1 to the number of ids.
    """
    if not 1 <= k <= len(ids):
        raise SelectionError(f"k: found {k}; it must be a whole number from 1 to {len(ids)}, the number of rows")
