"""The columns of a file of labels as text, from CSV, TSV or JSON lines.

Only columns that are needed are converted, so others may hold lists, objects or anything else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from curator.errors import DataError, first_line, printable
from curator.wording import record_of

_MARKS = {".csv": ",", ".tsv": "\t"}
_CALLED = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_MOST, _LONGEST = 8, 60  # values that a message lists, and characters of each


def listed(values: Sequence[str], write: Callable[[str], str] = repr) -> str:
    """The first values, shortened, and how many more there are: a column of answers may be mistaken for labels."""
    short = [write(value if len(value) <= _LONGEST else value[:_LONGEST] + "...") for value in values[:_MOST]]
    return ", ".join(short) + (f" and {len(values) - _MOST:,} more" if len(values) > _MOST else "")


def read_sheet(path: Path, needed: Sequence[str]) -> tuple[pl.DataFrame, list[int]]:
    """The needed columns of `n` rows as text, null where a value is missing, and `n` numbers to name the rows by: lines
    of a JSONL file, else positions below the header; both from 1.

    Raises:
        DataError: The file cannot be read, is not what its name says, or lacks a column; or a needed column holds lists
            or objects.
    """
    ending = path.suffix.lower()
    if ending not in (*_MARKS, ".jsonl", ".ndjson"):
        raise DataError(f"{path}: found {path.suffix or 'no extension'}; allowed for labels: .csv, .tsv, .jsonl")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path}: cannot read the labels ({error.strerror}); give a CSV or JSONL file that exists and can be read"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: cannot read the labels (byte {error.start + 1:,} is not UTF-8); save the file as UTF-8"
        ) from error
    if not text.strip():
        raise DataError(f"{path}: the file is empty; it needs a row for each labelled answer")
    names = list(dict.fromkeys(needed))
    return _delimited(path, text, _MARKS[ending], names) if ending in _MARKS else _lines(path, text, names)


def _delimited(path: Path, text: str, mark: str, needed: Sequence[str]) -> tuple[pl.DataFrame, list[int]]:
    header = text.partition("\n")[0]
    fields = {other: [name.strip().strip('"') for name in header.split(other)] for other in _CALLED}
    if not set(needed) <= set(fields[mark]):
        for other, names in fields.items():
            if set(needed) <= set(names) or len(names) > len(fields[mark]) == 1:
                ending = next((ending for ending, its in _MARKS.items() if its == other), None)
                raise DataError(
                    f"{path}: found {_CALLED[other]} between the columns {', '.join(names)}; a file with the ending "
                    f"{path.suffix} needs {_CALLED[mark]}; "
                    + (f"give it the ending {ending}" if ending else "save it with commas as .csv or with tabs as .tsv")
                )
    try:
        frame = pl.read_csv(text.encode(), infer_schema=False, separator=mark)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path}: cannot read the labels ({first_line(error)}); the header needs a name for each column, and a "
            f"value that holds {_CALLED[mark]} or line breaks needs double quotes around it"
        ) from error
    _require(path, needed, frame.columns)
    return frame.select(needed), list(range(1, frame.height + 1))


def _lines(path: Path, text: str, needed: Sequence[str]) -> tuple[pl.DataFrame, list[int]]:
    rows, columns = {}, dict[str, None]()
    # Not splitlines, since a text may hold the line separators of Unicode.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = first_line(error).partition(": line ")[0]
            raise DataError(
                f"{record_of(str(path), number)}: not JSON ({reason}); a JSONL file has an object on each line, such "
                'as {"prompt": "...", "answer": "...", "label": "yes"}'
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{record_of(str(path), number)}: found {_kind(row)}; give an object on each line")
        rows[number] = row
        columns |= dict.fromkeys(row)
    _require(path, needed, list(columns))
    values = {name: [_text(path, number, name, row.get(name)) for number, row in rows.items()] for name in needed}
    return pl.DataFrame(values, schema=dict.fromkeys(needed, pl.String)), list(rows)


def _text(path: Path, number: int, name: str, value: object) -> str | None:
    if isinstance(value, dict | list):
        raise DataError(
            f"{record_of(str(path), number)}: column {name!r} holds {_kind(value)}; allowed in a column of labels, "
            "prompts or answers: text, a number, true or false; write it as text, or name another column"
        )
    return value if value is None else printable(value) if isinstance(value, str) else json.dumps(value)


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else json.dumps(value)


def _require(path: Path, needed: Sequence[str], columns: Sequence[str]) -> None:
    for name in needed:
        if name not in columns:
            raise DataError(f"{path}: no column {name!r}; columns: {', '.join(columns)}")
