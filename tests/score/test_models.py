"""Scores of models on real runs: what each is made of, who scores whom, and whether forgetting foretells forgetting."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curator.decision.statistics import spearman
from curator.errors import ModelError
from curator.experiment.pilot import scoring_name
from curator.recipe.halves import scores_of_models
from curator.recipe.score import KINDS, Score
from curator.run import Run
from curator.run.files import load_row_values, save_frame
from curator.run.folder import finished
from curator.score import halves, models
from curator.score.models import QUESTIONS, RANGES, name_of, of_models
from curator.score.passes import MEASURES, _require_finite
from tests.real_runs import recipe_of

EVERY = [
    "score={from: rank-sum, of: [{from: cosine}, {from: forgetting}, {from: own-distribution, loss: whole}, "
    "{from: depth}, {from: geometry}]}",
    "tasks.list.probe_at=[0.5]",
    "verify.finetune.steps=8",
    "verify.align.steps=8",
]


def test_every_kind_that_asks_models_has_a_question_and_a_range():
    asking = {name for name, kind in KINDS.items() if kind.models is not None}
    assert asking == set(QUESTIONS) == set(RANGES)


def test_names_tell_scores_apart():
    sections = [
        Score(kind="own-distribution"),
        Score(kind="own-distribution", loss="whole"),
        Score(kind="depth"),
        Score(kind="depth", rows=40),
        Score(kind="depth", rows=40, seeds=2),
        Score(kind="forgetting", seeds=2),
    ]
    assert [name_of(section) for section in sections] == [
        "own-distribution/first-16",
        "own-distribution/whole",
        "depth",
        "depth/40-rows",
        "depth/40-rows/2-seeds",
        "forgetting/first-16/2-seeds",
    ]


@pytest.fixture(scope="module")
def asked(plain_run, tmp_path_factory):
    """A run whose recipe asks for every score of models: the run, the jobs in their order, and the scores."""
    root = Path(shutil.copytree(plain_run, tmp_path_factory.mktemp("asked") / "run"))
    run, jobs = Run(recipe_of("plain", *EVERY), root), []

    def spying(work, given, execute, later=(), *, mix):
        jobs.extend(given)
        return original(work, given, execute, later, mix=mix)

    original = halves.executed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(halves, "executed", spying)
        patch.setattr(models, "executed", spying)
        scores = of_models(run, root / "models", k=20)
    return run, jobs, scores


@pytest.mark.slow
def test_no_row_is_scored_by_a_model_that_was_aligned_on_it(asked):
    run, jobs, _ = asked
    trained = {job.folder: job for job in jobs if hasattr(job, "section")}
    passes = [job for job in jobs if job.folder not in trained]
    pool = set(run.data().pool.rows["id"])

    def folder_of(weights):
        path = Path([weights.base, *weights.adapters][-1]).parent
        return str(path.relative_to(run.root)) if path.is_relative_to(run.root) else None

    def aligned_on(weights):
        """Every row of the pool that the model behind these weights was trained on, by following where it started."""
        job = trained.get(folder_of(weights) or "")
        if job is None:
            return set()
        seen = {row_id for rows in job.rows if rows.ids is not None for row_id in rows.ids}
        return seen | aligned_on(job.weights)

    scored = {}
    for job in passes:
        for weights in (job.weights, *(other for _, other in job.others)):
            assert not aligned_on(weights) & set(job.rows.ids)
        if job.folder.endswith(("half-0-0", "half-1-0")):
            assert len(aligned_on(job.weights)) == 20
            place = job.folder.rpartition("/")[0]
            scored.setdefault(place, []).extend(job.rows.ids)
    assert {place.removeprefix("models/") for place in scored} == {
        "losses/aligned", "losses/list-0", "losses/list-1", "depth/aligned", "pulls/aligned",
    }  # fmt: skip
    for rows in scored.values():
        assert len(rows) == len(pool)
        assert set(rows) == pool
    assert {job.measure for job in passes} == set(MEASURES) - {"metagradient"}  # which is not cross-fitted
    assert len(trained) == 4


@pytest.mark.slow
def test_each_score_is_made_of_what_the_models_said(asked):
    run, _, scores = asked
    ids = list(run.data().pool.rows["id"])
    assert list(scores) == ["forgetting/first-16", "own-distribution/whole", "depth", "geometry"]

    def said(place, column):
        frames = [load_row_values(run.root / "models" / place / f"half-{half}-0") for half in (0, 1)]
        values = {row: value for frame in frames for row, value in zip(frame["id"], frame[column], strict=True)}
        return np.array([values[row] for row in ids])

    start = said("losses/aligned", "first-16")
    rises = [np.maximum(0.0, said(f"losses/list-{number}", "first-16") - start) for number in (0, 1)]
    np.testing.assert_allclose(scores["forgetting/first-16"].tasks["list"], np.mean(rises, axis=0))
    assert (scores["forgetting/first-16"].combined > 0).mean() > 0.3
    np.testing.assert_allclose(scores["depth"].combined, said("depth/aligned", "depth"))
    apart = said("pulls/aligned", "@base") - said("pulls/aligned", "list")
    np.testing.assert_allclose(scores["geometry"].tasks["list"], apart)
    assert apart.std() > 1e-3
    base = load_row_values(run.root / "models" / "losses" / "base")
    assert list(base["id"]) == ids
    np.testing.assert_allclose(scores["own-distribution/whole"].combined, -base["whole"].to_numpy())
    for name, score in scores.items():
        assert score.ids == tuple(ids)
        assert score.low <= score.combined.min()
        assert score.combined.max() <= score.high, name


@pytest.mark.slow
def test_what_was_asked_once_is_kept_and_a_task_that_is_not_anticipated_is_not_trained_on(asked, monkeypatch):
    run, jobs, scores = asked
    before = {job.folder: finished(run.root / job.folder) for job in jobs}
    monkeypatch.setattr("curator.train.job.train", None)
    tasks = [*run.recipe.tasks, run.recipe.tasks[0].model_copy(update={"name": "other", "anticipated": False})]
    again = of_models(replace(run, recipe=run.recipe.model_copy(update={"tasks": tasks})), run.root / "models", k=20)
    for name, score in again.items():
        assert score.combined.tolist() == scores[name].combined.tolist()
        assert score.tasks["other"].tolist() == score.combined.tolist()
    assert before == {job.folder: finished(run.root / job.folder) for job in jobs}


@pytest.mark.slow
def test_the_rows_that_it_calls_vulnerable_are_those_that_the_experiment_sees_forgotten(full_run, tmp_path):
    """The run's own measurement is on other models, of other alignment sets, on rows that no arm was aligned on."""
    root = Path(shutil.copytree(full_run, tmp_path / "run"))
    run = Run(recipe_of("full", "score={from: forgetting, loss: whole, seeds: 2}"), root)
    (score,) = of_models(run, root / "models", k=20).values()
    measured = run.forgetting().filter(loss="whole", task="list")
    rises = (measured["after"] - measured["before"]).to_numpy()
    foretold = dict(zip(score.ids, score.combined, strict=True))
    rho = spearman(np.array([[foretold[row] for row in measured["id"]]]), rises[None])[0]
    assert len(rises) == 20
    assert rho > 0.5


