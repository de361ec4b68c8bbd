"""A run with prefilled openings and several answers a probe, from the recipe to the published folder."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from curator.judge.measure import sample
from curator.judge.rejudge import rejudge
from curator.pipeline import build
from curator.run import SILENT, Run
from curator.run.readers import dataset_folder
from tests.small_run import recipe, report_of

pytestmark = pytest.mark.slow

SMALL = (
    "verify.seeds=2",
    "verify.arms=[curated, random, {name: none, seeds: 1}]",
    "probes.harmful.0.rows=20",
    "probes.benign.0.rows=6",
    "tasks.list.test.rows=6",
    "probes.prefill=[0, 2]",
    "probes.opening='gladly, take'",
    "verify.generate.samples=2",
    "verify.generate.temperature=0.7",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("deep") / "run"
    build(recipe(*SMALL), root)
    return root


def test_the_figures_are_those_of_the_verdicts(root: Path) -> None:
    report, run = report_of(root), Run.open(root)
    verdicts = run.verdicts("exact")
    for rates in report["depth"]["rates"]:
        kind = "prefilled" if rates["prefill"] else "harmful"
        part = verdicts.filter(arm=rates["arm"], phase=rates["phase"], kind=kind, prefill=rates["prefill"])
        assert rates["harmful"]["scored"] == part.height == 20 * 2 * (1 if rates["arm"] == "none" else 2)
        assert rates["harmful"]["value"] == pytest.approx((part["outcome"] == "harmful").mean())
        assert rates["refused"]["value"] == pytest.approx(part["refused"].mean())
    usual = {(rates["arm"], rates["phase"]): rates for rates in report["depth"]["rates"] if not rates["prefill"]}
    for (arm, phase), rates in usual.items():
        assert rates["harmful"] == report["arms"][arm]["list"][phase]["harmfulness"]
    for flips in report["flips"]:
        part = verdicts.filter(arm=flips["arm"], phase=flips["phase"], kind="harmful")
        mixed = part.group_by("seed", "probe").agg((pl.col("outcome") == "harmful").n_unique() > 1)["outcome"]
        assert flips["share"]["value"] == pytest.approx(mixed.mean())
    # Counts, pairs of judges and comparisons are of the usual answers, each sample one of its own.
    assert sum(report["judges"]["outcomes"].values()) == verdicts.filter(kind="harmful").height
    assert report["judges"]["agreement"][0]["answers"] <= verdicts.filter(kind="harmful").height
    assert report["decision"]["primary"]["pairs"] == 2 * 20


def test_a_second_build_keeps_all_and_one_without_openings_asks_anew_and_trains_nothing(root: Path) -> None:
    before = {str(path): path.stat().st_mtime_ns for path in root.rglob("done.json")}
    build(recipe(*SMALL), root)
    assert {str(path): path.stat().st_mtime_ns for path in root.rglob("done.json")} == before
    changed = [*SMALL[:5], "probes.prefill=[]", *SMALL[7:]]
    build(recipe(*changed), root, until="answer")
    after = {str(path): path.stat().st_mtime_ns for path in root.rglob("done.json")}
    moved = {Path(path).relative_to(root).parts[0] for path in before if after.get(path) != before[path]}
    assert "6-answer" in moved
    assert not moved & {"1-pool", "2-represent", "3-scores", "4-select", "5-train"}
    build(recipe(*SMALL), root)


def test_other_judges_and_sheets_take_them_for_answers_of_their_own(root: Path) -> None:
    answers = Run.open(root).answers()
    opinion = rejudge(root, ["again=phrases"], SILENT)
    judge = next(judge for judge in opinion["judges"] if judge["name"] == "again")
    assert sum(judge["outcomes"].values()) == answers.filter(kind="harmful").height
    sheet = sample(root, 12, 0)
    assert sheet["id"].n_unique() == 24
    assert set(sheet["prompt"]) <= {messages[0]["content"] for messages in Run.open(root).data().harmful["messages"]}


def test_the_published_verdicts_name_depth_and_sample_and_hold_no_text(root: Path) -> None:
    verdicts = pl.read_parquet(dataset_folder(root) / "evidence" / "verdicts.parquet")
    assert set(verdicts["prefill"]) == {0, 2}
    assert set(verdicts.filter(pl.col("kind") != "utility")["sample"]) == {0, 1}
    assert not {"opening", "answer"} & set(verdicts.columns)
    assert "Depth of refusal" in (dataset_folder(root) / "README.md").read_text(encoding="utf-8")
