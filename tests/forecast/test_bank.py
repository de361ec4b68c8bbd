"""What a bank costs before it runs, and how a budget sizes it, once for all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curator.forecast.bank import short, sized, unseen
from curator.forecast.estimate import estimates, mixtures, shortages
from curator.forecast.models import unusual
from curator.forecast.outline import outline
from curator.forecast.workload import bank_plan, pilot_grid
from curator.pipeline import _mixtures
from curator.recipe import Recipe
from curator.recipe.bank import GROUPINGS, LEAST
from curator.run import Run
from curator.run.folder import write_json
from curator.wording import duration
from tests.small_run import recipe

NOTHING = Path("no run here")
BANK = "mixtures: 20, draws: 4, seeds: 2, candidates: 4"
BY_BANK = ("select.by=bank", "select.weight=null", f"verify.pilot={{bank: {{{BANK}}}, seeds: 3}}")


def test_a_bank_costs_a_training_of_each_set_and_seed_and_its_confirmation_comes_on_top() -> None:
    (found,), words = estimates(recipe(*BY_BANK), NOTHING)
    (plain,), _ = estimates(recipe(), NOTHING)
    assert found.aligned == plain.aligned
    assert found.bank is not None
    assert (found.bank.aligned, found.bank.finetuned, found.bank.seeds) == (48, 48, 2)
    assert found.bank.align_rows == 48 * 2 * 40
    assert found.bank.answers == 96 * 9  # 30% of 30 probes
    assert found.pilot is not None
    # 4 candidates and 4 draws on 3 seeds, then 2 and 2 on 6 of which 3 are there already.
    assert (found.pilot.aligned, found.pilot.seeds) == (8 * 3 + 4 * 3, 6)
    assert words["bank"].startswith("in addition to the figures above: alignment 48 runs")
    assert "20 mixtures and 4 random draws; disk for weights" in words["bank"]
    assert "alignment 36 runs" in words["confirmation"]
    told = outline(recipe(*BY_BANK))["selected"]
    assert f"a bank of 20 mixtures over those of {', '.join(GROUPINGS)} that divide the candidates, and 4" in told
    single = f"verify.pilot={{bank: {{{BANK}, groupings: [opener]}}, seeds: 3}}"
    assert "a bank of 20 mixtures over opener, and 4" in outline(recipe(*BY_BANK[:2], single))["selected"]
    assert plain.bank is None


def test_the_planned_models_are_those_of_the_recipe_alone() -> None:
    assert bank_plan(recipe()).asked == pilot_grid(recipe()).asked == ()
    names = {cell.arm for cell in bank_plan(recipe(*BY_BANK)).aligned}
    assert names == {*(f"mix-{number}" for number in range(20)), *(f"draw-{number}" for number in range(4))}


@pytest.mark.parametrize(("seconds", "count"), [(60, 14), (10, LEAST), (6000, 20)])
def test_a_budget_pays_for_the_mixtures_that_are_left_of_it(seconds, count) -> None:
    budgeted = recipe(*BY_BANK[:2], f"verify.pilot={{bank: {{{BANK}, budget: {seconds} s}}, seeds: 3}}")

    def takes(each) -> float:
        return 18 + 3.0 * each.verify.pilot.bank.mixtures

    assert sized(budgeted, takes).verify.pilot.bank.mixtures == count
    assert sized(budgeted, lambda _: None) == budgeted  # whose speed is not known
    assert sized(recipe(*BY_BANK), takes) == recipe(*BY_BANK)


def test_an_estimate_fits_its_budget_and_says_so() -> None:
    def planned(count: int, budget: str = "") -> tuple[float, int, str]:
        bank = f"mixtures: {count}, draws: 4, seeds: 2, candidates: 4{budget}"
        (found,), words = estimates(recipe(*BY_BANK[:2], f"verify.pilot={{bank: {{{bank}}}, seeds: 3}}"), NOTHING)
        parts = [(each.train_seconds, each.answer_seconds) for each in (found.bank, found.pilot) if each is not None]
        assert found.bank is not None
        return sum(seconds or 0.0 for part in parts for seconds in part), found.bank.aligned // 2 - 4, words["bank"]

    budget = 0.8 * planned(20)[0]
    seconds, count, words = planned(20, f", budget: {budget:.3f} s")
    assert LEAST < count < 20
    assert seconds <= budget < planned(count + 1)[0]
    assert "as many mixtures as fit into an estimated" in words
    budgeted = recipe(*BY_BANK[:2], f"verify.pilot={{bank: {{{BANK}, budget: {budget:.3f} s}}, seeds: 3}}")
    assert mixtures(budgeted, NOTHING) == count


def test_a_bank_that_was_begun_keeps_its_size_whatever_speed_is_measured_later(tmp_path: Path, monkeypatch) -> None:
    budgeted = recipe(*BY_BANK[:2], f"verify.pilot={{bank: {{{BANK}, budget: 1 h}}}}")
    monkeypatch.setattr("curator.forecast.estimate.mixtures", lambda *_: 11)
    for stage in ("1-pool", "3-scores"):
        write_json(tmp_path / stage / "done.json", {"key": stage, "record": {}, "seconds": 0.0})
    assert _mixtures(Run(budgeted, tmp_path)) == 11
    noted = json.loads((tmp_path / "bank" / "size.json").read_text())
    assert {name: noted[name] for name in ("budget", "mixtures")} == {"budget": "1 h", "mixtures": 11}
    monkeypatch.setattr("curator.forecast.estimate.mixtures", lambda *_: 3)
    assert _mixtures(Run(budgeted, tmp_path)) == 11
    more = {"verify": budgeted.verify.model_copy(update={"seeds": budgeted.verify.most_seeds + 1})}
    assert _mixtures(Run(budgeted.model_copy(update=more), tmp_path)) == 11
    # Other trials are another bank.
    other = {"select": budgeted.select.model_copy(update={"k": 7})}
    assert _mixtures(Run(budgeted.model_copy(update=other), tmp_path)) == 3


def test_check_advises_a_task_that_the_bank_does_not_see() -> None:
    assert "add a task with anticipated: false" in str(unseen(recipe(*BY_BANK)))
    assert unseen(recipe()) is None
    assert [keys for keys, sentence in unusual(recipe(*BY_BANK)) if "bank" in sentence] == [("tasks",)]
    tasks = "tasks=[{name: list, train: {sandbox: list}, rows: 40, metric: exact}, {name: new, train: {sandbox: list}, "
    assert unseen(recipe(*BY_BANK, tasks + "anticipated: false, rows: 9, metric: exact}]")) is None


def test_a_budget_below_the_fewest_mixtures_is_told_with_what_it_would_take() -> None:
    def budgeted(seconds: int) -> Recipe:
        return recipe(*BY_BANK[:2], f"verify.pilot={{bank: {{{BANK}, budget: {seconds} s}}, seeds: 3}}")

    def takes(each: Recipe) -> float:
        return 18 + 3.0 * each.verify.pilot.bank.mixtures

    need = 18 + 3 * LEAST
    sentence = short(budgeted(need - 1), takes)
    assert f"8 mixtures, the fewest that are drawn, take about {duration(3.0 * LEAST)}" in str(sentence)
    assert f"raise budget to {duration(need)} or more" in str(sentence)
    assert short(budgeted(need), takes) is None
    assert short(budgeted(1), lambda _: None) is None  # whose speed is not known
    assert short(recipe(*BY_BANK), takes) is None
    assert short(recipe(), takes) is None
    assert "is too short" in shortages(budgeted(1), NOTHING)[0]
    assert shortages(recipe("verify.seeds=6"), NOTHING) == ()
