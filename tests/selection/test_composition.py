"""What sets are made of, against sets counted by hand and against every draw there is."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import log

import numpy as np
import polars as pl
import pytest

from curator.recipe.select import Select
from curator.records import Scores, Vectors
from curator.selection.arms import ARM_SCHEMA
from curator.selection.composition import (
    APART,
    FEW_REFUSALS,
    compositions,
    expected_distinct,
    refusals,
    remarks,
)

IDS = ["a", "b", "c", "d", "e", "f"]
ROWS = pl.DataFrame({"id": IDS, "category": ["x", "x", "x", "y", None, "x"]})
TRAITS = pl.DataFrame(
    {
        "id": IDS[::-1],
        "refusal": ["other", None, "refusal", "refusal", "refusal", "refusal"],
        "opener": ["here is a", "el plan es", "i cannot help", "i cannot help", "i cannot help", "sorry but no"],
        "answer": ["1", "2", "3", "3", "4", "5"],
        "words": [90, 40, 5, 5, 8, 11],
        "length": ["long"] * 6,
        "format": ["list", "prose", "prose", "prose", "prose", "prose"],
    }
)
SCORES = Scores(tuple("fedcba"), "s", np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]), {}, {}, 0, 5)


def drawn(**sets: list[list[str]]) -> pl.DataFrame:
    rows = [(arm, seed, row_id) for arm, draws in sets.items() for seed, ids in enumerate(draws) for row_id in ids]
    return pl.DataFrame(rows, schema=ARM_SCHEMA, orient="row")


@pytest.mark.parametrize("values", ["aab", "aaabbc", "abcdef", "aaaa", "aabbccdd"])
def test_expected_openers_are_the_mean_over_every_draw(values):
    repeats = Counter(Counter(values).values())
    for k in range(1, len(values) + 1):
        every = [len(set(rows)) for rows in combinations(values, k)]
        assert expected_distinct(repeats, k) == pytest.approx(np.mean(every), abs=1e-9)


def test_a_set_is_counted_as_by_hand_and_an_arm_is_the_mean_of_its_draws():
    pool, once, twice = compositions(
        ROWS, TRAITS, SCORES, drawn(curated=[["d", "c", "f"]] * 2, random=[["d", "c"], ["e", "f"]], mine=[["a", "zz"]])
    )
    assert (pool.set, once.set, twice.set) == ("pool", "curated", "random")  # `mine` has a row that is not the pool's
    assert (pool.rows, pool.refusals, pool.unjudged, pool.answers, pool.openers) == (6, 0.8, 1 / 6, 5, 4)
    assert (pool.top_answer, pool.top_opener, pool.words, pool.similarity) == (2 / 6, 0.5, 9.5, 2.5)
    assert pool.formats == {"prose": 5 / 6, "list": 1 / 6}
    assert pool.categories == 3
    assert pool.category_entropy == pytest.approx(-(4 / 6 * log(4 / 6) + 2 / 6 * log(1 / 6)))
    assert (once.rows, once.refusals, once.answers, once.openers, once.top_opener) == (3, 2 / 3, 2, 2, 2 / 3)
    assert (once.words, once.similarity, once.coverage) == (5, (3 + 2 + 5) / 3, None)
    by_draw = {("d", "c"): 1, ("e", "f"): 2}
    assert twice.openers == np.mean(list(by_draw.values()))
    assert (twice.refusals, twice.unjudged, twice.words) == (0.5, 0.25, (5 + 65) / 2)
    assert once.openers_by_chance == pytest.approx(np.mean(
        [len({dict(TRAITS.select("id", "opener").iter_rows())[row] for row in rows}) for rows in combinations(IDS, 3)]
    ))  # fmt: skip


def test_coverage_is_the_mean_nearness_of_the_pools_rows_to_the_set():
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    pool, some, every = compositions(
        ROWS, TRAITS, SCORES, drawn(curated=[["a", "c"]], full=[IDS]), Vectors(tuple("fedcba"), x, "made-up")
    )
    chosen = x[["fedcba".index(row) for row in ("a", "c")]]
    assert some.coverage == pytest.approx(np.maximum(x @ chosen.T, 0).max(axis=1).mean(), abs=1e-6)
    assert (pool.coverage, every.coverage) == (1.0, 1.0)


def test_a_set_of_few_refusals_and_ends_that_differ_in_kind_are_remarked():
    few = 0.8 * FEW_REFUSALS - 0.01
    assert (
        remarks(
            {"pool": 0.8, "curated": few + 0.02, "low-similarity": 0.9, "high-similarity": 0.91 - APART},
            composable=True,
        )
        == []
    )
    sentence, other = remarks(
        {"pool": 0.8, "curated": 0.8, "low-similarity": 0.99, "high-similarity": few}, composable=True
    )
    assert sentence == (
        "the arm `high-similarity` has a smaller share of refusals than the pool (63%, the pool 80%), so it teaches "
        "another kind of answer; the arm `high-matched` has the pool's share"
    )
    assert other.startswith("the arms `low-similarity` (99% of refusals) and `high-similarity` (63% of refusals)")
    chosen = remarks({"pool": 0.8, "curated": 0.1}, composable=True)[0]
    assert chosen.startswith("the chosen set has a smaller share of refusals than the pool (10%, the pool 80%)")
    assert "select.within: [refusal]" in chosen
    assert remarks({"pool": 0.8, "curated": 0.1}, composable=False) == [chosen.partition(";")[0]]
    for shares in ({"pool": 0.05, "curated": 0.0}, {"pool": None, "curated": None}):
        assert remarks(shares, composable=True) == []


def test_a_composition_by_refusals_is_advised_only_where_a_recipe_may_have_it():
    assert Select(k=3).may_compose("refusal")
    assert Select(k=3, within=["length"]).may_compose("refusal")
    stated = {"by": ["refusal"], "shares": {"refusal": {"refusal": 0.1, "other": 0.9}}}
    for settings in (
        {"data": {"file": "rows.jsonl"}},
        {"budget_tokens": 300},
        {"k": 3, "quotas": {"max": 2}},
        {"k": 3, "within": stated},
    ):
        assert not Select(**settings).may_compose("refusal")


def test_shares_of_refusals_are_those_of_the_compositions():
    sets = drawn(curated=[["d", "c", "f"]], random=[["d", "c"], ["a", "f"]], mine=[["a", "zz"]], odd=[["e"]])
    found = {each.set: each.refusals for each in compositions(ROWS, TRAITS, SCORES, sets)}
    assert refusals(TRAITS, sets) == found
    assert found["odd"] is None
