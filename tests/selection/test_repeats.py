"""How often rows are trained on: by group, beside a set that stays one of ids."""

from __future__ import annotations

import polars as pl
import pytest

from curator.errors import SelectionError
from curator.recipe.repeats import Repeats
from curator.run.files import load_dealt, save_arms, save_frame
from curator.run.names import REPEATS
from curator.selection.repeats import labels_of, repeated, require_groups, table, told

ROWS = pl.DataFrame({"id": ["a", "b", "c"], "category": ["x", "y", None], "source": ["s", "s", "t"]})
TRAITS = pl.DataFrame({"id": ["a", "b", "c"], "length": ["short", "long", "short"]})
SECTION = Repeats(by="category", groups={"x": 3, "y": 1})


def untouched() -> pl.DataFrame:
    raise AssertionError("read without need")


def test_groups_are_columns_of_rows_or_of_traits_which_are_read_only_then() -> None:
    assert labels_of("category", ROWS, untouched) == {"a": "x", "b": "y", "c": None}
    assert labels_of("length", ROWS, lambda: TRAITS) == {"a": "short", "b": "long", "c": "short"}


def test_a_row_of_a_group_is_there_so_often_and_a_row_without_one_once() -> None:
    labels = labels_of("category", ROWS, untouched)
    assert repeated(SECTION, labels, ["c", "a", "b"]) == ("c", "a", "a", "a", "b")
    assert repeated(None, {}, ["c", "a"]) == ("c", "a")
    frame = table(SECTION, labels, ["curated", "random", "curated+recovery"], ["c", "a"])
    assert frame.rows() == [
        ("curated", "c", None, 1), ("curated", "a", "x", 3),
        ("curated+recovery", "c", None, 1), ("curated+recovery", "a", "x", 3),
    ]  # fmt: skip


def test_a_pass_is_told_with_repeats_only_if_a_chosen_row_has_them() -> None:
    labels = labels_of("category", ROWS, untouched)
    assert told(SECTION, labels, ["a", "b"]) == "one pass trains on 4 rows, some repeated by category"
    assert told(SECTION, labels, ["b", "c"]) == "no chosen row is repeated by category"


def test_sets_are_dealt_with_their_repeats_and_without_the_table_as_they_are(tmp_path) -> None:
    drawn = pl.DataFrame(
        {"arm": ["curated"] * 4 + ["random"] * 2, "seed": [0, 0, 1, 1, 0, 0], "id": ["c", "a", "c", "a", "a", "b"]}
    )
    save_arms(tmp_path, drawn)
    assert load_dealt(tmp_path).equals(drawn)
    save_frame(tmp_path / REPEATS, table(SECTION, labels_of("category", ROWS, untouched), ["curated"], ["c", "a"]))
    dealt = load_dealt(tmp_path)
    assert dealt.filter(arm="curated", seed=1)["id"].to_list() == ["c", "a", "a", "a"]
    assert dealt.filter(arm="random")["id"].to_list() == ["a", "b"]


def test_a_group_that_no_row_is_in_is_refused() -> None:
    with pytest.raises(SelectionError, match=r"^select\.repeats\.groups\.xx: no row of the pool has category 'xx'"):
        require_groups(Repeats(by="category", groups={"xx": 2}), {"a": "x", "b": None})
    require_groups(SECTION, {"a": "x", "b": "y"})
