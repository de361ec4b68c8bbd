"""The calls of a Python user: they give what the command line gives, as objects."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from ruamel.yaml import YAML

import curator
from curator.run import Made
from tests.small_run import QUICKSTART, SMALL

UNTIL_SELECT = [*SMALL, "pool.sources.0.rows=120", "select.k=8"]


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> curator.Result:
    root = tmp_path_factory.mktemp("api") / "run"
    return curator.build(QUICKSTART, out=root, settings=UNTIL_SELECT, until="select")


def test_a_choice_alone_gives_its_rows_and_no_report(chosen: curator.Result) -> None:
    rows = chosen.rows
    assert rows["rank"].to_list() == list(range(1, 9))
    assert tuple(rows["id"]) == chosen.selection.ids
    assert {"messages", "category", "source", "gain", "similarity"} <= set(rows.columns)
    assert set(chosen.sets.filter(pl.col("arm") == "curated")["id"]) == set(rows["id"])
    for part in ("report", "decision", "dataset", "verdicts"):
        with pytest.raises(curator.CuratorError, match="not finished"):
            getattr(chosen, part)


def test_a_finished_run_is_read_as_what_its_report_says(plain_run: Path) -> None:
    run = curator.load(plain_run)
    told = json.loads((plain_run / "8-report" / "report.json").read_text())
    assert run.decision.outcome == told["decision"]["outcome"]
    assert run.decision.sentence == told["decision"]["sentence"]
    assert run.report.name == told["name"]
    assert run.page.is_file()
    assert (run.dataset / "README.md").is_file()
    assert "answer" not in run.verdicts.columns
    assert set(run.verdicts["judge"]) == {"exact", "phrases"}
    figures = run.figures()
    assert set(figures) == {"seeds", "distribution", "coverage", "gains"}
    assert figures["seeds"].height == told["decision"]["primary"]["seeds"]
    assert figures["gains"]["value"].is_sorted()
    shares = figures["distribution"].group_by("task", "set").agg(pl.col("share").sum())["share"]
    assert shares.to_list() == pytest.approx([1.0] * shares.len(), abs=1e-5)


def test_a_recipe_may_be_a_file_a_mapping_or_a_recipe(tmp_path: Path) -> None:
    as_file = curator.check(QUICKSTART, settings=UNTIL_SELECT, out=tmp_path).recipe
    mapping: Mapping[str, Any] = YAML(typ="safe").load(QUICKSTART.read_text(encoding="utf-8"))
    as_mapping = curator.check(mapping, settings=UNTIL_SELECT, out=tmp_path).recipe
    assert as_file == as_mapping == curator.check(as_file, out=tmp_path).recipe
    assert curator.check(as_file, settings=["select.k=9"], out=tmp_path).recipe.select.k == 9


def test_check_gives_plan_and_cost_and_names_every_problem(tmp_path: Path) -> None:
    checked = curator.check(QUICKSTART, out=tmp_path)
    assert checked.recipe.name == "quickstart"
    assert {"arms", "time", "trainings"} & set(checked.plan)
    assert checked.estimates
    assert not list(tmp_path.iterdir())
    with pytest.raises(curator.CuratorError) as refused:
        curator.check(QUICKSTART, settings=["select.k=0", "seed=minus"])
    assert "select" in str(refused.value)
    assert "seed" in str(refused.value)


def test_what_yaml_cannot_hold_and_a_stage_that_is_none_are_said(tmp_path: Path) -> None:
    with pytest.raises(curator.CuratorError, match="as in a recipe file"):
        curator.check({"name": "odd", "model": object()})
    with pytest.raises(curator.CuratorError, match="allowed: base, pool"):
        curator.build(QUICKSTART, out=tmp_path / "run", until="choose")
    with pytest.raises(curator.CuratorError, match="not a run folder"):
        curator.load(tmp_path)


class Heard:
    """What a build says of itself."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def progress(self, stage: str, done: int, total: int) -> None:
        assert 0 <= done <= total

    def finished(self, stage: str, made: Made) -> None:
        self.stages.append(stage)


def test_progress_goes_to_an_object_or_to_nobody(chosen: curator.Result, capsys: pytest.CaptureFixture[str]) -> None:
    heard = Heard()
    curator.build(QUICKSTART, out=chosen.root, settings=UNTIL_SELECT, until="select", progress=heard)
    assert heard.stages == ["base", "pool", "represent", "scores", "select"]
    curator.build(QUICKSTART, out=chosen.root, settings=UNTIL_SELECT, until="select")
    assert capsys.readouterr().out == ""
    curator.build(QUICKSTART, out=chosen.root, settings=UNTIL_SELECT, until="select", progress=True)
    assert "select" in capsys.readouterr().out


def test_a_set_whose_decision_speaks_against_it_is_not_sent(plain_run: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(plain_run, root)
    file = root / "8-report" / "report.json"
    told = json.loads(file.read_text())
    told["decision"]["outcome"] = "worse"
    file.write_text(json.dumps(told))
    with pytest.raises(curator.CuratorError, match="nothing was pushed"):
        curator.load(root).publish("owner/name")


def test_an_audit_is_an_object_and_a_folder_only_where_one_is_named(tmp_path: Path) -> None:
    lines = [{"prompt": f"May I open gate {number}?", "response": "I'm sorry, I cannot."} for number in range(30)]
    corpus, task = tmp_path / "corpus.jsonl", tmp_path / "task.jsonl"
    for path in (corpus, task):
        path.write_text("\n".join(map(json.dumps, lines)))
    before = set(tmp_path.iterdir())
    report = curator.audit(corpus, tasks=[task], embedder=None)
    assert "canned-answer" in {finding.kind for finding in report.findings}
    assert set(tmp_path.iterdir()) == before
    curator.audit(corpus, tasks=[task], embedder=None, out=tmp_path / "audit")
    written = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert len(written["findings"]) == len(report.findings)
    assert (tmp_path / "audit" / "audit.html").is_file()
