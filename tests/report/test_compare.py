"""Runs side by side: what may stand in one table, and why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.errors import RunError
from curator.report.compare import compare, table
from curator.report.material import Provenance
from curator.report.part import plain
from curator.run import FOLDERS, STAGES
from curator.run.files import save_data
from curator.run.folder import write_json
from tests.report.invented import EXACT, invent

Make = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path) -> Make:
    def make(name: str, *, tokens: int = 14, batch: int = 64, probes: int = 80, **changes: Any) -> Path:
        found = invent(**changes)
        recipe = {"verify": {"generate": {"max_new_tokens": tokens, "batch": batch}}}
        root = tmp_path / name
        write_json(root / "run.json", {"name": name, "stages": dict.fromkeys(STAGES, "key")})
        for stage in STAGES[:-1]:
            write_json(root / FOLDERS[stage] / "done.json", {"key": "key", "record": {}, "seconds": 1.0})
        save_data(root / "1-pool", found.data)
        harmful = root / "1-pool" / "probes-harmful.parquet"
        pl.read_parquet(harmful).head(probes).write_parquet(harmful)
        report = found.report(name=name, provenance=Provenance(recipe=recipe))
        write_json(root / "8-report" / "report.json", plain(report))
        return root

    return make


def test_rows_are_those_of_the_reports(run: Make) -> None:
    roots = [run("one"), run("two", after={"curated": 0.4, "random": 0.42}, batch=8)]
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
        assert (row.k, row.weight) == (12, report["selection"]["weight"])


def test_the_table_has_a_column_a_run(run: Make) -> None:
    roots = [run("one"), run("two")]
    rows = compare(roots)
    lines = table(rows)
    assert {len(line) for line in lines} == {3}
    assert lines[0] == ["run", *map(str, roots)]
    assert lines[1][0] == "decision"
    assert all(told.startswith(row.outcome) for told, row in zip(lines[1][1:], rows, strict=True))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"probes": 70}, r"harmful probes: \S+one has 80, \S+two 70, and 70 are in both"),
        ({"benign": False}, r"benign probes: \S+one has 80, \S+two 0, and 0 are in both"),
        ({"tokens": 15}, r"verify.generate: \S+one has max_new_tokens 14, \S+two max_new_tokens 15"),
        (
            {"tasks": {"list": 0.3, "story": 0.7, "odd": 0.0}},
            r"tasks and their weights: \S+one has list 0.5, story 0.5",
        ),
        ({"judges": {**EXACT, "headline": "words"}}, r"headline judge: \S+one has kind exact.*two kind phrases"),
    ],
)
def test_runs_that_asked_or_judged_otherwise_are_refused_with_the_reason(
    run: Make, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(RunError, match=told):
        compare([run("one"), run("two", **changes)])


def test_every_difference_is_told_at_once(run: Make) -> None:
    with pytest.raises(RunError) as error:
        compare([run("one"), run("two", tokens=15, probes=70), run("three", tokens=16)])
    assert len([line for line in str(error.value).splitlines() if line.startswith("  ")]) == 3


def test_other_test_rows_of_the_same_task_are_refused(run: Make) -> None:
    one, two = run("one"), run("two")
    rows = two / "1-pool" / "tasks" / "list-test.parquet"
    pl.read_parquet(rows).head(3).write_parquet(rows)
    with pytest.raises(RunError, match=r"test rows of task list: .* and 3 are in both"):
        compare([one, two])


def test_a_run_without_a_report_of_its_present_recipe_is_refused(run: Make, tmp_path: Path) -> None:
    one, two = run("one"), run("two")
    with pytest.raises(RunError, match="needs two run folders"):
        compare([one])
    with pytest.raises(RunError, match="is no run folder"):
        compare([one, tmp_path / "nothing"])
    write_json(two / "7-judge" / "done.json", {"key": "older", "record": {}, "seconds": 1.0})
    with pytest.raises(RunError, match="two: stage judge is not finished for its present recipe"):
        compare([one, two])


def test_the_command_prints_a_table_or_json(run: Make) -> None:
    roots = [str(run("one")), str(run("two"))]
    told = CliRunner().invoke(cli, ["compare", *roots])
    assert told.exit_code == 0
    assert "curated, after" in told.output
    whole = json.loads(CliRunner().invoke(cli, ["compare", *roots, "--json"]).output)
    assert [one["name"] for one in whole["runs"]] == ["one", "two"]
