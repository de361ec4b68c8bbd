"""Caps: each answer and each opener on at most a share of a set. Groups of one cap may lie within groups of another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curator.errors import SelectionError
from curator.recipe.limits import counted
from curator.selection.problem import Listed, Rows
from curator.wording import these

Most = float | Callable[[int], int]
"""The largest share of a set that may have one label, in (0, 1], or a function from the size of a set to the most rows
of one label."""
CapsGiven = Mapping[str, tuple[Sequence[object], Most]]
"""Name of a cap -> `n` labels in the caller's row order (null for rows in none of its groups), and its Most."""


@dataclass(frozen=True)
class Given:
    """A cap as it was given: `group` `(n,)` is the group number of each sorted row, -1 for none; `labels` names the
    groups.
    """

    name: str
    share: Most
    group: Rows
    labels: tuple[str, ...]

    def most(self, size: int) -> int:
        """The most rows of one label in a set of `size` rows."""
        return self.share(size) if callable(self.share) else counted(self.share, size)


@dataclass(frozen=True)
class Caps:
    """Caps on a set of about `size` rows. Groups that are not larger than their cap are left out; they cannot limit a
    set.

    Any two groups are disjoint or one lies within the other, so they are a forest, and the sets within the caps are the
    independent sets of a laminar matroid: any row can be exchanged into a set, and all maximal sets have the same size.

    Attributes:
        given: Each cap as it was given. `size`: the number of rows that shares are taken of.
        chain: `(n, depths)` the groups that a row lies in, outermost first, padded with -1.
        most: `(g,)` the most rows of each group. `cap`: `(g,)` its position in `given`. `labels`: `g` group labels.
        parent: `(g,)` the group around each, -1 for none.
    """

    given: tuple[Given, ...]
    size: int
    chain: NDArray[np.int32]
    most: Rows
    cap: Rows
    labels: tuple[str, ...]
    parent: Rows

    def __bool__(self) -> bool:
        return len(self.most) > 0

    def used(self, rows: Rows) -> Rows:
        """`(g,)`: how many of the rows each group holds."""
        groups = self.chain[rows].ravel()
        return np.bincount(groups[groups >= 0], minlength=len(self.most))

    def name(self, group: int) -> str:
        """The cap that a group belongs to."""
        return self.given[int(self.cap[group])].name

    def kept(self, rows: Rows, used: Rows | None = None) -> NDArray[np.bool_]:
        """Mask of the rows, given best first, that form the best set within the caps, given what is `used` of each
        group.

        Inner groups keep their first rows, then the groups around them keep the first of those. This is exact, as
        greedy is in any matroid.
        """
        room = self.most if used is None else self.most - used
        keep = np.ones(len(rows), dtype=bool)
        for depth in reversed(range(self.chain.shape[1])):
            groups = self.chain[rows, depth]
            inside = np.flatnonzero(keep & (groups >= 0))
            by_group = np.argsort(groups[inside], kind="stable")
            ordered = groups[inside[by_group]]
            rank = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
            keep[inside[by_group[rank >= room[ordered]]]] = False
        return keep


def read(pool: Listed, caps: CapsGiven | None) -> tuple[Given, ...]:
    """Caps in the order of the sorted rows.

    Raises:
        SelectionError: A share is out of range, or the number of labels is not the number of rows.
    """
    result = []
    for name, (labels, share) in (caps or {}).items():
        number_given = isinstance(share, int | float | np.number) and not isinstance(share, bool)
        if not callable(share) and not (number_given and 0.0 < share <= 1.0):
            raise SelectionError(f"caps[{name!r}]: found share {share!r}; it must be above 0 and at most 1")
        if len(labels) != len(pool.ids):
            raise SelectionError(
                f"caps[{name!r}]: found {these(len(labels), 'label', 'labels')} for "
                f"{these(len(pool.ids), 'row', 'rows')}; give one per row, null for rows in no group"
            )
        number: dict[object, int] = {None: -1}
        group = [number.setdefault(labels[row], len(number) - 1) for row in pool.rows.tolist()]
        names = tuple(str(label) for label in number if label is not None)
        result.append(Given(name, share if callable(share) else float(share), np.array(group, dtype=np.int64), names))
    return tuple(result)


def sized(given: Iterable[Given], size: int, allowed: Rows, ids: Sequence[str]) -> Caps:
    """Caps on sets of about `size` rows of the `allowed` ones; `ids` of all rows are for errors.

    Raises:
        SelectionError: A group of one cap lies partly within a group of another.
    """
    given = tuple(given)
    n = len(ids)
    columns = [np.empty((n, 0), dtype=np.int32)]
    weights: list[int] = []
    most: list[int] = []
    cap: list[int] = []
    labels: list[str] = []
    for number, each in enumerate(given):
        rows = np.bincount(each.group[allowed][each.group[allowed] >= 0], minlength=len(each.labels))
        largest = each.most(size)
        binding = np.flatnonzero(rows > largest)
        renumbered = np.full(len(each.labels) + 1, -1, dtype=np.int32)  # the last entry is for rows in no group
        renumbered[binding] = np.arange(len(most), len(most) + len(binding), dtype=np.int32)
        columns.append(renumbered[each.group][:, None])
        weights += rows[binding].tolist()
        most += [largest] * len(binding)
        cap += [number] * len(binding)
        labels += [each.labels[group] for group in binding]
    chain = np.concatenate(columns, axis=1)
    # Outermost first: by number of rows; of equal groups, that of the earlier cap is the outer one.
    held = np.array([*weights, -1])[chain]  # -1 (no group) indexes the last entry
    chain = np.take_along_axis(chain, np.argsort(-held, axis=1, kind="stable"), axis=1)
    unknown = -2
    parent = np.full(len(most), unknown, dtype=np.int64)
    for depth in range(chain.shape[1]):
        rows = allowed[chain[allowed, depth] >= 0]
        groups = chain[rows, depth]
        around = chain[rows, depth - 1] if depth else np.full(len(rows), -1, dtype=np.int32)
        first = np.where(parent[groups] == unknown, around, parent[groups])
        parent[groups] = first
        crossing = np.flatnonzero(parent[groups] != around)
        if crossing.size:
            row, group = ids[rows[crossing[0]]], int(groups[crossing[0]])
            raise SelectionError(
                f"caps: row {row!r} is in {given[cap[group]].name} {labels[group]!r}, which partly overlaps with a "
                "group of another cap; give caps whose groups are disjoint or one within the other"
            )
    return Caps(given, size, chain, np.array(most, np.int64), np.array(cap, np.int64), tuple(labels), parent)
