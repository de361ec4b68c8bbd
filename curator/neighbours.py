"""Nearest rows by cosine, exact or approximate. The only file that knows faiss.

Rows are unit vectors, so an inner product is a cosine. Callers sort rows by id first: then 'the lower index' among
equal cosines is 'the earlier id', and the order in which rows arrived changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

# Rows of a block are chosen so that a temporary of this many float32 stays near 256 MiB.
_BLOCK = 2**26
# Up to here the exact graph takes seconds, and only with it there is an all-pairs bound.
EXACT_UP_TO = 30_000
_SAMPLE = 256
# Most cells searched for a row, and the rise of recall for which their number is still doubled.
_MOST_PROBES = 64
_WORTH_DOUBLING = 0.005
# Nearest cells found for every row before it is known how many are needed.
_RANKED = 4
# What faiss can keep for a query on a GPU.
_GPU_LARGEST = 2048


@dataclass(frozen=True)
class Graph:
    """The most similar rows of every row of one matrix.

    Attributes:
        similarities: `(n, r)` float32 cosines in [-1, 1], falling along a row; column 0 is the row itself, exactly 1.
        indices: `(n, r)` int32 row numbers; equal cosines in rising order after column 0.
        method: `exact`, or `cells` for the approximate one.
        recall: Share of the exact `r` nearest that is present, over a sample of rows that took no part in tuning; 1
            when exact.
        cells, probes: How many k-means cells the rows were cut into, and how many were searched for each row; 0 when
            exact.
    """

    similarities: Matrix
    indices: NDArray[np.int32]
    method: str
    recall: float
    cells: int = 0
    probes: int = 0


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices that cut `rows` so that a block of `width` float32 columns stays near 256 MiB."""
    step = max(1, _BLOCK // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def nearest(queries: Matrix, base: Matrix, r: int) -> tuple[Matrix, NDArray[np.int64]]:
    """The `r` rows of `base` with the largest inner product to each query, exactly.

    Args:
        queries: `(q, d)` float32.
        base: `(m, d)` float32.
        r: How many, 1 to m.

    Returns:
        Similarities `(q, r)` float32, falling along a row, and row numbers of `base` `(q, r)` int64; equal similarities
        in rising order of row number, also where a tie decides what is among the `r`.

    Raises:
        ValueError: `r` is not in [1, m].

    Time is one matrix product; memory beyond the result is about 256 MiB whatever q and m.
    """
    m = len(base)
    if not 1 <= r <= m:
        raise ValueError(f"nearest: r is {r}, it must be from 1 to the {m} rows there are")
    queries, base = np.ascontiguousarray(queries), np.ascontiguousarray(base)
    similarities = np.empty((len(queries), r), dtype=np.float32)
    indices = np.empty((len(queries), r), dtype=np.int64)
    for rows in blocks(len(queries), 4 * (r + 1)):
        similarities[rows], indices[rows] = _nearest_block(queries[rows], base, r)
    return similarities, indices


def graph(vectors: Matrix, r: int, *, seed: int = 0, exact_up_to: int = EXACT_UP_TO, recall: float = 0.95) -> Graph:
    """The `r` nearest rows of every row, itself first: exact for few rows, through k-means cells for many.

    The approximate graph compares each row with all rows of the cells whose centres are nearest to it: as many cells as
    a sample needs to reach `recall`, but 64 at most, and no more once doubling them adds less than half a percent. The
    recall that is reported is measured on another sample, and may so be lower.

    Args:
        vectors: `(n, d)` float32 unit rows, sorted by id.
        r: Neighbours of a row, itself included; at most n are given.
        seed: Of the k-means start and of the samples.
        exact_up_to: Largest n for which the graph is exact.
        recall: What the approximate graph aims at, in (0, 1].

    Memory beyond `vectors` and the result: about 256 MiB exact; approximate, some 200 bytes a row and the rows of a
    cell more.
    """
    n = len(vectors)
    r = min(r, n)
    if n <= exact_up_to:
        similarities, found = nearest(vectors, vectors, r)
        indices = found.astype(np.int32)
        _self_first(similarities, indices, np.arange(n, dtype=np.int32))
        return Graph(similarities, indices, "exact", 1.0)
    return _cell_graph(vectors, r, seed, recall)


def _top(queries: Matrix, base: Matrix, r: int) -> tuple[Matrix, NDArray[np.int64]]:
    import faiss

    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() and r <= _GPU_LARGEST:
        found = faiss.knn_gpu(faiss.StandardGpuResources(), queries, base, r, metric=faiss.METRIC_INNER_PRODUCT)
    else:
        found = faiss.knn(queries, base, r, metric=faiss.METRIC_INNER_PRODUCT)
    return found[0], found[1]


def _nearest_block(queries: Matrix, base: Matrix, r: int) -> tuple[Matrix, NDArray[np.int64]]:
    # faiss keeps an arbitrary row among equals; one more neighbour shows where a tie runs across the cut.
    similarities, indices = _top(queries, base, min(r + 1, len(base)))
    if similarities.shape[1] > r:
        tied = np.flatnonzero(similarities[:, r] == similarities[:, r - 1])
        similarities, indices = np.ascontiguousarray(similarities[:, :r]), np.ascontiguousarray(indices[:, :r])
        for rows in blocks(len(tied), 4 * len(base)):
            similarities[tied[rows]], indices[tied[rows]] = _with_ties(queries[tied[rows]], base, r)
    _sort_rows(similarities, indices)
    return similarities, indices


def _with_ties(queries: Matrix, base: Matrix, r: int) -> tuple[Matrix, NDArray[np.int64]]:
    products = queries @ base.T  # (b, m)
    cut = np.partition(products, -r, axis=1)[:, -r, None]
    above, equal = products > cut, products == cut
    room = r - above.sum(axis=1, keepdims=True)
    kept = above | (equal & (np.cumsum(equal, axis=1) <= room))
    indices = np.nonzero(kept)[1].reshape(len(queries), r)
    return np.take_along_axis(products, indices, axis=1), indices


def _sort_rows(similarities: Matrix, indices: NDArray[np.int64] | NDArray[np.int32]) -> None:
    order = np.lexsort((indices, -similarities), axis=1)
    similarities[:] = np.take_along_axis(similarities, order, axis=1)
    indices[:] = np.take_along_axis(indices, order, axis=1)


def _self_first(similarities: Matrix, indices: NDArray[np.int32], own: NDArray[np.int32]) -> None:
    """Moves (or puts) each row's own number to the front with cosine 1, and clips rounding off the others."""
    is_own = indices == own[:, None]
    # A row pushed out by ties with near copies takes the place of its last neighbour.
    at = np.where(is_own.any(axis=1), is_own.argmax(axis=1), indices.shape[1] - 1)
    column = np.arange(indices.shape[1])
    source = np.where(column == 0, at[:, None], np.where(column <= at[:, None], column - 1, column))
    similarities[:] = np.clip(np.take_along_axis(similarities, source, axis=1), -1.0, 1.0)
    indices[:] = np.take_along_axis(indices, source, axis=1)
    similarities[:, 0], indices[:, 0] = 1.0, own


def _cell_graph(vectors: Matrix, r: int, seed: int, recall: float) -> Graph:
    rng = np.random.default_rng(seed)
    centres = _centres(vectors, rng, seed)
    cells = len(centres)
    near = _cells(vectors, centres, min(_RANKED, cells))
    tuning, held_out = np.array_split(rng.choice(len(vectors), min(len(vectors), 2 * _SAMPLE), replace=False), 2)
    probes = _probes(vectors, centres, near[:, 0], tuning, r=r, recall=recall)
    if probes > near.shape[1]:
        near = _cells(vectors, centres, probes)
    similarities, indices = _search(vectors, near[:, :probes], cells, r)
    for block in blocks(len(vectors), 8 * r):
        _sort_rows(similarities[block], indices[block])
        _self_first(similarities[block], indices[block], np.arange(block.start, block.stop, dtype=np.int32))
    truth = nearest(vectors[held_out], vectors, r)[1]
    share = np.mean([np.isin(row, indices[i]).mean() for i, row in zip(held_out, truth, strict=True)])
    return Graph(similarities, indices, "cells", float(share), cells, probes)


def _centres(vectors: Matrix, rng: np.random.Generator, seed: int) -> Matrix:
    import faiss

    cells = int(2 ** round(np.log2(8 * np.sqrt(len(vectors)))))
    sample = np.sort(rng.choice(len(vectors), min(len(vectors), 20 * cells), replace=False))
    kmeans = faiss.Kmeans(
        vectors.shape[1], cells, niter=5, spherical=True, seed=seed % 2**31, min_points_per_centroid=1
    )
    kmeans.train(vectors[sample])
    return np.asarray(kmeans.centroids, dtype=np.float32)


def _cells(vectors: Matrix, centres: Matrix, probes: int) -> NDArray[np.int32]:
    """The nearest cells of each row, nearest first, `(n, probes)`."""
    near = np.empty((len(vectors), probes), dtype=np.int32)
    for block in blocks(len(vectors), 16 * (probes + vectors.shape[1])):
        near[block] = nearest(vectors[block], centres, probes)[1]
    return near


def _probes(
    vectors: Matrix, centres: Matrix, cell: NDArray[np.int32], sample: NDArray[np.int64], *, r: int, recall: float
) -> int:
    """How many cells, nearest first, hold a share `recall` of the true neighbours of the sampled rows, if that pays."""
    truth = nearest(vectors[sample], vectors, r)[1]
    order = nearest(vectors[sample], centres, len(centres))[1]
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(len(centres))[None, :], axis=1)
    reach = np.take_along_axis(rank, cell[truth].astype(np.int64), axis=1).ravel()
    held = np.cumsum(np.bincount(reach, minlength=len(centres))) / reach.size
    probes, most = 1, min(_MOST_PROBES, len(centres))
    while held[probes - 1] < recall and probes < most:
        twice = min(2 * probes, most)
        if probes >= _RANKED and held[twice - 1] - held[probes - 1] < _WORTH_DOUBLING:
            break
        probes = twice
    return probes


