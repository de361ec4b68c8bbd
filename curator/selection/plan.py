"""Quotas and caps together: whether rows can be completed to a set of exactly k, by a flow that is kept up to date.

Quotas of disjoint groups with minima and maxima are one matroid, caps another. A set that is independent in both cannot
always be extended to the size of the largest such set, so greedy could stop short of k. The numbers of rows of each
kind in a complete set are a flow: from quota groups through kinds of rows to the groups of the caps, and there from
inner to outer groups.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curator.selection.problem import Rows

if TYPE_CHECKING:
    from curator.selection.limits import Limits

_SOURCE = -1  # the source of the flow, from which quota groups get their rows


@dataclass(frozen=True)
class Network:
    """Rows that may still be chosen, counted by kind. A kind is the rows of one quota group in the same groups of the
    caps.

    Attributes:
        kind: `(n,)` kind of each free row, -1 for others. `quota`, `node`: quota group and innermost group of the caps
            of each kind (the root, numbered as the number of groups, if there is none). `rows`: number of free rows of
            each kind.
        low, high: Least and most rows of each quota group beside the must-include ones, `most` of each group of the
            caps.
        parent: The group around each group of the caps; the root if there is none.
    """

    kind: Rows
    quota: Rows
    node: Rows
    rows: Rows
    low: Rows
    high: Rows
    most: Rows
    parent: Rows

    @classmethod
    def of(cls, limits: Limits) -> Network:
        """The network of a selection's limits. Must-include rows are subtracted from every limit first."""
        group, caps, free = limits.group, limits.caps, limits.free
        root = len(caps.most)
        forced = np.bincount(group[limits.include], minlength=len(limits.low))
        nodes = np.full(len(group), root, dtype=np.int64)
        for depth in range(caps.chain.shape[1]):
            nodes = np.where(caps.chain[:, depth] >= 0, caps.chain[:, depth], nodes)
        pairs = group[free] * (root + 1) + nodes[free]
        pair, kinds, rows = np.unique(pairs, return_inverse=True, return_counts=True)
        kind = np.full(len(group), -1, dtype=np.int64)
        kind[free] = kinds
        return cls(
            kind,
            pair // (root + 1),
            pair % (root + 1),
            rows,
            np.maximum(limits.low - forced, 0),
            limits.high - forced,
            caps.most - caps.used(limits.include),
            np.where(caps.parent < 0, root, caps.parent),
        )

    def filled(self, size: int | None = None, *, minima: bool = True) -> tuple[int, Rows]:
        """The largest number of rows beside the must-include ones, and how many of each kind make such a set.

        Args:
            size: Number of rows wanted, at least the sum of the minima; null for as many as possible. A flow of exactly
                `size` meets every minimum.
            minima: Whether minima are filled first. If some set meets them, so does a largest set, because a set can
                grow without losing rows of a quota group.
        """
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_flow

        quotas, root, kinds = len(self.low), len(self.most), len(self.rows)
        source, beyond, sink = 0, 1, 2 + quotas + root
        low = self.low if minima else np.zeros_like(self.low)
        total = int(self.rows.sum())
        more = total if size is None else size - int(low.sum())
        groups, nodes = 2 + np.arange(quotas), 2 + quotas + np.arange(root)
        start = [np.full(quotas, source), np.array([source]), np.full(quotas, beyond), 2 + self.quota, nodes]
        stop = [groups, np.array([beyond]), groups, 2 + quotas + self.node, 2 + quotas + self.parent]
        room = [low, np.array([more]), np.minimum(self.high, total) - low, self.rows, self.most]
        edges = (np.concatenate(start), np.concatenate(stop))
        capacity = csr_array((np.concatenate(room).astype(np.int32), edges), shape=(sink + 1, sink + 1))
        best = maximum_flow(capacity, source, sink)
        flow = best.flow.tocsr()[2 + self.quota, 2 + quotas + self.node] if kinds else np.empty(0)
        return int(best.flow_value), np.asarray(flow, dtype=np.int64).ravel()


