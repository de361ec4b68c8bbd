"""The pool prepared for selection: sorted by id, copies merged, score standardised, neighbours found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curator.errors import SelectionError
from curator.neighbours import Graph, blocks, graph, nearest
from curator.wording import these

Column = NDArray[np.float64]
Rows = NDArray[np.int64]

# Cosines are rounded to multiples of 2^-24, below the rounding of a float32 product: sums of them in float64 are then
# exact, so gains do not depend on the order of summation and equal rows tie exactly.
_GRID = 2.0**24


@dataclass(frozen=True)
class Columns:
    """The graph by column: which of the `u` distinct vectors each vector can cover, in compressed form.

    Attributes:
        start: `(u + 1,)` int64; column j is the slice start[j] : start[j + 1] of `covered` and `cosine`.
        covered: Numbers of distinct vectors, int32.
        cosine: float64 in (0, 1], multiples of 2^-24.
        floor: `(u,)` float64, the cosine of each vector's last neighbour, clipped at 0: no vector outside its
            neighbours covers it better (0 where all are neighbours).
    """

    start: NDArray[np.int64]
    covered: NDArray[np.int32]
    cosine: Column
    floor: Column


class Listed(Protocol):
    """Rows sorted by id: `n` ids, ascending, and the caller's row number of each."""

    @property
    def ids(self) -> tuple[str, ...]: ...

    @property
    def rows(self) -> Rows: ...


@dataclass(frozen=True)
class Problem:
    """A pool prepared for selection with any weight, objective and limits.

    Letters: `n` rows, sorted by id; `u` distinct vectors, in the order of their first row; `d` their width.

    Attributes:
        ids: `n` ids, ascending. `rows`: `(n,)` the caller's row number of each.
        vectors: `(u, d)` float32 distinct unit rows.
        copy_of: `(n,)` the distinct vector of each row.
        weight: `(n,)` row weights. `mass`: `(u,)` their sums over copies.
        z: `(n,)` score standardised over the pool; `mean` and `sd` are those of the score.
        task_cover: `(u,)` largest clipped cosine to a task row, or null.
        neighbours, seed: Parameters of the graph, which is built when it is first used.
    """

    ids: tuple[str, ...]
    rows: Rows
    vectors: NDArray[np.float32]
    copy_of: Rows
    weight: Column
    mass: Column
    z: Column
    mean: float
    sd: float
    task_cover: Column | None
    neighbours: int
    seed: int

    @cached_property
    def graph(self) -> Graph:
        """The nearest distinct vectors of each distinct vector."""
        return graph(self.vectors, self.neighbours, seed=self.seed)

    @cached_property
    def columns(self) -> Columns:
        """The graph by column."""
        return _columns(self.graph)

    def scored(self, z: Column) -> Problem:
        """The pool with another standardised score, `(n,)`; what was found of its neighbours is kept."""
        return self._knowing(replace(self, z=z))

    def weighted(self, weight: Column) -> Problem:
        """The pool with other row weights, `(n,)` >= 0; what was found of its neighbours is kept."""
        mass = np.bincount(self.copy_of, weights=weight, minlength=len(self.vectors)).astype(np.float64)
        return self._knowing(replace(self, weight=weight, mass=mass))

    def _knowing(self, other: Problem) -> Problem:
        # Cached properties depend on vectors, neighbours and seed alone; `replace` would compute them again.
        vars(other).update({name: value for name, value in vars(self).items() if name not in vars(other)})
        return other

    @cached_property
    def _covered(self) -> dict[bytes, tuple[Rows, Column]]:
        return {}

    def covered(self, chosen: Rows) -> tuple[Rows, Column]:
        """For each distinct vector `(u,)`: the vector of `chosen` with the largest cosine, and that cosine, in [0, 1].

        Any vector may cover any other, not only its neighbours, so this is a matrix product of all u vectors with the
        chosen ones. The last result is cached, because the value of a set and its explanation need the same one.

        Args:
            chosen: Numbers of distinct vectors, ascending. Each covers itself with cosine 1.
        """
        key = chosen.tobytes()
        if key not in self._covered:
            cosine, index = nearest(self.vectors, np.ascontiguousarray(self.vectors[chosen]), 1)
            by, coverage = chosen[index[:, 0]], on_grid(cosine[:, 0])
            by[chosen], coverage[chosen] = chosen, 1.0
            self._covered.clear()
            self._covered[key] = by, coverage
        return self._covered[key]


