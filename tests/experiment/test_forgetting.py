"""Forgetting of real (tiny) models, taken by jobs; and its correlation with scores against scipy and known answers."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from curator.errors import RunError
from curator.experiment.design import Experiment
from curator.experiment.forgetting import (
    FORGETTING_SCHEMA,
    LEAST_ROWS,
    forget,
    forgotten,
    left_out,
    predictions,
    rises_of,
    spearman,
)
from curator.experiment.plan import Cell
from curator.model.chat import encode_all
from curator.model.load import load_model
from curator.model.losses import answer_losses
from curator.recipe.training import Training
from curator.records import Data, Pool
from curator.run.files import save_data
from curator.run.folder import DONE
from curator.score.passes import PassJob
from curator.train.job import Weights
from tests import fakes

TRAINING = Training(method="full", steps=1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Four different models: aligned and fine-tuned ones of two seeds."""
    root = tmp_path_factory.mktemp("models")
    return [fakes.save(root / str(seed), seed=seed) for seed in range(4)]


@pytest.fixture
def experiment(folders, tmp_path):
    """Made up, so that the four models differ and rows have very different lengths; a real run's are all alike."""
    rows = fakes.frame(fakes.conversations(9))
    empty = fakes.frame([])
    dropped = pl.DataFrame(
        schema={"source": pl.String, "line": pl.Int64} | dict.fromkeys(("stage", "reason", "match"), pl.String)
    )
    data = Data(Pool(rows, dropped), (), empty, empty, empty)
    save_data(tmp_path / "1-pool", data)
    return Experiment(
        root=tmp_path, data=data, data_folder=tmp_path / "1-pool", base=Weights(folders[0], None, (), "base"), arms={},
        tokenizer=folders[0], tokenizer_revision=None, chat_template="plain", align=TRAINING, finetune=TRAINING, seed=1,
    )  # fmt: skip


def weights(folders):
    cells = [Cell("random", seed, task) for seed in (0, 1) for task in (None, "list")]
    return {cell: Weights(folder, None, (), f"key-{folder}") for cell, folder in zip(cells, folders, strict=True)}


def perform(experiment, given, ids=None, *, seen=None, execute=None, batch_tokens=200):
    def here(work, jobs):
        yield from map(work, jobs)

    return forget(
        experiment, given, experiment.root / "6-answer", ids=ids or experiment.data.pool.rows["id"].to_list()[:6],
        arm="random", seeds=(0, 1), tasks=("list",), batch_tokens=batch_tokens, execute=execute or here,
        progress=lambda done, total: seen.append((done, total)) if seen is not None else None,
    )  # fmt: skip


def test_losses_are_those_of_the_models_before_and_after(experiment, folders):
    seen = []
    losses = perform(experiment, weights(folders), seen=seen)
    rows = experiment.data.pool.rows.head(6)
    encoded = encode_all(fakes.tokenizer(), rows["messages"].to_list())
    models = [load_model(folder) for folder in folders]
    found = [
        answer_losses(encoded, rows["id"].to_list(), model=model, filler=0, batch_tokens=1, key="k") for model in models
    ]
    assert dict(losses.schema) == FORGETTING_SCHEMA
    assert losses.height == 2 * 2 * 6
    for seed in (0, 1):
        for loss in ("whole", "first-token"):
            own = losses.filter(seed=seed, loss=loss, task="list")
            for column, place in (("before", 2 * seed), ("after", 2 * seed + 1)):
                expected = dict(zip(rows["id"], found[place].named(loss), strict=True))
                assert own[column].to_list() == pytest.approx([expected[one] for one in own["id"]], abs=2e-5)
    assert seen == [(done, 4) for done in range(5)]


def test_a_second_call_keeps_every_piece(experiment, folders):
    first = perform(experiment, weights(folders))
    finished = {path: path.stat().st_mtime_ns for path in experiment.root.rglob(DONE)}
    assert len(finished) == 4
    assert perform(experiment, weights(folders)).equals(first)
    assert {path: path.stat().st_mtime_ns for path in experiment.root.rglob(DONE)} == finished


def jobs_of(experiment, given, **changes):
    written = {}

    def note(_work, jobs):
        written.update({job.folder: job for job in jobs})
        yield from ()

    with pytest.raises(RunError, match="No such file"):  # nothing was taken
        perform(experiment, given, execute=note, **changes)
    return written


