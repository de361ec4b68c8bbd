"""Reads records from a file: JSON, JSON Lines, CSV, TSV, lines of text and Parquet, the text formats also compressed.

A record is its number and its fields, or its number and the reason why it cannot be read. A field that cannot be read
is `Unreadable`, which matters only if the field is needed. NaN counts as absent, like null, because pandas writes empty
cells as NaN. Bytes that are not UTF-8 become lone surrogates (as in `os.fsdecode`), which are checked when a text is
used, so they also matter only if they are needed.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Number
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from curator.errors import DataError, first_line
from curator.wording import these

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

Record = tuple[int, dict[str, object] | str]


@dataclass(frozen=True)
class Unreadable:
    """A value that cannot be read, with the reason: it `names the key 'a' twice`."""

    reason: str


LONGEST_LINE = 16 * 2**20
"""Bytes. Longer lines are not rows of a data set, and a file without line breaks must not fill the memory."""
LARGEST_LIST = 256 * 2**20
"""Bytes. A JSON list is read completely, and takes several times its size in memory."""


def records(path: Path, *, columns: Collection[str] | None = None, header: bool = True) -> Iterator[Record]:
    """Every record of a file, in order, read lazily (a JSON list is read completely).

    Numbers start at 1: the physical line of JSON Lines and text, where blank lines are not records; the position in a
    JSON list; the data row of CSV, TSV and Parquet. A line of JSON Lines that is not a JSON object, an item of a list
    that is not an object, or a row of CSV with another number of fields than the header yields the reason instead of
    its fields. If the first record is a text, each text is a `prompt`, like each line of a .txt file.

    Args:
        path: The file.
        columns: The columns that are needed, null for all; other columns of a Parquet file are not read.
        header: Whether the first line of CSV and TSV names the columns; otherwise they are named 0, 1, 2 and so on.

    Raises:
        DataError: The format is unknown, or the file as a whole cannot be read: not its format, damaged, binary,
            UTF-16, with a line of more than 16 MiB, or with two columns of one name; or `header` is false and the
            format names its columns itself.
    """
    name = path.name
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packing = suffixes.pop() if suffixes and suffixes[-1] in (".gz", ".zst") else None
    kind = suffixes[-1] if suffixes else ""
    try:
        if not header and kind not in TABLES:
            allowed = " and ".join(TABLES)
            raise DataError(f"{name}: columns by position are only valid with {allowed}; give their names")
        if kind == ".parquet" and packing is None:
            yield from _parquet(path, name, columns)
        elif kind in TEXT:
            with path.open("rb") as file, _unpacked(file, packing) as stream:
                yield from TEXT[kind](stream, name) if header else _table(stream, name, TABLES[kind], header=False)
        else:
            allowed = f"{', '.join(TEXT)} (each also as .gz or .zst), .parquet"
            raise DataError(f"{name}: unknown format {kind or '(no file extension)'}; allowed extensions: {allowed}")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{name}: cannot be unpacked ({error}); the file is damaged or not in gzip format") from error
    except OSError as error:
        raise DataError(
            f"{name}: cannot be read ({error.strerror or error}); check the file and its permissions"
        ) from error


def _unpacked(file: IO[bytes], packing: str | None) -> IO[bytes]:
    if packing == ".gz":
        return cast("IO[bytes]", gzip.open(file))
    if packing == ".zst":
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(file, compression="zstd"))
    return file


def _lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        if number == 1:
            _refuse_binary(line, name)
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"{name}: line {number:,} is longer than 16 MiB, the most that a row may have; check the file"
            )
        yield number, line


def _refuse_binary(start: bytes, name: str) -> None:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{name}: the file is in UTF-16; save it as UTF-8")
    if b"\0" in start[:4096]:
        raise DataError(
            f"{name}: the file is binary, not text; check it, or give it the extension of its format, e.g. .parquet or "
            ".gz"
        )


def _json_lines(stream: IO[bytes], name: str) -> Iterator[Record]:
    texts: bool | None = None
    for number, line in _lines(stream, name):
        if not line.strip():
            continue
        try:
            item = read_json(text_of(line.rstrip()))
        except ValueError as error:
            yield number, _not_utf8(line) or f"the line is not JSON ({_json_fault(error)})"
        except RecursionError as error:
            yield number, f"the line is not JSON ({error})"
        else:
            texts = isinstance(item, str) if texts is None else texts
            yield number, _object(item, texts=texts)


def _json_list(stream: IO[bytes], name: str) -> Iterator[Record]:
    text = stream.read(LARGEST_LIST + 1)
    if len(text) > LARGEST_LIST:
        raise DataError(
            f"{name}: this JSON list is larger than 256 MiB; write it as JSON Lines (.jsonl), one object per line"
        )
    _refuse_binary(text, name)
    if not text.strip():
        return
    try:
        items = read_json(text_of(text.removeprefix(b"\xef\xbb\xbf")))
    except json.JSONDecodeError as error:
        advice = "it looks like JSON Lines; rename it to .jsonl" if error.msg == "Extra data" else "fix the file"
        where = f"line {error.lineno} column {error.colno}"
        raise DataError(f"{name}: invalid JSON ({error.msg}, {where}); {advice}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: invalid JSON ({error}); fix the file") from error
    if isinstance(items, Unreadable):
        raise DataError(f"{name}: the file {items.reason}; give a list of objects")
    if not isinstance(items, list):
        keys = f" with the keys {', '.join(list(items)[:8])}" if isinstance(items, dict) else ""
        raise DataError(f"{name}: found {kind_of(items)}{keys}; give a list of objects, or JSON Lines in a .jsonl file")
    texts = bool(items) and isinstance(items[0], str)
    for number, item in enumerate(items, 1):
        yield number, _object(item, texts=texts)


def read_json(text: str) -> object:
    """The value of JSON text: null for NaN, and `Unreadable` for an object with a duplicate key.

    Raises:
        ValueError: It is not JSON.
        RecursionError: It is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_fields, parse_constant=_CONSTANTS.get)