def _search(vectors: Matrix, near: NDArray[np.int32], cells: int, r: int) -> tuple[Matrix, NDArray[np.int32]]:
    """The best `r` rows in the cells `near` of each row; all that ask a cell meet its rows in one matrix product."""
    n, probes = near.shape
    similarities = np.full((n, r), -np.inf, dtype=np.float32)
    indices = np.full((n, r), -1, dtype=np.int32)
    queries = np.split(np.argsort(near.ravel(), kind="stable") // probes, _ends(near.ravel(), cells))
    members = np.split(np.argsort(near[:, 0], kind="stable"), _ends(near[:, 0], cells))
    for asking, own in zip(queries, members, strict=True):
        if not len(asking) or not len(own):
            continue
        base = vectors[own]
        for block in blocks(len(asking), max(vectors.shape[1], 8 * r)):
            rows = asking[block]
            found = _top(vectors[rows], base, min(r, len(own)))
            both = np.concatenate([similarities[rows], found[0]], axis=1)
            of_both = np.concatenate([indices[rows], own[found[1]].astype(np.int32)], axis=1)
            best = np.argpartition(-both, r - 1, axis=1)[:, :r]
            similarities[rows] = np.take_along_axis(both, best, axis=1)
            indices[rows] = np.take_along_axis(of_both, best, axis=1)
    short = np.flatnonzero((indices < 0).any(axis=1))
    if len(short):
        similarities[short], indices[short] = nearest(vectors[short], vectors, r)
    return similarities, indices


def _ends(cell: NDArray[np.int32], cells: int) -> NDArray[np.int64]:
    ends: NDArray[np.int64] = np.cumsum(np.bincount(cell, minlength=cells))[:-1]
    return ends
