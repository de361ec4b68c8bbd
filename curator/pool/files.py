"""Reads records from a file: JSON, JSON Lines, CSV, TSV and Parquet, the text ones also as .gz and .zst.

A record is its number and its fields, or its number and the reason why it cannot be read.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from curator.errors import DataError

Record = tuple[int, dict[str, Any] | str]

LONGEST_LINE = 16 * 2**20
"""Bytes: nothing this long is one row of a data set, and a file without line ends must not fill the memory."""
LARGEST_LIST = 256 * 2**20
"""Bytes: a JSON list is read whole, and takes several times its size."""


def records(path: Path) -> Iterator[Record]:
    """Every record of a file, in order, read when the caller takes it (a JSON list is read whole).

    Numbers start at 1: the physical line of JSON Lines, where blank lines are no records; the position in a JSON list;
    the data row of CSV, TSV and Parquet. A line of JSON Lines that is not a JSON object, an item of a list that is not
    an object, or a row of CSV with another number of fields than the header gives its reason instead of its fields.

    Raises:
        DataError: The format is unknown, or the file as a whole cannot be read: not its format, damaged, binary, not
            UTF-8 (CSV, JSON), or with a line of more than 16 MiB.
    """
    name = path.name
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packing = suffixes.pop() if suffixes and suffixes[-1] in (".gz", ".zst") else None
    kind = suffixes[-1] if suffixes else ""
    try:
        if kind == ".parquet" and packing is None:
            yield from _parquet(path, name)
        elif kind in TEXT:
            with path.open("rb") as file, _unpacked(file, packing) as stream:
                yield from TEXT[kind](stream, name)
        else:
            allowed = f"{', '.join(TEXT)} (each also as .gz or .zst), .parquet"
            raise DataError(
                f"{name}: the format is told by the name's end, and {kind or 'none'} is not known; allowed: {allowed}"
            )
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{name}: cannot be unpacked ({error}); the file is damaged or not gzip") from error
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
                f"{name}: line {number} is longer than 16 MiB, which is no row of a data set; check the file"
            )
        yield number, line


def _refuse_binary(start: bytes, name: str) -> None:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{name}: is UTF-16 text; save it as UTF-8")
    if b"\0" in start[:4096]:
        raise DataError(f"{name}: is binary, not text; check the file, or name it by its format, e.g. .parquet or .gz")


def _json_lines(stream: IO[bytes], name: str) -> Iterator[Record]:
    for number, line in _lines(stream, name):
        if not line.strip():
            continue
        try:
            yield number, _object(json.loads(line.rstrip().decode("utf-8")))
        except json.JSONDecodeError as error:
            yield number, f"the line is not JSON ({error.msg}, column {error.colno})"
        except UnicodeDecodeError as error:
            yield number, f"the line is not UTF-8 (byte {error.start + 1})"
        except (ValueError, RecursionError) as error:
            yield number, f"the line is not JSON ({error})"


def _json_list(stream: IO[bytes], name: str) -> Iterator[Record]:
    text = stream.read(LARGEST_LIST + 1)
    if len(text) > LARGEST_LIST:
        raise DataError(f"{name}: a JSON list of more than 256 MiB; write it as JSON Lines (.jsonl), one object a line")
    _refuse_binary(text, name)
    if not text.strip():
        return
    try:
        items = json.loads(text.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        advice = "it looks like JSON Lines, name it .jsonl" if error.msg == "Extra data" else "mend the file"
        where = f"line {error.lineno} column {error.colno}"
        raise DataError(f"{name}: is not JSON ({error.msg}, {where}); {advice}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: is not UTF-8 (byte {error.start + 1}); save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: is not JSON ({error}); mend the file") from error
    if not isinstance(items, list):
        keys = f" with the keys {', '.join(list(items)[:8])}" if isinstance(items, dict) else ""
        raise DataError(f"{name}: holds {_kind(items)}{keys}; a list of objects is needed, or JSON Lines named .jsonl")
    for number, item in enumerate(items, 1):
        yield number, _object(item)


def _object(item: Any) -> dict[str, Any] | str:
    return item if isinstance(item, dict) else f"the record is {_kind(item)}, not an object"


def _kind(item: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(item), "a number")


def _table(stream: IO[bytes], name: str, delimiter: str) -> Iterator[Record]:
    # The limit is csv's own, for the process; its default of 128 KiB is shorter than a long answer.
    csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader(_decoded(stream, name), delimiter=delimiter, strict=True)
    number = 0
    try:
        header = next(reader, [])
        for column in header:
            if header.count(column) > 1:
                raise DataError(f"{name}: the header names the column {column!r} twice; rename one")
        for fields in reader:
            if not fields:
                continue
            number += 1
            if len(fields) == len(header):
                yield number, dict(zip(header, fields, strict=True))
            else:
                yield number, f"the row has {len(fields)} fields, the header {len(header)}"
    except csv.Error as error:
        advice = "is a quote never closed, or not doubled inside a quoted field?"
        raise DataError(f"{name}: cannot be read as a table, line {reader.line_num} ({error}); {advice}") from error


def _decoded(stream: IO[bytes], name: str) -> Iterator[str]:
    for number, line in _lines(stream, name):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}: line {number} is not UTF-8 (byte {error.start + 1}); save the file as UTF-8"
            ) from error


def _parquet(path: Path, name: str) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise DataError(f"{name}: is not Parquet, or is damaged ({str(error).splitlines()[0]})") from error


TEXT: Mapping[str, Callable[[IO[bytes], str], Iterator[Record]]] = {
    ".json": _json_list,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": partial(_table, delimiter=","),
    ".tsv": partial(_table, delimiter="\t"),
}
"""The end of a text file's name -> what reads it."""
