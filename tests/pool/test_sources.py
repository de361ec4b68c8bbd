from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curator import sandbox
from curator.errors import DataError
from curator.pool.sources import read, remarks
from curator.recipe.source import Source
from curator.records import DROPPED_SCHEMA, ROW_SCHEMA, row_id


def pair(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"ask {number}", "response": f"tell {number}", **more}


def kept_lines(source: Source) -> list[int]:
    return sorted(read(source).rows["line"].to_list())


def test_rows_and_dropped_have_their_columns_and_every_record_is_in_one(lines: Callable[..., Source]) -> None:
    found = read(lines([pair(1), pair(1), pair(2, response=""), pair(3)], licence="mit"))
    assert dict(found.rows.schema) == ROW_SCHEMA
    assert dict(found.dropped.schema) == DROPPED_SCHEMA
    assert found.rows["id"].is_sorted()
    assert found.rows["source"].unique().to_list() == ["rows.jsonl"]
    assert found.rows["licence"].unique().to_list() == ["mit"]
    assert found.rows["tokens"].to_list() == [None, None]
    assert sorted([*found.rows["line"], *found.dropped["line"]]) == [1, 2, 3, 4]
    assert (found.resolved["read"], found.resolved["kept"], found.resolved["dropped"]) == (4, 2, 2)


def test_what_was_read_is_written_down(lines: Callable[..., Source]) -> None:
    source = lines([pair(1, category="x")])
    resolved = read(source).resolved
    assert resolved.pop("sha256") == hashlib.sha256(Path(str(source.file)).read_bytes()).hexdigest()
    assert resolved == {
        "file": source.file,
        "bytes": Path(str(source.file)).stat().st_size,
        "label": "rows.jsonl",
        "columns": {"prompt": "prompt", "response": "response", "category": "category"},
        "read": 1,
        "kept": 1,
        "dropped": 0,
        "unused": [],
        "kinds": {},
    }


def test_duplicates_after_normalising_are_dropped_with_the_kept_id(lines: Callable[..., Source]) -> None:
    first = {"prompt": "caf\u00e9  now", "response": "yes\n"}
    again = {"prompt": " cafe\u0301 now ", "response": "yes"}
    found = read(lines([first, pair(2), again]))
    kept = found.rows.filter(pl.col("line") == 1)["id"].item()
    assert found.dropped.rows() == [
        ("rows.jsonl", 3, "duplicate", "the same text as a kept row", kept, "exact-duplicates")
    ]
    assert kept == row_id([{"role": "user", "content": "café now"}, {"role": "assistant", "content": "yes"}])


def test_the_same_prompt_with_another_answer_is_no_duplicate(lines: Callable[..., Source]) -> None:
    assert read(lines([pair(1), pair(1, response="other")])).rows.height == 2


WHERE: dict[str, tuple[dict[str, Any], list[int]]] = {
    "true": ({"safe": True}, [1, 2]),
    "false": ({"safe": False}, [3]),
    "text": ({"label": "a"}, [1, 3]),
    "list": ({"label": ["a", "b"]}, [1, 2, 3]),
    "two columns": ({"label": "a", "safe": True}, [1]),
    "whole number": ({"score": 1}, [1, 2]),
    "number": ({"score": 1.0}, [1, 2]),
    "inside a column": ({"meta.kind": "x"}, [2]),
    "a name with a dot": ({"dotted.name": 5}, [4]),
}
WHERE_ROWS = [
    pair(1, safe=True, label="a", score=1, meta={"kind": "y"}),
    pair(2, safe=True, label="b", score=1.0, meta={"kind": "x"}),
    pair(3, safe=False, label="a", score=2, meta={}),
    pair(4, safe=None, label=None, score=True, meta=None, **{"dotted.name": 5}),
]


@pytest.mark.parametrize("name", WHERE)
def test_where_keeps_rows_whose_value_and_type_are_equal(lines: Callable[..., Source], name: str) -> None:
    where, expected = WHERE[name]
    assert kept_lines(lines(WHERE_ROWS, where=where)) == expected


@pytest.mark.parametrize(
    ("where", "expected"), [({"safe": True}, [1]), ({"score": 1}, [1, 2]), ({"score": 2.5}, [3]), ({"score": "1"}, [1])]
)
def test_where_reads_the_text_of_csv_as_the_wanted_type(
    tmp_path: Path, where: dict[str, Any], expected: list[int]
) -> None:
    (tmp_path / "rows.csv").write_text(
        "prompt,response,safe,score\na,x,True,1\nb,x,false,1.0\nc,x,,2.5\nd,x,yes,high\n", encoding="utf-8"
    )
    assert kept_lines(Source(file=str(tmp_path / "rows.csv"), where=where)) == expected


