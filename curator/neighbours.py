"""Nearest rows by cosine, exact or approximate. The only file that knows faiss.

Rows are unit vectors, so an inner product is a cosine. Callers sort rows by id first: then 'the lower index' among
equal cosines is 'the earlier id', and the order in which rows arrived changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from curator.errors import ON_THE_CPU, ModelError, RunError, first_line, out_of_memory
from curator.provenance import has_gpu
from curator.run.ran import FAISS, versions

Matrix = NDArray[np.float32]

# Rows of a block are chosen so that a temporary of this many float32 stays near 256 MiB.
_BLOCK = 2**26
# Up to here the exact graph takes seconds, and only with it there is an all-pairs bound.
EXACT_UP_TO = 30_000
_SAMPLE = 256
# Most cells searched for a row, and the rise of recall for which their number is still doubled.
_MOST_PROBES = 64
_WORTH_DOUBLING = 0.005
# Cells are told apart in so many directions, found on so many rows in so many turns; their centres are of so many rows
# each and rounds. More of any made cells hardly better: see tests/benchmarks/README.md.
_DIRECTIONS, _FOR_DIRECTIONS, _TURNS = 128, 20_000, 8
_ROWS_A_CENTRE, _ROUNDS = 10, 3
# Nearest cells found for every row before it is known how many are needed.
_RANKED = 4
# What faiss can keep for a query on a GPU.
_GPU_LARGEST = 2048
# Products of a block on a GPU, in float32: 1 GiB, and little more for the best of them.
_GPU_BLOCK = 2**28


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
        device: Where products were computed: `cpu` (by faiss), `cuda by faiss` or `cuda by torch`.
    """

    similarities: Matrix
    indices: NDArray[np.int32]
    method: str
    recall: float
    cells: int = 0
    probes: int = 0
    device: str = "cpu"


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

    Time is one matrix product; memory beyond the result is about 256 MiB whatever q and m, on a GPU some 3 GiB of its
    own.
    """
    m = len(base)
    if not 1 <= r <= m:
        raise ValueError(f"nearest: found r={r}; it must be from 1 to {m}, the number of rows")
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
        seed: Of the samples that cells and recall are found on.
        exact_up_to: Largest n for which the graph is exact.
        recall: What the approximate graph aims at, in (0, 1].

    Memory beyond `vectors` and the result: about 256 MiB exact; approximate, some 700 bytes a row and the rows of
    a cell more.
    """
    n = len(vectors)
    r = min(r, n)
    if n <= exact_up_to:
        similarities, rows = nearest(vectors, vectors, r)
        indices = rows.astype(np.int32)
        _self_first(similarities, indices, np.arange(n, dtype=np.int32))
        return Graph(similarities, indices, "exact", 1.0, device=_where(r + 1))
    return _cell_graph(vectors, r, seed, recall)


@cache
def device() -> str:
    """Where products are computed: on a CUDA GPU where there is one and faiss or torch was built for it, else `cpu`."""
    if not has_gpu():  # first, since torch takes seconds to load
        return "cpu"
    if hasattr(_faiss(), "StandardGpuResources") and _faiss().get_num_gpus():
        return "cuda by faiss"
    return _by_torch()


def _by_torch() -> str:
    import torch

    return "cuda by torch" if torch.cuda.is_available() else "cpu"


def _where(r: int) -> str:
    return _by_torch() if device() == "cuda by faiss" and r > _GPU_LARGEST else device()


@cache
def _faiss() -> ModuleType:
    """faiss: as pip installs it with curator for the CPU, or one for GPUs that was put in its place.

    Raises:
        RunError: Both are installed.
    """
    if len(both := [name for name in FAISS if name in versions()]) > 1:
        raise RunError(
            f"{' and '.join(both)} are both installed; they are one library, and their files overwrite each other; "
            f"run `pip uninstall {' '.join(both)}`, then `pip install` one of them; without a faiss for GPUs, torch "
            "uses the GPU"
        )
    import faiss

    module: ModuleType = faiss
    return module


@cache
def _gpu_memory() -> object:
    """What faiss holds of a GPU's memory: taken once a process, as it is a large part of it, and taking it is slow."""
    resources: object = _faiss().StandardGpuResources()
    return resources


