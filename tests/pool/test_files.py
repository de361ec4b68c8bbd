from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow
import pytest

from curator.errors import DataError
from curator.pool import files
from curator.pool.files import records
from curator.pool.sources import read
from curator.recipe.source import Source

ROWS = [{"prompt": 'a, "b"\nc', "response": "one"}, {"prompt": "ä 例", "response": "two\ttabs"}]


def as_json(rows: list[dict[str, str]]) -> bytes:
    return json.dumps(rows, ensure_ascii=False).encode()


def as_lines(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_table(rows: list[dict[str, str]], separator: str) -> bytes:
    return pl.DataFrame(rows).write_csv(separator=separator).encode()


TEXTS = {
    "rows.json": as_json(ROWS),
    "rows.jsonl": as_lines(ROWS),
    "rows.ndjson": as_lines(ROWS),
    "ROWS.JSONL": as_lines(ROWS),
    "rows.csv": as_table(ROWS, ","),
    "rows.tsv": as_table(ROWS, "\t"),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_every_text_format_gives_the_same_records(tmp_path: Path, name: str, packing: str, mark: bytes) -> None:
    content = mark + TEXTS[name]
    path = tmp_path / (name + packing)
    if packing == ".gz":
        content = gzip.compress(content)
    if packing == ".zst":
        content = pyarrow.compress(content, codec="zstd", asbytes=True)
    path.write_bytes(content)
    assert list(records(path)) == [(1, ROWS[0]), (2, ROWS[1])]


def test_parquet_gives_the_same_records_with_nested_columns(tmp_path: Path) -> None:
    rows = [{**row, "meta": {"kind": "x"}, "tags": ["p", "q"]} for row in ROWS]
    pl.DataFrame(rows).write_parquet(tmp_path / "rows.parquet")
    assert list(records(tmp_path / "rows.parquet")) == [(1, rows[0]), (2, rows[1])]


def test_blank_lines_are_no_records_but_count_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"a": 1}\n   \n{"a": 2}\n\n', encoding="utf-8")
    assert list(records(path)) == [(2, {"a": 1}), (4, {"a": 2})]


def test_a_csv_record_that_spans_lines_is_numbered_as_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('a,b\n"x\ny",1\n\nz,2\n', encoding="utf-8")
    assert list(records(path)) == [(1, {"a": "x\ny", "b": "1"}), (2, {"a": "z", "b": "2"})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": "\\x"}', "the line is not JSON (Invalid \\escape, column 8)"),
        (b'{"a": 1', "the line is not JSON (Expecting ',' delimiter, column 8)"),
        (b"[1, 2]", "the record is a list, not an object"),
        (b'"text"', "the record is a text, not an object"),
        (b"null", "the record is null, not an object"),
        (b"3.5", "the record is a number, not an object"),
        (b'{"a": "\xe9"', "the line is not UTF-8 (byte 8)"),
        (b'{"a": 1, "a": 2}', "the record has the duplicate key 'a'"),
        (b'{"a": ' + b"1" * 5000 + b"}", "the line is not JSON (Exceeds the limit (4300 digits) for integer"),
        (b"[" * 100_000, "the line is not JSON (maximum recursion depth exceeded"),
    ],
)
def test_a_broken_line_gives_its_number_and_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    good, broken, last = records(path)
    assert (good, last) == ((1, {"a": 1}), (3, {"a": 2}))
    assert broken[0] == 2
    assert str(broken[1]).startswith(reason)


def test_a_csv_row_of_another_length_gives_its_number_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n1\n1,2,3\n", encoding="utf-8")
    assert list(records(path))[1:] == [
        (2, "the row has 1 field, but the header has 2"),
        (3, "the row has 3 fields, but the header has 2"),
    ]