class Plan:
    """A complete set that extends the rows taken so far, as numbers of rows of each kind still to come."""

    def __init__(self, network: Network, coming: Rows) -> None:
        """Starts from a network and the number of rows of each kind to come, as `Network.filled` returns them for
        exactly k.
        """
        self._network = network
        self._kind = network.kind
        self._quota, self._node = network.quota.tolist(), network.node.tolist()
        self._low, self._high, self._most = network.low.tolist(), network.high.tolist(), network.most.tolist()
        self._parent, self._root = network.parent.tolist(), len(network.most)
        self._left, self._coming = network.rows.tolist(), coming.tolist()
        self._by_quota: list[list[int]] = [[] for _ in self._low]
        self._by_node: list[list[int]] = [[] for _ in range(self._root + 1)]
        self._inner: list[list[int]] = [[] for _ in range(self._root + 1)]
        for kind, (quota, node) in enumerate(zip(self._quota, self._node, strict=True)):
            self._by_quota[quota].append(kind)
            self._by_node[node].append(kind)
        for node, around in enumerate(self._parent):
            self._inner[around].append(node)
        # Rows of the complete set, taken or to come, by quota group and by group of the caps; and those taken.
        self._of_quota = [sum(self._coming[kind] for kind in kinds) for kinds in self._by_quota]
        self._of_node, self._taken = [0] * (self._root + 1), [0] * (self._root + 1)
        for kind, count in enumerate(self._coming):
            for node in self._around(self._node[kind]):
                self._of_node[node] += count
        self._taken_of_quota = [0] * len(self._low)
        # Kinds of each quota group that may have rows to come; a kind without such rows is dropped when it is met.
        self._open = [[kind for kind in kinds if self._coming[kind]] for kinds in self._by_quota]
        self._barred: set[int] = set()

    def _around(self, node: int) -> Sequence[int]:
        """A group of the caps and all groups around it, up to the root."""
        nodes = [node]
        while nodes[-1] != self._root:
            nodes.append(self._parent[nodes[-1]])
        return nodes

    def fits(self, row: int) -> bool:
        """Whether some set of exactly k rows holds this row and those taken; once false, it stays false."""
        kind = int(self._kind[row])
        if kind < 0 or self._coming[kind] > 0:
            return True
        if kind in self._barred:
            return False
        full = any(self._taken[node] == self._most[node] for node in self._around(self._node[kind])[:-1])
        full = full or self._taken_of_quota[self._quota[kind]] == self._high[self._quota[kind]]
        if full or not (self._replaced(kind) or self._exchanged(kind)):
            self._barred.add(kind)
            return False
        return True

    def take(self, row: int) -> None:
        """Counts a row as taken; it must fit."""
        kind = int(self._kind[row])
        if kind < 0:  # a must-include row, already subtracted from every limit
            return
        fits = self.fits(row)
        assert fits
        self._coming[kind] -= 1
        self._left[kind] -= 1
        self._taken_of_quota[self._quota[kind]] += 1
        for node in self._around(self._node[kind]):
            self._taken[node] += 1

    def _replaced(self, wanted: int) -> bool:
        """Plans one more row of a kind in place of one of its quota group, or of another group that can spare one, if
        no group of the caps is full. A search would find the same, but more slowly.
        """
        inner = self._around(self._node[wanted])[:-1]
        if any(self._of_node[node] == self._most[node] for node in inner):
            return False
        goal = self._quota[wanted]
        others: list[int] = []
        if self._of_quota[goal] < self._high[goal]:
            others = [quota for quota, count in enumerate(self._of_quota) if count > self._low[quota]]
        for quota in (goal, *others):
            kinds = self._open[quota]
            while kinds and not self._coming[kinds[-1]]:
                kinds.pop()
            if kinds:
                self._plan(kinds[-1], -1)
                self._plan(wanted, 1)
                return True
        return False

    def _plan(self, kind: int, more: int) -> None:
        """Plans `more` further rows of a kind."""
        self._coming[kind] += more
        self._of_quota[self._quota[kind]] += more
        for node in self._around(self._node[kind])[:-1]:
            self._of_node[node] += more
        if more > 0:
            self._open[self._quota[kind]].append(kind)

    def _exchanged(self, wanted: int) -> bool:
        """Makes room for one more row of a kind by the fewest exchanges of rows to come; false if no exchanges suffice.

        An additional row in the kind's group of the caps moves on to the group around it if that has room, or replaces
        a row to come. The quota group of the replaced row then takes another kind, and so on, until the wanted kind's
        quota group gives up a row of another kind. The search over these steps is breadth first.
        """
        goal = self._quota[wanted]
        # A spot is a group of the caps, a quota group behind them, or the source; each with how it was reached.
        before: dict[int, tuple[int, int | None]] = {self._node[wanted]: (self._node[wanted], None)}
        queue = deque(before)

        def reach(spot: int, origin: int, kind: int | None) -> None:
            if spot not in before:
                before[spot] = (origin, kind)
                queue.append(spot)

        end = self._root + 1 + goal
        while queue and end not in before:
            spot = queue.popleft()
            if spot == _SOURCE:
                for quota, count in enumerate(self._of_quota):
                    if count < self._high[quota]:
                        reach(self._root + 1 + quota, spot, None)
            elif spot > self._root:
                quota = spot - self._root - 1
                if self._of_quota[quota] > self._low[quota]:
                    reach(_SOURCE, spot, None)
                for kind in self._by_quota[quota]:
                    if self._coming[kind] < self._left[kind]:
                        reach(self._node[kind], spot, kind)
            else:
                if spot != self._root and self._of_node[spot] < self._most[spot]:
                    reach(self._parent[spot], spot, None)
                for kind in self._by_node[spot]:
                    if self._coming[kind] > 0:
                        reach(self._root + 1 + self._quota[kind], spot, kind)
                for node in self._inner[spot]:
                    if self._of_node[node] > self._taken[node]:
                        reach(node, spot, None)
        if end not in before:
            return False
        self._coming[wanted] += 1
        self._open[goal].append(wanted)
        spot = end
        while (step := before[spot])[0] != spot:
            self._move(step[0], spot, step[1])
            spot = step[0]
        return True

    def _move(self, origin: int, spot: int, kind: int | None) -> None:
        """One step of an exchange: the surplus row moves from one spot to the next."""
        if _SOURCE in (origin, spot):
            quota = max(origin, spot) - self._root - 1
            self._of_quota[quota] += 1 if origin == _SOURCE else -1
        elif kind is not None:
            self._coming[kind] += 1 if origin > self._root else -1
            self._open[self._quota[kind]].append(kind)
        else:
            outwards = origin != self._root and self._parent[origin] == spot
            self._of_node[origin if outwards else spot] += 1 if outwards else -1
