"""k-means: squared Euclidean distance, greedy k-means++ starts, Lloyd's rounds, the best of several restarts.

faiss finds the nearest centres, through `curator.neighbours`. Letters: `n` rows, `d` width, `k` clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curator.errors import DataError
from curator.neighbours import Matrix, blocks, nearest

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Partition:
    """Rows cut into clusters.

    Attributes:
        labels: `(n,)` cluster of each row, 0 to k - 1, none empty.
        centres: `(k, d)` float32, the mean row of each cluster.
        distances: `(n,)` float64, squared distance of each row to its cluster's centre.
        rounds: Lloyd's rounds of the restart that was kept; `settled` whether its last one changed nothing.
    """

    labels: Labels
    centres: Matrix
    distances: NDArray[np.float64]
    rounds: int
    settled: bool

    @property
    def inertia(self) -> float:
        """The sum of squared distances to the centres: what k-means makes small."""
        return float(self.distances.sum())


def kmeans(rows: Matrix, k: int, *, rng: np.random.Generator, restarts: int = 10, iterations: int = 100) -> Partition:
    """The partition of least inertia among `restarts`; the first among equals.

    Args:
        rows: `(n, d)` float32, sorted by id, so that the order in which they arrived changes nothing.
        k: How many clusters.
        rng: Where the starts are drawn from.
        restarts: At least 1. iterations: The most rounds of each, at least 1.

    Raises:
        DataError: There are fewer different rows than clusters.

    Cost: a product of n x d x k a round, and about 2 + ln k of them for a start; memory beyond the rows some 256 MiB
    and a copy of the rows. Source of the starts: Arthur and Vassilvitskii 2007, and the
    greedy choice of its last section.
    """
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    best: Partition | None = None
    for _ in range(restarts):
        found = _lloyd(rows, _starts(rows, k, rng), iterations)
        if best is None or found.inertia < best.inertia:
            best = found
    assert best is not None
    return best


def _starts(rows: Matrix, k: int, rng: np.random.Generator) -> Matrix:
    """Different rows, k of them, each drawn with a chance that grows with its squared distance to those before; of some
    such draws the one that leaves the least inertia.
    """
    tried = 2 + int(np.log(k))
    chosen = [int(rng.integers(len(rows)))]
    left = _to_points(rows, rows[chosen])[0]
    while len(chosen) < k:
        mass = np.cumsum(left)
        if mass[-1] <= 0.0:
            raise DataError(
                f"--clusters: found {k}, and the {len(rows):,} rows have only {len(chosen)} different vectors; "
                f"allowed: 1 to {len(chosen)}"
            )
        drawn = np.searchsorted(mass, rng.random(tried) * mass[-1], side="right")
        # Rounding may point behind the last row, or at one that has a centre already.
        drawn = np.array([int(row) if row < len(rows) and left[row] > 0 else int(left.argmax()) for row in drawn])
        after = np.minimum(left, _to_points(rows, rows[drawn]))
        pick = int(after.sum(axis=1).argmin())
        chosen.append(int(drawn[pick]))
        left = after[pick]
    return rows[chosen]


def _to_points(rows: Matrix, points: Matrix) -> NDArray[np.float64]:
    """Squared distances `(p, n)` of p points to all rows, exactly 0 for rows equal to a point."""
    found = np.empty((len(points), len(rows)))
    for place, point in enumerate(points):
        found[place] = _squared(rows, np.broadcast_to(point, rows.shape))
    return found


def _squared(rows: Matrix, others: Matrix) -> NDArray[np.float64]:
    found = np.empty(len(rows))
    for block in blocks(len(rows), 4 * rows.shape[1]):
        apart = rows[block] - others[block]
        found[block] = np.einsum("nd,nd->n", apart, apart, dtype=np.float64)
    return found


def _lloyd(rows: Matrix, centres: Matrix, iterations: int) -> Partition:
    k, settled, rounds = len(centres), False, 0
    labels = _assigned(rows, centres)
    while rounds < iterations and not settled:
        rounds += 1
        centres = _means(rows, labels, k)
        moved = _assigned(rows, centres)
        settled = bool((moved == labels).all())
        labels = moved
    centres = _means(rows, labels, k)
    return Partition(labels, centres, _squared(rows, centres[labels]), rounds, settled)


def _assigned(rows: Matrix, centres: Matrix) -> Labels:
    """The nearest centre of each row, the first among equals; a cluster left empty takes the row farthest from its own.

    The nearest is the one with the largest x.c - |c|^2 / 2, an inner product of rows with one column more.
    """
    one = np.ones((len(rows), 1), dtype=np.float32)
    half = -0.5 * np.einsum("kd,kd->k", centres, centres, dtype=np.float64)[:, None]
    found = nearest(np.hstack([rows, one]), np.hstack([centres, half.astype(np.float32)]), 1)[1][:, 0]
    labels: Labels = found.astype(np.int64)
    counts = np.bincount(labels, minlength=len(centres))
    if (empty := np.flatnonzero(counts == 0)).size:
        far = _squared(rows, centres[labels])
        for cluster in empty:
            far[counts[labels] < 2] = -1.0  # a row alone in its cluster stays there
            row = int(far.argmax())
            counts[labels[row]] -= 1
            labels[row], counts[cluster] = cluster, 1
    return labels


def _means(rows: Matrix, labels: Labels, k: int) -> Matrix:
    from scipy.sparse import csr_matrix

    order = np.argsort(labels, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=k))])
    member: Any = csr_matrix((np.ones(len(rows)), order, ends), shape=(k, len(rows)))
    sums = np.zeros((k, rows.shape[1]))
    # Some columns at a time: the product makes float64 of all the rows that it is given.
    for columns in blocks(rows.shape[1], 4 * len(rows)):
        sums[:, columns] = member @ rows[:, columns].astype(np.float64)
    means: Matrix = (sums / np.diff(ends)[:, None]).astype(np.float32)
    return means
