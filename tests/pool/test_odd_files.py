"""Files as people have them: documented shapes of other tools, and values that are not what a column promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from curator.errors import DataError
from curator.pool.shapes import BETWEEN
from curator.pool.sources import Read, read, remarks
from curator.recipe.source import Category, Source

ASK, TELL = {"role": "user", "content": "ask"}, {"role": "assistant", "content": "tell"}
EARLIER, REPLY = {"role": "user", "content": "earlier"}, {"role": "assistant", "content": "reply"}
LAW = {"role": "system", "content": "law"}
HUMAN, GPT = {"from": "human", "value": "ask"}, {"from": "gpt", "value": "tell"}
ALPACA, PAST = {"instruction": "ask", "output": "tell"}, ["earlier", "reply"]
NAN = float("nan")


def pair(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"ask {number}", "response": f"tell {number}", **more}


def turns(source: Source, **options: Any) -> list[list[dict[str, str]]]:
    return read(source, **options).rows.sort("line")["messages"].to_list()


def prompts(source: Source) -> list[str]:
    return [row[-1]["content"] for row in turns(source, prompts_only=True)]


def drops(done: Read) -> list[tuple[int, str, str]]:
    return done.dropped.select("line", "kind", "reason").rows()


def written(path: Path, content: str | bytes) -> Source:
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return Source(file=str(path))


# NaN, which pandas writes for an empty cell


def test_nan_is_an_answer_that_is_not_there(lines: Callable[..., Source]) -> None:
    done = read(lines([pair(1, response=NAN), pair(2), pair(3, prompt=NAN)], broken=0.0))
    assert drops(done) == [(1, "empty", "the answer is empty"), (3, "empty", "the prompt is empty")]


@pytest.mark.parametrize("column", ["input", "system", "history", "contextstring"])
def test_nan_adds_nothing_to_a_prompt(lines: Callable[..., Source], column: str) -> None:
    full = {"input": "more", "system": "law", "history": [["earlier", "reply"]], "contextstring": "text"}[column]
    first, second = turns(lines([pair(1, **{column: NAN}), pair(2, **{column: full})]))
    assert first == [{**ASK, "content": "ask 1"}, {**TELL, "content": "tell 1"}]
    assert len(second) > 2 or second[0]["content"] != "ask 2"


@pytest.mark.parametrize("column", ["category", "licence", "license"])
def test_nan_names_no_category_and_no_licence(lines: Callable[..., Source], column: str) -> None:
    rows = read(lines([pair(1, **{column: NAN}), pair(2, **{column: "mit"})])).rows.sort("line")
    assert rows["category" if column == "category" else "licence"].to_list() == [None, "mit"]


def test_nan_inside_other_values_is_absent_too(lines: Callable[..., Source]) -> None:
    rows = [
        {"messages": [ASK, {**TELL, "content": NAN}], "category": "a"},
        {"messages": [ASK, {**TELL, "content": [{"type": "text", "text": NAN}]}], "category": "a"},
        {"messages": [ASK, TELL], "category": ["b", NAN]},
        {"messages": [{**ASK, "content": "other"}, TELL], "category": {"c": NAN, "d": True}},
    ]
    done = read(lines(rows))
    assert [kind for _, kind, _ in drops(done)] == ["empty", "empty"]
    assert done.rows.sort("line")["category"].to_list() == ["b", "d"]


def test_a_template_and_where_see_nan_as_absent(lines: Callable[..., Source]) -> None:
    rows = [{"topic": "x", "unit": unit, "response": "tell"} for unit in (NAN, 2.5)]
    assert turns(lines(rows, template="{topic} ({unit})"))[0][0]["content"] == "x ()"
    done = read(lines(rows, template="{topic}", where={"unit": 2.5}))
    assert drops(done) == [(1, "where", "unit is not 2.5")]


@pytest.mark.parametrize("kind", [pyarrow.float16(), pyarrow.float32(), pyarrow.float64()], ids=str)
def test_nan_in_parquet_is_absent_in_every_width(tmp_path: Path, kind: pyarrow.DataType) -> None:
    numbers = pyarrow.array([NAN, 1.0], kind)
    columns = {
        "alone": numbers,
        "listed": pyarrow.FixedSizeListArray.from_arrays(numbers, 1),
        "inner": pyarrow.StructArray.from_arrays([numbers], ["a"]),
    }
    parquet.write_table(pyarrow.table(columns | {"response": ["tell", "tell"]}), tmp_path / "rows.parquet")
    source = Source(file=str(tmp_path / "rows.parquet"), template="{alone} {listed} {inner.a}!")
    assert [row[0]["content"] for row in turns(source)] == [" [None] !", "1.0 [1.0] 1.0!"]


def test_an_empty_name_is_no_category(lines: Callable[..., Source]) -> None:
    cells = ["", " a ", ["", "b"], [" "], {"": True, "c ": True}, {"": True}]
    rows = [pair(n, category=cell) for n, cell in enumerate(cells)]
    assert read(lines(rows)).rows.sort("line")["category"].to_list() == [None, "a", "b", None, "c", None]


# Shapes of other tools


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": [ASK], "completion": [TELL]}, [ASK, TELL]),
        ({"prompt": [LAW, ASK], "completion": [TELL]}, [LAW, ASK, TELL]),
        ({"prompt": [EARLIER, REPLY, ASK], "completion": TELL}, [EARLIER, REPLY, ASK, TELL]),
        ({"prompt": json.dumps([ASK]), "completion": json.dumps([TELL])}, [ASK, TELL]),
        ({"prompt": [ASK], "completion": "tell"}, [ASK, TELL]),
        ({"prompt": [ASK], "chosen": [TELL], "rejected": [REPLY]}, [ASK, TELL]),
        ({"conversations": [HUMAN], "chosen": GPT}, [ASK, TELL]),
        ({"conversations": [HUMAN], "chosen": [GPT]}, [ASK, TELL]),
        ({"system": "law", "conversations": [HUMAN, GPT]}, [LAW, ASK, TELL]),
        ({"system": "law", "messages": [LAW, ASK, TELL]}, [LAW, ASK, TELL]),
        ({**ALPACA, "input": "", "system": "law", "history": [PAST]}, [LAW, EARLIER, REPLY, ASK, TELL]),
        ({**ALPACA, "history": json.dumps([PAST])}, [EARLIER, REPLY, ASK, TELL]),
        ({**ALPACA, "history": [EARLIER, REPLY]}, [EARLIER, REPLY, ASK, TELL]),
        ({**ALPACA, "history": [], "system": ""}, [ASK, TELL]),
        ({"prompt": "ask", "chosen": "tell", "rejected": "no", "system": "law"}, [LAW, ASK, TELL]),
    ],
)  # fmt: skip
def test_shapes_of_trl_llama_factory_and_sharegpt(
    lines: Callable[..., Source], row: dict[str, Any], expected: list[dict[str, str]]
) -> None:
    assert turns(lines([row])) == [expected]
    assert turns(lines([row]), prompts_only=True) == [expected[:-1]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"type": "text", "text": "ask"}], "ask"),
        ([{"type": "input_text", "text": "first"}, {"type": "text", "text": "second"}], "first\nsecond"),
        (["first", "second"], "first\nsecond"),
        ({"type": "text", "text": "ask"}, "ask"),
    ],
)
def test_parts_that_are_text_are_joined(lines: Callable[..., Source], content: Any, expected: str) -> None:
    assert turns(lines([{"messages": [{**ASK, "content": content}, TELL]}]))[0][0]["content"] == expected


@pytest.mark.parametrize(
    ("turn", "kind", "reason"),
    [
        ({"role": "user", "content": [{"type": "image_url"}]}, "not-text", "of type 'image_url'"),
        ({"role": "user", "content": 7}, "not-text", "the content of turn 1 is a number, not text"),
        ({"role": "user", "content": "ask", "tool_calls": [{"id": "x"}]}, "not-text", "turn 1 has tool_calls"),
        ({"role": "tool", "content": "ask"}, "wrong-roles", "the role of turn 1 is 'tool'"),
        ({"content": "ask"}, "wrong-roles", "the role of turn 1 is missing"),
        ({"role": 1, "content": "ask"}, "wrong-roles", "the role of turn 1 is a number"),
        ({"role": "user", "text": "ask"}, "no-conversation", "neither content nor value; its keys: role, text"),
        ("ask", "no-conversation", "turn 1 is a text"),
        ({"role": "user", "content": " "}, "empty", "the prompt is empty"),
        ({"role": "assistant", "content": "ask"}, "wrong-roles", "turn 1 is by the assistant"),
    ],
)  # fmt: skip
def test_the_reason_of_a_drop_is_the_true_one(lines: Callable[..., Source], turn: Any, kind: str, reason: str) -> None:
    ((line, of_kind, why),) = drops(read(lines([{"messages": [EARLIER, REPLY]}, {"messages": [turn, TELL]}])))
    assert (line, of_kind) == (2, kind)
    assert reason in why


def test_an_answer_may_begin_with_a_bracket(lines: Callable[..., Source]) -> None:
    answers = ["[1] first, then [2]", "[see below]", '["a", "b"]', "[]", "{x}", '{"role": 1}', '{"from": "here"}']
    rows = [{"prompt": f"ask {n}", "chosen": answer, "rejected": "no"} for n, answer in enumerate(answers)]
    assert [row[-1]["content"] for row in turns(lines(rows))] == answers
    rows = [{"prompt": f"ask {n}", "response": answer} for n, answer in enumerate(answers)]
    assert [row[-1]["content"] for row in turns(lines(rows))] == answers


def test_rows_with_label_false_are_left_out_and_said(lines: Callable[..., Source]) -> None:
    rows = [pair(n, label=n % 2 == 0) for n in range(6)]
    done = read(lines(rows))
    assert done.rows.sort("line")["line"].to_list() == [1, 3, 5]
    assert {kind for _, kind, _ in drops(done)} == {"rejected-answers"}
    assert remarks(done.resolved) == ["rows.jsonl: 3 rows have the label false and are left out"]
    assert len(turns(lines(rows), prompts_only=True)) == 6
    assert len(turns(lines(rows, where={"label": False}))) == 3


def test_a_label_of_something_else_is_left_alone(lines: Callable[..., Source]) -> None:
    assert len(turns(lines([pair(1, label="safe"), pair(2, label="unsafe")]))) == 2
    assert len(turns(lines([pair(1, label=0), pair(2, label=4)]))) == 2


def test_a_mapped_label_is_heeded_whatever_its_name(lines: Callable[..., Source]) -> None:
    done = read(lines([pair(1, good=1), pair(2, good=0), pair(3, good="maybe")], columns={"label": "good"}))
    assert [kind for _, kind, _ in drops(done)] == ["rejected-answers", "wrong-label"]


# Probes


def test_the_text_that_a_probe_speaks_of_stands_before_it(lines: Callable[..., Source]) -> None:
    rows = [{"Behavior": "sum this up", "ContextString": f"text {n}"} for n in range(3)]
    rows.append({"Behavior": "sing", "ContextString": ""})
    assert prompts(lines(rows)) == [*(f"text {n}{BETWEEN}sum this up" for n in range(3)), "sing"]


@pytest.mark.parametrize(("name", "content"), [
    ("probes.json", json.dumps(["first, of all", "second"])),
    ("probes.jsonl", '"first, of all"\n"second"\n'),
    ("probes.txt", "\nfirst, of all\n\nsecond\r\n"),
])  # fmt: skip
def test_texts_alone_are_prompts(tmp_path: Path, name: str, content: str) -> None:
    source = written(tmp_path / name, content)
    assert prompts(source) == ["first, of all", "second"]
    with pytest.raises(DataError, match="no column was recognised as response; its columns: prompt;"):
        read(source)


HEADERLESS = '"How is a bowline tied, in short?",knots\nHow is rice boiled?,food\n'


@pytest.mark.parametrize(("name", "content"), [
    ("probes.csv", HEADERLESS), ("probes.tsv", "How is a bowline tied, in short?\tknots\nHow is rice boiled?\tfood\n"),
])  # fmt: skip
def test_a_table_without_a_header_is_read_by_position(tmp_path: Path, name: str, content: str) -> None:
    written(tmp_path / name, content)
    source = Source(file=str(tmp_path / name), columns={"prompt": 0})
    assert prompts(source) == ["How is a bowline tied, in short?", "How is rice boiled?"]
    both = Source(file=str(tmp_path / name), columns={"prompt": 0, "response": 1}, category=Category(column="1"))
    assert turns(both)[0][-1]["content"] == "knots"
    assert read(both).rows.sort("line")["category"].to_list() == ["knots", "food"]
    with pytest.raises(DataError, match="names the column '7', which the data does not have; its columns: 0, 1"):
        read(Source(file=str(tmp_path / name), columns={"prompt": 7}), prompts_only=True)


def test_the_advice_for_a_table_without_a_header_keeps_its_first_row(tmp_path: Path) -> None:
    source = written(tmp_path / "probes.csv", HEADERLESS)
    with pytest.raises(DataError) as refused:
        read(source, prompts_only=True)
    advice = str(refused.value)
    assert all(part in advice for part in ("not a header", "map columns by position: {prompt: 0}", ".txt"))
    with pytest.raises(DataError, match=r"not a header, map columns by position: \{prompt: 0, response: 1\}$"):
        read(source)


def test_a_prompt_or_answer_of_an_empty_system_turn_alone_is_dropped(lines: Callable[..., Source]) -> None:
    nothing = [{"role": "system", "content": ""}]
    rows = [pair(1, prompt=nothing), pair(2, response=nothing), pair(3)]
    assert [line for line, *_ in drops(read(lines(rows)))] == [1, 2]
    rows = [{"prompt": "ask", "chosen": nothing}, {"prompt": nothing, "chosen": "tell"}, {"prompt": "a", "chosen": "b"}]
    assert [line for line, *_ in drops(read(lines(rows)))] == [1, 2]


# Parquet


def as_parquet(folder: Path, name: str = "rows.parquet", **columns: Any) -> Source:
    """Two good rows and, beside them, the columns."""
    texts = {"prompt": ["ask 1", "ask 2"], "response": ["tell 1", "tell 2"]}
    parquet.write_table(pyarrow.table(texts | columns), folder / name)
    return Source(file=str(folder / name))


def not_utf8(*texts: bytes) -> pyarrow.Array:
    return pyarrow.Array.from_buffers(pyarrow.string(), len(texts), pyarrow.array(texts, pyarrow.binary()).buffers())


FAR = pyarrow.array([2**62, 0], pyarrow.int64())
STRANGE: dict[str, Any] = {
    "not utf-8": not_utf8(b"ab\xff", b"good"),
    "unknown zone": FAR.view(pyarrow.timestamp("us", "Nowhere/Nothing")),
    "far time": FAR.view(pyarrow.timestamp("ms")),
    "far date": pyarrow.array([2**30, 0], pyarrow.int32()).view(pyarrow.date32()),
    "far duration": FAR.view(pyarrow.duration("s")),
    "decimal": pyarrow.array([Decimal("1.50"), None], pyarrow.decimal128(9, 2)),
    "binary": pyarrow.array([b"\xff\x00", b"good"], pyarrow.binary()),
    "null": pyarrow.nulls(2),
    "map": pyarrow.array([[("a", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
    "nested not utf-8": pyarrow.ListArray.from_arrays(
        pyarrow.array([0, 1, 2], pyarrow.int32()), not_utf8(b"\xff", b"a")
    ),
    "twice": pyarrow.StructArray.from_arrays([pyarrow.array([1, 2]), pyarrow.array([1, 2])], ["a", "a"]),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_parquet_column_that_is_not_needed_harms_nothing(tmp_path: Path, name: str) -> None:
    done = read(as_parquet(tmp_path, note=STRANGE[name]))
    assert (done.rows.height, done.dropped.height) == (2, 0)


NO_TEXT = {
    "not utf-8": [("broken-records", "is not UTF-8 (byte 3)"), None],
    "unknown zone": [("broken-records", "cannot be read (timestamp[us, tz=Nowhere/Nothing]: ")] * 2,
    "far time": [("broken-records", "cannot be read ("), ("not-text", "is a date or a time, not text")],
    "far date": [("broken-records", "cannot be read ("), ("not-text", "is a date or a time, not text")],
    "far duration": [("broken-records", "cannot be read ("), ("not-text", "is a date or a time, not text")],
    "decimal": [None, ("empty", "")],
    "binary": [("not-text", "is binary, not text")] * 2,
    "null": [("empty", "")] * 2,
    "map": [("not-text", "is a list, not text")] * 2,
    "nested not utf-8": [("broken-records", "is not UTF-8 (byte 1)"), ("not-text", "is a list, not text")],
    "twice": [("broken-records", "cannot be read (")] * 2,
}
"""Why each of the two values of STRANGE is not an answer, null where it is."""


@pytest.mark.parametrize("name", STRANGE)
def test_a_parquet_column_that_is_needed_is_named_with_its_row(tmp_path: Path, name: str) -> None:
    source = as_parquet(tmp_path, note=STRANGE[name])
    answers = source.model_copy(update={"columns": {"response": "note"}, "broken": 1.0})
    expected = [(line, *why) for line, why in enumerate(NO_TEXT[name], 1) if why is not None]
    if len(expected) == 2:
        with pytest.raises(DataError, match=r"rows\.parquet: none of its 2 rows can be used: ") as no_row:
            read(answers)
        for _, kind, reason in expected:
            assert (f"note {reason}" if kind != "empty" else "the answer is empty") in str(no_row.value)
        return
    for (line, kind, reason), drop in zip(expected, drops(read(answers)), strict=True):
        assert drop[:2] == (line, kind)
        assert drop[2] == "the answer is empty" or drop[2].startswith(f"note {reason}")


def test_a_decimal_is_a_number(tmp_path: Path) -> None:
    numbers = pyarrow.array([Decimal("1.50"), Decimal("2.00")], pyarrow.decimal128(9, 2))
    source = as_parquet(tmp_path, note=numbers)
    answers = turns(source.model_copy(update={"columns": {"response": "note"}}))
    assert [row[-1]["content"] for row in answers] == ["1.50", "2.00"]
    assert len(turns(source.model_copy(update={"where": {"note": 1.5}}))) == 1
    rows = read(source.model_copy(update={"category": Category(column="note")})).rows
    assert sorted(rows["category"]) == ["1.50", "2.00"]


def test_two_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    texts = pyarrow.array(["a", "b"])
    table = pyarrow.table([texts, texts, texts], names=["prompt", "response", "response"])
    parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet: duplicate column 'response' in the header; rename one"):
        read(Source(file=str(tmp_path / "rows.parquet")))


# Keys and characters


def test_an_object_that_names_a_key_twice_is_dropped_where_it_is_needed(tmp_path: Path) -> None:
    content = (
        '{"prompt": "ask 1", "response": "first", "response": "second"}\n'
        '{"prompt": "ask 2", "response": "tell", "meta": {"a": 1, "a": 2}}\n'
        '{"messages": 1, "prompt": "ask 3", "response": "tell"}\n'
    )
    written(tmp_path / "rows.jsonl", content)
    source = Source(file=str(tmp_path / "rows.jsonl"), broken=1.0, columns={"prompt": "prompt", "response": "response"})
    done = read(source)
    assert drops(done) == [(1, "broken-records", "the record has the duplicate key 'response'")]
    assert sorted(done.rows["line"]) == [2, 3]
    turn = '{"messages": [{"role": "user", "content": "a", "content": "b"}, {"role": "assistant", "content": "c"}]}\n'
    good = json.dumps({"messages": [ASK, TELL]}) + "\n"
    written(tmp_path / "turns.jsonl", turn + good)
    done = read(Source(file=str(tmp_path / "turns.jsonl"), broken=1.0))
    assert drops(done) == [(1, "broken-records", "turn 1 has the duplicate key 'content'")]


@pytest.mark.parametrize("column", ["prompt", "response", "licence", "category", "system"])
def test_half_a_character_is_reported_where_it_stands(lines: Callable[..., Source], column: str) -> None:
    done = read(lines([pair(1, **{column: "half \ud83d"}), pair(2, **{column: "whole"})]))
    ((line, kind, reason),) = drops(done)
    assert (line, kind) == (1, "half-characters")
    assert {"prompt": "user", "response": "assistant"}.get(column, column) in reason
    json.dumps(done.resolved, ensure_ascii=False).encode()


def test_half_a_character_where_nothing_reads_it_harms_nothing(lines: Callable[..., Source]) -> None:
    done = read(lines([pair(1, id="\ud83d", note={"\udfff": 1}), pair(2, **{"\ud800": "a text that is long enough"})]))
    assert (done.rows.height, done.dropped.height) == (2, 0)
    json.dumps(done.resolved, ensure_ascii=False).encode()


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_bytes_that_are_not_utf8_matter_only_in_what_is_needed(tmp_path: Path, name: str) -> None:
    def content(first: bytes, second: bytes) -> bytes:
        if name == "rows.csv":
            return b"prompt,response,note\nask 1,%b,%b\nask 2,tell,x\n" % (first, second)
        return b'{"prompt": "ask 1", "response": "%b", "note": "%b"}\n{"prompt": "ask 2", "response": "tell"}\n' % (
            first,
            second,
        )

    assert read(written(tmp_path / name, content(b"tell", b"\xff"))).dropped.height == 0
    source = written(tmp_path / name, content(b"a\xff", b"x")).model_copy(update={"broken": 1.0})
    assert drops(read(source)) == [(1, "broken-records", "the text of the assistant is not UTF-8 (byte 0xFF)")]


# Columns that are left aside


def test_columns_that_are_not_used_are_named(lines: Callable[..., Source]) -> None:
    rows = [
        pair(n, rejected="no", reasoning="so", page=n, note=f"a note of several words {n}", empty="") for n in range(3)
    ]
    done = read(lines(rows))
    assert done.resolved["unused"] == ["rejected", "reasoning", "note"]
    assert remarks(done.resolved) == ["rows.jsonl: unused columns rejected, reasoning, note"]
    assert read(lines(rows), prompts_only=True).resolved["unused"] == ["reasoning", "note"]
    assert remarks(read(lines([pair(1, rejected="no")])).resolved) == ["rows.jsonl: unused column rejected"]


def test_a_column_that_only_a_late_row_has_is_read_or_named_too(lines: Callable[..., Source]) -> None:
    rows = [*(pair(n) for n in range(1200)), pair(1200, history=[["earlier", "reply"]], rejected="no")]
    result = read(lines(rows))
    assert result.resolved["columns"]["history"] == "history"
    assert result.resolved["unused"] == ["rejected"]
    assert sorted(result.rows["messages"].list.len())[-2:] == [2, 4]