def _top(queries: Matrix, base: Matrix, r: int) -> tuple[Matrix, NDArray[np.int64]]:
    faiss, where = _faiss(), _where(r)
    if where == "cpu":
        nearest_rows = faiss.knn(queries, base, r, metric=faiss.METRIC_INNER_PRODUCT)
        return nearest_rows[0], nearest_rows[1]
    with _room():
        if where == "cuda by torch":
            return _top_torch(queries, base, r, "cuda")
        nearest_rows = faiss.knn_gpu(_gpu_memory(), queries, base, r, metric=faiss.METRIC_INNER_PRODUCT)
        return nearest_rows[0], nearest_rows[1]


@contextmanager
def _room() -> Iterator[None]:
    """Turns running out of a GPU's memory into an error that says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise ModelError(
            f"similarity and neighbours: the GPU is out of memory ({first_line(error)}); they need about 3 GiB. End a "
            "process that uses it (nvidia-smi lists them), name another GPU in CUDA_VISIBLE_DEVICES, or "
            f"{ON_THE_CPU}"
        ) from error


def _top_torch(queries: Matrix, base: Matrix, r: int, device_name: str) -> tuple[Matrix, NDArray[np.int64]]:
    """The best `r` rows of `base` by torch on a device; each part of `base` goes there once."""
    import torch

    on_host = torch.from_numpy(queries)
    best = torch.full((len(queries), r), -torch.inf, device=device_name)
    best_rows = torch.zeros((len(queries), r), dtype=torch.int64, device=device_name)
    with _whole_products():
        for part in blocks(len(base), base.shape[1]):
            columns = torch.from_numpy(base[part]).to(device_name).T
            step = max(1, _GPU_BLOCK // columns.shape[1])
            for start in range(0, len(queries), step):
                rows = slice(start, start + step)
                cosines, index = (on_host[rows].to(device_name) @ columns).topk(min(r, columns.shape[1]))
                candidates = torch.cat([best[rows], cosines], dim=1)
                best[rows], order = candidates.topk(r)
                best_rows[rows] = torch.cat([best_rows[rows], index + part.start], dim=1).gather(1, order)
    return best.cpu().numpy(), best_rows.cpu().numpy()


@contextmanager
def _whole_products() -> Iterator[None]:
    """While the block runs, torch multiplies float32 as such: TF32 would round cosines to three digits."""
    import torch

    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


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
    # All rows above the r-th largest product, and of those equal to it the lowest numbers, as many as there is room.
    products = queries @ base.T  # (b, m)
    cut = np.partition(products, -r, axis=1)[:, -r, None]
    above, equal = products > cut, products == cut
    room = r - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    indices = np.nonzero(chosen)[1].reshape(len(queries), r)
    return np.take_along_axis(products, indices, axis=1), indices


def _sort_rows(similarities: Matrix, indices: NDArray[np.int64] | NDArray[np.int32]) -> None:
    falling, equal = similarities[:, :-1] > similarities[:, 1:], similarities[:, :-1] == similarities[:, 1:]
    # Most rows come sorted, and have no equal cosines.
    rows = np.flatnonzero(~(falling | (equal & (indices[:, :-1] < indices[:, 1:]))).all(axis=1))
    order = np.lexsort((indices[rows], -similarities[rows]), axis=1)
    similarities[rows] = np.take_along_axis(similarities[rows], order, axis=1)
    indices[rows] = np.take_along_axis(indices[rows], order, axis=1)


def _self_first(similarities: Matrix, indices: NDArray[np.int32], own_rows: NDArray[np.int32]) -> None:
    """Moves (or puts) each row's own number to the front with cosine 1, and clips rounding off the others."""
    is_own = indices == own_rows[:, None]
    # A row pushed out by ties with near copies takes the place of its last neighbour.
    at = np.where(is_own.any(axis=1), is_own.argmax(axis=1), indices.shape[1] - 1)
    column = np.arange(indices.shape[1])
    source = np.where(column == 0, at[:, None], np.where(column <= at[:, None], column - 1, column))
    similarities[:] = np.clip(np.take_along_axis(similarities, source, axis=1), -1.0, 1.0)
    indices[:] = np.take_along_axis(indices, source, axis=1)
    similarities[:, 0], indices[:, 0] = 1.0, own_rows


