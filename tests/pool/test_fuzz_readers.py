"""Whatever a file holds, reading it gives rows that can be written, or an error that a user can act on."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from pydantic import ValidationError

from curator.errors import DataError, RecipeError
from curator.pool.sources import read, remarks
from curator.recipe.source import FIELDS, Category, Source
from curator.records import DROP_KINDS

TRIES = int(os.environ.get("CURATOR_FUZZ", "60"))
EXAMPLES = settings(
    max_examples=TRIES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="CURATOR_FUZZ" not in os.environ,
)

File = tuple[str, bytes]
NAMES = (
    "prompt", "response", "instruction", "input", "output", "context", "contextstring", "system", "history", "messages",
    "conversations", "chosen", "rejected", "label", "kto_tag", "category", "licence", "goal", "text", "meta",
    "meta.a", "0",
)  # fmt: skip
ROLES = ("user", "assistant", "system", "human", "gpt", "tool", "", 1, None)
WORDS = ("ask", "tell", "", " ", "nan", "true", "False", "1", "[", "[1]", "{}", "\n\nHuman: a\n\nAssistant: b")
ANY_TEXT = st.text(st.characters(), max_size=12)  # halves of surrogate pairs among them
TEXTS = st.one_of(st.sampled_from(WORDS), ANY_TEXT)
SCALARS = st.one_of(
    TEXTS, st.none(), st.booleans(), st.integers(), st.floats(), st.just(float("nan")), st.just(10**400)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
PARTS = st.one_of(
    TEXTS, st.fixed_dictionaries({"type": st.sampled_from(("text", "image_url", None))}, optional={"text": SCALARS})
)
CONTENTS = st.one_of(TEXTS, TEXTS, st.lists(PARTS, max_size=3), VALUES)
TURNS = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": CONTENTS}),
    st.fixed_dictionaries({"from": st.sampled_from(ROLES), "value": CONTENTS}, optional={"tool_calls": VALUES}),
)
DIALOGUES = st.one_of(
    st.lists(TURNS, max_size=3),
    st.tuples(CONTENTS, CONTENTS).map(
        lambda pair: [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    ),
)
PAST = st.lists(st.tuples(TEXTS, TEXTS), max_size=2)
CELLS = st.one_of(TEXTS, VALUES, DIALOGUES, DIALOGUES.map(json.dumps), PAST)
PAIRS = st.fixed_dictionaries({"prompt": CELLS, "response": CELLS})
GOOD = {"prompt": "ask", "response": "tell"}
RECORDS = st.one_of(
    st.dictionaries(st.one_of(st.sampled_from(NAMES), ANY_TEXT), CELLS, max_size=5),
    st.builds(dict.__or__, PAIRS, st.dictionaries(st.sampled_from(NAMES), CELLS, max_size=3)),
    st.builds(dict.__or__, st.just(GOOD), st.dictionaries(st.sampled_from(NAMES[3:]), CELLS, max_size=3)),
)


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """What a recipe may say of a source, most of it seldom."""
    if draw(st.integers(0, 2)):
        return {"broken": 1.0}
    columns = st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(NAMES), max_size=2)
    positions = st.dictionaries(st.sampled_from(FIELDS), st.integers(0, 3), max_size=2)
    where = st.dictionaries(st.sampled_from(NAMES), SCALARS, max_size=1)
    category = st.builds(Category, column=st.sampled_from(NAMES), pick=st.sampled_from(("first", "rarest")))
    return {
        "columns": draw(st.one_of(st.just({}), columns, positions)),
        "where": draw(st.one_of(st.just({}), where)),
        "category": draw(st.one_of(st.none(), category)),
        "template": draw(st.sampled_from((None, None, "{prompt} ({meta})", "{meta.a}"))),
        "rows": draw(st.sampled_from((None, 1))),
        "broken": draw(st.sampled_from((0.05, 1.0))),
    }


def hold(name: str, content: bytes, choices: dict[str, Any], *, prompts_only: bool) -> None:
    """Reads the content and checks that what comes back can be told and written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            source = Source(file=str(path), **choices)
        except ValidationError:
            return  # it is refused with the recipe
        try:
            rows, dropped, resolved = read(source, prompts_only=prompts_only)
        except (DataError, RecipeError) as error:
            str(error).encode()
            return
    assert rows.height + dropped.height == resolved["read"]
    assert rows.height == resolved["kept"] > 0
    assert set(dropped["kind"]) <= set(DROP_KINDS)
    for frame in (rows, dropped):
        frame.write_parquet(written := io.BytesIO())
        assert pl.read_parquet(written.getvalue()).equals(frame)
        json.dumps(frame.to_dicts(), ensure_ascii=False, allow_nan=False).encode()
    json.dumps(resolved, ensure_ascii=False, allow_nan=False).encode()
    "; ".join(remarks(resolved)).encode()
    for row in rows.iter_rows(named=True):
        assert row["messages"][-1]["role"] == ("user" if prompts_only else "assistant")
        assert all(turn["content"].strip() for turn in row["messages"])
        assert row["category"] != ""


