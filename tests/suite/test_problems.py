"""A suite tells before its first run what stops recipes that are run later."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.suite.run import Outcome, problems
from tests.suite.small_suite import SMALL, folder

HEADLESS = SMALL.replace("name: small", "name: headless").replace("refusal: phrases", "embedding: nowhere/head")
MISSPELT = SMALL.replace("name: small", "name: misspelt").replace("weight: 0.3", "wieght: 0.3")
SAME = SMALL.replace("misdeeds", "letter")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return folder(Path("recipes"), headless=HEADLESS, misspelt=MISSPELT)


def test_every_recipe_is_checked_as_check_does_and_good_ones_are_not_named(place: Path) -> None:
    found = problems(place, Path("out"))
    assert list(found) == ["recipes/headless.yaml", "recipes/misspelt.yaml"]
    for file, faults in found.items():
        listed = CliRunner().invoke(cli, ["check", file]).exception
        assert all(fault in str(listed) for fault in faults)
    assert "nowhere/head" in found["recipes/headless.yaml"][0]
    assert "wieght" in found["recipes/misspelt.yaml"][0]


def test_settings_and_only_are_those_of_the_suite(place: Path) -> None:
    assert problems(place, Path("out"), only=["small"]) == {}
    head = "judges.panel=[{name: exact, sandbox: exact}]"
    assert list(problems(place, Path("out"), settings=[head], only=["headless", "small"])) == []


def test_two_runs_of_one_name_are_a_problem(tmp_path: Path) -> None:
    place = folder(tmp_path / "recipes", same=SAME)
    assert {Path(file).stem for file in problems(place, tmp_path)} == {"same", "small"}


def test_a_recipe_whose_runs_are_finished_is_not_looked_at(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(problems.__globals__, "standing", lambda variant, _root: Outcome(variant, "done"))
    assert problems(place, Path("out")) == {}


def test_they_are_told_before_anything_is_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_suite(*_: object, **__: object) -> list[Outcome]:
        raise SystemExit(9)

    monkeypatch.setattr("curator.suite.run_suite", run_suite)
    begun = CliRunner().invoke(cli, ["suite", str(place)])
    assert begun.exit_code == 9
    assert "2 recipes with problems" in begun.stderr
    assert all(word in begun.stderr for word in ("wieght", "nowhere/head"))
