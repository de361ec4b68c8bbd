"""Coverage terms that reward difference within the set: graph cut and log-det."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curator.neighbours import blocks
from curator.select.problem import Column, Problem


class GraphCut:
    """(1 / n) * (sum over v in V, s in S of w_v K(v, s) - theta * sum over s, t in S of K(s, t)), weights of mean 1.

    K is made symmetric (a pair counts if either is a neighbour of the other), because the second sum would otherwise
    outweigh the first for pairs that only one side sees. Monotone while 2 theta is at most the smallest weight, hence
    for theta <= 1/2 with equal weights; above that no certificate is valid.
    """

    def __init__(self, problem: Problem, theta: float) -> None:
        from scipy.sparse import csc_matrix

        columns, m = problem.columns, len(problem.mass)
        by_column = csc_matrix((columns.cosine, columns.covered, columns.start), shape=(m, m))
        kernel = by_column.maximum(by_column.T).tocsc()
        scale = len(problem.weight) / float(problem.weight.sum())
        self._start, self._near, self._cosine = kernel.indptr, kernel.indices, kernel.data
        self._reach: Column = kernel.T @ (problem.mass * scale)
        self._vectors, self._weight = problem.vectors, problem.mass * scale
        self._copy_of = problem.copy_of
        self._n = len(problem.ids)
        self._theta = theta
        self.monotone = 2.0 * theta <= float(problem.weight.min()) * scale
        self.clear()

    def clear(self) -> None:
        self._within = np.zeros(len(self._reach))
        self._added = np.zeros(self._n, dtype=bool)
        self._total = 0.0

    def gain(self, row: int) -> float:
        vector = self._copy_of[row]
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
        """Value of a set with the cosines of all pairs, not of neighbours only. One matrix product, in blocks."""
        vectors, count = np.unique(self._copy_of[rows], return_counts=True)
        chosen = self._vectors[vectors]
        reach = 0.0
        for block in blocks(len(self._vectors), len(vectors)):
            cosine = np.clip(self._vectors[block] @ chosen.T, 0.0, 1.0)
            reach += float(self._weight[block] @ (cosine @ count))
        within = float(count @ np.clip(chosen @ chosen.T, 0.0, 1.0) @ count)
        return (reach - self._theta * within) / self._n


class LogDet:
    """Log det(I + alpha X_S X_S^T) on raw cosines, whatever their sign; it needs no graph. Monotone and submodular.

    The gain of x is log(1 + alpha x^T A^-1 x) with A = I + alpha X_S^T X_S. While the set has fewer rows than the
    vectors have columns, A^-1 = I - Y^T Y with one row of Y a pick (incremental Cholesky); then A^-1 itself is kept,
    `(d, d)`.
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
        """A^-1 times x."""
        if self._inverse is not None:
            product: Column = self._inverse @ x
            return product
        rows = self._rows[: self._count]
        return x - rows.T @ (rows @ x)

    def gain(self, row: int) -> float:
        x = self._vectors[self._copy_of[row]].astype(np.float64)
        return float(np.log1p(self._alpha * max(0.0, float(x @ self._solved(x)))))

    def gains(self) -> Column:
        rest = np.empty(len(self._vectors))
        for start in range(0, len(rest), 2**16):
            x: NDArray[np.float64] = self._vectors[start : start + 2**16].astype(np.float64)
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
