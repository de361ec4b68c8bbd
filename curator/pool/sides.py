"""Which rows may share a stated part of their words on one side, what is asked or what is answered; none is missed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curator.pool.sets import counted
from curator.pool.words import Numbers

_BITS = 256


class Side:
    """The words of one side of `n` rows, and an index of those rows that were added.

    Args:
        texts: `n` sorted sets of words.
        least: Jaccard similarity that matters, in (0, 1].
    """

    def __init__(self, texts: Sequence[Numbers], least: float) -> None:
        self.least = least
        self._sizes = np.array([len(text) for text in texts], dtype=np.int64)
        self._texts = texts
        self._known, counts = counted(texts)
        # Rarest first: rank 0 is the rarest word.
        self._rank = np.empty(len(self._known), dtype=np.int64)
        self._rank[np.argsort(counts, kind="stable")] = np.arange(len(self._known))
        self._bits = np.zeros((len(texts), _BITS // 64), dtype=np.uint64)
        for row in range(len(texts)):
            own = self._ranks(row)
            np.bitwise_or.at(self._bits[row], own % _BITS // 64, np.uint64(1) << (own % 64).astype(np.uint64))
        self._held = np.bitwise_count(self._bits).sum(axis=1).astype(np.int64)
        self._index: dict[int, list[int]] = defaultdict(list)

    def add(self, row: int) -> None:
        """Puts a row into the index."""
        for word in self._prefix(row):
            self._index[word].append(row)

    def near(self, row: int) -> list[list[int]]:
        """Lists of added rows that hold, together, every added row as like as `least`."""
        return [self._index[word] for word in self._prefix(row) if word in self._index]

    def _ranks(self, row: int) -> NDArray[np.int64]:
        return self._rank[np.searchsorted(self._known, self._texts[row])]

    def _prefix(self, row: int) -> list[int]:
        # Two sets as like as `least` share one of these of both (prefix filtering, Chaudhuri et al. 2006).
        own = np.sort(self._ranks(row))
        length = len(own) - math.ceil(self.least * len(own) - 1e-9) + 1 if len(own) else 0
        return own[:length].tolist() or [-1]

    def possible(self, row: int, others: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the other rows that may be as like as `least`: a bound from sets of bits, which is never too low."""
        common = np.bitwise_count(self._bits[others] & self._bits[row]).sum(axis=1).astype(np.int64)
        shared = np.minimum(
            common + self._sizes[row] - self._held[row], np.minimum(self._sizes[others], self._sizes[row])
        )
        joint = self._sizes[others] + self._sizes[row] - shared
        possible: NDArray[np.int64] = others[shared >= self.least * joint - 1e-9]
        return possible
