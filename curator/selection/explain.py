"""Why each row was chosen or not, and how much chosen sets overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from curator.errors import SelectionError
from curator.records import Scores, Selection
from curator.selection.greedy import penalties
from curator.selection.limits import Limits, Tally
from curator.selection.objectives import coverage_term
from curator.selection.problem import Column, Problem, Rows
from curator.selection.vulnerable import RESISTANT, VULNERABLE
from curator.wording import these

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
    "barred": pl.String,
}
STABILITY_SCHEMA = {
    "one": pl.String,
    "other": pl.String,
    "shared": pl.Int64,
    "overlap": pl.Float64,
    "chance": pl.Float64,
    "rank_correlation": pl.Float64,
}
# Covered rows that a sentence names at most; the table holds all.
_NAMED = 8


def explain(
    problem: Problem, bounds: Limits, selection: Selection, scores: Scores | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Two frames: the chosen rows in the order picked, and all others by id.

    Args:
        problem, bounds: What `selection` was solved from.
        selection: The result of `solve`.
        scores: Scores of the same ids, for the nearest task rows; without them `nearest` is empty.

    Returns:
        Chosen: `id`, `rank` from 1, `gain` when picked, `similarity` (the score selected by, not standardised),
        `nearest` (each task's score and most similar row, null if the score names none), `covers` (ids of the rows that
        no other chosen row covers better, itself and its copies first among equals; any row may cover any row here).
        Others: `id`, `similarity`, `covered_by` (the chosen row of largest cosine, null where none is positive),
        `coverage` (that cosine, in [0, 1]), `value` (what adding the row to the final set would change the objective
        by), `barred` (the limit that keeps it out whatever its value: `exclude`; `quota`, `within` or `within and
        vulnerable` if its group is full; the name of a cap that its group has reached; `vulnerable` or `not vulnerable`
        if the set has its share of this kind; `budget` if it does not fit any more; else null).

    Raises:
        SelectionError: `scores` lacks a row.
    """
    row_of_id = {row_id: row for row, row_id in enumerate(problem.ids)}
    picks = np.array([row_of_id[row_id] for row_id in selection.ids], dtype=np.int64)
    coverer, coverage = _coverers(problem, picks)
    similarity = problem.mean + problem.z * problem.sd
    near: list[list[dict[str, object]]] = [[] for _ in picks]
    if scores is not None:
        score_row = {row_id: row for row, row_id in enumerate(scores.ids)}
        missing = [row_id for row_id in problem.ids if row_id not in score_row]
        if missing:
            raise SelectionError(f"scores: no score for row {missing[0]!r}; give the scores that rows were selected by")
        similarity = scores.combined[[score_row[row_id] for row_id in problem.ids]]
        near = [
            [
                {
                    "task": task,
                    "similarity": float(values[score_row[row_id]]),
                    "row": scores.nearest[task][score_row[row_id]] if task in scores.nearest else None,
                }
                for task, values in scores.tasks.items()
            ]
            for row_id in selection.ids
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
            "barred": _barred(bounds, picks.tolist(), rest.tolist()),
        },
        schema=REST_SCHEMA,
    )
    return chosen, others


def why(chosen: pl.DataFrame, others: pl.DataFrame, row_id: str) -> str:
    """Why a row is in the set or not, in a few sentences.

    Args:
        chosen, others: The frames of `explain`.
        row_id: An id, or the start of exactly one.

    Raises:
        SelectionError: No row has the id, or several ids start with it.
    """
    row = row_of(chosen, others, row_id)
    return _why_chosen(row, chosen.height) if "rank" in row else _why_not(row)


def row_of(chosen: pl.DataFrame, others: pl.DataFrame, row_id: str) -> dict[str, Any]:
    """The row of either frame whose id is, or uniquely starts with, `row_id`.

    Raises:
        SelectionError: No row has the id, or several ids start with it.
    """
    starts = pl.col("id").str.starts_with(row_id)
    exact = [frame.filter(pl.col("id") == row_id) for frame in (chosen, others)]
    matches = exact if any(part.height for part in exact) else [frame.filter(starts) for frame in (chosen, others)]
    count = sum(part.height for part in matches)
    if not row_id or count == 0:
        raise SelectionError(f"no row with id {row_id!r}; `curator rows RUN` lists the chosen rows with their ids")
    if count > 1:
        ids = these(count, "row id starts", "row ids start")
        raise SelectionError(f"{ids} with {row_id!r}; give more characters of the id")
    return next(part for part in matches if part.height).row(0, named=True)


