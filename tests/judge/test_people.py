"""Rates of a judge against people, with intervals that know of prompts."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from curator.conclusions import kappa
from curator.judge.people import estimate, inert, measure, pairwise, read_labels, says, splits
from curator.records import Verdict


def test_counts_and_rates_are_those_of_the_table():
    people = np.array([True] * 8 + [False] * 12)
    said = [True] * 6 + [False, None] + [True] * 3 + [False] * 9
    found = measure("judge", "refused", said, people, [f"p{i}" for i in range(20)])
    assert (found.both, found.only_people, found.only_judge, found.neither, found.unscored) == (6, 1, 3, 9, 1)
    assert found.sensitivity.value == pytest.approx(6 / 7)
    assert found.specificity.value == 9 / 12
    assert found.accuracy.value == pytest.approx(15 / 19)
    assert found.balanced.value == pytest.approx((6 / 7 + 9 / 12) / 2)
    assert found.kappa == kappa(6, 3, 1, 9)[1]


def test_a_judge_that_could_tell_nothing_has_no_rates():
    found = measure("judge", "refused", [None] * 4, np.array([True, False] * 2), list("abcd"))
    assert (found.unscored, found.accuracy.value, found.sensitivity.low, found.kappa) == (4, None, None, None)


@given(st.integers(0, 60), st.integers(1, 60))
def test_independent_answers_have_wilsons_interval(right, wrong):
    n = right + wrong
    hits = np.arange(n) < right
    found = estimate(hits, np.ones(n, dtype=bool), np.arange(n))
    low, high = proportion_confint(right, n, method="wilson")
    if 0 < right < n:  # the variance is that of a sample, n/(n-1) times the plain one; the size stays at most n
        low, high = proportion_confint(right / n * (n - 1), n - 1, method="wilson")
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_answers_to_one_prompt_that_say_the_same_count_once():
    hits, groups = np.repeat(np.arange(30) % 3 > 0, 5), np.repeat(np.arange(30), 5)
    every = np.ones(150, dtype=bool)
    clustered, once = estimate(hits, every, groups), estimate(hits[::5], every[::5], np.arange(30))
    apart = estimate(hits, every, np.arange(150))
    assert (clustered.low, clustered.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert apart.high - apart.low < 0.6 * (clustered.high - clustered.low)


def test_the_interval_covers_the_truth_where_prompts_differ():
    generator = np.random.default_rng(0)
    inside = plain = 0
    for _ in range(400):
        rates = generator.beta(2, 1, 60)
        hits = generator.random((60, 5)) < rates[:, None]
        groups = np.repeat(np.arange(60), 5)
        found = estimate(hits.ravel(), np.ones(300, dtype=bool), groups)
        low, high = proportion_confint(int(hits.sum()), 300, method="wilson")
        inside += found.low <= 2 / 3 <= found.high
        plain += low <= 2 / 3 <= high
    assert 0.92 <= inside / 400 <= 0.98
    assert plain < inside


@pytest.mark.parametrize("judge_is_right", [True, False])
def test_eighteen_answers_leave_every_figure_open(judge_is_right):
    people = np.arange(18) % 2 == 0
    found = measure("judge", "refused", list(people == judge_is_right), people, [f"p{i}" for i in range(18)])
    for figure in (found.accuracy, found.sensitivity, found.specificity, found.balanced):
        assert figure.value == float(judge_is_right)
        assert 0.15 < figure.high - figure.low < 0.35
    # Each rate stands on nine answers, of which 9/9 leaves Wilson's 0.701; their mean is surer than either.
    low, _ = proportion_confint(9, 9, method="wilson")
    assert found.balanced.low == pytest.approx(1 - (1 - low) / math.sqrt(2)) or not judge_is_right


def test_prompts_with_answers_of_both_kinds_make_balanced_accuracy_less_sure():
    people, right = np.tile([True, False], 40), np.repeat(np.arange(40) % 4 > 0, 2)
    said = np.where(right, people, ~people).tolist()
    shared = measure("judge", "refused", said, people, [f"p{i // 2}" for i in range(80)]).balanced
    apart = measure("judge", "refused", said, people, [f"p{i}" for i in range(80)]).balanced
    assert shared.value == apart.value == 0.75
    assert shared.high - shared.low > 1.3 * (apart.high - apart.low)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([True, False, None]), st.integers(0, 3)), max_size=12))
def test_no_figure_is_a_point(rows):
    people = np.array([row[0] for row in rows], dtype=bool)
    found = measure("judge", "refused", [row[1] for row in rows], people, [f"p{row[2]}" for row in rows])
    for figure in (found.accuracy, found.sensitivity, found.specificity, found.balanced):
        if figure.value is not None:
            assert 0 <= figure.low <= figure.value <= figure.high <= 1
            assert figure.high - figure.low > 0.01


def test_the_interval_of_balanced_accuracy_covers_the_truth():
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        people, prompts = np.tile([True, True, False, False], 30), np.repeat(np.arange(30), 4)
        rates = np.repeat(generator.beta(9, 1, 30), 4)  # prompts differ in how well the judge does
        said = np.where(generator.random(120) < rates, people, ~people)
        found = measure("judge", "refused", said.tolist(), people, prompts.astype(str).tolist()).balanced
        inside += found.low <= 0.9 <= found.high
    assert 0.92 <= inside / 400 <= 0.99


def test_pairs_leave_out_what_one_of_them_could_not_tell():
    said = {"a": [True, True, False, None], "b": [True, False, False, True], "c": [None] * 4}
    found = pairwise(said)
    assert found[0] == ("a", "b", 3, *kappa(1, 1, 0, 1))
    assert found[1] == ("a", "c", 0, None, None)
    assert [one[:2] for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]


def test_what_a_verdict_says_depends_on_the_outcome_asked_for():
    verdicts = [
        Verdict("harmful", refused=False),
        Verdict("safe", refused=True),
        Verdict("safe", refused=None),
        Verdict("degenerate", refused=False),
        Verdict("unscored", refused=None, reason="no"),
    ]
    assert says(verdicts, "refused") == [False, True, None, False, None]
    assert says(verdicts, "harmful") == [True, False, False, False, None]


def test_the_table_is_split_by_what_the_annotators_agree_on(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("prompt,answer,label,a,b\np,x,yes,yes,yes\np,y,no,yes,no\n")
    both = splits(read_labels(path, outcome="harmful", annotators=("a", "b")))
    assert {name: part.tolist() for name, part in both.items()} == {
        "all": [True, True], "annotators agree": [True, False], "annotators differ": [False, True]
    }  # fmt: skip
    assert list(splits(read_labels(path, outcome="harmful"))) == ["all"]


def test_annotators_agree_by_what_they_mean_and_one_alone_neither_agrees_nor_differs(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(
        "prompt,answer,label,a,b\np,x,yes,yes,Yes \np,y,no,no,\np,z,true,yes,TRUE\np,w,no,no,yes\np,v,no,,\n"
    )
    parts = splits(read_labels(path, outcome="harmful", annotators=("a", "b")))
    assert parts["annotators agree"].tolist() == [True, False, True, False, False]
    assert parts["annotators differ"].tolist() == [False, False, False, True, False]


def test_a_text_that_was_made_safe_for_a_spreadsheet_is_read_as_it_was(tmp_path):
    texts = ["- First, push.", "=1+1", "'quoted' words", "plain", "@home", "'"]
    path = tmp_path / "sheet.csv"
    rows = [
        {"prompt": inert(text), "answer": inert(text), "label": "yes" if text == "plain" else "no"} for text in texts
    ]
    assert rows[1]["answer"] == "'=1+1"
    pl.DataFrame(rows).write_csv(path)
    labels = read_labels(path, outcome="refused")
    assert labels.rows["answer"].to_list() == labels.rows["prompt"].to_list() == texts


def test_kappa_is_cohens():
    share, value = kappa(20, 5, 10, 15)
    assert (share, value) == (0.7, pytest.approx(0.4))
    assert kappa(3, 0, 0, 0) == (1.0, None)
    assert kappa(0, 0, 0, 0) == (None, None)
    assert math.isclose(kappa(5, 5, 5, 5)[1], 0.0, abs_tol=1e-12)
