"""k-means by scikit-learn: squared Euclidean distance, greedy k-means++ starts, Lloyd's rounds, the best restart.

The only file that knows scikit-learn's k-means. Letters: `n` rows, `d` width, `k` clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curator.errors import DataError
from curator.neighbours import Matrix
from curator.wording import these

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Partition:
    """A partition of rows into clusters.

    Attributes:
        labels: `(n,)` cluster of each row, 0 to k - 1, none empty.
        centres: `(k, d)` float32, the mean row of each cluster.
        distances: `(n,)` float64, squared distance of each row to its cluster's centre.
        rounds: Lloyd's rounds of the restart that was kept; `settled`: whether it converged before the last allowed
            round.
    """

    labels: Labels
    centres: Matrix
    distances: NDArray[np.float64]
    rounds: int
    settled: bool

    @property
    def inertia(self) -> float:
        """The sum of squared distances to the centres, which k-means minimises."""
        return float(self.distances.sum())


def kmeans(rows: Matrix, k: int, *, rng: np.random.Generator, restarts: int = 10, iterations: int = 100) -> Partition:
    """The partition of least inertia among `restarts`; the first among equals. Equal rows share a cluster.

    The order of the rows and the number of threads change nothing: scikit-learn gets the distinct rows, sorted and
    weighted by their counts, and one thread. Another number of threads would sum in another order, which changes the
    last bits of the centres.

    Args:
        rows: `(n, d)` float32.
        k: Number of clusters.
        rng: Random generator of the starts.
        restarts: Number of starts, at least 1.
        iterations: Most rounds of each, at least 1.

    Raises:
        DataError: There are fewer distinct rows than clusters.

    Cost: a product of n x d x k per round, and about 2 + ln k of them per start; memory beyond the rows is about three
    copies of them. Source of the starts: k-means++ (Arthur and Vassilvitskii 2007) with its greedy choice.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    different, position, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    if len(different) < k:
        raise DataError(
            f"--clusters: found {k}, but only {len(different):,} of {these(len(rows), 'row', 'rows')} have different "
            f"vectors; allowed: 1 to {len(different)}"
        )
    # tol=0: a restart ends when a round moves no row, not when its centres hardly move.
    model = KMeans(k, n_init=restarts, max_iter=iterations, tol=0.0, random_state=int(rng.integers(2**32)))
    with threadpool_limits(1):
        model.fit(different, sample_weight=counts)
    # Means and distances are recomputed: exact for equal rows, and the same for any order and weight.
    labels: Labels = model.labels_.astype(np.int64)
    centres, distances = np.empty((k, rows.shape[1]), dtype=np.float32), np.empty(len(different))
    for cluster in range(k):
        members = labels == cluster
        centres[cluster] = np.average(different[members], axis=0, weights=counts[members])
        distances[members] = ((different[members] - centres[cluster]) ** 2).sum(axis=1, dtype=np.float64)
    settled = bool(model.n_iter_ < iterations)
    return Partition(labels[position], centres, distances[position], int(model.n_iter_), settled)
