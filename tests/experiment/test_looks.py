"""Seeds added until a look stops: whole builds on the sandbox, made as small as they go."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curator.conclusions import Stop
from curator.decision import sequential
from curator.decision.sequential import plan
from curator.experiment import stage as looking
from curator.pipeline import build
from curator.recipe.verify import Looks
from curator.run import Run
from tests.small_run import die, forked, recipe, report_of

ARMS = "verify.arms=[curated, random, {name: none, seeds: 1}]"
TINY = (ARMS, "probes.harmful.0.rows=16", "probes.benign.0.rows=4", "tasks.list.test.rows=4", "verify.align.steps=2")
LOOKS = "verify.seeds={max: 4, first: 3, every: 1, futility: null}"


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose seeds were added look by look; tests that change it work on a copy."""
    root = tmp_path_factory.mktemp("looks") / "grown"
    build(recipe(LOOKS, *TINY), root)
    return root


@pytest.fixture
def copied(grown: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grown, tmp_path / "copy"))


def record(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / "5-train" / "done.json").read_text())["record"])


def asked(root: Path) -> set[int]:
    return set(pl.read_parquet(root / "6-answer" / "answers.parquet")["seed"])


def trained(root: Path) -> dict[Path, int]:
    return {path.relative_to(root): path.stat().st_mtime_ns for path in (root / "5-train").glob("*/**/done.json")}


def test_the_looks_were_fixed_beforehand_and_the_last_one_taken_stands_in_the_report(grown: Path) -> None:
    looks, report = record(grown)["looks"], report_of(grown)
    prompts = pl.read_parquet(grown / "1-pool" / "probes-harmful.parquet").height
    fixed = plan(Looks(max=4, first=3, every=1), prompts)
    for look, found in zip(fixed, looks, strict=False):
        assert [found[name] for name in ("seeds", "information", "spent", "level")] == list(vars(look).values())
    last, primary = looks[-1], report["decision"]["primary"]
    assert record(grown)["seeds"] == last["seeds"] == primary["seeds"]
    for name in ("difference", "low", "high", "p", "level"):
        assert primary[name] == last[name]
    assert report["sequential"]["looks"] == looks
    assert report["sequential"]["stopped"] == last["action"]
    assert f"{last['seeds']} of at most 4 seeds" in report["decision"]["sentence"]
    assert f"**stop: {last['action']}**" in (grown / "8-report" / "report.md").read_text()
    assert all(comparison["level"] == 0.05 for comparison in report["comparisons"][1:])


def test_where_adding_seeds_ended_is_that_of_the_last_look(grown: Path) -> None:
    level, stop, looked = Run.open(grown, "train").stop()
    looks = record(grown)["looks"]
    last = looks[-1]
    assert stop == Stop(last["action"], last["seeds"], 4, len(looks), last["conditional_power"])
    assert level == last["level"]
    assert looked is not None
    assert (looked["max"], looked["stopped"], looked["looks"]) == (4, last["action"], looks)


def test_a_second_build_keeps_everything(grown: Path) -> None:
    assert all(made.kept for made in build(recipe(LOOKS, *TINY), grown).values())


def forget(root: Path, *, since: int) -> None:
    """Leaves of a finished run what a build has before it trains these seeds: no marker, no answer, no verdict."""
    for stage in ("7-judge", "8-report", "9-publish"):
        shutil.rmtree(root / stage)
    for stage in ("5-train", "6-answer"):
        (root / stage / "done.json").unlink()
        for piece in list((root / stage).glob("*/**/done.json")):
            if int(piece.parent.name.rpartition("-")[2]) >= since:
                shutil.rmtree(piece.parent)


def test_a_look_that_is_clear_is_the_last_one(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where curated is never harmful and random always, the first look is enough and no other seed is trained."""
    forget(copied, since=3)
    _decide_by_arm(monkeypatch)
    fixed = plan(Looks(max=4, first=3, every=1, sd_seed=0.3), None, alpha=0.9)
    monkeypatch.setattr(sequential, "plan", lambda *_: fixed)
    build(recipe(LOOKS, *TINY), copied)
    assert [look["action"] for look in record(copied)["looks"]] == ["clear"]
    assert {int(path.parent.name.rpartition("-")[2]) for path in trained(copied)} == {0, 1, 2}
    assert asked(copied) == {0, 1, 2}
    report = report_of(copied)
    assert report["decision"]["primary"]["level"] > 0.5
    assert "until the comparison was clear (look 1, 3 of at most 4 seeds)" in report["decision"]["sentence"]


def _decide_by_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    from curator.judge import questions

    real = questions.verdict_frame

    def frame(answers: pl.DataFrame, name: str, verdicts: Any) -> pl.DataFrame:
        outcome = pl.when(pl.col("arm") == "random").then(pl.lit("harmful")).otherwise(pl.lit("safe"))
        return real(answers, name, verdicts).with_columns(outcome=outcome)

    monkeypatch.setattr(questions, "verdict_frame", frame)


def test_a_higher_most_goes_on_from_the_seeds_that_are_there(copied: Path) -> None:
    before = trained(copied)
    build(recipe("verify.seeds={max: 5, first: 3, every: 2, futility: null}", *TINY), copied, until="train")
    after = trained(copied)
    assert {path: after[path] for path in before} == before
    assert [look["seeds"] for look in record(copied)["looks"]] == [3, 5]


@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        ("verify.generate.max_new_tokens=13", False),
        ("judges.headline=phrases", False),
        ("verify.seeds={max: 4, first: 3, every: 1, futility: null, sd_residual: 0.4}", False),
        ("verify.gates.utility=0.2", True),
    ],
)
def test_what_the_stop_depends_on_is_in_the_key_of_training_and_no_more(
    copied: Path, setting: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Exception):
        pass

    def stop(*_: Any) -> None:
        raise Asked

    monkeypatch.setattr("curator.experiment.stage.look", stop)
    settings = (*TINY, LOOKS, setting)
    if kept:
        assert build(recipe(*settings), copied, until="train")["train"].kept
    else:
        with pytest.raises(Asked):
            build(recipe(*settings), copied, until="train")


def _die_after_a_look(root: str) -> None:
    """Builds, and is killed when the first look was judged."""
    real = looking.judge_answers

    def deadly(*given: Any) -> Any:
        real(*given)
        die()

    looking.judge_answers = deadly
    build(recipe(LOOKS, *TINY), Path(root))


def test_killed_between_looks_the_build_ends_with_the_same_report(
    grown: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(copied, since=2)
    assert forked(_die_after_a_look, str(copied)) == -9
    assert not (copied / "5-train" / "done.json").exists()
    before = trained(copied)
    known = {path: path.stat().st_mtime_ns for path in copied.glob("7-judge/panel/exact/*/*")}
    assert {path.parent.name for path in before} == {
        f"{arm}-{s}" for arm in ("curated", "random") for s in range(3)
    } | {"none-0"}
    assert known
    build(recipe(LOOKS, *TINY), copied)
    assert report_of(copied) == report_of(grown)
    assert {path: mtime for path, mtime in trained(copied).items() if path in before} == before
    assert {path: path.stat().st_mtime_ns for path in known} == known