@pytest.mark.slow
def test_the_metagradient_of_a_run_is_that_of_its_recipe_and_is_kept(plain_run, tmp_path):
    root = Path(shutil.copytree(plain_run, tmp_path / "run"))
    settings = [
        "score={from: metagradient}",
        "verify.regime={}",
        "verify.log_odds={refuse: [i cannot], comply: [sure]}",
    ]
    run = Run(recipe_of("plain", *settings), root)
    pilot = run.data().harmful.head(4)
    save_frame(root / "1-pool" / "probes-pilot.parquet", pilot)
    (score,) = of_models(run, root / "models", k=20).values()
    assert score.name == "metagradient"
    assert score.combined.tolist() == score.tasks["list"].tolist()
    assert score.combined.std() > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curator.score.metagradient.Trial.gradients", None)
        assert of_models(run, root / "models", k=20)["metagradient"].combined.tolist() == score.combined.tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curator.score.metagradient.LARGEST", 1000)
        with pytest.raises(ModelError, match="the model has 613,504 parameters; allowed: at most 1,000"):
            of_models(run, root / "others", k=20)


def test_a_score_of_the_pilot_is_called_what_it_is_called_in_tables():
    settings = [
        "select.weight=auto",
        "verify.pilot={weights: [0.0], scores: [{from: depth}, {from: forgetting, loss: whole, rows: 9}]}",
    ]
    run = Run(recipe_of("plain", *settings), Path("nowhere"))
    assert [scoring_name(run, number) for number in (0, 1)] == ["depth", "forgetting/whole/9-rows"]
    assert [name_of(section) for section in scores_of_models(run.recipe)] == ["depth", "forgetting/whole/9-rows"]


def test_a_number_that_is_not_finite_is_refused_before_it_is_kept():
    _require_finite({"depth": np.zeros(2)}, ["a", "b"], "depth")
    with pytest.raises(ModelError, match=r"losses \(whole\) is not a finite number for 1 row \(first: 'b'\)"):
        _require_finite({"whole": np.array([0.0, np.nan])}, ["a", "b"], "losses")