def test_rows_that_do_not_meet_where_are_dropped_with_the_reason(lines: Callable[..., Source]) -> None:
    found = read(lines(WHERE_ROWS, where={"safe": True, "label": ["a", "c"]}))
    assert [(line, stage, reason) for _, line, stage, reason, _, _ in found.dropped.rows()] == [
        (2, "where", "label is not 'a' or 'c'"),
        (3, "where", "safe is not true"),
        (4, "where", "safe is not true"),
    ]


def test_where_that_keeps_nothing_says_what_the_column_holds(lines: Callable[..., Source]) -> None:
    with pytest.raises(DataError) as error:
        read(lines(WHERE_ROWS, where={"safe": "true"}))
    assert str(error.value) == (
        "rows.jsonl: where keeps none of 4 rows; safe has false, null, true; correct the value or its type"
    )
    with pytest.raises(DataError) as error:
        read(lines([pair(n, note=f"private {n}") for n in range(30)], where={"note": "x"}))
    assert "note has 30 different values" in str(error.value)


def test_where_on_a_missing_column_lists_the_columns(lines: Callable[..., Source]) -> None:
    with pytest.raises(DataError) as error:
        read(lines([pair(1, label="a")], where={"lable": "a"}))
    assert str(error.value) == (
        "rows.jsonl: where names the column 'lable', which the data does not have; its columns: prompt, response, label"
    )


CATEGORIES: dict[str, tuple[list[Any], dict[str, Any], list[str | None]]] = {
    "a column called category": (["a", None, "", " b "], {}, ["a", None, None, "b"]),
    "a number": ([1, 2], {}, ["1", "2"]),
    "the first of a list": ([["b", "a"], [], None], {}, ["b", None, None]),
    "the first of a mapping": ([{"a": False, "b": True, "c": True}, {"a": False}], {}, ["b", None]),
    "the rarest of a list": (
        [["a", "b"], ["a"], ["b", "c"], ["c", "a"]],
        {"category": {"from": "category", "pick": "rarest"}},
        ["b", "a", "b", "c"],
    ),
    "the rarest of a mapping": (
        [{"a": True, "b": True}, {"a": True, "b": False}],
        {"category": {"from": "category", "pick": "rarest"}},
        ["b", "a"],
    ),
}


@pytest.mark.parametrize("name", CATEGORIES)
def test_the_category_is_what_the_data_says(lines: Callable[..., Source], name: str) -> None:
    found, options, expected = CATEGORIES[name]
    rows = read(lines([pair(n, category=value) for n, value in enumerate(found)], **options)).rows.sort("line")
    assert rows["category"].to_list() == expected


def test_a_named_category_column_may_stand_inside_another(lines: Callable[..., Source]) -> None:
    rows = [pair(1, category="no", metadata={"topic": "x"}), pair(2, category="no", metadata={"topic": "y"})]
    assert read(lines(rows, category="metadata.topic")).rows.sort("line")["category"].to_list() == ["x", "y"]


def test_without_a_category_it_is_null(lines: Callable[..., Source]) -> None:
    found = read(lines([pair(1), pair(2)]))
    assert found.rows["category"].to_list() == [None, None]
    assert "category" not in found.resolved["columns"]


def test_a_missing_category_column_lists_the_columns(lines: Callable[..., Source]) -> None:
    with pytest.raises(
        DataError, match=r"category names the column 'topic', which the data does not have; its columns: "
    ):
        read(lines([pair(1)], category="topic"))


def test_a_category_that_is_none_drops_the_row(lines: Callable[..., Source]) -> None:
    found = read(lines([pair(1, kind="a"), pair(2, kind={"a": 0.5})], category="kind"))
    reason = "kind is not a name, a list of names or a mapping from name to true or false"
    assert found.dropped.rows() == [("rows.jsonl", 2, "clean", reason, None, "wrong-category")]


def test_a_column_called_category_that_holds_none_is_left_aside(lines: Callable[..., Source]) -> None:
    assert read(lines([pair(1, category={"a": 0.5})])).rows["category"].to_list() == [None]


def test_the_recipe_gives_the_licence_of_the_rows_that_state_none(lines: Callable[..., Source]) -> None:
    rows = [pair(1, licence="mit"), pair(2, license="cc0"), pair(3)]
    assert read(lines(rows)).rows.sort("line")["licence"].to_list() == ["mit", "cc0", None]
    found = read(lines(rows, licence="CC0 "))
    assert found.rows.sort("line")["licence"].to_list() == ["mit", "cc0", "CC0 "]
    assert remarks(found.resolved) == ["rows.jsonl: 1 row states another licence than the recipe gives, which is kept"]
    assert remarks(read(lines(rows, licence="own")).resolved)[0].startswith("rows.jsonl: 2 rows state another licence")
    assert not remarks(read(lines(rows)).resolved)


