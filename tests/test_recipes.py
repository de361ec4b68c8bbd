"""Every recipe that comes with the project is valid, can be planned, and says what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from curator.recipe_file import dump, parse, read
from curator.steps.outlining import outline

FOLDER = Path(__file__).parent.parent / "recipes"
RECIPES = sorted(FOLDER.rglob("*.yaml"))


def test_all_recipes_are_found() -> None:
    assert [path.relative_to(FOLDER).as_posix() for path in RECIPES] == [
        "llama.yaml",
        "quickstart.yaml",
        "sandbox-overnight.yaml",
        "sandbox-study.yaml",
    ]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_survives_being_written_out(path: Path) -> None:
    recipe = read(path)
    assert recipe.name == path.stem
    assert parse(dump(recipe)) == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_can_be_planned(path: Path) -> None:
    planned = outline(read(path))
    assert all(planned.values())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_its_purpose_its_needs_and_how_to_run_it(path: Path) -> None:
    head = path.read_text(encoding="utf-8").partition("name:")[0]
    for word in ("# Purpose: ", "# Needs: ", f"# Run:     curator build recipes/{path.relative_to(FOLDER).as_posix()}"):
        assert word in head
