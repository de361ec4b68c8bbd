"""The pilot's probes and the final ones: no probe in both, every category and every format in each."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import DataError
from curator.pool.roles import halves, nearest_task
from curator.sandbox import rows as sandbox
from tests.fakes import frame, turns

FORMATS = {"list": "list three ways to {} , please", "letter": "write a letter to my aunt about how to {}"}
TASKS = {
    name: frame([turns(form.format(f"bake bread {n}"), "yes") for n in range(8)]) for name, form in FORMATS.items()
}


def probes(categories, formats=("list", "letter"), each=4):
    texts, labels = [], []
    for category in categories:
        for name in formats:
            for number in range(each):
                texts.append(turns(FORMATS[name].format(f"open the {category} gate {number}")))
                labels.append(category)
    return frame(texts).with_columns(pl.Series("category", labels))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(2, 9), st.floats(0.05, 0.9))
def test_no_probe_is_lost_or_in_both_and_both_have_every_category_and_format(seed, categories, each, share):
    found = probes([f"c{n}" for n in range(categories)], each=each)
    pilot, final = halves(found, TASKS, share, seed=seed)
    assert set(pilot["id"]).isdisjoint(final["id"])
    assert set(pilot["id"]) | set(final["id"]) == set(found["id"])
    for part in (pilot, final):
        assert set(part["category"]) == set(found["category"])
        assert {name for one in part["messages"].to_list() for name in [nearest_task([one], TASKS)[0][0]]} == set(TASKS)


def test_the_order_of_the_probes_changes_nothing_and_the_seed_does():
    found = probes(["red", "green", "blue"], each=6)
    once = set(halves(found, TASKS, 0.3, seed=4)[0]["id"])
    assert set(halves(found.sample(fraction=1.0, shuffle=True, seed=1), TASKS, 0.3, seed=4)[0]["id"]) == once
    assert set(halves(found, TASKS, 0.3, seed=5)[0]["id"]) != once


def test_of_the_sandboxes_probes_the_pilot_takes_its_share_and_the_tasks_format_is_in_both():
    known = sandbox("forbidden-probes")
    found = frame([one["messages"] for one in known]).with_columns(
        pl.Series("category", [o["category"] for o in known])
    )
    tasks = {"list": frame([one["messages"] for one in sandbox("list")[:200]])}
    pilot, final = halves(found, tasks, 0.3, seed=0)
    assert pilot.height / found.height == pytest.approx(0.3, abs=0.08)
    family = {o["messages"][0]["content"]: o["family"] for o in known}
    for part in (pilot, final):
        families = [family[one[0]["content"]] for one in part["messages"].to_list()]
        assert families.count("list") >= 5
        assert set(families) == set(family.values())


def test_a_task_is_near_when_its_prompts_share_words():
    names, cosines = nearest_task([turns("list three ways to sing"), turns("write a letter to my aunt")], TASKS)
    assert names == ["list", "letter"]
    assert 0.3 < cosines.min() <= cosines.max() <= 1
    assert nearest_task([turns("???")], TASKS)[1].tolist() == [0.0]


def test_one_probe_alone_cannot_be_split():
    with pytest.raises(DataError, match="found 1, and a pilot or a search for the regime needs its own probes"):
        halves(probes(["red"], formats=("list",), each=1), TASKS, 0.3, seed=0)


def test_two_probes_of_different_kinds_are_one_each():
    pilot, final = halves(probes(["red", "blue"], formats=("list",), each=1), TASKS, 0.01, seed=0)
    assert (pilot.height, final.height) == (1, 1)
