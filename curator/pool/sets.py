"""Sets of numbers and tables in files, so that comparing many long texts needs no memory for them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from curator.pool.words import Numbers
from curator.run.folder import reserve


class Sets(Sequence[Numbers]):
    """`n` sorted sets of 64-bit numbers, one after the other in a file without a name.

    Args:
        folder: Where the file lies; the disk has it back when the sets are no longer held.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as the sets
        self._ends = [0]
        self._all: Numbers | None = None

    def append(self, numbers: Numbers) -> None:
        """Adds a set; none may be added once one was read."""
        numbers.tofile(self._file)
        self._ends.append(self._ends[-1] + len(numbers))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> Numbers: ...
    @overload
    def __getitem__(self, place: slice) -> list[Numbers]: ...
    def __getitem__(self, place: int | slice) -> Numbers | list[Numbers]:
        if isinstance(place, slice):
            return [self[row] for row in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self._read()[self._ends[place] : self._ends[place + 1]]

    def __iter__(self) -> Iterator[Numbers]:
        return (self[row] for row in range(len(self)))

    def _read(self) -> Numbers:
        if self._all is None:
            self._file.flush()
            empty = self._ends[-1] == 0
            # As a plain array: each slice of numpy's own mapped type costs several times as much.
            self._all = np.asarray(
                np.empty(0, np.uint64) if empty else np.memmap(self._file, dtype=np.uint64, mode="r")
            )
        return self._all


def table(shape: tuple[int, int], dtype: DTypeLike, folder: Path) -> NDArray[Any]:
    """An array of zeros in a file without a name."""
    if 0 in shape:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        reserve(file, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return np.asarray(np.memmap(file, dtype=dtype, mode="w+", shape=shape))


def counted(sets: Iterable[Numbers], block: int = 2**22) -> tuple[Numbers, NDArray[np.int64]]:
    """The distinct numbers of all sets, sorted, and in how many sets each is; memory of those and of one block."""
    known, counts = np.empty(0, np.uint64), np.empty(0, np.int64)
    waiting: list[Numbers] = []
    held = 0
    for one in sets:
        waiting.append(one)
        held += len(one)
        if held >= max(block, len(known)):
            known, counts = _merged(known, counts, waiting)
            waiting, held = [], 0
    return _merged(known, counts, waiting)


def _merged(known: Numbers, counts: NDArray[np.int64], waiting: list[Numbers]) -> tuple[Numbers, NDArray[np.int64]]:
    new, times = np.unique(np.concatenate([*waiting, np.empty(0, np.uint64)]), return_counts=True)
    every, place = np.unique(np.concatenate([known, new]), return_inverse=True)
    total = np.zeros(len(every), np.int64)
    np.add.at(total, place, np.concatenate([counts, times]))
    return every, total
