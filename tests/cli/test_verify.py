"""`curator verify --data`: whatever chooses rows in a recipe, nothing is chosen when the rows are given."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.cli.build import _given
from curator.errors import RecipeError, RunError
from curator.recipe import Recipe
from curator.recipe.file import read
from curator.recipe.select import Select
from tests.small_run import QUICKSTART

CHOOSERS = [
    "{k: 100, coverage: 0.9, prefer: similar, answers: {max_same: null, max_opener: 0.3}}",
    "{k: 100, weight: 0.3, repeats: {by: category, groups: {teas: 2}}, include: [a], exclude: [b]}",
    "{k: 100, by: bank}",
    "{k: 100, weight: auto}",
    "{k: 100, within: [category, length]}",
    "{k: 100, stochastic: 0.1}",
    "{budget_tokens: 900, quotas: {by: source, max: 9}}",
]


@pytest.mark.parametrize("section", CHOOSERS)
def test_a_given_set_takes_the_place_of_every_way_to_choose(section: str) -> None:
    select = read(QUICKSTART, [f"select={section}", *_given("mine.jsonl", piloted=True)]).select
    assert select.data is not None
    assert select.data.file == "mine.jsonl"
    assert select == Select(data=select.data)


def test_what_a_set_is_measured_by_stays() -> None:
    section = "{k: 100, objective: conditional-gain, parameters: {nu: 0.5}, neighbours: 9, weight: 2.0}"
    select = read(QUICKSTART, [f"select={section}", *_given("hub:owner/name", piloted=False)]).select
    assert select.data is not None
    assert select.data.hub == "owner/name"
    assert (select.objective, select.parameters, select.neighbours) == ("conditional-gain", {"nu": 0.5}, 9)


def test_settings_of_a_pilot_go_with_it() -> None:
    pilot = "verify.pilot={bank: {mixtures: 9}, seeds: 2}"
    recipe = read(QUICKSTART, ["select={k: 100, by: bank}", pilot, *_given("mine.jsonl", piloted=True)])
    assert not recipe.select.piloted


@pytest.mark.parametrize("data", ["", "hub:"])
def test_a_message_names_the_option_and_not_the_settings_that_it_stands_for(data: str) -> None:
    kind = "hub" if data else "file"
    with pytest.raises(RecipeError) as refused:
        CliRunner().invoke(
            cli, ["verify", str(QUICKSTART), "--data", data], standalone_mode=False, catch_exceptions=False
        )
    assert str(refused.value) == f"--data: select.data.{kind}: found ''; allowed: at least 1 character"


@pytest.mark.parametrize("floor", [0.5, 0.9])
def test_a_bank_and_a_floor_exclude_each_other_whatever_the_floor(floor: float) -> None:
    with pytest.raises(RecipeError, match="coverage has no effect: by: bank chooses the rows"):
        read(QUICKSTART, [f"select={{k: 100, by: bank, coverage: {floor}}}"])


WITHOUT = """
name: mine
model: {id: "sandbox:"}
pool: {sources: [{sandbox: safety}]}
tasks: [{name: list, train: {sandbox: list}}]
select: {k: 10}
"""


def test_a_recipe_that_verifies_nothing_lacks_its_sections_and_nothing_that_nobody_typed(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(WITHOUT)
    done = CliRunner().invoke(cli, ["verify", str(recipe), "--data", "mine.jsonl"], standalone_mode=False)
    assert isinstance(done.exception, RecipeError)
    assert done.exception.problems == tuple(
        f"{recipe}: {name}: missing; add it" for name in ("probes", "verify", "judges")
    )


@pytest.mark.parametrize("pilot", ["", "  pilot: {bank: {mixtures: 9}, seeds: 2}\n"])
def test_the_pilot_of_a_recipe_is_left_out_where_it_has_one(
    pilot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def build(recipe: Recipe, *_: object, **__: object) -> None:
        ran.append(recipe)
        raise RunError("enough")

    monkeypatch.setattr("curator.pipeline.build", build)
    recipe = tmp_path / "mine.yaml"
    text = QUICKSTART.read_text()
    assert "\nverify:\n" in text
    recipe.write_text(text.replace("\nverify:\n", f"\nverify:\n{pilot}"))
    done = CliRunner().invoke(cli, ["verify", str(recipe), "--data", "mine.jsonl"], standalone_mode=False)
    assert str(done.exception) == "enough"
    assert not ran[0].select.piloted
    assert ran[0].verify.pilot == type(ran[0].verify.pilot)()
