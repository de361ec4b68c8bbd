"""What a coverage term of the objective is, and the one that facility location and conditional gain share.

A term is a set function with g(empty) = 0 and falling gains, kept as a running state: `gain` and `gains` are marginal
values at the rows added so far.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curator.select.problem import Column, Columns, Problem

_STRIP = 2**22
_PASS = 2**15


class Coverage(Protocol):
    """A running coverage term over the `n` rows of a Problem."""

    monotone: bool

    def clear(self) -> None:
        """Forgets all rows."""

    def gain(self, row: int) -> float:
        """Marginal value of one row that was not added."""

    def gains(self) -> Column:
        """Marginal values of all rows `(n,)`; 0 for rows that were added."""

    def add(self, row: int) -> None:
        """Adds a row."""

    def add_all(self, rows: list[int]) -> None:
        """Adds rows, none of which was added."""

    def value(self) -> float:
        """Value of the rows added."""


class FacilityLocation:
    """(1 / sum w) * sum over v of w_v * (max(floor_v, max over s of K(v, s)) - floor_v).

    With floor 0 it is facility location, with nu times the task cover it is conditional gain, and raised to each row's
    r-th cosine it is a function that no set of rows outside the graph can exceed (the all-pairs certificate).
    """

    monotone = True

    def __init__(self, problem: Problem, floor: Column) -> None:
        self._columns: Columns = problem.columns
        self._copy_of = problem.copy_of
        self._mass = problem.mass
        self._total = float(problem.mass.sum())
        self._even = bool((problem.mass == 1.0).all())  # then weighing is left out, which changes no digit
        self.floor = floor
        self.clear()

    def clear(self) -> None:
        self.cover: Column = self.floor.copy()

    def _column(self, row: int) -> tuple[NDArray[np.int32], Column]:
        vector = self._copy_of[row]
        start, stop = self._columns.start[vector], self._columns.start[vector + 1]
        return self._columns.covered[start:stop], self._columns.cosine[start:stop]

    def gain(self, row: int) -> float:
        covered, cosine = self._column(row)
        rise = cosine - self.cover.take(covered)
        np.maximum(rise, 0.0, out=rise)
        return float(rise.sum() if self._even else rise @ self._mass.take(covered)) / self._total

    def gains(self) -> Column:
        start = self._columns.start
        by_vector = np.empty(len(self._mass))
        left = 0
        while left < len(by_vector):
            right = max(left + 1, int(np.searchsorted(start, start[left] + _STRIP, side="right")) - 1)
            strip = slice(start[left], start[right])
            covered = self._columns.covered[strip]
            rise = self._columns.cosine[strip] - self.cover.take(covered)
            np.maximum(rise, 0.0, out=rise)
            if not self._even:
                rise *= self._mass.take(covered)
            # Every column holds at least its own row, so no slice given to reduceat is empty.
            by_vector[left:right] = np.add.reduceat(rise, start[left:right] - start[left])
            left = right
        return by_vector[self._copy_of] / self._total

    def add(self, row: int) -> None:
        covered, cosine = self._column(row)
        self.cover[covered] = np.maximum(self.cover[covered], cosine)

    def add_all(self, rows: list[int]) -> None:
        # Columns end to end, many in one pass: some 10 times faster than one by one.
        for first in range(0, len(rows), _PASS):
            vectors = self._copy_of[rows[first : first + _PASS]]
            length = self._columns.start[vectors + 1] - self._columns.start[vectors]
            ends = np.cumsum(length)
            at = np.arange(ends[-1]) + np.repeat(self._columns.start[vectors] - (ends - length), length)
            np.maximum.at(self.cover, self._columns.covered[at], self._columns.cosine[at])

    def value(self) -> float:
        return float(self._mass @ (self.cover - self.floor)) / self._total