FORMATS = ".json, .jsonl, .ndjson, .csv, .tsv, .txt (each also as .gz or .zst), .parquet"
REFUSED = {
    "empty.json": (b"", "empty.json: no rows found; check the file, or remove the source"),
    "empty.jsonl": (b"", "empty.jsonl: no rows found; check the file, or remove the source"),
    "empty.csv": (b"", "empty.csv: no rows found; check the file, or remove the source"),
    "header.csv": (b"a,b\n", "header.csv: no rows found; check the file, or remove the source"),
    "list.json": (b"[]", "list.json: no rows found; check the file, or remove the source"),
    "object.json": (
        b'{"data": [], "version": 1}',
        "object.json: found an object with the keys data, version; give a list of objects, "
        "or JSON Lines in a .jsonl file",
    ),
    "lines.json": (
        b'{"a": 1}\n{"a": 2}\n',
        "lines.json: invalid JSON (Extra data, line 2 column 1); it looks like JSON Lines; rename it to .jsonl",
    ),
    "cut.json": (
        b'[{"a": 1}, {"a"',
        "cut.json: invalid JSON (Expecting ':' delimiter, line 1 column 16); fix the file",
    ),
    "latin.json": (
        b'[{"prompt": "\xe9", "response": "1"}]',
        "latin.json: 1 of 1 record cannot be read, more than the share of 0.05 that `broken` allows; the first is "
        "record 1: the text of the user is not UTF-8 (byte 0xE9); save the file as UTF-8, or raise `broken`",
    ),
    "latin.csv": (
        b"prompt,response\n\xe9,1\n",
        "latin.csv: 1 of 1 record cannot be read, more than the share of 0.05 that `broken` allows; the first is "
        "record 1: the text of the user is not UTF-8 (byte 0xE9); save the file as UTF-8, or raise `broken`",
    ),
    "wide.csv": ("a,b\n1,2\n".encode("utf-16"), "wide.csv: the file is in UTF-16; save it as UTF-8"),
    "binary.jsonl": (
        b"\x7fELF\x02\x01\x00\x00",
        "binary.jsonl: the file is binary, not text; check it, or give it the extension of its format, "
        "e.g. .parquet or .gz",
    ),
    "binary.json": (
        b"\x89PNG\r\n\x1a\n\x00\x00",
        "binary.json: the file is binary, not text; check it, or give it the extension of its format, "
        "e.g. .parquet or .gz",
    ),
    "garbage.jsonl": (
        b"some words\nand more\n",
        "garbage.jsonl: none of its first 2 records can be read; "
        "line 1: the line is not JSON (Expecting value, column 1)",
    ),
    "quote.csv": (
        b'a,b\n1,"x\n2,y\n',
        "quote.csv:3: invalid table (unexpected end of data); "
        "close every quote, and double quotes inside quoted fields",
    ),
    "twice.csv": (b"a,a\n1,2\n", "twice.csv: duplicate column 'a' in the header; rename one"),
    "garbage.parquet": (
        b"PAR1garbage",
        "garbage.parquet: cannot be read as Parquet (Parquet magic bytes not found in footer. "
        "Either the file is corrupted or this is not a parquet file.); the file is damaged or in another format",
    ),
    "garbage.json.gz": (
        b"garbage",
        "garbage.json.gz: cannot be unpacked (Not a gzipped file (b'ga')); the file is damaged or not in gzip format",
    ),
    "cut.json.gz": (
        gzip.compress(b'[{"a": 1}]' * 99)[:-9],
        "cut.json.gz: cannot be unpacked (Compressed file ended before the end-of-stream marker was reached); "
        "the file is damaged or not in gzip format",
    ),
    "garbage.jsonl.zst": (
        b"garbage",
        "garbage.jsonl.zst: cannot be read (ZSTD decompress failed: Unknown frame descriptor); "
        "check the file and its permissions",
    ),
    "rows.xlsx": (
        b"PK",
        f"rows.xlsx: unknown format .xlsx; allowed extensions: {FORMATS}",
    ),
    "rows": (b"{}", f"rows: unknown format (no file extension); allowed extensions: {FORMATS}"),
    "rows.parquet.gz": (
        b"x",
        f"rows.parquet.gz: unknown format .parquet; allowed extensions: {FORMATS}",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_data_is_refused_in_words(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        read(Source(file=name), base=tmp_path)
    assert str(error.value) == message


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read(Source(file="data/none.json"), base=tmp_path)
    looked = tmp_path / "data" / "none.json"
    assert str(error.value) == f"data/none.json: no such file (looked for {looked}); correct the path"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(DataError, match="this is a folder; name a file in it, or several files as several sources"):
        read(Source(file="folder.json"), base=tmp_path)


def test_a_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/dev/zero: this is a device or a pipe; write its rows to a file first"):
        read(Source(file="/dev/zero"), base=tmp_path)


def test_a_line_without_end_is_refused_without_being_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LONGEST_LINE", 1000)
    for name in ("long.jsonl", "long.csv"):
        (tmp_path / name).write_bytes(b"a,b\n" + b"x" * 5000 if name == "long.csv" else b"x" * 5000)
        with pytest.raises(DataError, match=rf"{name}: line \d is longer than 16 MiB, the most that a row may have"):
            list(records(tmp_path / name))


def test_a_json_list_too_large_to_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST_LIST", 20)
    (tmp_path / "large.json").write_bytes(b'[{"a": "0123456789"}]')
    with pytest.raises(DataError, match=r"large.json: this JSON list is larger than 256 MiB; write it as JSON Lines"):
        list(records(tmp_path / "large.json"))


def test_long_answers_in_csv_are_read(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,response\nask," + "x" * 300_000 + "\n", encoding="utf-8")
    assert len(read(Source(file="rows.csv"), base=tmp_path).rows["messages"][0][1]["content"]) == 300_000


def test_broken_lines_below_the_allowed_share_are_dropped_with_their_numbers(
    tmp_path: Path, lines: Callable[..., Source]
) -> None:
    source = lines([{"prompt": f"ask {i}", "response": "yes"} for i in range(19)])
    with Path(str(source.file)).open("a", encoding="utf-8") as stream:
        stream.write("{broken\n")
    found = read(source)
    assert found.dropped.rows() == [
        (
            "rows.jsonl",
            20,
            "source",
            "the line is not JSON (Expecting property name enclosed in double quotes, column 2)",
            None,
            "broken-records",
        )
    ]
    assert found.resolved["read"] == 20


def test_broken_lines_above_the_allowed_share_refuse_the_source(lines: Callable[..., Source]) -> None:
    source = lines([{"prompt": f"ask {i}", "response": "yes"} for i in range(18)])
    with Path(str(source.file)).open("a", encoding="utf-8") as stream:
        stream.write("[]\n")
    with pytest.raises(DataError) as error:
        read(source)
    assert str(error.value) == (
        "rows.jsonl: 1 of 19 records cannot be read, more than the share of 0.05 that `broken` allows; the first is "
        "line 19: the record is a list, not an object; fix the file, or raise `broken`"
    )
    assert read(source.model_copy(update={"broken": 0.1})).rows.height == 18