def prepare(
    vectors: ArrayLike,
    score: ArrayLike,
    *,
    ids: Sequence[str] | Sequence[int] | None = None,
    neighbours: int = 64,
    row_weights: ArrayLike | None = None,
    task_cover: ArrayLike | None = None,
    seed: int = 0,
) -> Problem:
    """Checks and prepares a pool; its graph is built once, so one Problem serves many weights, objectives and limits.

    Args:
        vectors: `(n, d)` unit rows, used as given.
        score: `(n,)`, larger is more similar to the tasks; standardised here to mean 0 and (population) sd 1, all 0
            when all are equal.
        ids: `n` distinct ids [default: row numbers]. Ties are broken by id (numbers by size, text by code point).
        neighbours: Number of nearest distinct rows that can cover a row, including itself.
        row_weights: `(n,)` >= 0 [default: all 1].
        task_cover: `(n,)` for conditional gain, in [0, 1].
        seed: Random seed of the approximate graph.

    Raises:
        SelectionError: An argument has a wrong shape or invalid values; the message names it.
    """
    matrix = _unit_matrix(vectors)
    n = len(matrix)
    scores = column("score", score, n)
    order, sorted_ids = _sorted(ids, n)
    _unit_rows(matrix, ids)
    if not isinstance(neighbours, int | np.integer) or neighbours < 1:
        raise SelectionError(f"neighbours: found {neighbours!r}; it must be a whole number of at least 1")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise SelectionError(f"seed: found {seed!r}; it must be a whole number of at least 0")
    weight = np.ones(n) if row_weights is None else column("row_weights", row_weights, n, low=0.0)
    if weight.sum() <= 0:
        raise SelectionError("row_weights: every weight is 0; at least one must be positive")
    cover = None if task_cover is None else column("task_cover", task_cover, n, low=0.0, high=1.0)

    first, copy_of = _distinct(matrix, order)
    first_rows = order[first]
    distinct = matrix if np.array_equal(first_rows, np.arange(n)) else matrix[first_rows]
    z, mean, sd = standardise(scores[order])
    merged = None
    if cover is not None:
        # Copies are one vector here; if their task covers differ, the largest counts.
        merged = np.zeros(len(first))
        np.maximum.at(merged, copy_of, cover[order])
    return Problem(
        ids=sorted_ids,
        rows=order,
        vectors=distinct,
        copy_of=copy_of,
        weight=weight[order],
        mass=np.bincount(copy_of, weights=weight[order], minlength=len(first)).astype(np.float64),
        z=z,
        mean=mean,
        sd=sd,
        task_cover=None if merged is None else on_grid(merged),
        neighbours=min(int(neighbours), len(first)),
        seed=seed,
    )


def standardise(score: Column) -> tuple[Column, float, float]:
    """The score standardised to mean 0 and population sd 1, with its mean and sd; zeros if the sd is only rounding."""
    # The sd of n equal numbers is often not exactly 0, and dividing by it would turn rounding into a score.
    mean, sd = float(score.mean()), float(score.std())
    if sd <= 1e-12 * max(1e-300, float(np.abs(score).max())):
        return np.zeros(len(score)), mean, 0.0
    return (score - mean) / sd, mean, sd


def on_grid(cosine: NDArray[np.floating]) -> Column:
    """Cosines clipped to [0, 1], as float64 multiples of 2^-24."""
    rounded: Column = np.clip(cosine, 0.0, 1.0).astype(np.float64)
    rounded *= _GRID
    np.rint(rounded, out=rounded)
    rounded /= _GRID
    return rounded