def _cell_graph(vectors: Matrix, r: int, seed: int, recall: float) -> Graph:
    rng = np.random.default_rng(seed)
    reduced = _reduced(vectors, rng)
    centres = _centres(reduced, rng)
    cells = len(centres)
    near = _cells(reduced, centres, min(_RANKED, cells))
    tuning, held_out = np.array_split(rng.choice(len(vectors), min(len(vectors), 2 * _SAMPLE), replace=False), 2)
    order = nearest(reduced[tuning], centres, cells)[1]
    probes = _probes(nearest(vectors[tuning], vectors, r)[1], order, near[:, 0], recall)
    if probes > near.shape[1]:
        near = _cells(reduced, centres, probes)
    del reduced
    search = _search_torch if _where(r) == "cuda by torch" and _fits(vectors) else _search
    similarities, indices = search(vectors, near[:, :probes], cells, r)
    # Rows whose cells hold fewer than r rows together are compared with all.
    short = np.flatnonzero((indices < 0).any(axis=1))
    if len(short):
        similarities[short], indices[short] = nearest(vectors[short], vectors, r)
    for block in blocks(len(vectors), 8 * r):
        _sort_rows(similarities[block], indices[block])
        _self_first(similarities[block], indices[block], np.arange(block.start, block.stop, dtype=np.int32))
    truth = nearest(vectors[held_out], vectors, r)[1]
    share = np.mean([np.isin(row, indices[i]).mean() for i, row in zip(held_out, truth, strict=True)])
    return Graph(similarities, indices, "cells", float(share), cells, probes, _where(r))


def _reduced(vectors: Matrix, rng: np.random.Generator) -> Matrix:
    """Unit rows in the directions of most length, at most 128 of them: enough to tell cells apart, at a third of the
    cost where d is 384.
    """
    if vectors.shape[1] <= _DIRECTIONS:
        return vectors
    size = min(-(-len(vectors) // 4), _FOR_DIRECTIONS)
    sample = vectors[np.sort(rng.choice(len(vectors), size, replace=False))]
    spread = (sample.T @ sample).astype(np.float64) / size
    # The directions of most length are the eigenvectors of X'X / b with the largest eigenvalues.
    directions = rng.standard_normal((vectors.shape[1], _DIRECTIONS))
    for _ in range(_TURNS):  # subspace iteration: a full decomposition takes a minute where d is 4,096
        for _ in range(4):
            directions = spread @ directions
        directions = np.linalg.qr(directions)[0]
    reduced = vectors @ directions.astype(np.float32)
    for block in blocks(len(reduced), _DIRECTIONS):
        reduced[block] /= _length(reduced[block])
    return reduced


def _length(rows: Matrix) -> Matrix:
    length: Matrix = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    return length


def _centres(rows: Matrix, rng: np.random.Generator) -> Matrix:
    """About 8 sqrt(n) centres by spherical k-means (Lloyd) on a sample; a centre that no row is nearest to stays."""
    n = len(rows)
    cells = min(n, int(2 ** round(np.log2(8 * np.sqrt(n)))))
    sample = rows[np.sort(rng.choice(n, min(n, _ROWS_A_CENTRE * cells), replace=False))]
    centres = sample[np.sort(rng.choice(len(sample), cells, replace=False))]
    for _ in range(_ROUNDS):
        cell = nearest(sample, centres, 1)[1][:, 0]
        order = np.argsort(cell, kind="stable")
        met, start = np.unique(cell[order], return_index=True)
        # Rows sorted by cell lie together, so that one pass sums each cell: (met, d).
        sums = np.add.reduceat(sample[order], start, axis=0)
        centres[met] = sums / _length(sums)
    return centres


def _cells(rows: Matrix, centres: Matrix, probes: int) -> NDArray[np.int32]:
    """The nearest cells of each row, nearest first, `(n, probes)`."""
    near = np.empty((len(rows), probes), dtype=np.int32)
    for block in blocks(len(rows), 16 * (probes + rows.shape[1])):
        near[block] = nearest(rows[block], centres, probes)[1]
    return near


def _probes(truth: NDArray[np.int64], order: NDArray[np.int64], cell: NDArray[np.int32], recall: float) -> int:
    """How many cells, nearest first, hold a share `recall` of the true neighbours of the sampled rows, if that pays.

    Args:
        truth: `(b, r)` true neighbours of b sampled rows.
        order: `(b, cells)` all cells, nearest first, of the same rows.
        cell: `(n,)` the cell of each row.
        recall: What is aimed at.
    """
    # rank: how many cells are nearer to a sampled row than each cell, so that a neighbour is found once its own cell's
    # rank is searched; the running sum of these is the recall by number of probes.
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[1])[None, :], axis=1)
    rank_needed = np.take_along_axis(rank, cell[truth].astype(np.int64), axis=1).ravel()
    held = np.cumsum(np.bincount(rank_needed, minlength=order.shape[1])) / rank_needed.size
    probes, most = 1, min(_MOST_PROBES, order.shape[1])
    while held[probes - 1] < recall and probes < most:
        twice = min(2 * probes, most)
        if probes >= _RANKED and held[twice - 1] - held[probes - 1] < _WORTH_DOUBLING:
            break
        probes = twice
    return probes


