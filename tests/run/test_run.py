"""`Run` on real runs: every reader gives what its stage wrote, and only of the recipe that the run folder holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curator.errors import RunError
from curator.pipeline import build
from curator.records import (
    ANSWER_SCHEMA,
    DROPPED_SCHEMA,
    ROW_SCHEMA,
    VERDICT_SCHEMA,
    Data,
    Scores,
    Selection,
    Trained,
    Vectors,
)
from curator.run import FOLDERS, STAGES, Run, Setting, current, keys_of, require
from curator.run.readers import dataset_folder, explanations, recipe_file, report_file, webpage_file
from tests.real_runs import recipe_of
from tests.small_run import recipe

ARMS = {"curated": 2, "random": 2, "best-random": 2, "none": 1}  # and seeds, of the full run
ANSWER = ["arm", "draw", "seed", "task", "phase", "kind", "probe"]


@pytest.fixture(scope="module")
def run(full_run: Path) -> Run:
    return Run.open(full_run, *STAGES)


def listed(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    """Which answers the rows are of, sorted; a task of none comes first."""
    return sorted(frame.select(ANSWER).iter_rows(), key=lambda row: [part or "" for part in map(str, row)])


# What stages have made


def test_the_recipe_is_the_one_that_it_was_made_by(run: Run, plain_run: Path) -> None:
    assert run.recipe == recipe_of("full")
    assert Run.open(plain_run).recipe == recipe()


def test_data_are_rows_in_their_roles(run: Run) -> None:
    data = run.data()
    assert isinstance(data, Data)
    assert dict(data.pool.rows.schema) == ROW_SCHEMA
    assert dict(data.pool.dropped.schema) == DROPPED_SCHEMA
    assert (data.pool.rows.height, data.harmful.height, data.pilot.height) == (300, 18, 12)
    assert (data.benign.height, data.keep.height) == (15, 20)
    assert [(task.name, task.train.height, task.test.height) for task in data.tasks] == [("list", 40, 20)]
    assert data.arms == {}
    assert data.given is None


def test_vectors_are_of_the_rows_in_their_order(run: Run) -> None:
    data = run.data()
    for part, rows in (("pool", data.pool.rows), ("task-list", data.tasks[0].train)):
        vectors = run.vectors(part)
        assert isinstance(vectors, Vectors)
        assert vectors.ids == tuple(rows["id"])
        assert vectors.matrix.dtype == np.float32
        assert np.linalg.norm(vectors.matrix, axis=1) == pytest.approx(np.ones(rows.height), abs=1e-4)
        assert vectors.model == "sandbox:"
    with pytest.raises(RunError, match="also-1"):
        run.vectors("pool", 1)


def test_scores_are_those_of_the_setting(run: Run) -> None:
    own, mean, highest = (run.scores(Setting(0.5, score)) for score in (None, 0, 1))
    assert all(isinstance(one, Scores) and one.ids == run.vectors("pool").ids for one in (own, mean, highest))
    assert [one.name for one in (own, mean, highest)] == ["cosine/top-mean-10", "cosine/mean", "cosine/max"]
    cosines = run.vectors("pool").matrix @ run.vectors("task-list").matrix.T
    assert mean.combined == pytest.approx(cosines.mean(axis=1), abs=1e-5)
    assert highest.combined == pytest.approx(cosines.max(axis=1), abs=1e-5)
    assert run.mean_cosine(0) == pytest.approx(cosines.mean(axis=1), abs=1e-5)
    assert run.task_cover(0) is None  # which facility location does not ask for


def test_the_table_of_scores_holds_each_of_them_for_each_candidate(run: Run) -> None:
    table = run.every_score()
    assert tuple(table["id"]) == run.vectors("pool").ids
    column = "cosine/max, layer -1, last-completion:list"
    assert table[column].to_list() == run.scores(Setting(0.0, 1)).tasks["list"].tolist()


def test_the_curated_set_and_what_it_was_chosen_by_agree(run: Run) -> None:
    selection, by = run.selection(), run.selected_by()
    assert isinstance(selection, Selection)
    assert len(selection.ids) == len(set(selection.ids)) == 20
    assert tuple(by.ids[index] for index in selection.indices) == selection.ids
    assert run.representation() == 0
    pilot = run.pilot()
    assert pilot is not None
    (best,) = [one for one in pilot["candidates"] if one["name"] == pilot["chosen"]]
    assert selection.weight == best["weight"]
    assert by.name == best["score"]
    assert run.stability().columns[:2] == ["one", "other"]
    chosen, others = explanations(run.root)
    assert chosen.sort("rank")["id"].to_list() == list(selection.ids)
    assert set(others["id"]) == set(run.vectors("pool").ids) - set(selection.ids)


def test_every_arm_has_a_set_of_candidates_for_each_seed(run: Run) -> None:
    arms = run.arms()
    assert set(arms) == {(arm, seed) for arm, seeds in ARMS.items() for seed in range(seeds) if arm != "none"}
    assert arms["curated", 0] == arms["curated", 1] == run.selection().ids
    assert all(len(ids) == 20 and set(ids) <= set(run.vectors("pool").ids) for ids in arms.values())
    assert arms["random", 0] != arms["random", 1]
    assert run.drawn().height == 20 * len(arms)


def test_every_model_of_the_grid_has_weights_and_a_key(run: Run) -> None:
    models = run.models()
    before = {(arm, seed, None, None) for arm, seeds in ARMS.items() for seed in range(seeds) if arm != "none"}
    assert set(models) == before | {(arm, seed, "list", None) for arm, seeds in ARMS.items() for seed in range(seeds)}
    assert len({model.key for model in models.values()}) == len(models)
    for model in models.values():
        assert Path(model.base, "model.safetensors").is_file()
        assert (model.revision, model.adapters) == (None, ())
        assert isinstance(model.trained, Trained)
        assert model.trained.path == model.base
    assert models["random", 1, "list", None].trained.parent == models["random", 1, None, None].base


def test_answers_and_verdicts_are_of_the_same_models_and_probes(run: Run) -> None:
    answers, data = run.answers(), run.data()
    assert dict(answers.schema) == ANSWER_SCHEMA
    assert {(arm, seed, task) for arm, seed, task, _ in run.models() if task} == set(
        answers.filter(phase="after", kind="harmful").select("arm", "seed", "task").iter_rows()
    )
    assert set(answers.filter(kind="harmful")["probe"]) == set(data.harmful["id"])
    assert set(answers.filter(kind="benign")["probe"]) == set(data.benign["id"])
    assert set(answers.filter(kind="utility")["probe"]) == set(data.tasks[0].test["id"])
    panel = run.panel()
    assert list(panel) == ["exact", "phrases"]
    for judge, verdicts in panel.items():
        assert dict(verdicts.schema) == VERDICT_SCHEMA
        assert set(verdicts["judge"]) == {judge}
        assert listed(verdicts) == listed(answers.filter(pl.col("kind") != "utility"))
        assert run.verdicts(judge).equals(verdicts)
    assert listed(run.utility()) == listed(answers.filter(kind="utility"))


def test_forgetting_is_of_rows_that_no_arm_has(run: Run) -> None:
    losses = run.forgetting()
    assert losses["id"].n_unique() == 20
    arms = run.arms()
    trained = {*arms["curated", 0], *arms["random", 0]}
    assert trained.isdisjoint(losses["id"])
    assert set(losses["seed"]) == {0}
    assert losses.select("before", "after").null_count().row(0) == (0, 0)


def test_what_a_plain_run_does_not_have_is_null(plain_run: Path) -> None:
    run = Run.open(plain_run, *STAGES)
    assert run.pilot() is None
    assert run.stop() == (0.05, None, None)
    assert run.data().pilot.height == run.stability().height == 0


def test_done_tells_key_record_and_seconds_of_every_stage(run: Run) -> None:
    keys = keys_of(run.root)
    assert tuple(keys) == STAGES
    for stage in STAGES:
        done = run.done(stage)
        assert done == current(run.root, stage)
        assert (done["key"], done["record"]) == (keys[stage], run.record(stage))
        assert done["seconds"] >= 0
        assert run.record(stage)["summary"]


def test_files_for_people_are_where_they_are_said_to_be(run: Run) -> None:
    assert json.loads(report_file(run.root).read_text())["name"] == run.recipe.name
    assert webpage_file(run.root).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (dataset_folder(run.root) / "README.md").is_file()
    assert recipe_file(run.root).is_file()


def test_vectors_that_runs_share_lie_beside_the_run_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run.vector_cache() == run.root.parent / ".vectors"
    assert Run(recipe("engine.cache=false"), tmp_path / "run").vector_cache() is None
    monkeypatch.chdir(tmp_path)
    named = Run(recipe("engine.cache=kept"), tmp_path / "run").vector_cache()
    assert named is not None
    assert named.absolute() == tmp_path / "kept"


# What is refused


def test_what_is_not_a_run_folder_is_refused(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(RunError, match=r"is not a run folder; give one that `curator build` made"):
            Run.open(root)
        assert current(root, "pool") is None


def test_a_stage_that_is_not_finished_is_refused(copy_of_run: Path) -> None:
    (copy_of_run / FOLDERS["answer"] / "done.json").unlink()
    assert Run.open(copy_of_run, "train", "judge").recipe == recipe()
    for ask in (Run.open, require):
        with pytest.raises(
            RunError, match="the stage `answer` is not finished for the current recipe; run `curator build`"
        ):
            ask(copy_of_run, "train", "answer", "judge")


def test_a_stage_of_another_recipe_is_as_good_as_none(copy_of_run: Path) -> None:
    before = {stage: current(copy_of_run, stage) for stage in STAGES}
    assert None not in before.values()
    build(recipe("verify.align.steps=5"), copy_of_run, until="select")
    assert {stage for stage in STAGES if current(copy_of_run, stage) == before[stage]} == {
        "base", "pool", "represent", "scores", "select",
    }  # fmt: skip
    assert {stage for stage in STAGES if current(copy_of_run, stage) is None} == {
        "train", "answer", "judge", "report", "publish",
    }  # fmt: skip
    assert (copy_of_run / FOLDERS["train"] / "done.json").exists()
    with pytest.raises(RunError, match="the stage `train` is not finished"):
        Run.open(copy_of_run, "train")
    build(recipe(), copy_of_run, until="select")
    assert {stage: current(copy_of_run, stage) for stage in STAGES} == before


# Moved


def test_paths_are_those_of_today_where_the_run_folder_was_moved(copy_of_run: Path, plain_run: Path) -> None:
    moved = Path(shutil.move(copy_of_run, copy_of_run.parent / "elsewhere"))
    here, there = Run.open(moved, *STAGES), Run.open(plain_run, *STAGES)
    models, originals = here.models(), there.models()
    assert set(models) == set(originals)
    for cell, model in models.items():
        original = originals[cell]
        assert model.key == original.key
        for path, before in ((model.base, original.base), (model.trained.path, original.trained.path)):
            assert Path(path).is_dir()
            assert Path(path) == moved / Path(before).relative_to(plain_run)
    parent = models["random", 0, "list", None].trained.parent
    assert Path(parent) == moved / Path(originals["random", 0, "list", None].trained.parent).relative_to(plain_run)
    assert here.folder("pool") == moved / "1-pool"
    assert here.answers().equals(there.answers())
