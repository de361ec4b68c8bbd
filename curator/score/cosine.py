"""How similar each pool row is to the anticipated tasks (sim(s) of the objective), and its nearest task row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from curator.errors import DataError
from curator.neighbours import blocks, nearest
from curator.recipe.score import AGGREGATES
from curator.records import Scores, Vectors
from curator.wording import these

Matrix = NDArray[np.float32]
Column = NDArray[np.float64]
Aggregated = tuple[Column, NDArray[np.int64]]


def cosine(
    pool: Vectors,
    tasks: Mapping[str, Vectors],
    weights: Mapping[str, float],
    *,
    aggregate: str,
    n: int = 10,
    k: int | None = None,
) -> Scores:
    """The cosine of every pool row to every task, and their weighted sum.

    With cos(s, x) between pool row s and row x of a task, a task's score of s is, by `aggregate`,

    - `max`: the largest cos(s, x); in [-1, 1].
    - `mean`: the mean of cos(s, x), in closed form from the mean task vector; in [-1, 1].
    - `top-mean`: the mean of the `n` largest cos(s, x); in [-1, 1]. A task with fewer than `n` rows is an error,
      because a mean over fewer rows is a different score.
    - `per-example`: minus the share of task rows for which s is among the `k` least similar pool rows (equal cosines go
      by id); in [-1, 0].

    Args:
        pool: `n` unit rows `(n, d)`.
        tasks: Task name -> unit rows `(m, d)`, made by the same representation.
        weights: Task name -> task mass p_t >= 0, summing to 1. A task of weight 0 gets its score and adds nothing.
        aggregate: See above.
        n: Number of nearest task rows in `top-mean`.
        k: Number of least similar pool rows in `per-example`; the size of the set to choose.

    Returns:
        Scores of the pool's rows in the pool's order; the order of rows changes no value. Time is one matrix product a
        task (two for `mean` and `per-example`, whose nearest rows are a second one); memory beyond the result is
        constant.

    Raises:
        DataError: No task, an empty task, widths that differ, rows that are not unit vectors, weights that do not sum
            to 1 over these tasks, `n` larger than a task, `k` missing or larger than the pool.

    Source: Hsiung et al., arXiv 2506.05346 (`per-example`); He et al. 2024 (`top-mean`, n = 1 there).
    """
    _check(pool, tasks, weights)
    size = _size(pool, tasks, aggregate, n, k)
    # In the order of ids, so that ties are broken by id and the order of the input rows changes nothing.
    order = np.argsort(np.array(pool.ids), kind="stable")
    # A pool comes in this order already; its matrix may be larger than memory, and taking rows would copy it.
    rows = pool.matrix if np.array_equal(order, np.arange(len(order))) else pool.matrix[order]
    scores: dict[str, Column] = {}
    nearest_ids: dict[str, tuple[str, ...]] = {}
    for name, task in tasks.items():
        task_order = np.argsort(np.array(task.ids), kind="stable")
        values, closest = AGGREGATORS[aggregate](rows, task.matrix[task_order], size)
        ids = np.array(task.ids)[task_order][closest]
        scores[name] = np.empty(len(rows))
        scores[name][order] = values
        unsorted = np.empty_like(ids)
        unsorted[order] = ids
        nearest_ids[name] = tuple(unsorted.tolist())
    parameters: dict[str, object] = {"aggregate": aggregate, "weights": {name: float(weights[name]) for name in tasks}}
    kind = AGGREGATES[aggregate]
    if kind.size is not None:
        parameters[kind.size] = size
    return Scores(
        ids=pool.ids,
        name=f"cosine/{aggregate}" + ("" if kind.size is None else f"-{size}"),
        combined=np.sum([weights[name] * scores[name] for name in sorted(tasks)], axis=0),
        tasks=scores,
        nearest=nearest_ids,
        low=-1.0,
        high=kind.high,
        parameters=parameters,
    )


def mean_cosine(pool: Vectors, tasks: Mapping[str, Vectors], weights: Mapping[str, float]) -> Column:
    """The task-weighted mean cosine `(n,)` float64, in [-1, 1], which breaks ties of the per-example arm.

    Args:
        pool: `n` unit rows `(n, d)`.
        tasks: Task name -> unit rows `(m, d)`.
        weights: Task name -> task mass, summing to 1.

    Raises:
        DataError: See `cosine`.
    """
    return cosine(pool, tasks, weights, aggregate="mean").combined


def task_cover(pool: Vectors, tasks: Mapping[str, Vectors]) -> Column:
    """The largest cosine of every pool row to any row of any task, clipped at 0: `(n,)` float64 in [0, 1].

    Conditional gain subtracts it.
    """
    even = {name: 1.0 / len(tasks) for name in tasks}
    scores = cosine(pool, tasks, even, aggregate="max")
    cover: Column = np.clip(np.max(list(scores.tasks.values()), axis=0), 0.0, 1.0)
    return cover


def rank_sum(parts: Sequence[Scores]) -> Scores:
    """The mean rank of every pool row by several scores, for each task and combined.

    A row's rank is the number of rows that score less, plus half of those that score the same, over n - 1: 0 for the
    least similar row, 1 for the most, one half for the only one. Any increasing transform of a part changes nothing.

    Args:
        parts: Scores of the same rows, in any order, for the same tasks.

    Returns:
        Scores in the order of the first part, in [0, 1]; its nearest task rows are those of the first part that names
        any.

    Raises:
        DataError: There are fewer than two parts, or one has other rows or tasks than the first.
    """
    if len(parts) < 2:
        raise DataError(f"score.of: found {len(parts)}; a rank sum needs at least two scores")
    first, orders = parts[0], []
    for part in parts:
        position = {row_id: row for row, row_id in enumerate(part.ids)}
        if position.keys() != set(first.ids) or part.tasks.keys() != first.tasks.keys():
            raise DataError(
                f"score.of: {part.name} has {these(len(part.ids), 'row', 'rows')} and the tasks "
                f"{', '.join(part.tasks)}, {first.name} has {these(len(first.ids), 'row', 'rows')} and the tasks "
                f"{', '.join(first.tasks)}; give scores of the same rows and tasks"
            )
        orders.append([position[row_id] for row_id in first.ids])

    def mean(columns: Sequence[Column]) -> Column:
        ranks = [scaled_ranks(values[order]) for values, order in zip(columns, orders, strict=True)]
        return np.asarray(np.mean(ranks, axis=0), dtype=np.float64)

    with_nearest = next(((part, order) for part, order in zip(parts, orders, strict=True) if part.nearest), None)
    nearest_ids = {}
    if with_nearest is not None:
        part, order = with_nearest
        nearest_ids = {task: tuple(ids[row] for row in order) for task, ids in part.nearest.items()}
    return Scores(
        ids=first.ids,
        name=f"rank-sum({', '.join(part.name for part in parts)})",
        combined=mean([part.combined for part in parts]),
        tasks={task: mean([part.tasks[task] for part in parts]) for task in first.tasks},
        nearest=nearest_ids,
        low=0.0,
        high=1.0,
        parameters={"of": [{"name": part.name, **part.parameters} for part in parts]},
    )


def consensus(parts: Sequence[Scores]) -> Scores:
    """The mean rank of every pool row by one score in several representations, in [0, 1]: `rank_sum` under its own
    name.

    Ranks are averaged instead of cosines because the spread of cosines differs between spaces.
    """
    parameters = {"representations": len(parts), **parts[0].parameters}
    return replace(rank_sum(parts), name=parts[0].name.replace("cosine/", "consensus/"), parameters=parameters)


def scaled_ranks(values: Column) -> Column:
    """Ranks `(n,)` in [0, 1]; equal values share their mean rank."""
    from scipy.stats import rankdata

    if len(values) == 1:
        return np.array([0.5])
    ranks: Column = (rankdata(values) - 1.0) / (len(values) - 1.0)
    return ranks


def _top_mean(rows: Matrix, task: Matrix, n: int) -> Aggregated:
    cosines, nearest_rows = nearest(rows, task, n)
    return np.clip(cosines.mean(axis=1, dtype=np.float64), -1.0, 1.0), nearest_rows[:, 0]


def _mean(rows: Matrix, task: Matrix) -> Aggregated:
    # The mean of cosines is the product with the mean task vector: n x d instead of n x m x d. In float64, since the
    # mean of many unit vectors is short, and ties are broken by its last digits.
    return _product(rows, task.mean(axis=0, dtype=np.float64)), nearest(rows, task, 1)[1][:, 0]


def _product(rows: Matrix, vector: Column) -> Column:
    values = np.empty(len(rows))
    for block in blocks(len(rows), 2 * rows.shape[1]):
        values[block] = rows[block].astype(np.float64) @ vector
    return np.clip(values, -1.0, 1.0)


def _per_example(rows: Matrix, task: Matrix, k: int) -> Aggregated:
    counts = np.zeros(len(rows), dtype=np.int64)
    # The least similar pool rows are the nearest to the negated task row; equal ones go by index, which is by id.
    for block in blocks(len(task), 4 * (k + 1)):
        _, least = nearest(-task[block], rows, k)
        counts += np.bincount(least.ravel(), minlength=len(rows))
    return -counts / len(task), nearest(rows, task, 1)[1][:, 0]


AGGREGATORS: dict[str, Callable[[Matrix, Matrix, int], Aggregated]] = {
    "max": lambda rows, task, _: _top_mean(rows, task, 1),
    "mean": lambda rows, task, _: _mean(rows, task),
    "top-mean": _top_mean,
    "per-example": _per_example,
}
"""The aggregates by name: from unit rows of the pool `(n, d)` and of a task `(m, d)`, both in the order of their ids,
and the aggregate's size, to `(n,)` scores and the number of each pool row's nearest task row.
"""


def _check(pool: Vectors, tasks: Mapping[str, Vectors], weights: Mapping[str, float]) -> None:
    if not tasks:
        raise DataError("score: there is no task to compare the pool with; give at least one")
    if set(weights) != set(tasks):
        raise DataError(f"score: found weights for {sorted(weights)} and tasks {sorted(tasks)}; they must be the same")
    mass = sum(weights.values())
    if not min(weights.values()) >= 0 or not abs(mass - 1.0) <= 1e-6:
        raise DataError(
            f"score: found task weights {dict(weights)} with sum {mass:g}; each must be at least 0 and their sum 1"
        )
    _check_rows(pool, "the pool")
    for name, task in tasks.items():
        _check_rows(task, f"task {name!r}")
        if task.matrix.shape[1] != pool.matrix.shape[1]:
            raise DataError(
                f"score: the vectors of task {name!r} have width {task.matrix.shape[1]} and those of the pool "
                f"{pool.matrix.shape[1]}; represent both with the same model"
            )


def _size(pool: Vectors, tasks: Mapping[str, Vectors], aggregate: str, n: int, k: int | None) -> int:
    """The number that an aggregate takes, `n` or `k`; 0 if it takes none."""
    if aggregate not in AGGREGATES:
        raise DataError(f"score.aggregate: found {aggregate!r}; allowed: {', '.join(AGGREGATES)}")
    if AGGREGATES[aggregate].size == "n":
        for name, task in tasks.items():
            if not 1 <= n <= len(task.ids):
                raise DataError(
                    f"score.n: found {n}, but task {name!r} has {these(len(task.ids), 'row', 'rows')}; allowed: 1 to "
                    f"{len(task.ids)}"
                )
        return n
    if AGGREGATES[aggregate].size is None:
        return 0
    if k is None or not 1 <= k <= len(pool.ids):
        raise DataError(
            f"score.k: found {k}; aggregate {aggregate!r} allows 1 to {len(pool.ids)}, the rows of the pool"
        )
    return k


def _check_rows(vectors: Vectors, where: str) -> None:
    if not vectors.ids:
        raise DataError(f"score: {where} has no rows; at least one is needed")
    for block in blocks(len(vectors.ids), vectors.matrix.shape[1]):
        lengths = np.linalg.norm(vectors.matrix[block], axis=1)
        wrong = np.flatnonzero(~(np.abs(lengths - 1.0) <= 1e-3))
        if wrong.size:
            row = vectors.ids[block.start + int(wrong[0])]
            raise DataError(
                f"score: the vector of row {row!r} of {where} has length {lengths[wrong[0]]:.6g}, and a cosine needs "
                "length 1; a vector of length 0 equals the mean (drop the row, or set represent.centre to false)"
            )
