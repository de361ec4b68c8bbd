"""Writes the data set folder that `datasets.load_dataset` opens, with its card and the evidence for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curator.publish.card import card
from curator.records import Pool, Scores, Selection
from curator.run import replacing_folder, write_json, write_text

DATA = "data/train-00000-of-00001.parquet"
SIMILARITY = "similarity:"
"""Before a task's name: the column of similarity to that task."""
NEAREST = "nearest:"
"""Before a task's name: the column of the most similar task row's id."""


def write_dataset(
    folder: Path,
    *,
    pool: Pool,
    scores: Scores,
    selection: Selection,
    report: Mapping[str, Any],
    evidence: Callable[[Mapping[str, Any]], str],
) -> None:
    """Writes `folder` whole, or not at all; an older one is replaced.

    `data/`: one row a selected row, in the order picked (see `dataset_rows`). `README.md`: the card, whose metadata
    names `data/` as the only data. `evidence/report.json`: the report without `timing`, absolute paths cut to their
    last part. `evidence/selection.parquet`: id, rank, gain, similarity, and for each task the similarity and the id of
    the nearest task row. Texts of tasks, probes and answers are not in it.

    Args:
        report: From `report_dict`.
        evidence: Turns what may be published of the report into Markdown, in which foreign text is inert, for the card.

    Raises:
        ValueError: A selected row is not in the pool or has no score.
    """
    rows = dataset_rows(pool, scores, selection)
    public = publishable(report)
    with replacing_folder(folder) as temporary:
        (temporary / "data").mkdir()
        pq.write_table(rows, temporary / DATA)
        (temporary / "evidence").mkdir()
        pq.write_table(_selection_rows(scores, selection), temporary / "evidence" / "selection.parquet")
        write_json(temporary / "evidence" / "report.json", public)
        write_text(temporary / "README.md", card(rows, report=public, evidence=evidence(public)))


def dataset_rows(pool: Pool, scores: Scores, selection: Selection) -> pa.Table:
    """The selected rows in the order picked.

    Columns: id; messages, a list of {role, content}; category, source and licence, null where the source names none;
    similarity, the combined score; `similarity:<task>` for each task; rank, 0 for the row picked first; gain, what the
    row added to the objective when it was picked.
    """
    picked = _picked(scores, selection).drop(pl.selectors.starts_with(NEAREST))
    text = ("id", "messages", "category", "source", "licence")
    joined = picked.join(pool.rows.select(text), on="id", how="left", maintain_order="left")
    missing = joined.filter(pl.col("messages").is_null())["id"]
    if len(missing):
        raise ValueError(f"row {missing[0]!r} is selected and is not in the pool")
    similarity = [name for name in picked.columns if name.startswith("similarity")]
    return _table(joined.select(*text, *similarity, "rank", "gain"))


def publishable(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report without `timing`, and with absolute paths cut to their last part."""
    found: dict[str, Any] = _without_folders({key: value for key, value in report.items() if key != "timing"})
    return found


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute():
                return kind(value).name
    return value


def _selection_rows(scores: Scores, selection: Selection) -> pa.Table:
    return _table(_picked(scores, selection))


def _picked(scores: Scores, selection: Selection) -> pl.DataFrame:
    columns: dict[str, Any] = {"id": scores.ids, "similarity": scores.combined}
    for task, values in scores.tasks.items():
        columns[SIMILARITY + task] = values
    for task, ids in scores.nearest.items():
        columns[NEAREST + task] = ids
    order = pl.DataFrame(
        {"id": selection.ids, "rank": range(len(selection.ids)), "gain": selection.gains},
        schema={"id": pl.String, "rank": pl.Int64, "gain": pl.Float64},
    )
    picked = order.join(pl.DataFrame(columns), on="id", how="left", maintain_order="left")
    missing = picked.filter(pl.col("similarity").is_null())["id"]
    if len(missing):
        raise ValueError(f"row {missing[0]!r} is selected and has no score")
    return picked


def _table(frame: pl.DataFrame) -> pa.Table:
    """As Arrow with plain strings and lists, which `datasets` shows as `string` and not as `large_string`."""
    plain = {pl.String: pa.string(), pl.Int64: pa.int64(), pl.Float64: pa.float64()}
    messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    schema = pa.schema(
        [(name, messages if name == "messages" else plain[type(dtype)]) for name, dtype in frame.schema.items()]
    )
    return frame.to_arrow().cast(schema)