def column(name: str, values: ArrayLike, n: int, *, low: float = -np.inf, high: float = np.inf) -> Column:
    """Values as `(n,)` float64.

    Raises:
        SelectionError: The shape is wrong, or a value is not finite or out of range; the message names the argument.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SelectionError(f"{name}: cannot be read as numbers ({error}); give {n}, one per row") from error
    if numbers.shape != (n,):
        raise SelectionError(f"{name}: found shape {numbers.shape}; it must be ({n},), one number per row")
    wrong = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= low) & (numbers <= high)))
    if wrong.size:
        at = int(wrong[0])
        allowed = "finite" if low == -np.inf else f"at least {low:g}" if high == np.inf else f"from {low:g} to {high:g}"
        raise SelectionError(f"{name}: row {at} is {numbers[at]}; every number must be {allowed}")
    return numbers


def _unit_matrix(vectors: ArrayLike) -> NDArray[np.float32]:
    try:
        matrix = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise SelectionError(f"vectors: cannot be read as an (n, d) matrix of numbers ({error})") from error
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise SelectionError(
            f"vectors: found shape {matrix.shape}; it must be (n, d) with at least one row and one column"
        )
    return matrix


def _unit_rows(matrix: NDArray[np.float32], ids: Sequence[str] | Sequence[int] | None) -> None:
    for block in blocks(len(matrix), matrix.shape[1]):
        lengths = np.linalg.norm(matrix[block], axis=1)
        wrong = np.flatnonzero(~(np.abs(lengths - 1.0) <= 1e-3))
        if wrong.size:
            at = block.start + int(wrong[0])
            name = at if ids is None else repr(ids[at])
            raise SelectionError(
                f"vectors: row {name} has length {lengths[wrong[0]]:.6g}; every row must have length 1 (divide by the "
                "length; a row of length 0 has no direction, so drop it or represent it without centring)"
            )


def _sorted(ids: Sequence[str] | Sequence[int] | None, n: int) -> tuple[Rows, tuple[str, ...]]:
    if ids is None:
        return np.arange(n), tuple(map(str, range(n)))
    if len(ids) != n:
        raise SelectionError(f"ids: found {len(ids):,} for {these(n, 'row', 'rows')} of vectors; give one per row")
    if len(set(ids)) != n:
        seen: set[str | int] = set()
        twice = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise SelectionError(f"ids: duplicate id {twice!r}; give each row its own")
    if len({type(name) for name in ids}) > 1 or not isinstance(ids[0], str | int | np.integer):
        raise SelectionError("ids: found mixed types; give only text or only whole numbers")
    order = np.array(sorted(range(n), key=lambda row: ids[row]), dtype=np.int64)
    return order, tuple(str(ids[row]) for row in order)


def _distinct(matrix: NDArray[np.float32], order: Rows) -> tuple[Rows, Rows]:
    """The first row of each distinct vector, ascending, and the number of each row's vector, for the rows in this
    order.
    """
    n, d = matrix.shape
    # A row's 64-bit key is the sum of its bits times fixed odd factors, so copies are found by sorting n numbers.
    factors = np.random.default_rng(0).integers(0, 2**63, size=d, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    keys = np.empty(n, dtype=np.uint64)
    for block in blocks(n, 4 * d):
        bits = (matrix[block] + np.float32(0)).view(np.uint32)  # -0 becomes +0
        keys[block] = (bits.astype(np.uint64) * factors).sum(axis=1)
    # uint64 sums wrap around, which is harmless: equal rows still have equal sums.
    _, first, key_of = np.unique(keys[order], return_index=True, return_inverse=True)
    leader = first[key_of]
    same = np.ones(n, dtype=bool)
    copies = np.flatnonzero(leader != np.arange(n))
    for block in blocks(len(copies), 4 * d):
        copy, first_copy = order[copies[block]], order[leader[copies[block]]]
        same[copies[block]] = (matrix[copy] == matrix[first_copy]).all(axis=1)
    # Two different rows with the same 64-bit key are very unlikely, and are then not merged.
    leader = np.where(same, leader, np.arange(n))
    return np.unique(leader, return_inverse=True)


def _columns(graph: Graph) -> Columns:
    from scipy.sparse import csr_matrix

    distinct, width = graph.similarities.shape
    row_starts = np.arange(0, distinct * width + 1, width, dtype=np.int64)
    by_row = csr_matrix((graph.similarities.ravel(), graph.indices.ravel(), row_starts), shape=(distinct, distinct))
    by_column = by_row.tocsc()
    cosine = on_grid(by_column.data)
    # Entries that clipping made 0 cover nothing; a column keeps at least its own row, whose cosine is 1.
    positive = cosine > 0.0
    start = np.concatenate([[0], np.cumsum(positive)])[by_column.indptr].astype(np.int64)
    floor = on_grid(graph.similarities[:, -1]) if width < distinct else np.zeros(distinct)
    return Columns(start, by_column.indices[positive].astype(np.int32), cosine[positive], floor)
