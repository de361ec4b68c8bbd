"""Whether k-means from other seeds finds the same clusters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from curator.cluster.kmeans import Labels
from curator.cluster.result import Stability


def stability(partitions: Sequence[Labels], chosen: int | None) -> Stability:
    """How alike clusterings of the same rows are.

    Args:
        partitions: Labels `(n,)` of two or more clusterings; the first is the one that is told.
        chosen: A label of the first: the cluster looked for in the others.
    """
    from sklearn.metrics import adjusted_rand_score

    rand = tuple(float(adjusted_rand_score(one, other)) for one, other in combinations(partitions, 2))
    first, *others = partitions
    found = tuple(_best_jaccard(first == chosen, labels) for labels in others) if chosen is not None else ()
    return Stability(len(partitions), rand, found)


def _best_jaccard(rows: np.ndarray[tuple[int], np.dtype[np.bool_]], labels: Labels) -> float:
    shared = np.bincount(labels[rows], minlength=int(labels.max()) + 1)
    together = np.bincount(labels) + int(rows.sum()) - shared
    return float((shared / together).max())
