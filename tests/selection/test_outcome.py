"""What a choice did, in a line and as a table, against figures made by hand and a real run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curator.run import Run
from curator.selection.composition import Composition, compositions
from curator.selection.outcome import certified, line, parted, recorded, table
from curator.selection.solve import select
from curator.wording import at_least

POOL = Composition("pool", 40, 0.75, 0.0, 30, 20, 20, 0.1, 0.2, 6.0, {"prose": 1.0}, 4, 1.0, 0.25, 1.0)
CHOSEN = replace(POOL, set="curated", rows=10, refusals=0.5, answers=9, openers=8, similarity=-0.125, coverage=0.71)
RANDOM = replace(POOL, set="random", rows=10, refusals=0.7, answers=7.5, openers=6, similarity=0.24, coverage=0.62)


def test_the_line_says_coverage_similarity_and_refusals_each_beside_its_like() -> None:
    assert line([POOL, CHOSEN, RANDOM]) == (
        "coverage 0.71 (random 0.62), similarity -0.125 (pool 0.25), 50% refusals (pool 75%)"
    )
    assert line([POOL, replace(CHOSEN, refusals=None, coverage=None)]) == "similarity -0.125 (pool 0.25)"
    assert line([POOL]) == ""  # a given set with rows that are not the pool's has no composition


def test_the_table_has_a_column_a_set_and_is_the_same_from_what_a_stage_wrote_down() -> None:
    sets = [POOL, CHOSEN, RANDOM]
    heads, rows = table(sets)
    lines = {cells[0]: cells[1:] for cells in rows}
    assert heads == ("", "chosen", "pool", "random")
    assert lines["different answers"] == ("9", "30", "7.5")
    assert lines["refusals"] == ("50%", "75%", "70%")
    assert lines["coverage of the pool"] == ("0.71", "1", "0.62")
    assert table(recorded(sets)) == table(sets)
    assert table([POOL, CHOSEN]).heads == ("", "chosen", "pool")


def test_random_sets_within_the_caps_stand_beside_those_without() -> None:
    capped = replace(RANDOM, set="random-capped", coverage=0.58)
    assert line([POOL, CHOSEN, RANDOM, capped]).startswith("coverage 0.71 (random 0.62, random within the caps 0.58), ")
    heads, rows = table([POOL, CHOSEN, capped, RANDOM])
    assert heads[3:] == ("random", "random within the caps")
    low = replace(RANDOM, set="low-matched", formats={"prose": 0.25, "list": 0.75})
    heads, shown = table([POOL, low, CHOSEN, RANDOM])
    assert heads == ("", "chosen", "pool", "random", "low-matched")  # every other arm follows under its own name
    assert {cells[0]: cells[2:] for cells in shown}["most frequent format"] == ("prose 100%", "prose 100%", "list 75%")
    many = [replace(low, set=f"arm {number}", words=float(number)) for number in range(5)]
    first, second, third = parted(table([POOL, *many, CHOSEN, RANDOM]))
    assert [part.heads for part in (first, second, third)] == [
        ("", "chosen", "pool", "random"), ("", "arm 0", "arm 1", "arm 2", "arm 3"), ("", "arm 4")
    ]  # fmt: skip
    assert {cells[0]: cells[1:] for cells in second.rows}["words of an answer, median"] == ("0", "1", "2", "3")
    assert parted(table([POOL, CHOSEN])) == [table([POOL, CHOSEN])]
    assert {cells[0]: cells[3:] for cells in rows}["coverage of the pool"] == ("0.62", "0.58")


def test_how_near_the_best_it_is_says_of_what_each_share_is() -> None:
    x = np.random.default_rng(0).standard_normal((60, 6)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    chosen = select(x, np.zeros(60), 6, neighbours=60)
    assert chosen.bound is not None
    assert chosen.relative_gap is not None
    share, gained = chosen.value / chosen.bound, 1 - chosen.relative_gap
    gain = f"at least {at_least(gained)} of the possible gain over random sets within the limits"
    assert certified(chosen) == f"at least {at_least(share)} of the upper bound, {gain}"
    # A value below zero is no share of a bound.
    lower = replace(chosen, value=chosen.value - 10, bound=chosen.bound - 10)
    assert certified(lower) == gain
    # What is proven is rounded down.
    assert "at least 46.9% of the possible gain" in certified(replace(chosen, relative_gap=0.5304))
    # A set that was given can be worse than random ones.
    worse = certified(replace(chosen, relative_gap=1.767))
    assert worse.endswith("at least -76.7% of the possible gain over random sets within the limits, below their mean")
    assert "below" not in certified(chosen)
    assert certified(replace(chosen, bound=None, gap=None, relative_gap=None)) == "no certificate"


def test_a_stage_writes_down_the_sets_that_its_report_shows(plain_run: Path) -> None:
    run = Run.open(plain_run, "select")
    rows, traits, scores = run.data().pool.rows, run.traits(), run.selected_by()
    vectors = run.vectors("pool", run.representation())
    sets = compositions(rows, traits, scores, run.drawn(), vectors)
    assert run.record("select")["composition"] == recorded(sets)
    drawn = {arm.name for arm in run.recipe.verify.arms if arm.name != "none"}
    assert {each.set for each in sets} == {"pool", *drawn}
    curated = next(each for each in sets if each.set == "curated")
    assert curated.coverage == pytest.approx(_coverage(run), abs=1e-5)
    assert line(sets) in run.record("select")["summary"]


def _coverage(run: Run) -> float:
    """Coverage of the chosen set by every pair of rows."""
    vectors = run.vectors("pool", run.representation())
    chosen = [vectors.ids.index(row) for row in run.selection().ids]
    return float(np.clip(vectors.matrix @ vectors.matrix[chosen].T, 0, None).max(axis=1).mean())
