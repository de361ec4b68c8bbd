"""The coverage terms of the objective, and the objectives by name.

A term is a set function g with g(empty) = 0 and falling gains, kept as a running state: `gain` and `gains` are marginal
values at the rows added so far.

Letters: `n` rows of the pool, sorted by id; `u` distinct vectors among them; `d` their width; `k` chosen rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from curator.errors import SelectionError
from curator.neighbours import blocks
from curator.recipe.select import OBJECTIVES, parameters_of
from curator.selection.problem import Column, Columns, Problem, on_grid

_STRIP = 2**22  # entries of the graph whose gains are computed in one pass: 32 MiB of float64
_PASS = 2**15  # rows whose columns are concatenated in one pass
_BLOCK = 2**16  # vectors that log-det reads in one pass


class Coverage(Protocol):
    """A running coverage term over the `n` rows of a Problem.

    Attributes:
        monotone: Whether adding a row never lowers the value; otherwise there is no certificate.
    """

    monotone: bool

    def clear(self) -> None:
        """Forgets all rows."""

    def gain(self, row: int) -> float:
        """Marginal value of one row that has not been added."""

    def gains(self) -> Column:
        """Marginal values of all rows `(n,)`; 0 for rows that have been added."""

    def add(self, row: int) -> None:
        """Adds a row."""

    def add_all(self, rows: list[int]) -> None:
        """Adds rows, none of which has been added before."""

    def value(self) -> float:
        """Value of the rows added."""

    def all_pairs_value(self, rows: list[int]) -> float | None:
        """Value of a set if any row may cover any other, not only its neighbours; null if that equals the value."""

    def all_pairs_term(self) -> tuple[Coverage, float] | None:
        """A term and a constant whose sum is at least the all-pairs value of every set; null if none is known."""


class FacilityLocation:
    """(1 / sum w) * sum over v of w_v * (max(floor_v, max over s of K(v, s)) - floor_v), in [0, 1].

    With floor 0 it is facility location, with nu times the task cover it is conditional gain.

    Args:
        problem: The pool; its graph is built here unless it exists.
        floor: `(u,)` in [0, 1], the coverage of each distinct vector before any row is added.
    """

    monotone = True

    def __init__(self, problem: Problem, floor: Column) -> None:
        self._problem = problem
        self._columns: Columns = problem.columns
        self._copy_of = problem.copy_of
        self._mass = problem.mass
        self._total = float(problem.mass.sum())
        self._even = bool((problem.mass == 1.0).all())  # then weights are left out, which changes no digit
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
            # A strip is as many whole columns as fit, and at least one.
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
        # Many concatenated columns in one pass: about 10 times faster than one by one.
        for first in range(0, len(rows), _PASS):
            vectors = self._copy_of[rows[first : first + _PASS]]
            length = self._columns.start[vectors + 1] - self._columns.start[vectors]
            ends = np.cumsum(length)
            # Entry i of the pass lies at i, plus how far its column's start is from where the column lies in the pass.
            entries = np.arange(ends[-1]) + np.repeat(self._columns.start[vectors] - (ends - length), length)
            np.maximum.at(self.cover, self._columns.covered[entries], self._columns.cosine[entries])

    def value(self) -> float:
        return float(self._mass @ (self.cover - self.floor)) / self._total

    def all_pairs_value(self, rows: list[int]) -> float | None:
        if not rows:
            return None
        cover = self._problem.covered(np.unique(self._copy_of[rows]))[1]
        return float(self._mass @ np.maximum(cover - self.floor, 0.0)) / self._total

    def all_pairs_term(self) -> tuple[FacilityLocation, float] | None:
        # A row outside the neighbours of v is at most as near as the last of them. So raising each floor to that cosine
        # concedes everything that truncating the graph can hide; the constant is the amount conceded. An approximate
        # graph may have missed a nearer row, and then there is no such cosine.
        if self._problem.graph.method != "exact":
            return None
        raised = np.maximum(self.floor, self._columns.floor)
        return FacilityLocation(self._problem, raised), float(self._mass @ (raised - self.floor)) / self._total


class GraphCut:
    """(1 / n) * (sum over v in V, s in S of w_v K(v, s) - theta * sum over s, t in S of K(s, t)), weights of mean 1.

    K is made symmetric (a pair counts if either is a neighbour of the other), because the second sum would otherwise
    outweigh the first for pairs that only one side sees.

    Args:
        problem: The pool; its graph is built here unless it exists.
        theta: Cost of similarity within the set, at least 0.
    """

    def __init__(self, problem: Problem, theta: float) -> None:
        from scipy.sparse import csc_matrix

        columns, distinct = problem.columns, len(problem.mass)
        by_column = csc_matrix((columns.cosine, columns.covered, columns.start), shape=(distinct, distinct))
        kernel = by_column.maximum(by_column.T).tocsc()
        scale = len(problem.weight) / float(problem.weight.sum())
        self._start, self._near, self._cosine = kernel.indptr, kernel.indices, kernel.data
        self._reach: Column = kernel.T @ (problem.mass * scale)
        self._vectors, self._weight = problem.vectors, problem.mass * scale
        self._copy_of = problem.copy_of
        self._n = len(problem.ids)
        self._theta = theta
        # The gain of x is at least the sum over s in S of (w_s - 2 theta) K(x, s) / n, since a pair within the set is
        # in the first sum once for x and in the second in both orders; so no gain is negative while 2 theta <= min w.
        limit = OBJECTIVES["graph-cut"].parameters["theta"].monotone_to
        # Of equal weights, the mean that they are divided by may differ from them in its last bits.
        self.monotone = theta <= limit * (float(problem.weight.min()) * scale) * (1 + 1e-12)
        self.clear()

    def clear(self) -> None:
        self._within = np.zeros(len(self._reach))
        self._added = np.zeros(self._n, dtype=bool)
        self._total = 0.0

    def gain(self, row: int) -> float:
        vector = self._copy_of[row]
        # The row is similar to itself (1), and to the others in the set in both orders of the pair.
        return float(self._reach[vector] - self._theta * (1.0 + 2.0 * self._within[vector])) / self._n

    def gains(self) -> Column:
        by_vector = (self._reach - self._theta * (1.0 + 2.0 * self._within)) / self._n
        return np.where(self._added, 0.0, by_vector[self._copy_of])

    def add(self, row: int) -> None:
        self._total += self.gain(row)
        self._added[row] = True
        vector = self._copy_of[row]
        near = slice(self._start[vector], self._start[vector + 1])
        self._within[self._near[near]] += self._cosine[near]

    def add_all(self, rows: list[int]) -> None:
        for row in rows:
            self.add(row)

    def value(self) -> float:
        return self._total

    def all_pairs_value(self, rows: list[int]) -> float:
        vectors, count = np.unique(self._copy_of[rows], return_counts=True)
        chosen = self._vectors[vectors]
        reach = 0.0
        for block in blocks(len(self._vectors), len(vectors)):
            cosine = np.clip(self._vectors[block] @ chosen.T, 0.0, 1.0)
            reach += float(self._weight[block] @ (cosine @ count))
        within = float(count @ np.clip(chosen @ chosen.T, 0.0, 1.0) @ count)
        return (reach - self._theta * within) / self._n

    def all_pairs_term(self) -> None:
        return None


class LogDet:
    """Log det(I + alpha X_S X_S^T) in nats, monotone and submodular, without a graph.

    It takes raw cosines of either sign, because the clipped kernel is not positive semidefinite.

    The gain of x is log(1 + alpha x^T A^-1 x) with A = I + alpha X_S^T X_S, by the matrix determinant lemma. A is d x d
    however many rows are chosen. Adding x changes A^-1 by minus y y^T with y = A^-1 x sqrt(alpha / (1 + alpha x^T A^-1
    x)) (Sherman and Morrison 1950). While the set has fewer than d rows, A^-1 = I - Y^T Y is kept as the rows y
    themselves, `(picks, d)`, as incremental Cholesky does (Chen et al. 2018, arXiv 1709.05135); from then on A^-1
    itself is the smaller, `(d, d)`.

    Args:
        problem: The pool; its graph is not used.
        alpha: Greater than 0. The larger it is, the more a set's spread counts against its size.
    """

    monotone = True

    def __init__(self, problem: Problem, alpha: float) -> None:
        self._vectors = problem.vectors
        self._copy_of = problem.copy_of
        self._alpha = alpha
        self.clear()

    def clear(self) -> None:
        d = self._vectors.shape[1]
        self._rows = np.empty((d, d))
        self._count = 0
        self._inverse: Column | None = None
        self._added = np.zeros(len(self._copy_of), dtype=bool)
        self._total = 0.0

    def _solved(self, x: Column) -> Column:
        """The product of A^-1 and x."""
        if self._inverse is not None:
            product: Column = self._inverse @ x
            return product
        rows = self._rows[: self._count]
        return x - rows.T @ (rows @ x)

    def gain(self, row: int) -> float:
        x = self._vectors[self._copy_of[row]].astype(np.float64)
        # x^T A^-1 x is never negative, but for a row within the span of the set a rounding error of either sign
        # remains.
        return float(np.log1p(self._alpha * max(0.0, float(x @ self._solved(x)))))

    def gains(self) -> Column:
        rest = np.empty(len(self._vectors))
        for start in range(0, len(rest), _BLOCK):
            x: NDArray[np.float64] = self._vectors[start : start + _BLOCK].astype(np.float64)
            if self._inverse is None:
                shadow = x @ self._rows[: self._count].T
                rest[start : start + len(x)] = np.einsum("nd,nd->n", x, x) - np.einsum("nj,nj->n", shadow, shadow)
            else:
                rest[start : start + len(x)] = np.einsum("nd,nd->n", x @ self._inverse, x)
        by_vector = np.log1p(self._alpha * np.maximum(rest, 0.0))
        return np.where(self._added, 0.0, by_vector[self._copy_of])

    def add(self, row: int) -> None:
        x = self._vectors[self._copy_of[row]].astype(np.float64)
        solved = self._solved(x)
        rest = self._alpha * max(0.0, float(x @ solved))
        self._total += float(np.log1p(rest))
        self._added[row] = True
        step = solved * np.sqrt(self._alpha / (1.0 + rest))
        if self._inverse is None and self._count == len(self._rows):
            self._inverse = np.eye(len(x)) - self._rows.T @ self._rows
        if self._inverse is None:
            self._rows[self._count] = step
            self._count += 1
        else:
            self._inverse -= np.outer(step, step)

    def add_all(self, rows: list[int]) -> None:
        for row in rows:
            self.add(row)

    def value(self) -> float:
        return self._total

    def all_pairs_value(self, rows: list[int]) -> None:
        return None

    def all_pairs_term(self) -> None:
        return None


def _conditional_gain(problem: Problem, nu: float) -> Coverage:
    assert problem.task_cover is not None
    return FacilityLocation(problem, on_grid(nu * problem.task_cover))


TERMS: dict[str, Callable[..., Coverage]] = {
    "facility-location": lambda problem: FacilityLocation(problem, np.zeros(len(problem.mass))),
    "conditional-gain": _conditional_gain,
    "graph-cut": GraphCut,
    "log-det": LogDet,
}
"""Objective -> a function of a pool and the objective's parameters (by keyword) that makes its term."""


def coverage_term(objective: str, problem: Problem, parameters: Mapping[str, Any]) -> Coverage:
    """The coverage term of an objective on a pool, with no rows added.

    Args:
        objective: A name of `curator.recipe.select.OBJECTIVES`.
        problem: The pool.
        parameters: The objective's own, by name; missing ones have their defaults.

    Raises:
        SelectionError: The objective or a parameter is unknown, a parameter is out of range, or the pool lacks what the
            objective needs.
    """
    if objective not in OBJECTIVES:
        raise SelectionError(f"objective: found {objective!r}; allowed: {', '.join(OBJECTIVES)}")
    try:
        values = parameters_of(objective, parameters)
    except ValueError as error:
        raise SelectionError(str(error)) from None
    if OBJECTIVES[objective].task_cover and problem.task_cover is None:
        raise SelectionError(
            f"task_cover: missing; objective {objective!r} needs the largest cosine of every row to a task row"
        )
    if not OBJECTIVES[objective].row_weights and (problem.weight != 1.0).any():
        raise SelectionError(f"row_weights: objective {objective!r} cannot use them; remove them")
    return TERMS[objective](problem, **values)