def as_json(items: list[Any], *, ascii_only: bool) -> list[bytes]:
    return [json.dumps(item, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") for item in items]


def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content, in one of four cases with a few bytes put in or cut out at some position."""
    if draw(st.integers(0, 3)):
        return content
    at, cut = draw(st.integers(0, len(content))), draw(st.integers(0, 3))
    return content[:at] + draw(st.binary(max_size=4)) + content[at + cut :]


@st.composite
def json_files(draw: st.DrawFn) -> File:
    items: list[Any] = draw(st.lists(st.one_of(RECORDS, RECORDS, RECORDS, VALUES), min_size=1, max_size=4))
    items = [GOOD, *items] if draw(st.booleans()) else items
    written = as_json(items, ascii_only=draw(st.booleans()))
    lines = draw(st.booleans())
    content = b"\n".join(written) if lines else b"[" + b",".join(written) + b"]"
    return "rows.jsonl" if lines else "rows.json", damaged(draw, content)


@st.composite
def tables(draw: st.DrawFn) -> File:
    unique = draw(st.integers(0, 3)) > 0
    names = draw(st.lists(st.one_of(st.sampled_from(NAMES), ANY_TEXT), min_size=1, max_size=4, unique=unique))
    names = ["Prompt", "Response", *names] if draw(st.booleans()) else names
    cells = st.one_of(TEXTS, DIALOGUES.map(json.dumps), SCALARS.map(str))
    rows = draw(st.lists(st.lists(cells, min_size=len(names), max_size=len(names)), max_size=4))
    ending, delimiter = draw(st.sampled_from(((".csv", ","), (".tsv", "\t"))))
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows([names, *rows])
    return f"rows{ending}", damaged(draw, out.getvalue().encode("utf-8", "surrogatepass"))


@st.composite
def bytes_of_any_kind(draw: st.DrawFn) -> File:
    endings = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet", ".md", "")
    ending, packing = draw(st.sampled_from(endings)), draw(st.sampled_from(("", "", "", ".gz", ".zst")))
    content = draw(st.one_of(st.binary(max_size=60), ANY_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass"))))
    if packing == ".gz" and draw(st.booleans()):
        content = gzip.compress(content)
    if packing == ".zst" and content and draw(st.booleans()):
        content = pyarrow.compress(content, codec="zstd", asbytes=True)
    return f"rows{ending}{packing}", damaged(draw, content)


def bytes_as(kind: pyarrow.DataType, texts: list[bytes]) -> pyarrow.Array:
    """An array of text whose bytes need not be UTF-8."""
    return pyarrow.Array.from_buffers(kind, len(texts), pyarrow.array(texts, pyarrow.binary()).buffers())


def numbers_as(kind: pyarrow.DataType, numbers: list[int | None]) -> pyarrow.Array:
    """An array of dates or times that count what the numbers say, however far."""
    wide = kind.bit_width == 64
    counts = [number if number is None or wide else number % 2**31 for number in numbers]
    return pyarrow.array(counts, pyarrow.int64() if wide else pyarrow.int32()).view(kind)


TIMES = [
    pyarrow.date32(), pyarrow.date64(), pyarrow.time32("s"), pyarrow.time64("us"), pyarrow.duration("s"),
    pyarrow.duration("ns"), pyarrow.timestamp("s"), pyarrow.timestamp("ns"), pyarrow.timestamp("us", "UTC"),
    pyarrow.timestamp("us", "Nowhere/Nothing"), pyarrow.timestamp("ms", "+05:30"), pyarrow.timestamp("s", ""),
]  # fmt: skip
OTHERS: dict[pyarrow.DataType, st.SearchStrategy[Any]] = {
    pyarrow.null(): st.none(),
    pyarrow.bool_(): st.booleans(),
    pyarrow.int8(): st.integers(-128, 127),
    pyarrow.uint64(): st.integers(0, 2**64 - 1),
    pyarrow.float16(): st.floats(width=16),
    pyarrow.float32(): st.floats(width=32),
    pyarrow.float64(): st.floats(),
    pyarrow.decimal128(20, 2): st.decimals(-(10**9), 10**9, places=2),
    pyarrow.decimal256(50, 0): st.integers(0, 10**40),
    pyarrow.binary(): st.binary(max_size=5),
    pyarrow.binary(3): st.binary(min_size=3, max_size=3),
    pyarrow.large_string(): st.text(max_size=5),
    pyarrow.dictionary(pyarrow.int8(), pyarrow.string()): st.text(max_size=5),
    pyarrow.list_(pyarrow.string()): st.lists(st.text(max_size=5), max_size=2),
    pyarrow.list_(pyarrow.int64(), 2): st.lists(st.integers(-9, 9), min_size=2, max_size=2),
    pyarrow.map_(pyarrow.string(), pyarrow.float64()): st.lists(
        st.tuples(st.text(max_size=3), st.floats()), max_size=2
    ),
    pyarrow.struct([("a", pyarrow.string()), ("b", pyarrow.float64())]): st.fixed_dictionaries(
        {"a": st.text(max_size=5), "b": st.floats()}
    ),
    pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])): st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(ROLES[:2]), "content": st.text(max_size=5)}), max_size=2
    ),
}


@st.composite
def arrays(draw: st.DrawFn, length: int) -> pyarrow.Array:
    def cells(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=length, max_size=length))

    how = draw(st.sampled_from(("text", "bytes", "time", "other", "nested bytes", "nested time")))
    if how == "text":
        return pyarrow.array(cells(st.one_of(st.none(), st.text(max_size=8))), pyarrow.string())
    if how == "other":
        kind = draw(st.sampled_from(list(OTHERS)))
        return pyarrow.array(cells(st.one_of(OTHERS[kind], OTHERS[kind], st.none())), kind)
    if how.endswith("bytes"):
        array = bytes_as(pyarrow.string(), cells(st.binary(max_size=4)))
    else:
        numbers = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 86_399))
        array = numbers_as(draw(st.sampled_from(TIMES)), cells(numbers))
    if not how.startswith("nested"):
        return array
    if draw(st.booleans()):
        roles = pyarrow.array([draw(st.sampled_from(ROLES[:2])) for _ in range(length)], pyarrow.string())
        names = ["role", draw(st.sampled_from(("content", "role")))]
        array = pyarrow.StructArray.from_arrays([roles, array], names)
    return pyarrow.ListArray.from_arrays(pyarrow.array(range(length + 1), pyarrow.int32()), array)


@st.composite
def parquet_files(draw: st.DrawFn, *, damage: bool = False) -> File:
    unique = draw(st.integers(0, 4)) > 0
    names = draw(
        st.lists(st.one_of(st.sampled_from(NAMES), st.text(max_size=5)), min_size=1, max_size=4, unique=unique)
    )
    length = draw(st.integers(0, 4))
    columns = [draw(arrays(length)) for _ in names]
    if draw(st.booleans()):  # otherwise few tables have a shape
        texts = draw(st.lists(st.text(min_size=1, max_size=8), min_size=length, max_size=length))
        names = [*names, "Prompt", "Response"]
        columns = [*columns, pyarrow.array(texts, pyarrow.string()), draw(arrays(length))]
    out = io.BytesIO()
    try:
        parquet.write_table(pyarrow.table(columns, names=names), out)
    except (pyarrow.ArrowException, NotImplementedError, ValueError):
        assume(False)  # nobody has such a file
    return "rows.parquet", damaged(draw, out.getvalue()) if damage else out.getvalue()


@EXAMPLES
@given(json_files(), options(), st.booleans())
def test_any_json_gives_rows_or_a_sentence(file: File, choices: dict[str, Any], prompts_only: bool) -> None:
    hold(*file, choices, prompts_only=prompts_only)


@EXAMPLES
@given(tables(), options(), st.booleans())
def test_any_table_gives_rows_or_a_sentence(file: File, choices: dict[str, Any], prompts_only: bool) -> None:
    hold(*file, choices, prompts_only=prompts_only)


@EXAMPLES
@given(parquet_files(), options(), st.booleans())
def test_any_parquet_gives_rows_or_a_sentence(file: File, choices: dict[str, Any], prompts_only: bool) -> None:
    hold(*file, choices, prompts_only=prompts_only)


@EXAMPLES
@given(bytes_of_any_kind(), options(), st.booleans())
def test_any_bytes_give_rows_or_a_sentence(file: File, choices: dict[str, Any], prompts_only: bool) -> None:
    hold(*file, choices, prompts_only=prompts_only)


@pytest.mark.slow
@settings(EXAMPLES, max_examples=max(TRIES, 500))
@given(parquet_files(damage=True), options(), st.booleans())
def test_damaged_parquet_gives_rows_or_a_sentence(file: File, choices: dict[str, Any], prompts_only: bool) -> None:
    hold(*file, choices, prompts_only=prompts_only)
