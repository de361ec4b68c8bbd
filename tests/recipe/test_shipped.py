"""Every recipe that comes with the project is valid, can be planned, and says what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curator.forecast.outline import outline
from curator.recipe.file import dump, parse, read

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.rglob("*.yaml"))


def test_all_recipes_are_found() -> None:
    assert [path.relative_to(FOLDER).as_posix() for path in RECIPES] == [
        "llama.yaml",
        "paper/gemma-2-2b.yaml",
        "paper/gemma-2-9b.yaml",
        "paper/llama-2-13b.yaml",
        "paper/llama-2-7b.yaml",
        "paper/sandbox/kingdom.yaml",
        "quickstart.yaml",
        "sandbox-bank.yaml",
        "sandbox-choice.yaml",
        "sandbox-overnight.yaml",
        "sandbox-study.yaml",
        "size/full-0.8m.yaml",
        "size/full-60m.yaml",
        "size/full-8m.yaml",
        "size/lora-0.8m.yaml",
        "size/lora-60m.yaml",
        "size/lora-8m.yaml",
        "smollm2-bank.yaml",
        "smollm2-choice.yaml",
        "smollm2-contrast.yaml",
        "smollm2-floor.yaml",
        "smollm2-similar.yaml",
        "smollm2-study.yaml",
        "smollm2.yaml",
    ]


def test_the_size_studys_recipes_differ_in_base_method_rates_and_processes_alone() -> None:
    def rest(path: Path) -> dict[str, Any]:
        recipe = read(path).model_dump()
        for part in ("align", "finetune"):
            del recipe["verify"][part]["learning_rate"]
        method = recipe["verify"]["finetune"].pop("method")
        assert recipe["name"] == path.stem == f"{method}-{recipe['model']['id'].removeprefix('outputs/base-')}"
        return recipe | {"name": "", "model": "", "engine": ""}

    first, *others = (rest(path) for path in RECIPES if path.parent.name == "size")
    assert len(others) == 5
    assert all(other == first for other in others)


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
def test_a_bank_whose_log_odds_are_promised_measures_them(path: Path) -> None:
    recipe = read(path)
    section = recipe.verify.log_odds
    assert recipe.select.by != "bank" or section is None or section.kind == "recipe"


@pytest.mark.parametrize("path", [path for path in RECIPES if "paper" in path.parts], ids=lambda path: path.stem)
def test_a_recipe_of_the_papers_suite_names_its_sizes(path: Path) -> None:
    suite = read(path).suite
    assert suite is not None
    assert len(suite.k) == 2


def test_the_papers_recipes_differ_in_the_model_alone() -> None:
    papers = [read(path) for path in RECIPES if path.parent.name == "paper"]
    assert len({recipe.model.id for recipe in papers}) == len(papers) == 4
    first, *others = ({**recipe.model_dump(), "name": "", "model": None} for recipe in papers)
    for other in others:
        other["verify"]["generate"]["batch"] = first["verify"]["generate"]["batch"]
        assert other == first


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_its_purpose_its_needs_and_how_to_run_it(path: Path) -> None:
    head = path.read_text(encoding="utf-8").partition("name:")[0]
    for word in ("# Purpose: ", "# Needs: ", f"# Run:     curator build recipes/{path.relative_to(FOLDER).as_posix()}"):
        assert word in head
