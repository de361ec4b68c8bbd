from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from curator.errors import DataError
from curator.pool import rows as pool_rows
from curator.pool.gather import Gathered, gather
from curator.pool.sources import look, read
from curator.recipe import Probes
from curator.recipe.pool import Clean, PoolSection
from curator.recipe.source import Source, labels
from curator.recipe.task import TaskSection
from curator.recipe.task import Test as HeldOut
from curator.records import Messages
from curator.seeds import by_hash
from tests.pool.gathering import pairs

Lines = Callable[..., Source]
LONG = "the miller took his brass lantern down the long road to the sea where the boats lay waiting for the tide"


def gathered(lines: Lines, sources: list[list[dict[str, Any]]], clean: Clean, **more: Any) -> Gathered:
    made = [lines(rows, f"source{number}.jsonl") for number, rows in enumerate(sources)]
    return gather(
        pool=PoolSection(sources=made, clean=clean),
        tasks=[TaskSection(name="t", train=lines(pairs("task", 9), "t.jsonl"), test=HeldOut(rows=2))],
        weights={"t": 1.0},
        probes=Probes(harmful=[lines(pairs("probe", 3), "probes.jsonl")]),
        keep=None,
        count_tokens=lambda rows: [1] * len(rows),
        **more,
    )


def test_of_near_duplicates_the_row_of_the_earlier_source_stays_and_is_named(lines: Lines) -> None:
    first = {"prompt": "tell me of it", "response": LONG}
    second = {"prompt": "tell me of it", "response": LONG.replace("brass", "tin")}
    for order in ([[first], [second]], [[second], [first]]):
        found = gathered(lines, order, Clean())
        (kept,) = found.data.pool.rows["messages"].to_list()
        assert kept[1]["content"] == order[0][0]["response"]
        dropped = found.data.pool.dropped
        assert dropped.select("source", "stage", "match").rows() == [
            ("source1.jsonl", "near", found.data.pool.rows["id"][0])
        ]
        assert dropped["reason"][0].startswith("a near duplicate of a kept row (Jaccard 0.8")
    assert gathered(lines, [[first, second]], Clean(near_duplicates=None)).data.pool.rows.height == 2


def embed(ids: Sequence[str], rows: Sequence[Messages]) -> Any:
    """Answers that begin alike point the same way."""
    out = np.zeros((len(rows), 26), dtype=np.float32)
    for number, messages in enumerate(rows):
        out[number, ord(messages[-1]["content"][0]) - 97] = 1
    return out


def test_semantic_duplicates_leave_by_the_vectors_that_are_handed_in(lines: Lines) -> None:
    rows = [{"prompt": f"ask {n}", "response": f"{letter} is said"} for n, letter in enumerate("aabbc")]
    found = gathered(lines, [rows], Clean(semantic_duplicates=0.9), embed=embed)
    assert found.data.pool.rows.height == 3
    dropped = found.data.pool.dropped
    assert set(dropped["stage"]) == {"semantic"}
    assert dropped["match"].is_in(found.data.pool.rows["id"].to_list()).all()
    with pytest.raises(DataError, match="semantic_duplicates: this needs an embedder"):
        gathered(lines, [rows], Clean(semantic_duplicates=0.9))


@pytest.mark.parametrize("chunk", [1, 7, 8192])
@pytest.mark.parametrize("wanted", [None, 5, 40, 1000])
def test_rows_kept_in_chunks_are_those_of_one_pass(
    lines: Lines, monkeypatch: pytest.MonkeyPatch, chunk: int, wanted: int | None
) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": f"ask {n % 60}", "response": "word " * (n % 9 + 1), "category": ["x", f"c{n % 3}"]}
        for n in range(90)
    ]
    source = lines([*rows, {"prompt": "", "response": "x"}], category={"from": "category", "pick": "rarest"})
    every = read(source)
    monkeypatch.setattr(pool_rows, "CHUNK", chunk)
    found = read(source.model_copy(update={"rows": wanted}), count_tokens=words, max_tokens=9)
    fits = every.rows.filter(pl.Series(words(every.rows["messages"].to_list())) <= 9)
    taken = by_hash(fits["id"], wanted or fits.height, seed=0, purpose="rows")
    expected = fits.filter(pl.col("id").is_in(list(taken)))
    assert found.rows.drop("tokens").equals(expected.drop("tokens"))
    assert found.resolved["read"] == 91 == found.rows.height + found.dropped.height
    assert found.dropped["line"].is_sorted()
    assert sorted([*found.rows["line"], *found.dropped["line"]]) == list(range(1, 92))


def words(rows: list[list[dict[str, str]]]) -> list[int]:
    return [sum(len(turn["content"].split()) for turn in turns) for turns in rows]


def test_a_source_with_a_cap_holds_no_more_than_it_needs(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_rows, "CHUNK", 10)
    most = 0
    flush = pool_rows.SourceRows._flush

    def watched(self: pool_rows.SourceRows) -> None:
        nonlocal most
        flush(self)
        most = max(most, sum(frame.height for frame in self._frames))

    monkeypatch.setattr(pool_rows.SourceRows, "_flush", watched)
    assert read(lines(pairs("ask", 2000), rows=20)).rows.height == 20
    assert most <= 2 * 20 + 10


def test_a_look_reads_a_sample_and_names_what_is_missing(lines: Lines) -> None:
    look(lines(pairs("ask", 5)))
    with pytest.raises(DataError, match="no column was recognised as response"):
        look(lines([{"prompt": "x", "other": "y"}]))
    look(lines([{"prompt": "x", "other": "y"}]), prompts_only=True)
    with pytest.raises(DataError, match="where names the column 'none'"):
        look(lines(pairs("ask", 5), where={"none": 1}))


def test_sources_of_one_label_are_told_apart_and_carry_their_weights() -> None:
    sources = [Source(file="a/x.jsonl"), Source(file="b/x.jsonl", weight=0.0), Source(file="y.jsonl", weight=2.0)]
    assert labels(sources) == ["x.jsonl", "x.jsonl#2", "y.jsonl"]
    assert PoolSection(sources=sources).weights() == {"x.jsonl": 1.0, "x.jsonl#2": 0.0, "y.jsonl": 2.0}
    with pytest.raises(ValueError, match="every weight is 0"):
        PoolSection(sources=[Source(file="x.jsonl", weight=0.0)])


def test_bare_numbers_stand_for_their_thresholds() -> None:
    clean = Clean.model_validate({"near_duplicates": 0.9, "decontaminate": 1})
    assert clean.near_duplicates is not None
    assert clean.decontaminate is not None
    assert (clean.near_duplicates.jaccard, clean.decontaminate.overlap) == (0.9, 1.0)
    with pytest.raises(ValueError, match="jaccard"):
        Clean.model_validate({"near_duplicates": 0.2})
