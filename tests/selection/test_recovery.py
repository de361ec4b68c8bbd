"""Which rows have an opener, and which one: by hash, within the range, the same in every arm and seed."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest

from curator.errors import SelectionError
from curator.selection.recovery import openers, refusals, table
from tests import fakes

IDS = [f"row-{number}" for number in range(600)]
CUT = [tuple(range(100, 110)), tuple(range(200, 206)), tuple(range(300, 310))]
"""Openers of ten, six and ten tokens."""


def test_lengths_are_within_the_range_and_every_opener_is_cut_from_its_beginning() -> None:
    opened = openers(IDS, CUT, (2, 10), seed=3)
    lengths = Counter(map(len, opened.values()))
    assert set(lengths) == set(range(2, 11))
    assert min(lengths.values()) > 600 / 9 / 2
    for tokens in opened.values():
        assert any(cut[: len(tokens)] == tokens for cut in CUT)
    # One that is too short for a length is not taken for it, and all that are long enough are.
    firsts = {length: {tokens[0] for tokens in opened.values() if len(tokens) == length} for length in (6, 7)}
    assert firsts == {6: {100, 200, 300}, 7: {100, 300}}


def test_a_row_keeps_its_opener_whatever_other_rows_there_are_and_another_seed_gives_another() -> None:
    opened = openers(IDS, CUT, (1, 10), seed=3)
    assert openers(reversed(IDS[100:200]), CUT, (1, 10), seed=3) == {row: opened[row] for row in IDS[100:200]}
    other = openers(IDS, CUT, (1, 10), seed=4)
    assert sum(other[row] == opened[row] for row in IDS) < 200
    assert set(map(len, openers(IDS, CUT, (5, 5), seed=3).values())) == {5}


def sets(**arms: list[str]) -> pl.DataFrame:
    rows = [(arm.replace("_", "+"), 0, row_id) for arm, ids in arms.items() for row_id in ids]
    return pl.DataFrame(rows, schema={"arm": pl.String, "seed": pl.Int64, "id": pl.String}, orient="row")


def test_refusals_of_the_recovery_arms_alone_have_one() -> None:
    traits = pl.DataFrame({"id": ["a", "b", "c", "d"], "refusal": ["refusal", "other", None, "refusal"]})
    drawn = sets(curated=["a", "d"], curated_recovery=["a", "b", "c"], random=["d"])
    assert refusals(drawn, traits, by="the judge") == ["a"]
    with pytest.raises(SelectionError, match=r"^augment.recovery: the judge strict found no refusal in 2 rows"):
        refusals(sets(curated=["a"], random_recovery=["b", "c"]), traits, by="the judge strict")


def test_the_table_holds_the_text_as_it_was_cut() -> None:
    tokenizer = fakes.tokenizer()
    ids = tuple(tokenizer("Of course. Let me explain", add_special_tokens=False)["input_ids"])
    frame = table({"a": ids[:3], "b": ids}, tokenizer)
    assert frame["opener"].to_list() == [tokenizer.decode(ids[:3]).strip(), "Of course. Let me explain"]
    assert [tuple(tokens) for tokens in frame["tokens"]] == [ids[:3], ids]
