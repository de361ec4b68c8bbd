"""Vectors out of a cache, into memory or into a file of numpy's format, and centred there.

Files are written and read some rows at a time, and a memory map is opened anew for each: pages of a map count as memory
for as long as it is open. So what lies in memory does not grow with the rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curator.errors import RunError
from curator.represent.cache import Keys, Located, locate, read
from curator.represent.encoder import Encoded, Matrix
from curator.represent.unit import unit
from curator.run.folder import reserve

BYTES = 2**23  # of a matrix in float64 at a time


def gathered(cache: Path, keys: Keys) -> Encoded:
    """The vectors of rows that are all in a cache, in memory."""
    found = locate(cache, keys)
    out = np.zeros((len(keys), width_of(found)), dtype=np.float32)
    return Encoded(out, copied(found, out.__setitem__))


def write_matrix(path: Path, found: Located, width: int) -> NDArray[np.bool_]:
    """Writes the vectors of rows that are all in a cache to a file of numpy's format, shard by shard.

    Returns:
        `(n,)` bool, which rows were cut.
    """
    n = len(found.shard)
    if not n:
        with open(path, "wb") as handle:
            np.save(handle, np.zeros((0, width), dtype=np.float32))
        return np.zeros(0, dtype=np.bool_)
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, width))
    with open(path, "r+b") as whole:
        reserve(whole, os.path.getsize(path))

    def put(rows: NDArray[np.int64], matrix: Matrix) -> None:
        # Opened for each shard: pages of a map count as memory for as long as it is open.
        np.load(path, mmap_mode="r+")[rows] = matrix

    return copied(found, put)


def copied(found: Located, put: Callable[[NDArray[np.int64], Matrix], Any]) -> NDArray[np.bool_]:
    """Hands `put` the positions and the vectors of each shard's rows, and gives back which rows were cut, `(n,)`.

    Raises:
        RunError: A row is in no shard any more.
    """
    if found.missing.size:
        raise RunError(
            f"engine.cache: the vectors of {found.missing.size} rows are no longer where they are kept; somebody has "
            "removed or changed them while the run was at work. Run the same command again"
        )
    cut = np.zeros(len(found.shard), dtype=np.bool_)
    for number, path in enumerate(found.shards):
        rows = np.flatnonzero(found.shard == number)
        shard = read(path)
        put(rows, shard.matrix[found.row[rows]])
        cut[rows] = shard.cut[found.row[rows]]
    return cut


def width_of(found: Located) -> int:
    """Width of the vectors in these shards, 0 where there are none."""
    return int(read(found.shards[0]).matrix.shape[1]) if found.shards else 0


def mean_of_file(path: Path) -> NDArray[np.float32]:
    """The mean row of a matrix on disk, `(d,)`, added up in float64."""
    rows, width = np.load(path, mmap_mode="r").shape
    total = np.zeros(width)
    for span in _spans(rows, width):
        total += np.load(path, mmap_mode="r")[span].sum(axis=0, dtype=np.float64)
    return np.asarray(total / max(rows, 1), dtype=np.float32)


def centre_file(path: Path, mean: NDArray[np.float32]) -> None:
    """Takes the mean away from every row of a matrix on disk and brings the rows back to unit length; see `centre`."""
    rows, width = np.load(path, mmap_mode="r").shape
    for span in _spans(rows, width):
        matrix = np.load(path, mmap_mode="r+")
        matrix[span] = unit(matrix[span] - mean)


def _spans(rows: int, width: int) -> Iterator[slice]:
    step = max(1, BYTES // (8 * max(width, 1)))
    return (slice(start, start + step) for start in range(0, rows, step))
