"""Run folders that an earlier version made are still read, and keys of unchanged recipes have not moved.

`golden/run-0.1.0.tar.gz` is a small run of the quickstart that version 0.1.0 made, without its weights and vectors.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from curator.cli import cli
from curator.records import ANSWER_SCHEMA
from curator.run.files import load_answers

GOLDEN = Path(__file__).parent / "golden" / "run-0.1.0.tar.gz"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    root = tmp_path / "earlier"
    with tarfile.open(GOLDEN) as archive:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4 has it first
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(root)
    return root


def run(*words: str | Path) -> Result:
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def test_show_prints_its_decision_and_its_report(earlier: Path) -> None:
    report = json.loads((earlier / "8-report" / "report.json").read_text())
    assert report["decision"]["outcome"] in run("show", earlier).output.lower()
    shown = json.loads(run("show", earlier, "--json").output)
    assert shown == report


def test_its_answers_are_the_first_and_only_ones_and_begin_with_no_opening(earlier: Path) -> None:
    answers = load_answers(earlier / "6-answer" / "answers.parquet")
    assert dict(answers.schema) == ANSWER_SCHEMA
    assert answers.select("prefill", "sample").unique().rows() == [(0, 0)]
    assert answers["opening"].null_count() == answers.height > 0


def test_show_says_why_a_row_was_chosen(earlier: Path) -> None:
    chosen = json.loads((earlier / "2-represent" / "pool.json").read_text())["ids"][0]
    assert chosen in run("show", earlier, "--why", chosen).output


def test_compare_sets_it_beside_another_run(earlier: Path, tmp_path: Path) -> None:
    shutil.copytree(earlier, tmp_path / "other")
    first, second = json.loads(run("compare", earlier, tmp_path / "other", "--json").output)["runs"]
    assert first["treatment"] == second["treatment"] is not None


def test_publish_shows_what_it_would_send(earlier: Path) -> None:
    told = json.loads(run("publish", earlier, "owner/name", "--json").output)
    assert "data/curated/train-00000-of-00001.parquet" in told["files"]


def test_another_judge_reads_its_answers(earlier: Path) -> None:
    told = json.loads(run("judge", "run", earlier, "--judge", "exact", "--judge", "second=phrases", "--json").output)
    by_name = {judge["name"]: judge for judge in told["judges"]}
    assert by_name["exact"]["kept"]
    assert not by_name["second"]["kept"]
    # The same phrases as the run's own judge: what they say now is what they said then.
    assert by_name["second"]["outcomes"] == by_name["phrases"]["outcomes"]
    assert by_name["second"]["difference"] == by_name["phrases"]["difference"]