_CONSTANTS = {"Infinity": math.inf, "-Infinity": -math.inf}


def _fields(pairs: list[tuple[str, object]]) -> dict[str, object] | Unreadable:
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    keys = [key for key, _ in pairs]
    return Unreadable(f"has the duplicate key {next(key for key in keys if keys.count(key) > 1)!r}")


def _json_fault(error: ValueError) -> str:
    return f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def text_of(line: bytes) -> str:
    """The text of bytes, each that is not UTF-8 as a lone surrogate, from U+DC80 to U+DCFF."""
    return line.decode("utf-8", "surrogateescape")


def _not_utf8(line: bytes) -> str | None:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"the line is not UTF-8 (byte {error.start + 1})"
    return None


def _object(item: object, *, texts: bool) -> dict[str, object] | str:
    if isinstance(item, dict) and not texts:
        return item
    if isinstance(item, Unreadable):
        return f"the record {item.reason}"
    if not texts:
        return f"the record is {kind_of(item)}, not an object"
    return {"prompt": item} if isinstance(item, str) else f"the record is {kind_of(item)}, and the first is a text"


def kind_of(item: object) -> str:
    """The type of a value of JSON or Parquet in words; Parquet also has dates and bytes."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    if isinstance(item, bytes):
        return "binary"
    return kinds.get(type(item), "a number" if isinstance(item, Number) else "a date or a time")


def _prompts(stream: IO[bytes], name: str) -> Iterator[Record]:
    for number, line in _lines(stream, name):
        if line.strip():
            yield number, {"prompt": text_of(line.rstrip(b"\r\n"))}


def _table(stream: IO[bytes], name: str, delimiter: str, *, header: bool = True) -> Iterator[Record]:
    # The limit is csv's own and applies to the process; its default of 128 KiB is shorter than a long answer.
    csv.field_size_limit(LONGEST_LINE)
    lines = (text_of(line) for _, line in _lines(stream, name))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    number, names = 0, list[str]()
    try:
        if header:
            names = next(reader, [])
            _refuse_twice(names, name)
        for fields in reader:
            if not fields:
                continue
            number += 1
            if not header and number == 1:
                names = [str(position) for position in range(len(fields))]
            if len(fields) == len(names):
                yield number, dict(zip(names, fields, strict=True))
            else:
                has = these(len(fields), "field", "fields")
                yield number, f"the row has {has}, but the {'header' if header else 'first row'} has {len(names)}"
    except csv.Error as error:
        advice = "close every quote, and double quotes inside quoted fields"
        raise DataError(f"{name}:{reader.line_num}: invalid table ({error}); {advice}") from error


def _refuse_twice(names: Sequence[str], file: str) -> None:
    for column in names:
        if names.count(column) > 1:
            raise DataError(f"{file}: duplicate column {column!r} in the header; rename one")


def _parquet(path: Path, name: str, columns: Collection[str] | None) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _refuse_twice(names, name)
            needed = [column for column in names if columns is None or column in columns]
            faults = _faults(file, needed) if needed else {}
            sound = [column for column in needed if column not in faults]
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=sound):
                for row in rows_of(batch):
                    number += 1
                    yield number, row | faults
    except (pyarrow.ArrowException, ValueError) as error:  # the latter if a column's name is not UTF-8
        raise DataError(
            f"{name}: cannot be read as Parquet ({first_line(error)}); the file is damaged or in another format"
        ) from error


def by_column(file: str) -> bool:
    """Whether a file of this name is stored column by column, so that some can be left unread."""
    return file.lower().endswith(".parquet")


def _faults(file: ParquetFile, columns: Sequence[str]) -> dict[str, object]:
    """Columns of a Parquet file that a first read fails on, each with the reason.

    If all columns fail, the first error is raised.
    """
    import pyarrow

    def look(*names: str) -> None:
        next(file.iter_batches(batch_size=1, columns=list(names)), None)

    try:
        look(*columns)
    except (pyarrow.ArrowException, OSError):
        faults = dict[str, object]()
        for column in columns:
            try:
                look(column)
            except (pyarrow.ArrowException, OSError) as error:
                if len(faults) + 1 == len(columns):
                    raise
                faults[column] = Unreadable(f"cannot be read ({first_line(error)})")
        return faults
    return {}


# Errors of Arrow for values without an equivalent in Python: bytes that are not UTF-8, a year beyond 9999, a time zone
# that this machine does not know, a struct with two fields of one name.
_UNLIKE = (ValueError, TypeError, LookupError, ArithmeticError, ImportError, NotImplementedError)


def rows_of(batch: pyarrow.RecordBatch | pyarrow.Table) -> Iterator[dict[str, object]]:
    """The rows of Arrow's columns, `Unreadable` for a value without an equivalent in Python, null for NaN."""
    names, columns = batch.schema.names, [_values(column) for column in batch.columns]
    for row in range(batch.num_rows):
        yield {name: values[row] for name, values in zip(names, columns, strict=True)}