def stability(sets: Mapping[str, Sequence[str]], pool_rows: int) -> pl.DataFrame:
    """How much sets overlap: one row per pair of sets.

    Args:
        sets: Name -> ids in the order picked.
        pool_rows: Number of rows of the pool that all sets were chosen from.

    Returns:
        `shared` ids; `overlap`: shared / size of the smaller set, in [0, 1]; `chance`: the expected overlap of random
        sets of these sizes; `rank_correlation`: Spearman's rho of the picking order of the shared ids, in [-1, 1], null
        for fewer than 3.
    """
    from scipy.stats import spearmanr

    rows = []
    for name, other in combinations(sorted(sets), 2):
        first, second = ({row_id: rank for rank, row_id in enumerate(sets[key])} for key in (name, other))
        shared = sorted(set(first) & set(second))
        rank = None
        if len(shared) >= 3:
            rank = float(spearmanr([first[i] for i in shared], [second[i] for i in shared]).statistic)
        smaller, larger = sorted((len(first), len(second)))
        overlap = len(shared) / smaller if smaller else 0.0
        rows.append((name, other, len(shared), overlap, larger / pool_rows, rank))
    return pl.DataFrame(rows, schema=STABILITY_SCHEMA, orient="row")


def _why_chosen(row: Mapping[str, Any], k: int) -> str:
    near = "; ".join(
        f"{task['task']} {task['similarity']:.3f}" + (f", nearest row {task['row']}" if task["row"] else "")
        for task in row["nearest"]
    )
    covers = row["covers"]
    more = f" and {len(covers) - _NAMED:,} more" if len(covers) > _NAMED else ""
    return (
        f"Row {row['id']} was chosen as #{row['rank']} of {k:,}. It added {row['gain']:.6f} to the objective. Its "
        f"similarity to the tasks is {row['similarity']:.3f}{f' ({near})' if near else ''}. It is the chosen row that "
        f"covers {these(len(covers), 'row', 'rows')} best: {', '.join(covers[:_NAMED])}{more}."
    )


def _why_not(row: Mapping[str, Any]) -> str:
    cover = (
        f"the chosen row {row['covered_by']} covers it with cosine {row['coverage']:.3f}"
        if row["covered_by"]
        else "no chosen row covers it"
    )
    limit = {
        "exclude": " The recipe excludes it.",
        "quota": " Its group already has the most rows that its quota allows.",
        "within": " Its group already has the rows that within gives it.",
        "within and vulnerable": " Its group already has the rows that within and vulnerable together give it.",
        "budget": " It does not fit into the rest of the budget.",
        VULNERABLE: " The set already has its share of vulnerable rows.",
        RESISTANT: " The set already has its share of rows that are not vulnerable.",
        None: "",
    }
    barred = row["barred"]
    cap = f" The set already has the most rows with its {barred} that the cap allows."
    return (
        f"Row {row['id']} was not chosen: {cover}. Adding it to the final set would change the objective by "
        f"{row['value']:+.6f}. Its similarity to the tasks is {row['similarity']:.3f}.{limit.get(barred, cap)}"
    )


def _barred(bounds: Limits, picks: list[int], rest: list[int]) -> list[str | None]:
    tally, allowed = Tally(bounds), set(bounds.free.tolist())
    for row in picks:
        tally.take(row)
    by_kind = bounds.grouped == VULNERABLE  # the groups are then the kinds, whose share the recipe sets

    def barred(row: int) -> str | None:
        if row not in allowed:
            return bounds.closed.get(row, "exclude")
        limit = tally.barred(row)
        return bounds.names[bounds.group[row]] if by_kind and limit == bounds.grouped else limit

    return [barred(row) for row in rest]


def _coverers(problem: Problem, picks: Rows) -> tuple[Rows, Column]:
    """The chosen row that covers each row best (-1 where no cosine is positive) and the cosine, `(n,)` each."""
    vectors, first = np.unique(problem.copy_of[np.sort(picks)], return_index=True)
    owner = np.sort(picks)[first]
    by, coverage = problem.covered(vectors)
    coverer = np.where(coverage > 0.0, owner[np.searchsorted(vectors, by)], -1)[problem.copy_of]
    # A chosen copy covers itself, not its earlier twin.
    coverer[picks] = picks
    return coverer, coverage[problem.copy_of]


def _final_values(problem: Problem, bounds: Limits, selection: Selection, picks: Rows) -> Column:
    term = coverage_term(selection.objective, problem, selection.parameters["objective"])
    term.add_all(picks.tolist())
    return term.gains() - penalties(problem, bounds, selection.weight)
