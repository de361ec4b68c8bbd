"""What a recipe may say of a bank, and how long a budget lets it be."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from curator.errors import RecipeError
from curator.recipe import scores_of, share
from curator.recipe.bank import LEAST, Bank, affordable, seconds_of
from curator.recipe.file import dump, parse
from curator.recipe.halves import scores_of_models
from tests.small_run import recipe

BY_BANK = ("select.by=bank", "select.weight=null")


def test_a_recipe_by_a_bank_keeps_probes_for_it_and_survives_being_written_out() -> None:
    found = recipe(*BY_BANK, "verify.pilot={bank: {mixtures: 9, budget: 20 min}, share_of_probes: 0.4}")
    assert parse(dump(found)) == found
    assert found.select.piloted
    assert share(found) == 0.4
    assert not scores_of(found)
    assert found.verify.pilot.bank.seconds == 1200


def test_a_bank_is_asked_about_the_scores_of_its_pilot() -> None:
    found = recipe(
        *BY_BANK, "verify.pilot={scores: [{from: own-distribution}, {from: cosine, n: 3}], bank: {draws: 4}}"
    )
    assert [score.kind for score in scores_of(found)] == ["own-distribution", "cosine"]
    assert [score.kind for score in scores_of_models(found)] == ["own-distribution"]
    with pytest.raises(RecipeError, match=r"`of` of a rank-sum, or to verify\.pilot\.scores"):
        recipe(*BY_BANK, "select.vulnerable={share: 0.5}", "verify.pilot={bank: {draws: 4}}")


UNREAD = [
    (["select.by=bank", "select.weight=0.3"], "select: weight has no effect: by: bank chooses the rows without it"),
    (
        [*BY_BANK, "verify.pilot={weights: [0.5]}"],
        "verify: pilot.weights has no effect: only select.weight: auto reads it, and",
    ),
    (
        [*BY_BANK, "verify.pilot={random_draws: 3}"],
        "verify: pilot.random_draws has no effect: only select.weight: auto reads it",
    ),
    (
        ["verify.pilot={bank: {mixtures: 9}}"],
        "verify: pilot.bank has no effect: only select.by: bank reads it; remove it",
    ),
    (
        ["select.weight=auto", "verify.pilot={bank: {mixtures: 9}}"],
        "verify: pilot.bank has no effect: only select.by: bank reads it",
    ),
    (
        [*BY_BANK, "verify.regime={share_of_probes: 0.2}"],
        "verify: regime.share_of_probes has no effect: with select.by: bank",
    ),
]


@pytest.mark.parametrize(("settings", "sentence"), UNREAD)
def test_what_a_bank_leaves_unread_is_refused(settings, sentence) -> None:
    with pytest.raises(RecipeError) as error:
        recipe(*settings)
    assert sentence in str(error.value)


def test_a_bank_chooses_rows_and_data_gives_them() -> None:
    with pytest.raises(RecipeError, match="by: bank chooses rows by trials, and data gives them"):
        recipe("select={by: bank, data: {file: rows.jsonl}}")


def test_a_bank_runs_on_anticipated_tasks_alone() -> None:
    task = "train: {sandbox: list}, rows: 40, metric: exact"
    other = f"tasks=[{{name: list, {task}}}, {{name: more, {task}, weight: 3}}, {{name: new, {task}, "
    other += "anticipated: false}]"
    with pytest.raises(RecipeError, match=r"pilot\.bank\.tasks names 'new', which is not an anticipated task; allowed"):
        recipe(*BY_BANK, other, "verify.pilot={bank: {tasks: [new]}}")
    found = recipe(*BY_BANK, other, "verify.pilot={bank: {tasks: [more]}}")
    assert found.verify.pilot.bank.mix(found.weights()) == {"more": 1.0}
    assert Bank().mix(found.weights()) == {"list": 0.25, "more": 0.75}


def test_the_best_random_draw_and_openers_from_the_pilot_come_with_a_bank() -> None:
    found = recipe(*BY_BANK, "verify.arms=[curated, random, best-random]", "verify.log_odds=pilot")
    assert found.verify.log_odds is not None


@pytest.mark.parametrize(("text", "seconds"), [("20 min", 1200), ("1.5 h", 5400), ("90 s", 90), ("2h", 7200)])
def test_a_budget_is_a_time(text, seconds) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["20", "0 min", "twenty min", "20 minutes", "-3 h", "1 h 30 min", ""])
def test_any_other_text_is_refused_with_an_example(text) -> None:
    with pytest.raises(ValidationError, match="allowed: a time above 0 in s, min or h, for example 20 min"):
        Bank(budget=text)


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="duplicate value 'opener' in groupings; remove one"):
        Bank(groupings=["opener", "opener"])


def test_as_many_mixtures_as_fit_beside_the_rest_within_their_limits() -> None:
    assert affordable(100, mixture=4, beside=20, most=60) == 20
    assert affordable(10_000, mixture=4, beside=20, most=60) == 60
    assert affordable(1, mixture=4, beside=20, most=60) == LEAST
    assert affordable(1, mixture=4, beside=20, most=5) == 5
