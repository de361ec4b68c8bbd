"""Several settings of a task: what they are called, what they weigh, and which sweeps make no sense."""

from __future__ import annotations

import pytest

from curator.errors import RecipeError
from curator.recipe import Recipe
from curator.recipe.file import dump, parse
from curator.recipe.sweep import TaskSetting, mix_of, name_at, settings_by_name, split, task_of
from curator.recipe.training import Training
from tests.small_run import recipe

LORA = "verify.finetune={method: lora, rank: 8, steps: 2, batch: 32, micro_batch: 8}"
HALF = "tasks=[{name: list, train: {sandbox: list}, rows: 40}, {name: query, train: {sandbox: query}, rows: 30}]"


def swept(sweep: str, *settings: str) -> Recipe:
    return recipe(*settings, f"tasks.list.sweep={sweep}")


def test_settings_are_the_product_of_the_lists_and_the_recipes_own_is_called_like_its_task() -> None:
    names = list(settings_by_name(swept("{learning_rate: [6e-4, 1e-4], rows: [20, 40]}")))
    assert names == ["list@rows=20", "list", "list@learning_rate=1e-4,rows=20", "list@learning_rate=1e-4"]


@pytest.mark.parametrize("own", ["{learning_rate: [6e-4]}", "{rows: [40]}", "{method: [full]}", "null"])
def test_a_sweep_of_the_recipes_own_setting_is_none(own: str) -> None:
    assert settings_by_name(swept(own)) == {"list": TaskSetting()}
    assert mix_of(swept(own)) == recipe().weights()


@pytest.mark.parametrize("rate", [1e-4, 0.00035, 2e-5, 1.5e-6, 0.1, 1.0, 12.0])
def test_the_name_of_a_learning_rate_is_short_and_tells_it_exactly(rate: float) -> None:
    name = TaskSetting(learning_rate=rate).name
    assert name is not None
    assert float(name.removeprefix("learning_rate=")) == rate
    assert len(name) <= len("learning_rate=1.5e-6")
    assert not set(name) & set('/\\:*?"<>| ')


def test_a_name_is_taken_apart_again() -> None:
    assert split(name_at("list+a", "rows=20")) == ("list+a", "rows=20")
    assert split(name_at("list", None)) == ("list", None)
    assert task_of("list@rows=20") == "list"


def test_settings_share_the_weight_of_their_task() -> None:
    swept = recipe(HALF, "tasks.list.sweep={rows: [10, 20, 40]}", "tasks.list.weight=3.0")
    assert mix_of(swept) == pytest.approx({"list@rows=10": 0.25, "list@rows=20": 0.25, "list": 0.25, "query": 0.25})
    apart = recipe(HALF, "tasks.query.sweep={rows: [10, 30]}", "tasks.query.anticipated=false")
    assert mix_of(apart) == {"list": 1.0, "query@rows=10": 0.0, "query": 0.0}


def test_a_setting_trains_as_a_recipe_would_that_says_so() -> None:
    finetune = Training(rank=8, alpha=4, steps=2)
    other = TaskSetting(learning_rate=1e-3, method="full").training(finetune)
    assert other == Training(method="full", learning_rate=1e-3, steps=2)
    assert Training.model_validate(other.model_dump()) == other
    assert TaskSetting().training(finetune) == finetune
    assert TaskSetting(method="lora").training(Training(method="full", steps=2)) == Training(steps=2)


def test_a_sweep_is_written_out_and_read_back() -> None:
    written = swept("{learning_rate: [1e-4], method: [lora, full]}", "verify.decision.over=worst")
    assert parse(dump(written)) == written


@pytest.mark.parametrize(
    ("sweep", "settings", "sentence"),
    [
        ("{}", [], "the sweep has no setting; give a list for at least one of learning_rate, rows, method"),
        ("{rows: []}", [], "sweep.rows: found a list of 0; allowed: at least 1 item"),
        ("{rows: [20, 20]}", [], "sweep: duplicate value 20 in rows; remove one"),
        ("{learning_rate: [1e-4, 0.0001]}", [], "duplicate value 0.0001 in learning_rate; remove one"),
        ("{learning_rate: [0.0]}", [], "sweep.learning_rate[0]"),
        ("{method: [sgd]}", [], "found 'sgd'; allowed: lora, full"),
        ("{rows: [41]}", [], "tasks: list.sweep.rows has 41, and the task has 40 rows; lower it, or raise the task's "
         "rows"),
        ("{rows: [20]}", ["tasks.list.rows=null"], "list.sweep.rows takes the first of the task's rows, and the task "
         "does not set their number; set rows of the task"),
        ("{learning_rate: [1e-4]}", ["verify.regime=auto"], "list.sweep.learning_rate sets learning rates, and "
         "verify.regime finds one; remove learning_rate, or set verify.regime.auto to false"),
        ("{rows: [20]}", ["verify.forgetting={rows: 20}"], "forgetting reads models fine-tuned with the setting of "
         "verify.finetune, which the sweep of task 'list' leaves out; add that setting to the sweep, or set "
         "forgetting to null"),
        ("{method: [full]}", [LORA], "finetune.rank has no effect: only method: lora reads it, and every setting of "
         "the sweeps is full; remove it"),
        ("{method: [lora, full]}", [LORA, "model.quantise=4bit", "verify.align.method=lora"], "tasks: list.sweep.method"
         " has 'full', and a model with model.quantise trains adapters only; remove it"),
        ("null", ["verify.seeds={max: 8}", "verify.decision.over=worst"], "decision.over is 'worst', which needs "
         "several comparisons, and sequential seeds stop when one comparison is clear; give seeds as a number, or set "
         "over to mean"),
    ],
)  # fmt: skip
def test_a_sweep_that_makes_no_sense_is_refused_in_these_words(sweep: str, settings: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        swept(sweep, *settings)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("sweep", "settings"),
    [
        ("{rows: [20, 40]}", ["verify.forgetting={rows: 20}"]),
        ("{rows: [20]}", ["verify.regime=auto"]),
        ("{learning_rate: [1e-4]}", ["verify.regime={steps: [2]}"]),
        ("{method: [lora, full]}", [LORA]),
    ],
)
def test_a_sweep_that_makes_sense_is_not(sweep: str, settings: list[str]) -> None:
    assert swept(sweep, *settings).tasks[0].sweep is not None
