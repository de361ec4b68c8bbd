from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from curator.errors import RecipeError
from curator.recipe.source import Source
from tests.small_run import recipe


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"columns": {"answer": "x"}},
            "'answer' is not a known field; allowed: prompt, response, input, system, history, messages, chosen, label",
        ),
        (
            {"template": "{a} {"},
            "Single '{' encountered in format string; write a column as {column}, and a brace as {{ or }}",
        ),
        ({"template": "no column"}, "the template names no column; write one as {column}"),
        ({"template": "{a:>5}"}, "a placeholder is not a plain column name; write {column}, without ! or :"),
        ({"template": "{a} {}"}, "a placeholder is not a plain column name; write {column}, without ! or :"),
        (
            {"template": "{a}", "columns": {"prompt": "b"}},
            "template already makes the prompt; remove it, or remove prompt, input, ... from columns",
        ),
        ({"split": "test"}, "split is only valid with hub; remove it, or name a hub data set"),
    ],
)
def test_a_source_that_cannot_be_meant_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        Source(file="rows.json", **settings)
    assert message in str(error.value)


def test_a_resolved_source_is_read_back_as_itself() -> None:
    source = Source(file="rows.json", template="{a} {{b}}", where={"x": [1, True]}, category="topic.name", rows=3)
    assert Source(**source.model_dump(by_alias=True)) == source


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("suite={k: [8, 16, 8]}", "suite: duplicate value 8 in k; remove one"),
        ("verify.regime={steps: [5, 10, 10]}", "verify.regime: duplicate value 10 in steps; remove one"),
        ("verify.regime={learning_rates: [1e-4, 0.0001]}", "duplicate value 0.0001 in learning_rates; remove one"),
        ("verify.pilot.bank={tasks: [list, list]}", "verify.pilot.bank: duplicate value 'list' in tasks; remove one"),
        ("verify.pilot.bank={concentrations: [1, 1.0]}", "duplicate value 1.0 in concentrations; remove one"),
    ],
)
def test_a_list_of_which_two_values_are_equal_is_refused(setting: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(setting)
    assert words in str(caught.value)