def _search(vectors: Matrix, near: NDArray[np.int32], cells: int, r: int) -> tuple[Matrix, NDArray[np.int32]]:
    """The best `r` rows in the cells `near` of each row; all that search a cell meet its rows in one matrix product."""
    n = len(near)
    similarities = np.full((n, r), -np.inf, dtype=np.float32)
    indices = np.full((n, r), -1, dtype=np.int32)
    for searching, cell_rows in _meetings(near, cells):
        base = vectors[cell_rows]
        for block in blocks(len(searching), max(vectors.shape[1], 8 * r)):
            rows = searching[block]
            top = _top(vectors[rows], base, min(r, len(cell_rows)))
            merged = np.concatenate([similarities[rows], top[0]], axis=1)
            merged_rows = np.concatenate([indices[rows], cell_rows[top[1]].astype(np.int32)], axis=1)
            best = np.argpartition(-merged, r - 1, axis=1)[:, :r]
            similarities[rows] = np.take_along_axis(merged, best, axis=1)
            indices[rows] = np.take_along_axis(merged_rows, best, axis=1)
    return similarities, indices


def _search_torch(
    vectors: Matrix, near: NDArray[np.int32], cells: int, r: int, device_name: str = "cuda"
) -> tuple[Matrix, NDArray[np.int32]]:
    """As `_search`, by torch on a device where all rows lie."""
    import torch

    with _room(), _whole_products():
        rows = torch.from_numpy(vectors).to(device_name)
        best = torch.full((len(vectors), r), -torch.inf, device=device_name)
        best_rows = torch.full((len(vectors), r), -1, dtype=torch.int32, device=device_name)
        for searching, cell_rows in _meetings(near, cells):
            members = torch.from_numpy(cell_rows).to(device_name)
            base = rows[members].T
            for block in blocks(len(searching), max(vectors.shape[1], len(cell_rows), 8 * r)):
                asking = torch.from_numpy(searching[block]).to(device_name)
                cosines, index = (rows[asking] @ base).topk(min(r, len(cell_rows)))
                merged, order = torch.cat([best[asking], cosines], dim=1).topk(r)
                met = torch.cat([best_rows[asking], members[index].int()], dim=1)
                best[asking], best_rows[asking] = merged, met.gather(1, order)
        return best.cpu().numpy(), best_rows.cpu().numpy()


def _fits(vectors: Matrix) -> bool:
    """Whether all rows may lie on the GPU, beside what products need."""
    import torch

    return 1.2 * vectors.nbytes + 2**32 < torch.cuda.mem_get_info()[0]


def _meetings(near: NDArray[np.int32], cells: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each cell: the rows that search it, and the rows that lie in it; cells that lack either are left out."""
    queries = np.split(np.argsort(near.ravel(), kind="stable") // near.shape[1], _ends(near.ravel(), cells))
    members = np.split(np.argsort(near[:, 0], kind="stable"), _ends(near[:, 0], cells))
    return ((a, b) for a, b in zip(queries, members, strict=True) if len(a) and len(b))


def _ends(cell: NDArray[np.int32], cells: int) -> NDArray[np.int64]:
    """Where the members of each cell but the last end, once sorted by cell."""
    ends: NDArray[np.int64] = np.cumsum(np.bincount(cell, minlength=cells))[:-1]
    return ends
