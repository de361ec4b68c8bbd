"""Nearest rows by cosine, exact or approximate. The only file that knows faiss.

Rows are unit vectors, so an inner product is a cosine. Callers sort rows by id first: then 'the lower index' among
equal cosines is 'the earlier id', and the order of the input rows changes nothing.
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

# Blocks have as many rows as keep a temporary of this many float32 near 256 MiB.
_BLOCK = 2**26
# Up to this size the exact graph takes seconds; only the exact graph allows an all-pairs bound.
EXACT_UP_TO = 30_000
_SAMPLE = 256
# Most cells searched for a row, and the least gain of recall for which their number is doubled.
_MOST_PROBES = 64
_WORTH_DOUBLING = 0.005
# Cells are computed in this many directions, which are found on this many rows in this many iterations; their centres
# use this many rows each and rounds. Larger values hardly improve cells: see tests/benchmarks/README.md.
_DIRECTIONS, _FOR_DIRECTIONS, _TURNS = 128, 20_000, 8
_ROWS_A_CENTRE, _ROUNDS = 10, 3
# Nearest cells found for every row before the number needed is known.
_RANKED = 4
# Most neighbours that faiss can keep for a query on a GPU.
_GPU_LARGEST = 2048
# Products of a block on a GPU, in float32: 1 GiB, plus little for the best of them.
_GPU_BLOCK = 2**28


@dataclass(frozen=True)
class Graph:
    """The most similar rows of every row of one matrix.

    Attributes:
        similarities: `(n, r)` float32 cosines in [-1, 1], descending along a row; column 0 is the row itself, exactly
            1.
        indices: `(n, r)` int32 row numbers; equal cosines in ascending order after column 0.
        method: `exact`, or `cells` for the approximate one.
        recall: Share of the exact `r` nearest that is present, over a sample of rows not used in tuning; 1 if exact.
        cells, probes: Number of k-means cells, and of cells searched for each row; 0 if exact.
        device: Device of the products: `cpu` (by faiss), `cuda by faiss` or `cuda by torch`.
    """

    similarities: Matrix
    indices: NDArray[np.int32]
    method: str
    recall: float
    cells: int = 0
    probes: int = 0
    device: str = "cpu"


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of `rows` such that a block of `width` float32 columns stays near 256 MiB."""
    step = max(1, _BLOCK // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def nearest(queries: Matrix, base: Matrix, r: int) -> tuple[Matrix, NDArray[np.int64]]:
    """The `r` rows of `base` with the largest inner product to each query, exactly.

    Args:
        queries: `(q, d)` float32.
        base: `(m, d)` float32.
        r: Number of rows, 1 to m.

    Returns:
        Similarities `(q, r)` float32, descending along a row, and row numbers of `base` `(q, r)` int64; equal
        similarities are in ascending order of row number, also if a tie decides which rows are among the `r`.

    Raises:
        ValueError: `r` is not in [1, m].

    Time is one matrix product; memory beyond the result is about 256 MiB whatever q and m, plus about 3 GiB on a GPU.
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
    a sample needs to reach `recall`, but at most 64, and not more once doubling them adds less than half a percent. The
    reported recall is measured on another sample, and so may be lower.

    Args:
        vectors: `(n, d)` float32 unit rows, sorted by id.
        r: Number of neighbours of a row, including itself; at most n are returned.
        seed: Random seed of the samples for cells and recall.
        exact_up_to: Largest n for which the graph is exact.
        recall: Target recall of the approximate graph, in (0, 1].

    Memory beyond `vectors` and the result: about 256 MiB if exact; if approximate, also about 700 bytes per row and the
    rows of a cell.
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
    """The device of products: a CUDA GPU if there is one and faiss or torch was built for it, else `cpu`."""
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
    """The module faiss: the CPU version that pip installs with curator, or a GPU version that replaces it.

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
    """The GPU memory of faiss, allocated once per process, because it is large and allocation is slow."""
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
    """Turns a GPU's out-of-memory errors into an error that says what to do."""
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
    """The best `r` rows of `base` by torch on a device; each part of `base` is copied there once."""
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
    """Makes torch multiply in full float32 while the block runs: TF32 would round cosines to three digits."""
    import torch

    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _nearest_block(queries: Matrix, base: Matrix, r: int) -> tuple[Matrix, NDArray[np.int64]]:
    # faiss keeps an arbitrary row among equals; one more neighbour shows whether a tie crosses the cut.
    similarities, indices = _top(queries, base, min(r + 1, len(base)))
    if similarities.shape[1] > r:
        tied = np.flatnonzero(similarities[:, r] == similarities[:, r - 1])
        similarities, indices = np.ascontiguousarray(similarities[:, :r]), np.ascontiguousarray(indices[:, :r])
        for rows in blocks(len(tied), 4 * len(base)):
            similarities[tied[rows]], indices[tied[rows]] = _with_ties(queries[tied[rows]], base, r)
    _sort_rows(similarities, indices)
    return similarities, indices


def _with_ties(queries: Matrix, base: Matrix, r: int) -> tuple[Matrix, NDArray[np.int64]]:
    # All rows above the r-th largest product, and of those equal to it the lowest numbers that fit.
    products = queries @ base.T  # (b, m)
    cut = np.partition(products, -r, axis=1)[:, -r, None]
    above, equal = products > cut, products == cut
    room = r - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    indices = np.nonzero(chosen)[1].reshape(len(queries), r)
    return np.take_along_axis(products, indices, axis=1), indices


def _sort_rows(similarities: Matrix, indices: NDArray[np.int64] | NDArray[np.int32]) -> None:
    falling, equal = similarities[:, :-1] > similarities[:, 1:], similarities[:, :-1] == similarities[:, 1:]
    # Most rows are already sorted, without equal cosines.
    rows = np.flatnonzero(~(falling | (equal & (indices[:, :-1] < indices[:, 1:]))).all(axis=1))
    order = np.lexsort((indices[rows], -similarities[rows]), axis=1)
    similarities[rows] = np.take_along_axis(similarities[rows], order, axis=1)
    indices[rows] = np.take_along_axis(indices[rows], order, axis=1)


def _self_first(similarities: Matrix, indices: NDArray[np.int32], own_rows: NDArray[np.int32]) -> None:
    """Moves (or puts) each row's own number to the front with cosine 1, and clips the rounding of the others."""
    is_own = indices == own_rows[:, None]
    # A row that ties with near copies have pushed out replaces its last neighbour.
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
    # Rows whose cells together hold fewer than r rows are compared with all rows.
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
    """Unit rows projected on the at most 128 directions of most variance: enough to separate cells, at a third of the
    cost for d = 384.
    """
    if vectors.shape[1] <= _DIRECTIONS:
        return vectors
    size = min(-(-len(vectors) // 4), _FOR_DIRECTIONS)
    sample = vectors[np.sort(rng.choice(len(vectors), size, replace=False))]
    spread = (sample.T @ sample).astype(np.float64) / size
    # The directions of most length are the eigenvectors of X'X / b with the largest eigenvalues.
    directions = rng.standard_normal((vectors.shape[1], _DIRECTIONS))
    for _ in range(_TURNS):  # subspace iteration: a full decomposition takes a minute for d = 4,096
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
    """About 8 sqrt(n) centres by spherical k-means (Lloyd) on a sample; a centre without nearest rows stays."""
    n = len(rows)
    cells = min(n, int(2 ** round(np.log2(8 * np.sqrt(n)))))
    sample = rows[np.sort(rng.choice(n, min(n, _ROWS_A_CENTRE * cells), replace=False))]
    centres = sample[np.sort(rng.choice(len(sample), cells, replace=False))]
    for _ in range(_ROUNDS):
        cell = nearest(sample, centres, 1)[1][:, 0]
        order = np.argsort(cell, kind="stable")
        met, start = np.unique(cell[order], return_index=True)
        # Rows sorted by cell are adjacent, so that one pass sums each cell: (met, d).
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
    """The number of nearest cells that hold the share `recall` of the true neighbours of the sampled rows, as long as
    more cells pay.

    Args:
        truth: `(b, r)` true neighbours of b sampled rows.
        order: `(b, cells)` all cells, nearest first, of the same rows.
        cell: `(n,)` the cell of each row.
        recall: Target recall.
    """
    # ank: the number of cells nearer to a sampled row than each cell, so that a neighbour is found once its own cell's
    # rank is searched; the cumulative sum is the recall by number of probes.
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
    """The best `r` rows in the cells `near` of each row; one matrix product per cell serves all rows that search it."""
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
    """Like `_search`, by torch on a device that holds all rows."""
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
    """Whether all rows fit on the GPU, beside the memory for products."""
    import torch

    return 1.2 * vectors.nbytes + 2**32 < torch.cuda.mem_get_info()[0]


def _meetings(near: NDArray[np.int32], cells: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each cell: the rows that search it, and the rows in it; cells without either are left out."""
    queries = np.split(np.argsort(near.ravel(), kind="stable") // near.shape[1], _ends(near.ravel(), cells))
    members = np.split(np.argsort(near[:, 0], kind="stable"), _ends(near[:, 0], cells))
    return ((a, b) for a, b in zip(queries, members, strict=True) if len(a) and len(b))


def _ends(cell: NDArray[np.int32], cells: int) -> NDArray[np.int64]:
    """Ends of the members of each cell except the last, in rows sorted by cell."""
    ends: NDArray[np.int64] = np.cumsum(np.bincount(cell, minlength=cells))[:-1]
    return ends
