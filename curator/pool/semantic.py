"""Semantic duplicates: rows whose vectors are nearly one, against kept rows only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curator.pool.near import Match

_BLOCK = 1024


def semantic_duplicates(vectors: NDArray[np.float32], *, threshold: float) -> list[Match]:
    """The rows that leave, in order: each has a cosine of `threshold` or more to an earlier row that stays.

    Of several kept rows the most similar is named, the earliest among equals. No chain leaves as a whole.

    Args:
        vectors: `(n, d)` unit rows, those that are to stay first; a row of zeros is like none.
        threshold: A cosine in (0, 1].

    Cost: one product of n x n / 2; memory beyond the vectors and the kept ones a block of 1,024 x n.
    """
    found: list[Match] = []
    kept = np.empty_like(vectors)
    numbers: list[int] = []
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        before = len(numbers)
        old = block @ kept[:before].T
        own = block @ block.T
        staying: list[int] = []
        for place in range(len(block)):
            similarities = np.concatenate([old[place], own[place, staying]])
            best = int(similarities.argmax()) if len(similarities) else -1
            if best >= 0 and similarities[best] >= threshold:
                row = numbers[best] if best < before else start + staying[best - before]
                found.append(Match(start + place, row, min(float(similarities[best]), 1.0)))
                continue
            kept[before + len(staying)] = block[place]
            staying.append(place)
        numbers += [start + place for place in staying]
    return found
