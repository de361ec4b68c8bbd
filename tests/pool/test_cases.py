"""Inputs that once lost or altered rows in silence, or ended in a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

from curator.corpus import audit
from curator.corpus.request import Request, source_of
from curator.errors import CuratorError, DataError
from curator.pool.screen.drops import UNUSABLE
from curator.pool.sources import Read, read, remarks
from curator.recipe.source import Source
from curator.records import DROP_KINDS, DROPPED_SCHEMA, ROW_SCHEMA, Pool
from curator.report.facts import pool_facts

NAN = float("nan")
TOPICS = [f"knots of kind {number}" for number in range(20)]
ASK, TELL = {"role": "user", "content": "ask"}, {"role": "assistant", "content": "tell"}
LAW = {"role": "system", "content": "law"}


def rows(**other: Callable[[int], Any]) -> list[dict[str, Any]]:
    """Twenty records of prompt and response, with other columns by their number."""
    made = [{"prompt": f"how are {topic} tied", "response": f"slowly, {topic}"} for topic in TOPICS]
    return [{**row, **{name: make(number) for name, make in other.items()}} for number, row in enumerate(made)]


def table(path: Path, **columns: Any) -> Source:
    parquet.write_table(pa.table({name: pa.array(column) for name, column in columns.items()}), path)
    return Source(file=str(path))


def refusal(source: Source) -> str | None:
    """What is said where a source cannot be read."""
    try:
        read(source)
    except CuratorError as error:
        return str(error)
    return None


def turns(result: Read) -> list[list[dict[str, str]]]:
    return result.rows.sort("line")["messages"].to_list()


def texts(result: Read) -> list[list[str]]:
    return [[turn["content"] for turn in conversation] for conversation in turns(result)]


def test_nan_is_absent_in_json_wherever_it_stands(lines: Callable[..., Source]) -> None:
    made = rows(
        response=lambda n: NAN if n % 4 == 0 else f"answer {n}",
        input=lambda n: NAN,
        category=lambda n: NAN if n < 10 else ["a", NAN],
        licence=lambda n: NAN,
    )
    result = read(lines(made))
    assert result.resolved["kinds"] == {"empty": 5}
    assert set(result.dropped["reason"]) == {"the answer is empty"}
    assert set(result.rows["category"]) == {None, "a"}
    assert result.rows["licence"].null_count() == 15
    assert not any("nan" in text.lower() for conversation in texts(result) for text in conversation)
    probes = read(lines([{"prompt": NAN}, {"prompt": "ask"}]), prompts_only=True)
    assert texts(probes) == [["ask"]]
    nested = read(
        lines([{"messages": [{**ASK, "name": NAN}, {"role": "assistant", "content": NAN}]}, {"messages": [ASK, TELL]}])
    )
    assert nested.dropped["kind"].to_list() == ["empty"]


def test_nan_is_absent_in_parquet_and_a_text_that_says_nan_is_a_text(tmp_path: Path) -> None:
    source = table(
        tmp_path / "r.parquet", prompt=["a", "b", "c"], response=["nan", "None", "NaN"], category=[NAN, 1.5, NAN]
    )
    result = read(source)
    assert texts(result) == [["a", "nan"], ["b", "None"], ["c", "NaN"]]
    assert result.rows.sort("line")["category"].to_list() == [None, "1.5", None]
    for kind in (pa.float64(), pa.float32(), pa.float16()):
        numbers = table(tmp_path / "n.parquet", prompt=["a", "b"], response=pa.array([NAN, 2.0]).cast(kind))
        assert texts(read(numbers)) == [["b", "2.0"]]
    (tmp_path / "r.csv").write_text("prompt,response\nask,nan\n", encoding="utf-8")
    assert texts(read(Source(file=str(tmp_path / "r.csv")))) == [["ask", "nan"]]


def test_an_infinite_number_is_not_an_answer(lines: Callable[..., Source]) -> None:
    result = read(lines([{"prompt": "a", "response": float("inf")}, {"prompt": "b", "response": "tell"}]))
    assert result.dropped["kind"].to_list() == ["not-text"]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    made = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["prompt", "response", "response"])
    parquet.write_table(made, tmp_path / "twice.parquet")
    with pytest.raises(DataError, match=r"twice.parquet: duplicate column 'response' in the header; rename one"):
        read(Source(file=str(tmp_path / "twice.parquet")))


def test_a_column_whose_name_is_not_utf8_is_a_sentence(tmp_path: Path) -> None:
    table(tmp_path / "r.parquet", prompt=["a"], response=["b"], qqqq=["c"])
    content = (tmp_path / "r.parquet").read_bytes()
    (tmp_path / "r.parquet").write_bytes(content.replace(b"qqqq", b"q\xffqq"))
    with pytest.raises(DataError, match=r"r.parquet: cannot be read as Parquet"):
        read(Source(file=str(tmp_path / "r.parquet")))


def test_a_key_that_stands_twice_breaks_its_record_where_it_is_needed(tmp_path: Path) -> None:
    good = "".join(json.dumps({"prompt": f"p{n}", "response": "r"}) + "\n" for n in range(30))
    (tmp_path / "r.jsonl").write_text(good + '{"prompt": "x", "response": "a", "response": "b"}\n', encoding="utf-8")
    result = read(Source(file=str(tmp_path / "r.jsonl")))
    assert result.dropped.select("line", "kind", "reason").rows() == [
        (31, "broken-records", "the record has the duplicate key 'response'")
    ]
    inside = '[{"role": "user", "content": "a", "content": "b"}, {"role": "assistant", "content": "c"}]'
    nested = f'{{"messages": {inside}}}\n{{"messages": {json.dumps([ASK, TELL])}, "meta": {{"a": 1, "a": 2}}}}\n'
    (tmp_path / "n.jsonl").write_text(nested, encoding="utf-8")
    result = read(Source(file=str(tmp_path / "n.jsonl"), broken=0.5))
    assert turns(result) == [[ASK, TELL]]
    assert result.dropped["reason"].to_list() == ["turn 1 has the duplicate key 'content'"]
    (tmp_path / "o.json").write_text('{"a": 1, "a": 2}', encoding="utf-8")
    with pytest.raises(DataError, match="has the duplicate key 'a'"):
        read(Source(file=str(tmp_path / "o.json")))


def not_utf8(values: list[bytes]) -> pa.Array:
    """A column of text whose bytes are what they are."""
    binary = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), binary.buffers())


ODD: dict[str, Callable[[], pa.Array]] = {
    "bytes that are not UTF-8": lambda: not_utf8([b"a\xff", b"b"]),
    "an unknown time zone": lambda: pa.array([1, 2], pa.timestamp("ns", tz="Nowhere/Land")),
    "a far date": lambda: pa.array([2**62, 0], pa.timestamp("s")),
    "a decimal": lambda: pa.array([1, 2]).cast(pa.decimal128(38, 3)),
    "binary": lambda: pa.array([b"\xff", b"b"]),
    "nothing": lambda: pa.nulls(2),
    "a map": lambda: pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
    "a large list": lambda: pa.array([["a"], None], pa.large_list(pa.large_string())),
    "a dictionary": lambda: pa.array(["a", "b"]).dictionary_encode(),
    "a struct of two fields of one name": lambda: pa.StructArray.from_arrays([pa.array([1, 2])] * 2, ["x", "x"]),
    "a duration": lambda: pa.array([2**62, 1], pa.duration("s")),
    "a time of day": lambda: pa.array([1, 86_399_999_999_999], pa.time64("ns")),
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_column_matters_only_where_it_is_needed(tmp_path: Path, what: str) -> None:
    path, column = tmp_path / "odd.parquet", ODD[what]()
    try:
        parquet.write_table(pa.table({"prompt": ["a", "b"], "response": ["c", "d"], "odd": column}), path)
    except pa.ArrowException as error:
        pytest.skip(f"Parquet does not hold it: {error}")
    assert texts(read(Source(file=str(path)))) == [["a", "c"], ["b", "d"]]
    for options in (
        *({"columns": {field: "odd"}} for field in ("response", "prompt", "messages", "system")),
        {"where": {"odd": "a"}},
        {"category": {"from": "odd"}},
        {"template": "{odd}?"},
    ):
        refused = refusal(Source.model_validate({"file": str(path), "broken": 1.0, **options}))
        assert refused is None or "odd" in refused or "empty" in refused


def test_rows_whose_needed_bytes_are_not_utf8_are_named_in_every_format(tmp_path: Path) -> None:
    good = [f"p{n}" for n in range(30)]
    bad = not_utf8([b"r"] * 29 + [b"caf\xe9"])
    parquet.write_table(pa.table({"prompt": good, "response": bad, "note": bad}), tmp_path / "r.parquet")
    result = read(Source(file=str(tmp_path / "r.parquet")))
    assert result.dropped.select("line", "stage", "kind", "reason").rows() == [
        (30, "source", "broken-records", "response is not UTF-8 (byte 4)")
    ]
    plain = b"".join(b'{"prompt": "p%d", "response": "r", "note": "caf\xe9"}\n' % n for n in range(30))
    (tmp_path / "r.jsonl").write_bytes(plain + b'{"prompt": "x", "response": "caf\xe9"}\n')
    header = b"prompt,response,note\n" + b"".join(b"p%d,r,caf\xe9\n" % n for n in range(30))
    (tmp_path / "r.csv").write_bytes(header + b"x,caf\xe9,n\n")
    for name in ("r.jsonl", "r.csv"):
        result = read(Source(file=str(tmp_path / name)))
        assert result.dropped.select("line", "stage", "kind", "reason").rows() == [
            (31, "source", "broken-records", "the text of the assistant is not UTF-8 (byte 0xE9)")
        ]


@pytest.mark.parametrize("field", ["prompt", "response", "licence", "license", "category", "system", "input"])
def test_half_a_character_anywhere_drops_its_row_and_is_counted(lines: Callable[..., Source], field: str) -> None:
    made = rows(**{field: lambda n: "cc \ud83d" if n == 3 else f"plain {n}"})
    result = read(lines(made))
    assert result.resolved["kinds"] == {"half-characters": 1}
    assert result.dropped.select("line", "stage").rows() == [(4, "clean")]


def test_half_a_character_in_what_is_not_used_is_left_alone_even_in_names(lines: Callable[..., Source]) -> None:
    made = [{**row, "id": "\ud83d", "note \udead": "a long text of several words"} for row in rows()]
    result = read(lines(made))
    assert result.rows.height == 20
    assert json.dumps(result.resolved, ensure_ascii=False).encode()
    with pytest.raises(DataError) as error:
        read(lines([{"a\ud83d": 1}]))
    assert str(error.value).encode()
    with pytest.raises(DataError) as error:
        read(lines([{"messages": [{"role": "\ud83d", "content": "a"}]}]))
    assert str(error.value).encode()
    report = audit(Request(lines(made), {}, {}))
    assert report.model_dump_json().encode()


READ_AS: dict[str, tuple[dict[str, Any], list[dict[str, str]]]] = {
    "Alpaca with a system and a history": (
        {"instruction": "now", "input": "", "output": "tell", "system": "law", "history": [["ask", "tell"]]},
        [LAW, ASK, TELL, {**ASK, "content": "now"}, TELL],
    ),
    "a history as JSON text": (
        {"instruction": "now", "output": "tell", "history": '[["ask", "tell"]]'},
        [ASK, TELL, {**ASK, "content": "now"}, TELL],
    ),
    "a history of turns": (
        {"prompt": "now", "response": "tell", "history": [ASK, TELL]},
        [ASK, TELL, {**ASK, "content": "now"}, TELL],
    ),
    "a preference with a history": (
        {"prompt": "now", "chosen": "tell", "rejected": "no", "history": [["ask", "tell"]], "system": "law"},
        [LAW, ASK, TELL, {**ASK, "content": "now"}, TELL],
    ),
    "an empty history and system": ({"prompt": "ask", "response": "tell", "history": [], "system": ""}, [ASK, TELL]),
    "OpenOrca": ({"system_prompt": "law", "question": "ask", "response": "tell"}, [LAW, ASK, TELL]),
    "ShareGPT with a system": (
        {"conversations": [{"from": "human", "value": "ask"}, {"from": "gpt", "value": "tell"}], "system": "law"},
        [LAW, ASK, TELL],
    ),
    "a system that both name": ({"messages": [LAW, ASK, TELL], "system": "law"}, [LAW, ASK, TELL]),
    "ShareGPT with chosen": (
        {
            "conversations": [{"from": "human", "value": "ask"}],
            "chosen": {"from": "gpt", "value": "tell"},
            "rejected": {"from": "gpt", "value": "no"},
        },
        [ASK, TELL],
    ),
    "chosen as a turn beside a prompt": ({"prompt": "ask", "chosen": TELL, "rejected": TELL}, [ASK, TELL]),
    "chosen as a whole conversation": ({"prompt": "ask", "chosen": [ASK, TELL]}, [ASK, TELL]),
    "chosen that begins with a bracket": (
        {"prompt": "ask", "chosen": "[Note] tell", "rejected": "no"},
        [ASK, {**TELL, "content": "[Note] tell"}],
    ),
    "chosen that is a JSON list": ({"prompt": "ask", "chosen": '["tell"]'}, [ASK, {**TELL, "content": '["tell"]'}]),
    "chosen turns as JSON text": ({"prompt": "ask", "chosen": json.dumps([ASK, TELL])}, [ASK, TELL]),
    "chosen as a transcript that holds the prompt": (
        {"prompt": "ask", "chosen": "\n\nHuman: ask\n\nAssistant: tell"},
        [ASK, TELL],
    ),
    "chosen as the answer's part of a transcript": ({"prompt": "ask", "chosen": "Assistant: tell"}, [ASK, TELL]),
    "chosen that is a dialogue of its own": (
        {"prompt": "ask", "chosen": "Human: hi\n\nAssistant: hello"},
        [ASK, {**TELL, "content": "Human: hi\n\nAssistant: hello"}],
    ),
    "chosen as text beside a transcript that ends with the user": (
        {"prompt": "\n\nHuman: ask", "chosen": "tell"},
        [ASK, TELL],
    ),
    "chosen as text beside a transcript that ends before the answer": (
        {"prompt": "\n\nHuman: ask\n\nAssistant:", "chosen": " tell"},
        [ASK, TELL],
    ),
    "prompt and completion turns": ({"prompt": [LAW, ASK], "completion": [TELL]}, [LAW, ASK, TELL]),
    "prompt and completion turns as JSON text": (
        {"prompt": json.dumps([ASK]), "completion": json.dumps([TELL])},
        [ASK, TELL],
    ),
    "an answer that is JSON about roles": (
        {"prompt": "ask", "response": '[{"role": "admin", "content": "x"}]'},
        [ASK, {**TELL, "content": '[{"role": "admin", "content": "x"}]'}],
    ),
    "a prompt that is an object in JSON": (
        {"prompt": '{"from": "a", "to": "b"}', "response": "tell"},
        [{**ASK, "content": '{"from": "a", "to": "b"}'}, TELL],
    ),
    "a prompt beside completion turns": ({"prompt": "ask", "completion": [TELL]}, [ASK, TELL]),
    "parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "ask"}]}, TELL]},
        [ASK, TELL],
    ),
    "parts are joined": (
        {"messages": [ASK, {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"text": "b"}, "c"]}]},
        [ASK, {**TELL, "content": "a\nb\nc"}],
    ),
    "a label that is true": ({"messages": [ASK, TELL], "label": True}, [ASK, TELL]),
    "a label that is a class": ({"prompt": "ask", "response": "tell", "label": 0}, [ASK, TELL]),
    "role and from beside each other": (
        {"messages": [{**ASK, "from": None}, {"role": None, "content": None, "from": "gpt", "value": "tell"}]},
        [ASK, TELL],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READ_AS)
def test_documented_shapes_are_read_whole(lines: Callable[..., Source], name: str) -> None:
    row, expected = READ_AS[name]
    assert turns(read(lines([row]))) == [expected]


REASONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "image": (
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "x"}]}, TELL]},
        "not-text",
        "the content of turn 1 has a part of type 'image', which is not text",
    ),
    "tool call": (
        {"messages": [ASK, {**TELL, "tool_calls": [{"id": 1}]}]},
        "not-text",
        "turn 2 has tool_calls, which are not text",
    ),
    "no content": (
        {"messages": [{"role": "user", "text": "ask"}, TELL]},
        "no-conversation",
        "turn 1 has neither content nor value; its keys: role, text",
    ),
    "two systems": (
        {"messages": [{**LAW, "content": "other"}, ASK, TELL], "system": "law"},
        "wrong-roles",
        "the conversation begins with a system turn that is not that of system",
    ),
    "no turn": (
        {"messages": None, "prompt": "x"},
        "empty",
        "messages is empty",
    ),
    "text": ({"messages": "ask"}, "no-conversation", "messages is text, and not a JSON list of turns"),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_is_the_true_one_in_the_rows_and_in_the_audit(lines: Callable[..., Source], name: str) -> None:
    row, kind, reason = REASONS[name]
    source = lines([row, {"messages": [ASK, TELL], "system": None}])
    assert read(source).dropped.select("kind", "reason").rows() == [(kind, reason)]
    kinds = {finding.kind: finding for finding in audit(Request(source, {}, {})).findings}
    assert reason in kinds[kind].what
    assert kind == "wrong-roles" or "wrong-roles" not in kinds


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "ask", "chosen": str([ASK, TELL])}, "chosen is a list of turns in Python's own form, and not JSON"),
        ({"prompt": str([ASK]), "response": "tell"}, "prompt is a list of turns in Python's own form, and not JSON"),
        ({"prompt": "now", "response": "tell", "history": "[['ask', 'tell']]"}, "history is text, and not a JSON list"),
        ({"prompt": "now", "response": "tell", "history": "earlier talk"}, "history is text, and not a JSON list"),
    ],
)
def test_turns_that_are_not_json_are_dropped_and_not_taught_or_lost(
    lines: Callable[..., Source], row: dict[str, Any], reason: str
) -> None:
    plain = {"prompt": "[1] ask", "chosen" if "chosen" in row else "response": "tell"}
    plain |= {"history": "null"} if "history" in row else {}
    source = lines([plain, row])
    if "history" in row:
        source = source.model_copy(update={"columns": {name: name for name in row}})
    found = read(source)
    assert turns(found) == [[{**ASK, "content": "[1] ask"}, TELL]]
    assert found.dropped["kind"].to_list() == ["no-conversation"]
    assert reason in found.dropped["reason"][0]


def test_a_prompt_of_an_empty_system_turn_alone_is_empty(lines: Callable[..., Source]) -> None:
    made = [{"prompt": [{**LAW, "content": ""}], "response": "tell"}, {"prompt": [ASK], "response": "tell"}]
    assert read(lines(made)).dropped["reason"].to_list() == ["prompt is empty"]
    made = [{"prompt": "x", "chosen": [{**LAW, "content": None}]}, {"prompt": "ask", "chosen": "tell"}]
    assert read(lines(made)).dropped["reason"].to_list() == ["chosen is empty"]


def test_a_row_with_two_different_answers_is_dropped(lines: Callable[..., Source]) -> None:
    more = {**TELL, "content": "more"}
    made = [
        {"messages": [ASK, TELL], "chosen": [ASK, more]},
        {"messages": [ASK, TELL], "chosen": "more"},
        {"messages": [ASK, TELL], "chosen": "\n\nHuman: ask\n\nAssistant: more"},
        {"messages": [{**ASK, "content": "again"}, TELL], "chosen": [ASK, {**TELL, "content": " tell\n"}]},
        {"messages": [{**ASK, "content": "without"}, TELL], "chosen": None},
        {"messages": [{**ASK, "content": "open"}], "chosen": "more"},
    ]
    source = lines(made)
    reason = "messages and chosen end with different answers"
    result = read(source)
    assert result.dropped.select("line", "kind", "reason").rows() == [(n, "two-answers", reason) for n in (1, 2, 3)]
    assert [row[-1] for row in turns(result)] == [TELL, TELL, more]
    finding = next(f for f in audit(Request(source, {}, {})).findings if f.kind == "two-answers")
    assert (finding.count, reason in finding.what) == (3, True)
    for columns, answer in (({"messages": "messages"}, TELL), ({"chosen": "chosen"}, more)):
        alone = read(lines(made[:1], columns=columns))
        assert turns(alone) == [[ASK, answer]]


def test_an_odd_history_is_named_and_not_used(lines: Callable[..., Source]) -> None:
    text = read(lines([{"prompt": "ask", "response": "tell", "history": "of the town"}]))
    assert (turns(text), text.resolved["unused"]) == ([[ASK, TELL]], ["history"])
    broken = read(lines([{"prompt": "ask", "response": "tell", "history": [["a"]]}, {"prompt": "b", "response": "c"}]))
    assert broken.dropped["reason"].to_list() == ["history is not a list of pairs of a question and its answer"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_answers_with_label_false_are_not_taught_and_counted(
    lines: Callable[..., Source], tmp_path: Path, name: str
) -> None:
    made = rows(label=lambda n: n % 2 == 1)
    source = lines(made, "rows.jsonl")
    if name == "rows.csv":
        pl.DataFrame(made).write_csv(tmp_path / name)
        source = Source(file=str(tmp_path / name))
    result = read(source)
    assert result.rows["line"].sort().to_list() == list(range(2, 21, 2))
    assert result.resolved["kinds"] == {"rejected-answers": 10}
    assert remarks(result.resolved) == [f"{name}: 10 rows have the label false and are left out"]
    finding = next(f for f in audit(Request(source, {}, {})).findings if f.kind == "rejected-answers")
    assert finding.count == 10
    assert read(source.model_copy(update={"where": {"label": [True, False]}})).rows.height == 20
    assert read(source, prompts_only=True).rows.height == 20


def test_a_label_may_be_mapped_and_must_be_a_flag(lines: Callable[..., Source]) -> None:
    made = rows(good=lambda n: 1 if n else 0, odd=lambda n: "maybe" if n else True)
    assert read(lines(made, columns={"label": "good"})).resolved["kinds"] == {"rejected-answers": 1}
    assert read(lines(made, columns={"label": "odd"})).resolved["kinds"] == {"wrong-label": 19}


def test_the_context_of_a_probe_stands_before_it(lines: Callable[..., Source]) -> None:
    made = [{"Behavior": "carry on", "ContextString": f"draft {n}", "BehaviorID": f"b{n}"} for n in range(20)]
    result = read(lines([*made, {"Behavior": "no context", "ContextString": NAN}]), prompts_only=True)
    expected = [[f"draft {n}\n\n---\n\ncarry on"] for n in range(20)]
    assert texts(result) == [*expected, ["no context"]]


@pytest.mark.parametrize("name", ["p.json", "p.jsonl", "p.txt", "p.txt.gz"])
def test_bare_prompts_are_probes_and_none_is_lost(tmp_path: Path, name: str) -> None:
    import gzip

    content = "\n".join(TOPICS) + "\n\n"
    if ".json" in name:
        content = json.dumps(TOPICS) if name == "p.json" else "".join(json.dumps(topic) + "\n" for topic in TOPICS)
    (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    source = Source(file=str(tmp_path / name))
    assert texts(read(source, prompts_only=True)) == [[topic] for topic in TOPICS]
    with pytest.raises(DataError, match="no column was recognised as response"):
        read(source)


def test_a_table_without_a_header_is_read_by_position(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("".join(f'"{topic}",answer {n},x\n' for n, topic in enumerate(TOPICS)), encoding="utf-8")
    source = Source(file=str(path), columns={"prompt": 0})
    assert texts(read(source, prompts_only=True)) == [[topic] for topic in TOPICS]
    both = Source.model_validate({"file": str(path), "columns": {"prompt": 0, "response": 1}, "category": "2"})
    assert texts(read(both)) == [[topic, f"answer {n}"] for n, topic in enumerate(TOPICS)]
    assert set(read(both).rows["category"]) == {"x"}
    with pytest.raises(DataError, match=r"columns names the column '3', which the data does not have"):
        read(Source(file=str(path), columns={"prompt": 3}), prompts_only=True)
    with pytest.raises(DataError) as error:
        read(Source(file=str(path)), prompts_only=True)
    assert "if its first line is a row and not a header, map columns by position: {prompt: 0}" in str(error.value)
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"columns by position are only valid with .csv and .tsv"):
        read(Source(file=str(tmp_path / "p.jsonl"), columns={"prompt": 0}), prompts_only=True)


@pytest.mark.parametrize("columns", [{"prompt": 0, "response": "b"}, {"prompt": -1}, {"prompt": True}, {"prompt": 1.5}])
def test_positions_that_cannot_be_meant_are_refused(columns: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="columns"):
        Source.model_validate({"file": "a.csv", "columns": columns})
    with pytest.raises(ValueError, match="columns by position are only valid with file"):
        Source.model_validate({"hub": "owner/name", "columns": {"prompt": 0}})


def test_columns_that_look_meaningful_and_are_not_used_are_named_once(lines: Callable[..., Source]) -> None:
    made = rows(
        context=lambda n: "",
        id=lambda n: f"abc{n}",
        rejected=lambda n: "no",
        notes=lambda n: f"a longer text of row {n}",
        label=lambda n: "good",
    )
    source = lines(made, columns={"prompt": "prompt"})
    result = read(source)
    assert result.resolved["unused"] == ["rejected", "notes", "label"]
    assert remarks(result.resolved) == ["rows.jsonl: unused columns rejected, notes, label"]
    findings = [f for f in audit(Request(source, {}, {})).findings if f.kind == "unused-columns"]
    assert [f.what for f in findings] == ["The columns rejected, notes, label were not used."]
    facts = pool_facts(Pool(result.rows, result.dropped), [result.resolved])
    assert facts.notes == ("rows.jsonl: unused columns rejected, notes, label",)


def test_a_column_that_only_later_rows_have_is_named_too(
    lines: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curator.pool.sources.SAMPLE", 5)
    made = rows()
    made[12]["tools"] = "law"
    assert read(lines(made)).resolved["unused"] == ["tools"]


@pytest.mark.parametrize("first", [2, 12])
def test_a_label_or_a_system_text_counts_wherever_it_first_appears(
    first: int, lines: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curator.pool.sources.SAMPLE", 5)
    made = rows()
    made[first]["label"], made[first + 1]["label"], made[first + 2]["system"] = False, True, "law"
    made[first - 1] |= {"label": None, "system": None}  # decides nothing
    made.insert(first, {"prompt": "without an answer", "label": False})  # nor does this
    result = read(lines(made))
    assert result.resolved["kinds"]["rejected-answers"] == (2 if first == 2 else 1)
    assert result.resolved["columns"]["label"] == "label"
    assert result.resolved["unused"] == []
    turns = result.rows["messages"].to_list()
    assert sum(each[0] == {"role": "system", "content": "law"} for each in turns) == 1


@pytest.mark.parametrize("name", ["is_safe", "is_response_0_safe", "unsafe", "is_harmful"])
def test_a_column_that_says_which_answers_are_safe_is_named_where_it_is_not_used(
    name: str, lines: Callable[..., Source]
) -> None:
    made = rows(**{name: lambda n: n % 2 == 0})
    result = read(lines(made))
    assert result.resolved["unused"] == [name]
    assert remarks(result.resolved) == [
        f"rows.jsonl: unused column {name} (`where` keeps rows by it: {name} may say which answers must not be taught)"
    ]
    assert read(lines(made), prompts_only=True).resolved["unused"] == []
    kept = read(lines(made, where={name: True}))
    assert kept.resolved["unused"] == []
    assert kept.rows.height < result.rows.height


def test_every_kind_of_drop_about_a_record_is_told_in_the_audit() -> None:
    apart = {"where", "not-taken", "other-role", "probe-words", "near-duplicates", "semantic-duplicates"}
    assert set(UNUSABLE) | apart == set(DROP_KINDS)


def test_the_report_counts_rows_by_kind_and_reads_drops_of_earlier_versions() -> None:
    drops = [("f", n, "clean", f"the row has {n} tokens, more than max_tokens (5)", None, "too-long") for n in (7, 8)]
    drops.append(("f", 9, "clean", "the answer is empty", None, "empty"))
    frame = pl.DataFrame(drops, schema=DROPPED_SCHEMA, orient="row")
    facts = pool_facts(Pool(pl.DataFrame(schema=ROW_SCHEMA), frame))
    assert [(each.reason, each.rows) for each in facts.reasons] == [
        (DROP_KINDS["too-long"], 2),
        ("the answer is empty", 1),
    ]
    earlier = Pool(pl.DataFrame(schema=ROW_SCHEMA), frame.drop("kind"))
    assert earlier.dropped["kind"].null_count() == 3
    assert len(pool_facts(earlier).reasons) == 3


def test_a_name_of_a_file_that_is_not_utf8_is_refused_in_a_sentence() -> None:
    with pytest.raises(DataError) as error:
        source_of("rows\udcff.jsonl")
    assert str(error.value) == r"rows\udcff.jsonl: the file name is not UTF-8; rename the file"
