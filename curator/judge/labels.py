"""Labels by people: answers that somebody has read, in a file of the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from curator.errors import DataError, first_line
from curator.records import require

OUTCOMES = ("refused", "harmful")
"""What labels may be of. They are never of both: XSTest's are of refusal, and say nothing of harm."""


@dataclass(frozen=True)
class Labels:
    """Labelled answers.

    Attributes:
        rows: `prompt`, `answer`, `positive` (whether people say the outcome), `first` and `second` (each annotator's
            own yes or no, null where not given), `agreed` (whether both wrote the same, null where not given), and the
            asked-for columns as text.
        outcome: `refused` or `harmful`. `file`: its name. `digest`: SHA-256 of its bytes.
        read, excluded, unlabelled: Rows of the file, those left out as asked, and those without a label.
        values: Every value of the label column, and which of them are `positive`.
    """

    rows: pl.DataFrame
    outcome: str
    file: str
    digest: str
    read: int
    excluded: int
    unlabelled: int
    values: tuple[str, ...]
    positive: tuple[str, ...]

    def __post_init__(self) -> None:
        require(self.outcome in OUTCOMES, f"Labels: outcome {self.outcome!r} is none of {OUTCOMES}")
        require(self.rows.height == self.read - self.excluded - self.unlabelled, "Labels: rows do not add up")


def read_labels(
    path: Path,
    *,
    outcome: str,
    prompt: str = "prompt",
    answer: str = "answer",
    label: str = "label",
    positive: Sequence[str] = ("yes", "true", "1"),
    annotators: tuple[str, str] | None = None,
    exclude: Mapping[str, str] | None = None,
    columns: Sequence[str] = (),
) -> Labels:
    """Labels of a CSV or JSONL file, all values read as text.

    Args:
        prompt, answer, label: Names of its columns. `positive`: values of the label that mean the outcome.
        annotators: Two columns with a label each, of the same values.
        exclude: Column -> value of rows to leave out, e.g. `redacted` -> `1`.
        columns: Further columns to keep, e.g. another judge's verdicts.

    Raises:
        DataError: The file cannot be read, lacks a column, or holds no label that is positive, or none that is not.
    """
    frame = _read(path)
    wanted = [prompt, answer, label, *(annotators or ()), *(exclude or {}), *columns]
    for name in wanted:
        if name not in frame.columns:
            raise DataError(f"{path}: has no column {name!r}; it has {', '.join(frame.columns)}")
    left = frame
    for name, value in (exclude or {}).items():
        left = left.filter(pl.col(name).fill_null("") != value)
    labelled = left.filter(pl.col(label).fill_null("").str.strip_chars() != "")
    said = pl.col(label).str.strip_chars()
    values = tuple(labelled.select(said.unique().sort())[label].to_list())
    # Case matters as little here as it does to who writes Yes in a sheet.
    meant = tuple(value for value in values if value.lower() in {one.lower() for one in positive})
    if not meant or len(meant) == len(values):
        raise DataError(
            f"{path}: labels in column {label!r} are {', '.join(map(repr, values)) or 'all empty'}, of which "
            f"{', '.join(map(repr, meant)) or 'none'} mean {outcome}; both kinds are needed, see --positive"
        )
    nothing = pl.lit(None, pl.Boolean)
    first, second, agreed = nothing, nothing, nothing
    if annotators is not None:
        first, second = (said_by(name, meant, values) for name in annotators)
        agreed = pl.col(annotators[0]) == pl.col(annotators[1])
    rows = labelled.select(
        pl.col(prompt).fill_null("").alias("prompt"),
        pl.col(answer).fill_null("").alias("answer"),
        said.is_in(meant).alias("positive"),
        first.alias("first"),
        second.alias("second"),
        agreed.alias("agreed"),
        *(pl.col(name).alias(f"column:{name}") for name in columns),
    )
    return Labels(
        rows=rows,
        outcome=outcome,
        file=path.name,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        read=frame.height,
        excluded=frame.height - left.height,
        unlabelled=left.height - labelled.height,
        values=values,
        positive=meant,
    )


def said_by(column: str, positive: Sequence[str], values: Sequence[str]) -> pl.Expr:
    """A column of labels as yes or no; null where it holds none of the label's values, and so says nothing."""
    text = pl.col(column).str.strip_chars()
    return pl.when(text.is_in(list(values))).then(text.is_in(list(positive))).otherwise(None)


def _read(path: Path) -> pl.DataFrame:
    try:
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            frame = pl.read_ndjson(path, infer_schema_length=None)
        elif path.suffix.lower() in (".csv", ".tsv"):
            mark = "\t" if path.suffix.lower() == ".tsv" else ","
            frame = pl.read_csv(path, infer_schema=False, separator=mark, encoding="utf8")
        else:
            raise DataError(f"{path}: labels are read from .csv, .tsv or .jsonl; this is {path.suffix or 'none'}")
        return frame.select(pl.all().cast(pl.String))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: labels cannot be read ({first_line(error)}); give a CSV or JSONL file") from error