@pytest.mark.parametrize(
    ("columns", "stated"),
    [
        ({"License": "cc-by-nc-4.0"}, "cc-by-nc-4.0"),
        ({"LICENSE": ["mit", "cc0"]}, "mit, cc0"),
        ({"licence": "", "license": "mit"}, "mit"),
        ({"licence": " ", "License": ["", None, "mit"]}, "mit"),
        ({"licence": "mit", "license": "a licence of many words"}, "mit"),
        ({"licence": [], "license": {"name": "mit"}}, None),
    ],
)
def test_a_licence_is_read_in_any_case_and_as_a_list(
    lines: Callable[..., Source], columns: dict[str, object], stated: str | None
) -> None:
    for rows in ([pair(1, **columns)], [*(pair(number) for number in range(2, 1100)), pair(1, **columns)]):
        found = read(lines(rows))
        assert found.rows.sort("line")["licence"].to_list()[-1] == stated
        assert found.resolved["unused"] == []


def test_a_licence_in_any_case_is_read_from_a_file_by_column(tmp_path: Path) -> None:
    pl.DataFrame({"prompt": ["a question"], "response": ["an answer"], "License": ["mit"]}).write_parquet(
        tmp_path / "a.parquet"
    )
    assert read(Source(file="a.parquet"), base=tmp_path).rows["licence"].to_list() == ["mit"]


def test_long_rows_are_dropped_by_the_counts_handed_in_before_rows_are_taken(
    lines: Callable[..., Source], count_words: Callable[..., list[int]]
) -> None:
    source = lines([pair(n, response="word " * n) for n in range(1, 21)], rows=5)
    found = read(source, count_tokens=count_words, max_tokens=8)
    assert found.rows.height == 5
    assert found.rows["tokens"].max() <= 8
    assert found.rows["tokens"].to_list() == (found.rows["line"] + 2).to_list()
    long = found.dropped.filter(pl.col("stage") == "clean")
    assert long["line"].to_list() == list(range(7, 21))
    assert long["reason"][0] == "the row has 9 tokens, more than max_tokens (8)"
    assert found.dropped.filter(pl.col("stage") == "rows").height == 1


def test_rows_are_taken_by_hash_and_the_rest_is_written_down(lines: Callable[..., Source]) -> None:
    rows = [pair(n) for n in range(50)]
    few, more = read(lines(rows, rows=10)), read(lines(rows, rows=20))
    assert few.rows.height == 10
    assert set(few.rows["id"]) < set(more.rows["id"])
    assert set(few.dropped["reason"]) == {"not among the 10 rows taken by hash"}
    assert set(read(lines(rows, rows=10), seed=1).rows["id"]) != set(few.rows["id"])
    assert read(lines(rows, rows=1000)).rows.height == 50


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), texts=st.lists(st.text(max_size=5), min_size=1, max_size=12))
def test_permuting_rows_changes_no_id_and_no_choice(tmp_path: Path, seed: int, texts: list[str]) -> None:
    rows = [{"prompt": text, "response": "yes"} for text in ["always here", *texts]]
    shuffled = random.Random(seed).sample(rows, len(rows))
    found = []
    for order in (rows, shuffled):
        (tmp_path / "rows.json").write_text(json.dumps(order), encoding="utf-8")
        source = Source(file="rows.json", rows=4)
        found.append(read(source, base=tmp_path))
    assert found[0].rows.select("id").equals(found[1].rows.select("id"))
    for one in found:
        assert sorted([*one.rows["line"], *one.dropped["line"]]) == list(range(1, len(rows) + 1))


def test_the_same_rows_in_any_format_have_the_same_ids(tmp_path: Path) -> None:
    rows = [pair(n) for n in range(5)]
    frame = pl.DataFrame(rows)
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    ids = [read(Source(file=name), base=tmp_path).rows["id"].to_list() for name in ("a.json", "a.csv", "a.parquet")]
    assert ids[0] == ids[1] == ids[2]


@pytest.mark.parametrize("name", sandbox.NAMES)
def test_every_data_set_of_the_sandbox_is_read_with_its_categories(name: str) -> None:
    found = read(Source(sandbox=name), prompts_only=name.endswith("probes"))
    assert found.resolved["read"] == found.rows.height + found.dropped.height
    assert found.rows.height > 100
    assert found.rows["category"].n_unique() > 1
    assert found.rows["source"][0] == f"sandbox:{name}"


def test_where_chooses_among_sandbox_rows() -> None:
    every, lists = read(Source(sandbox="pool")), read(Source(sandbox="pool", where={"family": "list"}))
    assert 0 < lists.rows.height < every.rows.height


def test_an_unknown_sandbox_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError) as error:
        read(Source(sandbox="moon"))
    known = ", ".join(sandbox.NAMES)
    assert str(error.value) == f"sandbox: 'moon' is not a data set of the sandbox; allowed: {known}"
