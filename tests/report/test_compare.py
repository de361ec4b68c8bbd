"""Runs side by side: what may stand in one table, and why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.conclusions.part import plain
from curator.errors import RunError
from curator.pipeline import build
from curator.report.compare import compare, table
from curator.report.model import read_report
from curator.run.folder import write_json
from tests.report.invented import changed
from tests.small_run import recipe

Make = Callable[..., Path]


@pytest.fixture
def run(plain_run: Path, tmp_path: Path) -> Make:
    """Copies of a real run, without its weights; `parts` of its report may be changed."""

    def make(name: str, **parts: Any) -> Path:
        root = Path(shutil.copytree(plain_run, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors")))
        file = root / "8-report" / "report.json"
        write_json(file, plain(changed(read_report(file), name=name, **parts)))
        return root

    return make


def asked(rows: Path, count: int) -> None:
    """Leaves so many of the rows that a run asked."""
    pl.read_parquet(rows).head(count).write_parquet(rows)


def told_otherwise(root: Path, **settings: Any) -> dict[str, Any]:
    """The report's provenance with other settings of `verify.generate`."""
    provenance = json.loads((root / "8-report" / "report.json").read_text())["provenance"]
    provenance["recipe"]["verify"]["generate"] |= settings
    return dict(provenance)


def test_rows_are_those_of_the_reports(run: Make, plain_run: Path) -> None:
    roots = [run("one"), run("two", provenance=told_otherwise(plain_run, batch=8))]
    for root, row in zip(roots, compare(roots), strict=True):
        report = json.loads((root / "8-report" / "report.json").read_text())
        primary = report["decision"]["primary"]
        assert (row.run, row.name, row.outcome) == (str(root), root.name, report["decision"]["outcome"])
        for name in ("difference", "low", "high", "level", "seeds"):
            assert getattr(row, name) == primary[name]
        for side in ("treatment", "control"):
            rates = report["arms"][primary[side]]["anticipated"]
            assert plain(getattr(row, side).before) == rates["before"]["harmfulness"]
            assert plain(getattr(row, side).after) == rates["after"]["harmfulness"]
        assert (row.k, row.weight) == (20, report["selection"]["weight"])


def test_the_table_has_a_column_a_run(run: Make) -> None:
    roots = [run("one"), run("two")]
    rows = compare(roots)
    lines = table(rows)
    assert {len(line) for line in lines} == {3}
    assert lines[0] == ["run", *map(str, roots)]
    assert lines[1][0] == "decision"
    assert all(told.startswith(row.outcome) for told, row in zip(lines[1][1:], rows, strict=True))


def test_runs_that_answered_otherwise_are_refused_with_the_reason(run: Make, plain_run: Path) -> None:
    other = run("two", provenance=told_otherwise(plain_run, max_new_tokens=15))
    with pytest.raises(
        RunError, match=r"verify.generate: \S+one has max_new_tokens 14,.* \S+two has max_new_tokens 15"
    ):
        compare([run("one"), other])


@pytest.mark.parametrize(
    ("kind", "left", "told"),
    [
        ("harmful", 20, r"harmful probes: \S+one has 30, \S+two has 20, and both share 20"),
        ("benign", 0, r"benign probes: \S+one has 15, \S+two has 0, and both share 0"),
    ],
)
def test_runs_that_asked_other_probes_are_refused(run: Make, kind: str, left: int, told: str) -> None:
    one, two = run("one"), run("two")
    asked(two / "1-pool" / f"probes-{kind}.parquet", left)
    with pytest.raises(RunError, match=told):
        compare([one, two])


def test_other_weights_of_the_tasks_are_refused(run: Make, plain_run: Path) -> None:
    (task,) = json.loads((plain_run / "8-report" / "report.json").read_text())["tasks"]
    with pytest.raises(RunError, match=r"tasks and their weights: \S+one has list 1, \S+two has list 0.5"):
        compare([run("one"), run("two", tasks=[{**task, "weight": 0.5}])])


def test_other_settings_of_a_task_and_another_case_are_refused(run: Make, plain_run: Path) -> None:
    design = json.loads((plain_run / "8-report" / "report.json").read_text())["design"]
    setting = {"task": "list", "learning_rate": 1e-4, "method": "full", "rows": 20, "steps": 2.0}
    settings = [{"name": name, "weight": 0.5, **setting} for name in ("list", "list@rows=20")]
    with pytest.raises(RunError, match=r"tasks and their weights: .* has list 1, .* list 0.5, list@rows=20 0.5"):
        compare([run("one"), run("two", design={**design, "settings": settings})])
    with pytest.raises(RunError, match=r"decision: .* has over mean, .* over worst"):
        compare([run("three"), run("four", decision={"worst": {"cases": []}})])


def test_another_headline_judge_is_refused(run: Make) -> None:
    one, two = run("one"), run("two")
    build(recipe("judges.headline=phrases"), two, until="report")
    with pytest.raises(RunError, match=r"headline judge: \S+one has kind exact.*two has kind phrases"):
        compare([one, two])


def test_every_difference_is_told_at_once(run: Make, plain_run: Path) -> None:
    one, two, three = (
        run(name, provenance=told_otherwise(plain_run, max_new_tokens=tokens))
        for name, tokens in (("one", 14), ("two", 15), ("three", 16))
    )
    asked(two / "1-pool" / "probes-harmful.parquet", 20)
    with pytest.raises(RunError) as error:
        compare([one, two, three])
    assert len([line for line in str(error.value).splitlines() if line.startswith("  ")]) == 3


def test_other_test_rows_of_the_same_task_are_refused(run: Make) -> None:
    one, two = run("one"), run("two")
    asked(two / "1-pool" / "tasks" / "list-test.parquet", 3)
    with pytest.raises(RunError, match=r"test rows of task 'list': .* and both share 3"):
        compare([one, two])


def test_a_run_without_a_report_of_its_present_recipe_is_refused(run: Make, tmp_path: Path) -> None:
    one, two = run("one"), run("two")
    with pytest.raises(RunError, match="give at least two run folders"):
        compare([one])
    with pytest.raises(RunError, match="is not a run folder"):
        compare([one, tmp_path / "nothing"])
    build(recipe("judges.headline=phrases"), two, until="pool")
    with pytest.raises(RunError, match="two: the stage `report` is not finished for the current recipe"):
        compare([one, two])


def test_the_command_prints_a_table_or_json(run: Make) -> None:
    roots = [str(run("one")), str(run("two"))]
    told = CliRunner().invoke(cli, ["compare", *roots])
    assert told.exit_code == 0
    assert "curated, after" in told.output
    whole = json.loads(CliRunner().invoke(cli, ["compare", *roots, "--json"]).output)
    assert [one["name"] for one in whole["runs"]] == ["one", "two"]
