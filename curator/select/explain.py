"""Why each row was chosen or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from curator.errors import SelectionError
from curator.neighbours import nearest
from curator.records import Scores, Selection
from curator.select.choose import penalties
from curator.select.limits import Limits
from curator.select.objectives import OBJECTIVES
from curator.select.problem import Column, Problem, Rows, on_grid

CHOSEN_SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "rank": pl.Int64,
    "gain": pl.Float64,
    "similarity": pl.Float64,
    "nearest": pl.List(pl.Struct({"task": pl.String, "similarity": pl.Float64, "row": pl.String})),
    "covers": pl.List(pl.String),
}
REST_SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "similarity": pl.Float64,
    "covered_by": pl.String,
    "coverage": pl.Float64,
    "value": pl.Float64,
    "allowed": pl.Boolean,
}


def explain(
    problem: Problem, bounds: Limits, selection: Selection, scores: Scores | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Two frames: the chosen rows in the order picked, and all others by id.

    Args:
        problem, bounds: What `selection` was solved from.
        selection: Of `solve`.
        scores: Of the same ids, for the nearest task rows; `nearest` is empty without.

    Returns:
        Chosen: `id`, `rank` from 1, `gain` when picked, `similarity` (the score selected by, not standardised),
        `nearest` (each task's score and most similar row, null where the score knows none), `covers` (ids of the rows
        that no other chosen row covers better, itself and its copies first among equals; any row may cover any row
        here).
        Others: `id`, `similarity`, `covered_by` (the chosen row of largest cosine, null where none is positive),
        `coverage` (that cosine, in [0, 1]), `value` (what adding the row to the final set would change the objective
        by), `allowed` (false for must-exclude rows).

    Raises:
        SelectionError: `scores` lacks a row.
    """
    known = {one: row for row, one in enumerate(problem.ids)}
    picks = np.array([known[one] for one in selection.ids], dtype=np.int64)
    coverer, coverage = _coverers(problem, picks)
    similarity = problem.mean + problem.z * problem.sd
    near: list[list[dict[str, object]]] = [[] for _ in picks]
    if scores is not None:
        at = {one: row for row, one in enumerate(scores.ids)}
        missing = [one for one in problem.ids if one not in at]
        if missing:
            raise SelectionError(f"scores: row {missing[0]!r} is missing; give the scores that were selected by")
        similarity = scores.combined[[at[one] for one in problem.ids]]
        near = [
            [
                {
                    "task": task,
                    "similarity": float(values[at[one]]),
                    "row": scores.nearest[task][at[one]] if task in scores.nearest else None,
                }
                for task, values in scores.tasks.items()
            ]
            for one in selection.ids
        ]
    covers: dict[int, list[str]] = {row: [] for row in picks.tolist()}
    for row, by in enumerate(coverer.tolist()):
        if by >= 0:
            covers[by].append(problem.ids[row])
    chosen = pl.DataFrame(
        {
            "id": selection.ids,
            "rank": range(1, len(picks) + 1),
            "gain": selection.gains,
            "similarity": similarity[picks],
            "nearest": near,
            "covers": [covers[row] for row in picks.tolist()],
        },
        schema=CHOSEN_SCHEMA,
    )
    rest = np.setdiff1d(np.arange(len(problem.ids)), picks)
    values = _final_values(problem, bounds, selection, picks)
    others = pl.DataFrame(
        {
            "id": [problem.ids[row] for row in rest],
            "similarity": similarity[rest],
            "covered_by": [problem.ids[by] if by >= 0 else None for by in coverer[rest].tolist()],
            "coverage": coverage[rest],
            "value": values[rest],
            "allowed": np.isin(rest, bounds.free),
        },
        schema=REST_SCHEMA,
    )
    return chosen, others


def why(chosen: pl.DataFrame, others: pl.DataFrame, one: str) -> str:
    """One sentence on why a row is in the set or not.

    Raises:
        SelectionError: No such id.
    """
    found = chosen.row(by_predicate=pl.col("id") == one, named=True) if one in chosen["id"] else None
    if found is not None:
        near = "; ".join(
            f"{n['task']} {n['similarity']:.3f}" + (f", nearest row {n['row']}" if n["row"] else "")
            for n in found["nearest"]
        )
        return (
            f"{one} is chosen, as number {found['rank']} of {chosen.height}: it added {found['gain']:.6f} to the "
            f"objective, its similarity to the tasks is {found['similarity']:.3f}{f' ({near})' if near else ''}, "
            f"and it is the best cover of {len(found['covers'])} rows."
        )
    if one not in others["id"]:
        raise SelectionError(f"id: {one!r} is no row of this pool; ids stand in its rows file")
    row = others.row(by_predicate=pl.col("id") == one, named=True)
    cover = (
        f"{row['covered_by']} covers it with cosine {row['coverage']:.3f}" if row["covered_by"] else "no row covers it"
    )
    banned = "" if row["allowed"] else " It was excluded."
    return (
        f"{one} is not chosen: {cover}, and adding it to the final set would change the objective by "
        f"{row['value']:+.6f}; its similarity to the tasks is {row['similarity']:.3f}.{banned}"
    )


def _coverers(problem: Problem, picks: Rows) -> tuple[Rows, Column]:
    """The chosen row that covers each row best (-1 where no cosine is positive) and the cosine, `(n,)` each."""
    vectors, first = np.unique(problem.copy_of[np.sort(picks)], return_index=True)
    owner = np.sort(picks)[first]
    cosine, index = nearest(problem.vectors, np.ascontiguousarray(problem.vectors[vectors]), 1)
    by_vector, coverage = owner[index[:, 0]], on_grid(cosine[:, 0])
    by_vector[vectors], coverage[vectors] = owner, 1.0
    coverer = np.where(coverage > 0.0, by_vector, -1)[problem.copy_of]
    # A chosen copy covers itself, not its earlier twin.
    coverer[picks] = picks
    return coverer, coverage[problem.copy_of]


def _final_values(problem: Problem, bounds: Limits, selection: Selection, picks: Rows) -> Column:
    term = OBJECTIVES[selection.objective](problem, selection.parameters["objective"])
    for row in picks.tolist():
        term.add(row)
    return term.gains() - penalties(problem, bounds, selection.weight)
