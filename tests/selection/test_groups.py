"""Groups by columns and by traits, whole numbers by shares, and compositions, each against a slow and obvious twin."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import SelectionError
from curator.recipe.limits import Quotas, Within
from curator.recipe.select import Select
from curator.records import Scores, Vectors
from curator.selection.groups import composed, grouped, largest_remainder, named, stock_of, strata
from curator.selection.stage import choose
from tests.selection.selection_twins import facility, standard

IDS = [f"r{number}" for number in range(12)]
ROWS = pl.DataFrame({"id": IDS, "category": (["a"] * 4 + ["b"] * 2) * 2, "source": ["s"] * 12, "tokens": [2] * 12})
TRAITS = pl.DataFrame(
    {
        "id": IDS[::-1],
        "refusal": ["refusal", "refusal", "other", None] * 3,
        "length": ["short", "long"] * 6,
        "opener": ["i cannot help"] * 6 + IDS[:6],
        "format": ["prose"] * 12,
    }
)
BY = ["refusal", "length", "category"]


def test_a_grouping_is_read_where_it_stands_and_in_the_order_of_the_rows():
    frame = grouped(ROWS, TRAITS, ["length", "category", "refusal"])
    assert frame.columns == ["id", "length", "category", "refusal"]
    assert frame["id"].to_list() == IDS
    assert frame["category"].to_list() == ROWS["category"].to_list()
    assert dict(frame.select("id", "refusal").iter_rows()) == dict(TRAITS.select("id", "refusal").iter_rows())
    assert grouped(ROWS, None, ["source"]).columns == ["id", "source"]
    with pytest.raises(ValueError, match="'opener' is a trait"):
        grouped(ROWS, None, ["category", "opener"])


def test_rows_without_a_label_are_a_stratum_of_their_own():
    found = Counter(strata(ROWS, TRAITS, ["refusal"]))
    assert found == {("refusal",): 6, ("other",): 3, (None,): 3}
    assert named((None, "short"), ["refusal", "length"]) == "unknown refusal, short"


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(0, 9))
def test_largest_remainders_are_nearest_to_the_shares_of_all_whole_numbers(weights, k):
    if not sum(weights):
        return
    named_weights = dict(zip("abcd", weights, strict=False))
    found = largest_remainder(named_weights, k)
    shares = {label: Fraction(weight * k, sum(weights)) for label, weight in named_weights.items()}

    def apart(counts):
        return sum((count - share) ** 2 for count, share in zip(counts, shares.values(), strict=True))

    every = [counts for counts in product(range(k + 1), repeat=len(weights)) if sum(counts) == k]
    assert tuple(found.values()) in every
    assert apart(found.values()) == min(map(apart, every))
    if k <= sum(weights):
        assert all(found[label] <= weight for label, weight in named_weights.items())


def test_rows_left_over_go_by_label_where_remainders_are_equal():
    assert largest_remainder({"b": 1, "c": 1, "a": 1}, 2) == {"a": 1, "b": 1, "c": 0}
    assert largest_remainder({("x", None): 1, ("x", "y"): 1}, 1) == {("x", "y"): 1, ("x", None): 0}


def test_a_composition_is_that_of_the_rows_that_may_be_chosen():
    every = strata(ROWS, TRAITS, BY)
    allowed = [row_id not in ("r3", "r8") for row_id in IDS]
    counts = composed(Within(by=BY), every, allowed, 5)
    assert sum(counts.values()) == 5
    stock = Counter(each for each, free in zip(every, allowed, strict=True) if free)
    assert all(abs(counts[each] - stock[each] / 2) < 1 for each in set(every))
    kinds = Counter()
    for each, count in counts.items():
        kinds[each[:1]] += count
    assert kinds == composed(Within(by=["refusal"]), [each[:1] for each in every], allowed, 5)
    assert composed(Within(by=BY), every, allowed, 10) == {each: stock[each] for each in set(every)}


@pytest.mark.parametrize(("refusals", "others", "rows"), [(7, 13, 30), (30, 100, 10), (100, 30, 1)])
@pytest.mark.parametrize("k", [19, 20, 51, 60])
@pytest.mark.parametrize("stated", [True, False])
def test_shares_of_the_first_grouping_hold_however_small_the_strata_of_the_next_are(refusals, others, rows, k, stated):
    every = [(f"r{at}", "refusal") for at in range(refusals)] * rows + [
        (f"o{at}", "other") for at in range(others)
    ] * rows
    shares = {"refusal": {"refusal": 0.5, "other": 0.5}} if stated else {}
    by = ["category", "refusal"]
    if not stated:  # then the first of `by` counts, and not the one with shares
        every, by = [each[::-1] for each in every], by[::-1]
    counts = composed(Within(by=by, shares=shares), every, [True] * len(every), k)
    assert sum(counts.values()) == k
    share = 0.5 if stated else refusals / (refusals + others)
    assert abs(sum(count for each, count in counts.items() if "refusal" in each) - share * k) < 1
    assert all(count <= rows for count in counts.values())


@pytest.mark.parametrize("seed", range(10))
def test_every_stated_grouping_has_its_shares_to_a_row(seed):
    rng = np.random.default_rng(seed)
    every = list(zip(*(rng.choice(list(labels), 400).tolist() for labels in ("pqrstuv", "ab", "xyz")), strict=True))
    shares = {"refusal": {"a": 0.5, "b": 0.5}, "category": {each: (1 + at) / 28 for at, each in enumerate("pqrstuv")}}
    k = int(rng.integers(5, 60))
    counts = composed(Within(by=["category", "refusal", "length"], shares=shares), every, [True] * 400, k)
    assert sum(counts.values()) == k
    for at, name in enumerate(["category", "refusal"]):
        for label, share in shares[name].items():
            assert abs(sum(n for each, n in counts.items() if each[at] == label) - share * k) <= 1 + 1e-6


def test_shares_that_whole_rows_miss_are_refused():
    every = [(label, "p" if label in "abcd" else "q") for label in "abcdefgh"] * 4
    shares = {"category": dict.fromkeys("abcdefgh", 0.125), "refusal": {"p": 0.5, "q": 0.5}}
    section = Within(by=["category", "refusal"], shares=shares)
    assert set(composed(section, every, [True] * 32, 8).values()) == {1}
    with pytest.raises(
        SelectionError, match=r"^within\.shares\.refusal: the share of 'p' is 2\.0 of k \(4\), and .* 4;"
    ):
        composed(section, every, [True] * 32, 4)


def test_shares_that_hold_only_without_a_stratum_are_found():
    every = [("refusal", "short"), ("refusal", "long"), ("other", "short")] * 40
    half = {"refusal": {"refusal": 0.5, "other": 0.5}, "length": {"short": 0.5, "long": 0.5}}
    counts = composed(Within(by=["refusal", "length"], shares=half), every, [True] * 120, 20)
    assert counts == {("refusal", "short"): 0, ("refusal", "long"): 10, ("other", "short"): 10}


def test_a_set_larger_than_the_rows_that_may_be_chosen_is_refused_for_its_size():
    every, allowed = [("refusal",), ("other",)] * 60, [True] * 60 + [False] * 60
    with pytest.raises(
        SelectionError, match=r"^within: k is 100, but only 60 rows can be chosen; lower k to at most 60"
    ):
        composed(Within(by=["refusal"]), every, allowed, 100)


def test_strata_that_differ_have_different_words():
    by = ["category", "source"]
    strata = [("a, b", "c"), ("a", "b, c"), (None, "c"), ("unknown category", "c"), ('"a', 'b"'), ("a", None)]
    assert len({named(each, by) for each in strata}) == len(strata)
    assert named(("a, b", "c"), by) == '"a, b", c'


def test_stated_shares_hold_and_within_a_label_strata_stay_in_proportion():
    every = [("refusal", "a")] * 60 + [("refusal", "b")] * 20 + [("other", "a")] * 10 + [("other", "b")] * 30
    section = Within(by=["refusal", "category"], shares={"refusal": {"refusal": 0.5, "other": 0.5}})
    counts = composed(section, every, [True] * 120, 40)
    assert counts == {("refusal", "a"): 15, ("refusal", "b"): 5, ("other", "a"): 5, ("other", "b"): 15}
    both = section.model_copy(
        update={"shares": {"refusal": {"refusal": 0.5, "other": 0.5}, "category": {"a": 0.4, "b": 0.6}}}
    )
    counts = composed(both, every, [True] * 120, 40)
    assert counts["refusal", "a"] + counts["refusal", "b"] == 20
    assert counts["refusal", "a"] + counts["other", "a"] == 16
    # Fitting keeps the odds ratio of the pool, which is 9, as far as whole rows can.
    odds = counts["refusal", "a"] * counts["other", "b"] / counts["refusal", "b"] / counts["other", "a"]
    assert 6 < odds < 13
    assert composed(section.model_copy(update={"shares": {"refusal": {"other": 1.0}}}), every, [True] * 120, 4) == {
        ("refusal", "a"): 0, ("refusal", "b"): 0, ("other", "a"): 1, ("other", "b"): 3,
    }  # fmt: skip


def test_shares_that_no_set_has_are_refused_with_the_largest_set_that_could():
    every = [("refusal",)] * 9 + [("other",)] * 3
    half = Within(by=["refusal"], shares={"refusal": {"refusal": 0.5, "other": 0.5}})
    with pytest.raises(
        SelectionError,
        match=r"within: the stated shares need 4 rows of 'other', but only 3 can be .* lower k to at most 6",
    ):
        composed(half, every, [True] * 12, 8)
    assert composed(half, every, [True] * 12, 6) == {("other",): 3, ("refusal",): 3}
    named_wrongly = Within(by=["refusal"], shares={"refusal": {"refusals": 1.0}})
    with pytest.raises(SelectionError, match=r"within\.shares\.refusal: no row .* 'refusals'; found: other, ref"):
        composed(named_wrongly, every, [True] * 12, 4)
    apart = [("refusal", "a")] * 5 + [("other", "b")] * 5
    crossed = Within(
        by=["refusal", "category"],
        shares={"refusal": {"refusal": 0.7, "other": 0.3}, "category": {"a": 0.3, "b": 0.7}},
    )
    with pytest.raises(SelectionError, match=r"no mix of the rows that can be chosen has these shares of refusal and"):
        composed(crossed, apart, [True] * 10, 4)


@pytest.mark.parametrize("seed", range(4))
def test_a_set_within_strata_is_certified_and_never_better_than_the_best_one(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, 4)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    score = rng.normal(size=12)
    scores = Scores(tuple(IDS), "s", score, {}, {}, -9, 9)
    section = Select(k=5, within=["refusal", "category"], weight=0.4)
    _, _, selection = choose(
        section, ROWS, Vectors(tuple(IDS), x, "made-up"), scores, weight=0.4, task_cover=None, seed=0, traits=TRAITS
    )
    every = dict(zip(IDS, strata(ROWS, TRAITS, ["refusal", "category"]), strict=True))
    wanted = largest_remainder(Counter(every.values()), 5)
    assert Counter(every[row_id] for row_id in selection.ids) == {each: n for each, n in wanted.items() if n}
    assert sum(selection.group_counts.values()) == 5
    cover, penalty = facility(x, 12), 0.4 / 5 * standard(score)
    values = {
        rows: cover(rows) - penalty[list(rows)].sum()
        for rows in combinations(range(12), 5)
        if Counter(every[IDS[row]] for row in rows) == Counter({each: n for each, n in wanted.items() if n})
    }
    assert len(values) > 20
    chosen = tuple(sorted(IDS.index(row_id) for row_id in selection.ids))
    assert selection.value == pytest.approx(values[chosen], abs=1e-6)
    assert selection.bound >= max(values.values()) - 1e-6


def test_a_group_of_which_every_row_is_excluded_is_known_and_only_its_minimum_is_unmet():
    stock = stock_of(pl.Series(["a", "b", "b", None]), pl.Series([False, True, True, True]))
    assert stock == {"a": 0, "b": 2, None: 1}
    assert Quotas(groups={"a": {"max": 0}}).unmet(stock, 2) == []
    (unmet,) = Quotas(groups={"a": {"min": 1}}).unmet(stock, 2)
    assert unmet == ("a", "min is 1 for category 'a', and none of its rows can be chosen; lower min")
    assert Quotas(groups={"c": {"min": 1}}).unmet(stock, 2)[0][1].endswith("has category 'c'; found: a, b")


def test_rows_that_must_be_in_and_do_not_fit_their_stratum_are_named():
    x = np.eye(12, dtype=np.float32)
    scores = Scores(tuple(IDS), "s", np.zeros(12), {}, {}, -1, 1)
    section = Select(k=3, weight=0.0, within=["category"], include=["r4", "r5"])
    with pytest.raises(
        SelectionError,
        match=r"^select\.include: names 2 rows of 'b', and within gives it 1; name fewer, or change within",
    ):
        choose(section, ROWS, Vectors(tuple(IDS), x, "made-up"), scores, weight=0.0, task_cover=None, seed=0)
