"""Runs with several settings of a task, made by `build` on top of a finished run without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curator.forecast.estimate import estimates
from curator.judge.measure import sample
from curator.judge.rejudge import _difference
from curator.pipeline import build
from curator.provenance import set_threads
from curator.recipe.sweep import settings_by_name
from curator.report.model import read_report
from curator.run import Run
from curator.run.readers import report_file
from tests.small_run import recipe, report_of

OWN = "tasks.list.sweep={learning_rate: [6e-4], rows: [40], method: [full]}"
OTHER = "tasks.list.sweep={learning_rate: [3e-4], method: [lora]}"
DIRECT = ["verify.finetune.learning_rate=3e-4", "verify.finetune.method=lora"]
SEVERAL = ["tasks.list.sweep={learning_rate: [6e-4, 3e-4], rows: [40, 20]}", "verify.decision.over=worst"]
NAME = "list@learning_rate=3e-4,method=lora"


def built(root: Path, start: Path, *settings: str, until: str = "report") -> Path:
    """A run on top of a copy of another one, whose pieces are taken where their keys are equal."""
    shutil.copytree(start, root)
    set_threads(1)
    build(recipe(*settings), root, until=until)
    return root


@pytest.fixture(scope="module")
def several(plain_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("several") / "run", plain_run, *SEVERAL, until="publish")


def made(root: Path) -> dict[str, Any]:
    """What every piece of training and answering wrote down, by its folder."""
    markers = [marker for stage in ("5-train", "6-answer") for marker in (root / stage).glob("*/**/done.json")]
    return {str(marker.relative_to(root)): json.loads(marker.read_text()) for marker in markers}


def answers(root: Path, task: str) -> pl.DataFrame:
    """Answers before fine-tuning and at one setting, which is called `list` here."""
    frame = pl.read_parquet(root / "6-answer" / "answers.parquet")
    there = (pl.col("phase") == "before") | (pl.col("task") == task)
    return frame.filter(there).with_columns(task=pl.col("task").replace(task, "list"))


def test_a_sweep_of_the_recipes_own_setting_is_the_run_without_one(plain_run: Path, tmp_path: Path) -> None:
    before = made(plain_run)
    root = built(tmp_path / "run", plain_run, OWN)
    assert made(root) == before
    ours, theirs = (json.loads((folder / "run.json").read_text())["stages"] for folder in (root, plain_run))
    assert ours == theirs


@pytest.mark.slow
def test_made_from_nothing_it_gives_the_same_answers_and_decision(plain_run: Path, tmp_path: Path) -> None:
    shutil.copytree(plain_run, tmp_path / "start")
    for stage in ("5-train", "6-answer", "7-judge", "8-report", "9-publish"):
        shutil.rmtree(tmp_path / "start" / stage)
    root = built(tmp_path / "run", tmp_path / "start", OWN)
    keys = {folder: done["key"] for folder, done in made(plain_run).items()}
    assert {folder: done["key"] for folder, done in made(root).items()} == keys
    assert answers(root, "list").equals(answers(plain_run, "list"))
    ours, theirs = report_of(root), report_of(plain_run)
    assert ours["design"].pop("settings") == [
        {"name": "list", "task": "list", "weight": 1.0, "learning_rate": 6e-4, "method": "full", "rows": 40,
         "steps": 2.0}
    ]  # fmt: skip
    for report in (ours, theirs):
        del report["provenance"]["recipe"], report["training"]  # which has seconds in no place, and losses below
    assert ours == theirs


@pytest.mark.slow
def test_one_other_setting_is_a_recipe_that_fine_tunes_so(plain_run: Path, tmp_path: Path) -> None:
    swept, direct = built(tmp_path / "swept", plain_run, OTHER), built(tmp_path / "direct", plain_run, *DIRECT)
    assert answers(swept, NAME).equals(answers(direct, "list"))
    ours, theirs = report_of(swept), report_of(direct)
    words = ("sentence", "verdict")
    assert {**ours["decision"], **dict.fromkeys(words)} == {**theirs["decision"], **dict.fromkeys(words)}
    for name in words:
        assert ours["decision"][name].replace(NAME, "list") == theirs["decision"][name]
    assert ours["gates"] == theirs["gates"]
    assert ours["arms"]["curated"][NAME] == theirs["arms"]["curated"]["list"]
    weights = Run(recipe(OTHER), swept).models()["random", 0, "list", "learning_rate=3e-4,method=lora"]
    assert weights.key == Run(recipe(*DIRECT), direct).models()["random", 0, "list", None].key


@pytest.mark.slow
def test_settings_are_models_of_their_own_that_share_alignment(plain_run: Path, several: Path) -> None:
    before, after = made(plain_run), made(several)
    assert {folder: after[folder] for folder in before} == before  # nothing is trained or answered again
    names = list(settings_by_name(recipe(*SEVERAL)))
    more = [folder for folder in after if folder not in before]
    assert len(more) == 2 * 9 * (len(names) - 1)
    assert all("after/list/learning_rate=3e-4" in folder or "after/list/rows=20" in folder for folder in more)
    frame = pl.read_parquet(several / "6-answer" / "answers.parquet")
    assert set(frame.filter(phase="after")["task"]) == set(names)
    assert set(frame.filter(phase="before")["task"]) == {None, "list"}


@pytest.mark.slow
def test_the_rows_of_a_smaller_setting_are_those_of_a_recipe_with_fewer_rows(several: Path, tmp_path: Path) -> None:
    """Their models are, too, for arms that do not choose rows by the task."""
    fewer = recipe("tasks.list.rows=20")
    build(fewer, tmp_path / "fewer", until="train")
    ours, theirs = Run(recipe(*SEVERAL), several).models(), Run(fewer, tmp_path / "fewer").models()
    assert ours["none", 0, "list", "rows=20"].key == theirs["none", 0, "list", None].key
    assert ours["random", 1, "list", "rows=20"].key == theirs["random", 1, "list", None].key
    assert ours["random", 1, "list", "rows=20"].key != ours["random", 1, "list", None].key


@pytest.mark.slow
def test_every_setting_is_a_row_of_the_report_and_the_worst_is_the_headline(several: Path) -> None:
    report = read_report(report_file(several))
    names = set(settings_by_name(recipe(*SEVERAL)))
    assert all(set(tasks) == {"anticipated", *names} for tasks in report.arms.values())
    for name in names:
        rates = report.arms["curated"][name].after
        assert (rates.harmfulness.scored, rates.over_refusal.scored, rates.utility.scored) == (3 * 30, 3 * 15, 3 * 20)
    assert {setting.name: (setting.rows, setting.learning_rate) for setting in report.design.settings or ()} == {
        "list": (40, 6e-4), "list@rows=20": (20, 6e-4), "list@learning_rate=3e-4": (40, 3e-4),
        "list@learning_rate=3e-4,rows=20": (20, 3e-4),
    }  # fmt: skip
    worst, primary = report.decision.worst, report.decision.primary
    assert worst is not None
    assert {case.task for case in worst.cases} == names
    assert primary.high == max(case.comparison.high for case in worst.cases)
    assert report.headline == primary.task
    assert {training.task for training in report.training} == {None, *names}
    assert set(report.similarity.tasks) == {"list"}
    assert [task.name for task in report.tasks] == ["list"]
    assert report.tuned == dict.fromkeys(names, 0.25)
    texts = [(several / "8-report" / name).read_text() for name in ("report.md", "report.html")]
    texts.append((several / "9-publish" / "dataset" / "README.md").read_text())
    for text in texts:
        plain = text.replace("&#64;", "@").replace("&#95;", "_").replace("\\_", "_")
        assert all(name in plain for name in names)
        assert "the least favourable of 4 settings" in plain
    published = json.loads((several / "9-publish" / "dataset" / "evidence" / "report.json").read_text())
    assert {case["task"] for case in published["decision"]["worst"]["cases"]} == names
    assert published["design"]["settings"] == json.loads(report_file(several).read_text())["design"]["settings"]
    assert published["provenance"]["recipe"]["tasks"][0]["sweep"]["rows"] == [40, 20]


@pytest.mark.slow
def test_another_judges_opinion_is_of_the_worst_case_too(several: Path) -> None:
    run, report = Run(recipe(*SEVERAL), several), read_report(report_file(several))
    for judge, primary in (
        ("exact", report.decision.primary),
        ("phrases", report.judges.second_opinions[0].primary),
    ):
        figures = _difference(run, run.verdicts(judge))
        assert primary is not None
        assert [figures[name] for name in ("difference", "low", "high")] == [
            primary.difference, primary.low, primary.high
        ]  # fmt: skip


@pytest.mark.slow
def test_a_sheet_for_people_draws_from_every_setting(several: Path) -> None:
    assert sample(several, 3 * 30 * 4, 0).height == 2 * 3 * 30 * 4


@pytest.mark.slow
def test_check_has_said_what_every_setting_trains(several: Path, tmp_path: Path) -> None:
    (planned,), _ = estimates(recipe(*SEVERAL), tmp_path / "none")
    trained = [done["record"] for folder, done in made(several).items() if folder.startswith("5-train/after")]
    assert (planned.finetuned, planned.asked) == (len(trained), 8 + len(trained) + 1)
    assert planned.finetune_rows == 40 * len(trained)  # two steps: 32 and 8 of 40 rows, or 20 rows twice
    assert planned.aligned == 8
    known, _ = estimates(recipe(*SEVERAL), several)
    # The rows of a smaller setting are taken to be as long as the mean row.
    assert known[0].finetune_tokens == pytest.approx(sum(record["tokens"] for record in trained), rel=0.01)