def _values(column: pyarrow.Array | pyarrow.ChunkedArray) -> list[object]:
    try:
        values = column.to_pylist()
    except _UNLIKE:
        values = [_value(scalar) for scalar in column]
    return values if str(column.type) in ("string", "large_string") else [_without_nan(value) for value in values]


def _value(scalar: pyarrow.Scalar) -> object:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return Unreadable(f"is not UTF-8 (byte {error.start + 1})")
    except _UNLIKE as error:
        return Unreadable(f"cannot be read ({scalar.type}: {first_line(error)})")


def _without_nan(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    # A half float is a numpy type, which is not a Python float.
    return None if type(value).__name__ in ("float", "float16") and math.isnan(cast("float", value)) else value


TABLES = {".csv": ",", ".tsv": "\t"}
"""Suffix of a table's file name -> the separator of its fields."""

TEXT: Mapping[str, Callable[[IO[bytes], str], Iterator[Record]]] = {
    ".json": _json_list,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    **{ending: partial(_table, delimiter=delimiter) for ending, delimiter in TABLES.items()},
    ".txt": _prompts,
}
"""Suffix of a text file's name -> its reader."""
SUFFIXES = (*TEXT, ".parquet", ".gz", ".zst")
"""Every suffix that a file's name may end with, one after the other."""