def test_a_key_changes_with_what_changes_the_losses_and_with_nothing_else(experiment, folders, tmp_path):
    given, ids = weights(folders), experiment.data.pool.rows["id"].to_list()
    jobs = jobs_of(experiment, given)
    assert set(jobs) == {f"6-answer/forgetting/{part}/random-{s}" for s in (0, 1) for part in ("before", "after/list")}

    def changed(other_experiment=experiment, other=given, **changes):
        return {name for name, job in jobs_of(other_experiment, other, **changes).items() if job.key != jobs[name].key}

    assert changed() == set()
    assert changed(replace(experiment, seed=7, arms={("random", 0): ()})) == set()
    assert changed(ids=ids[1:7]) == set(jobs)
    assert changed(batch_tokens=100) == set(jobs)
    assert changed(replace(experiment, chat_template="chatml")) == set(jobs)
    after = {**given, Cell("random", 1, "list"): Weights(folders[0], None, (), "another")}
    assert changed(other=after) == {"6-answer/forgetting/after/list/random-1"}
    for job in jobs.values():
        assert isinstance(job, PassJob)
        assert pickle.loads(pickle.dumps(job)) == job


def test_rows_left_out_are_in_no_set_short_enough_and_more_of_them_are_a_superset():
    pool = fakes.frame(fakes.conversations(9)).with_columns(tokens=pl.Series([5] * 8 + [500], dtype=pl.Int64))
    ids = pool["id"].to_list()
    found = left_out(pool, [ids[:2], ids[1:3]], rows=100, longest=256, seed=0)
    assert found == tuple(sorted(ids[3:8]))
    fewer = left_out(pool.reverse(), [ids[:2], ids[1:3]], rows=3, longest=256, seed=0)
    assert len(fewer) == 3
    assert set(fewer) < set(found)
    draws = {left_out(pool, [ids[:3]], rows=3, longest=256, seed=seed) for seed in range(9)}
    assert len(draws) > 1


def invented(rises, *, task="list", loss="whole"):
    """Losses of which the rise is `(s, n)`, rows in no order."""
    seeds, rows = np.asarray(rises).shape
    frame = pl.DataFrame(
        {
            "task": task,
            "seed": np.repeat(np.arange(seeds), rows),
            "id": [f"r{row:04d}" for row in range(rows)] * seeds,
            "loss": loss,
            "before": 1.0,
            "after": 1.0 + np.ravel(rises),
        },
        schema=FORGETTING_SCHEMA,
    )
    return frame.sample(fraction=1.0, shuffle=True, seed=1)


def scores_of(**columns):
    n = len(next(iter(columns.values())))
    named = {f"{name}:list": np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    return pl.DataFrame({"id": [f"r{row:04d}" for row in range(n)], **named})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 40))
def test_rho_is_that_of_scipy_ties_or_not(seed, n):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 4, (5, n)).astype(float), rng.normal(size=(5, n))
    for pairs in ((x, y), (y, x), (x, x[::-1]), (y, y**3)):
        for own, a, b in zip(spearman(*pairs), *pairs, strict=True):
            if len(set(a)) == 1 or len(set(b)) == 1:
                assert np.isnan(own)
            else:
                assert own == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_rho_is_that_of_scipy_with_the_mean_over_seeds():
    rng = np.random.default_rng(0)
    rises, score = rng.normal(size=(3, 50)), rng.normal(size=50)
    (found,) = predictions(invented(rises), scores_of(x=score), seed=0)
    assert found.rho == pytest.approx(stats.spearmanr(score, rises.mean(axis=0)).statistic, abs=1e-12)
    assert (found.score, found.task, found.loss, found.rows, found.seeds) == ("x", "list", "whole", 50, 3)
    assert found.low < found.rho < found.high


def test_an_increasing_transform_of_a_score_changes_nothing_and_a_falling_one_the_sign():
    rng = np.random.default_rng(1)
    score = rng.normal(size=60)
    rises = score + rng.normal(size=(2, 60))
    found = {
        one.score: one
        for one in predictions(invented(rises), scores_of(x=score, y=np.exp(score) - 9, z=-score), seed=0)
    }
    assert (found["y"].rho, found["y"].low, found["y"].high) == (found["x"].rho, found["x"].low, found["x"].high)
    assert (found["z"].rho, found["z"].low) == pytest.approx((-found["x"].rho, -found["x"].high))


