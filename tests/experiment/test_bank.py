"""The sets of a bank: how they are designed, what they differ in, and what came of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curator.errors import DataError
from curator.experiment.bank import OUTCOME_SCHEMA, design, outcomes_of
from curator.experiment.features import MOST, features, groups_of, of_rows, of_sets, pooled
from curator.experiment.pilot import Trial
from curator.experiment.plan import bank_grid
from curator.recipe.bank import GROUPINGS, Bank
from curator.records import Vectors
from curator.run import Run
from curator.selection.limits import limits
from curator.selection.problem import prepare
from tests.experiment.test_pilot import verdicts
from tests.small_run import recipe

OPENERS = ("i will not", "no that is", "sorry but i", "never ask me")


def invented(n=60, order=None):
    """Rows, traits and vectors of a pool in which the commonest opener is on half of the rows."""
    random = np.random.default_rng(4)
    matrix = random.normal(size=(n, 5)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    order = np.arange(n) if order is None else order
    ids = np.array([f"r{number:03d}" for number in range(n)])
    openers = [OPENERS[0] if number % 2 else OPENERS[number // 2 % 4] for number in range(n)]
    rows = pl.DataFrame(
        {"id": ids, "category": [None if number % 5 == 0 else f"c{number % 3}" for number in range(n)], "source": "one"}
    )
    traits = pl.DataFrame(
        {
            "id": ids,
            "refusal": [None if number % 7 == 0 else "refusal" if number % 3 else "other" for number in range(n)],
            "opener": openers,
            "answer": [f"{opener} {number % 4}" for number, opener in enumerate(openers)],
            "words": [3 + number % 9 for number in range(n)],
            "length": [("short", "medium", "long")[number % 9 // 3] for number in range(n)],
            "format": ["prose"] * n,
        }
    )
    at = order.tolist()
    return rows[at], traits[at], Vectors(tuple(ids[order]), matrix[order], "invented")


def problem_of(vectors):
    return prepare(vectors.matrix, np.zeros(len(vectors.ids)), ids=vectors.ids, neighbours=8)


def designed(n=60, order=None, mixtures=12, k=15, **settings):
    rows, traits, vectors = invented(n, order)
    problem, section = problem_of(vectors), Bank(draws=3, **settings)
    groups = groups_of(rows, traits, vectors, section.groupings, 7)
    return design(problem, limits(problem, k), groups, section, mixtures=mixtures, seed=7), groups


def test_every_set_has_its_size_and_the_groupings_come_in_turn_with_each_concentration():
    subsets, groups = designed()
    assert groups.columns == ["id", "category", "opener", "answer-length", "cluster"]  # of one format and source
    assert [subset.name for subset in subsets] == [f"mix-{n}" for n in range(12)] + [f"draw-{n}" for n in range(3)]
    assert all(len(subset.ids) == len(set(subset.ids)) == 15 for subset in subsets)
    assert [subset.grouping for subset in subsets[:5]] == [*groups.columns[1:], "category"]
    assert [subset.concentration for subset in subsets[::4]] == [0.3, 1.0, 5.0, None]
    assert [subset.grouping for subset in subsets[12:]] == [None] * 3
    assert len({frozenset(subset.ids) for subset in subsets}) == 15


def test_more_mixtures_begin_with_the_fewer_and_the_order_of_the_pool_changes_nothing():
    subsets, groups = designed()
    assert designed(mixtures=5)[0][:5] == subsets[:5]
    shuffled, regrouped = designed(order=np.random.default_rng(2).permutation(60))
    assert shuffled == subsets
    assert regrouped.equals(groups)


def test_few_groups_hold_most_of_a_set_where_the_concentration_is_small():
    subsets, groups = designed(200, mixtures=40, k=30, groupings=["opener"], concentrations=[0.1, 50.0])
    label_of = dict(groups.iter_rows())
    most = [max(np.unique([label_of[row] for row in s.ids], return_counts=True)[1]) / 30 for s in subsets[:40]]
    assert np.mean(most[::2]) > 0.7
    assert np.mean(most[1::2]) < 0.4  # about a quarter each, though half of the pool opens alike


def test_rare_labels_are_one_group_and_candidates_of_one_group_are_refused():
    labels = [f"l{number:02d}" for number in range(30) for _ in range(30 - number)]
    kept = pooled(labels)
    assert len(set(kept)) == MOST
    assert set(kept) - {"other"} == {f"l{number:02d}" for number in range(MOST - 1)}
    assert pooled(labels[:30]) == labels[:30]
    rows, traits, vectors = invented()
    with pytest.raises(DataError, match="all candidates belong to one group by format, source; name another"):
        groups_of(rows, traits, vectors, ["format", "source"], 0)


def test_what_a_set_differs_in_is_what_its_rows_say():
    rows, traits, vectors = invented()
    problem = problem_of(vectors)
    scores = pl.DataFrame({"id": vectors.ids, "s:a": np.arange(60.0), "s:b": np.ones(60), "s:c": np.full(60, 1e9)})
    columns = of_rows(problem, traits, scores, {"a": 0.25, "b": 0.75, "c": 0.0})
    sets = [np.array([0, 1, 2, 3]), np.arange(60)]
    table = features(["x", "y"], sets, columns, of_sets(problem, rows, traits, sets))
    chosen = traits[:4]
    assert table["s"].to_list() == pytest.approx([0.25 * 1.5 + 0.75, 0.25 * 29.5 + 0.75])
    assert table["words"][0] == chosen["words"].mean()
    assert table["refusals"][0] == pytest.approx(2 / 3)  # the first row's judge could not tell
    assert table["length short"][0] == (chosen["length"] == "short").mean()
    assert table["different openers"][0] == chosen["opener"].n_unique() / 4
    assert table["commonest answer"][1] == pytest.approx(traits["answer"].value_counts()["count"].max() / 60)
    assert table["coverage"][1] == pytest.approx(1.0)
    pairs = vectors.matrix[:4].astype(float) @ vectors.matrix[:4].T
    assert table["mean similarity"][0] == pytest.approx((pairs.sum() - 4) / 12, abs=1e-6)
    assert table["log-det"][0] == pytest.approx(np.linalg.slogdet(np.eye(4) + pairs)[1], abs=1e-5)
    shares = np.array(rows["category"].fill_null("none").value_counts()["count"]) / 60
    assert table["category entropy"][1] == pytest.approx(-(shares * np.log(shares)).sum())


def with_bank(section):
    verify = recipe().verify
    return verify.model_copy(update={"pilot": verify.pilot.model_copy(update={"bank": section})})


def test_outcomes_are_shares_of_each_set_seed_and_task_and_the_mean_log_odds_after():
    after = {"mix-0": 0.4, "draw-0": 0.1}
    judged = verdicts(after, 2, before={"mix-0": 0.05, "draw-0": 0.0}, degenerate={"mix-0": 0.2})
    judged = judged.with_columns(  # of the plain draw's second seed nothing was scored
        outcome=pl.when(pl.col("arm") == "draw-0", pl.col("seed") == 1).then(pl.lit("unscored")).otherwise("outcome")
    )
    verify = with_bank(Bank(mixtures=1, draws=1, seeds=2))
    odds = pl.DataFrame(
        {
            "arm": "mix-0", "seed": [0, 0, 0, 1], "task": ["list", "list", None, "list"],
            "phase": ["after", "after", "before", "after"], "at": [1.0, 1.0, 0.0, 1.0],
            "log_odds": [1.0, 2.0, 9.0, 4.0],
        }
    )  # fmt: skip
    found = outcomes_of(Trial(bank_grid(verify, ["list"]), judged), odds)
    assert found.schema == OUTCOME_SCHEMA
    assert sorted(found.rows()) == [
        ("draw-0", 0, "list", 0.0, pytest.approx(0.1), 0.0, None),
        ("draw-0", 1, "list", None, None, None, None),
        ("mix-0", 0, "list", pytest.approx(0.05), pytest.approx(0.4), pytest.approx(0.2), 1.5),
        ("mix-0", 1, "list", pytest.approx(0.05), pytest.approx(0.4), pytest.approx(0.2), 4.0),
    ]


def test_of_a_real_pool_every_candidate_has_a_label_in_every_grouping_that_divides_it(plain_run: Path):
    run = Run.open(plain_run, "scores")
    groups = groups_of(run.data().pool.rows, run.traits(), run.vectors("pool"), GROUPINGS, 0)
    assert groups.height == run.data().pool.rows.height == groups["id"].n_unique()
    assert {"category", "opener", "cluster"} <= set(groups.columns)
    assert not any(groups.null_count().row(0))
    assert all(1 < groups[name].n_unique() <= MOST for name in groups.columns[1:])