def test_a_score_that_is_forgetting_itself_has_rho_one_and_a_constant_one_none():
    rises = np.random.default_rng(2).normal(size=(1, 30)).repeat(2, axis=0)
    found = {one.score: one for one in predictions(invented(rises), scores_of(same=rises[0], flat=[3.0] * 30), seed=0)}
    assert (found["same"].rho, found["same"].low, found["same"].high) == pytest.approx((1, 1, 1))
    assert (found["flat"].rho, found["flat"].low, found["flat"].high) == (None, None, None)


def test_the_interval_is_near_the_textbook_one_where_seeds_agree_and_wider_where_they_do_not():
    rng = np.random.default_rng(3)
    score = rng.normal(size=400)
    true = 0.5 * score + rng.normal(size=400)
    (agree,) = predictions(invented([true] * 4), scores_of(x=score), seed=0)
    # Fisher's z with the variance of Bonett and Wright (2000) for Spearman's rho.
    reach = 1.96 * np.sqrt((1 + agree.rho**2 / 2) / (400 - 3))
    low, high = np.tanh(np.arctanh(agree.rho) + np.array([-reach, reach]))
    assert (agree.low, agree.high) == pytest.approx((low, high), abs=0.03)
    noisy = [true, true + 3 * rng.normal(size=400), -true, true]
    (differ,) = predictions(invented(noisy), scores_of(x=score), seed=0)
    assert differ.high - differ.low > 1.5 * (agree.high - agree.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """One hundred studies of 60 rows and 8 seeds without any relation; a fair 95% interval misses 2 to 11 of them."""
    rng = np.random.default_rng(4)
    missed = 0
    for study in range(100):
        own = rng.normal(size=60)
        rises = own + 0.5 * rng.normal(size=(8, 60))
        (found,) = predictions(invented(rises), scores_of(x=rng.normal(size=60)), seed=study, draws=300)
        missed += not found.low <= 0 <= found.high
    assert 1 <= missed <= 12


def test_the_order_of_anything_changes_nothing_and_scores_on_other_tasks_are_passed_over():
    rng = np.random.default_rng(5)
    rises, score = rng.normal(size=(2, 40)), rng.normal(size=40)
    scores = scores_of(x=score).with_columns(pl.Series("x:other", -score))
    expected = predictions(invented(rises), scores, seed=0)
    assert [one.task for one in expected] == ["list"]
    shuffled = scores.sample(fraction=1.0, shuffle=True, seed=9)
    assert predictions(invented(rises).reverse(), shuffled, seed=0) == expected
    assert predictions(invented(rises), scores, seed=1)[0].rho == expected[0].rho


def test_predictions_come_strongest_first_whatever_their_sign():
    rng = np.random.default_rng(6)
    score = rng.normal(size=50)
    rises = (score + 0.1 * rng.normal(size=50))[None]
    found = predictions(invented(rises), scores_of(weak=score + 3 * rng.normal(size=50), strong=-score), seed=0)
    assert [one.score for one in found] == ["strong", "weak"]
    assert found[0].rho < 0


def test_too_few_rows_give_no_rho_and_none_give_nothing():
    few = np.random.default_rng(7).normal(size=(2, LEAST_ROWS - 1))
    assert predictions(invented(few), scores_of(x=few[0]), seed=0) == []
    assert len(forgotten(invented(few))) == 1
    nothing = pl.DataFrame(schema=FORGETTING_SCHEMA)
    assert predictions(nothing, scores_of(x=few[0]), seed=0) == forgotten(nothing) == []


def test_forgetting_is_told_with_how_far_seeds_agree():
    rng = np.random.default_rng(8)
    true = rng.normal(size=200)
    rises = np.stack([true, true + rng.normal(size=200), rng.normal(size=200)])
    (found,) = forgotten(invented(rises))
    pairs = [stats.spearmanr(rises[i], rises[j]).statistic for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.agreement == pytest.approx(np.mean(pairs))
    assert (found.mean, found.sd) == pytest.approx((rises.mean(), rises.mean(axis=0).std(ddof=1)))
    assert found.before == pytest.approx(1.0)
    (alone,) = forgotten(invented(rises[:1]))
    assert alone.agreement is None
    ids, back = rises_of(invented(rises))
    assert ids == sorted(ids)
    assert np.allclose(back, rises)
