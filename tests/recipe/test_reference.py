"""The reference of recipes is what the types say, and says every key; the schema takes every recipe that is shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from curator.cli import cli
from curator.recipe.schema import meanings, schema, sections
from tests.recipe import reference

SCHEMA: dict[str, Any] = schema()
RECIPES = sorted((reference.ROOT / "recipes").rglob("*.yaml"))
SECTIONS = {name: kind for name, kind in sections().items() if name in SCHEMA["$defs"] or name == "Recipe"}
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in reference.page().splitlines()
    if line.startswith("| `") and line.count("|") == 6
]


def written(file: Path) -> object:
    return YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))


def mistakes(recipe: object) -> list[str]:
    return [f"{list(one.absolute_path)}: {one.message}" for one in Draft202012Validator(SCHEMA).iter_errors(recipe)]


def test_the_page_is_what_the_types_say() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run `python -m tests.recipe.reference`"


@pytest.mark.parametrize("name", SECTIONS)
def test_every_key_has_a_meaning_and_every_section_says_what_it_is(name: str) -> None:
    kind = SECTIONS[name]
    assert kind.__doc__
    found = meanings(kind)
    keys = {info.alias or field for field, info in kind.model_fields.items()}
    # A key of the recipe that is one section says what that section says.
    silent = {key for key in keys - set(found) if name != "Recipe"}
    assert not silent
    assert set(found) <= keys
    assert not [key for key, meaning in found.items() if not meaning.endswith((".", "..."))]


def test_every_row_of_the_page_says_type_and_meaning() -> None:
    keys = sum(len(kind.model_fields) for kind in SECTIONS.values())
    assert len(ROWS) == keys
    for key, kind, default, meaning, example in ROWS:
        assert kind, key
        assert default, key
        assert meaning, key
        assert example or "](#" in kind, key


def test_examples_are_of_keys_that_exist_and_values_that_they_take() -> None:
    for name, examples in reference.EXAMPLES.items():
        about = SCHEMA["$defs"][name]
        keys = next(kind for kind in about.get("anyOf", [about]) if "properties" in kind)["properties"]
        for key, value in examples.items():
            assert key in keys, f"{name}.{key}"
            whole = {"$defs": SCHEMA["$defs"], **keys[key]}
            assert Draft202012Validator(whole).is_valid(value), f"{name}.{key}: {value}"


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_the_schema_takes_a_shipped_recipe(file: Path) -> None:
    assert mistakes(written(file)) == []


def test_the_schema_takes_the_template_and_no_unknown_key_and_no_wrong_type() -> None:
    text = reference.FILES[0].read_text(encoding="utf-8").format(name="mine")
    recipe = YAML(typ="safe", pure=True).load(text)
    assert mistakes(recipe) == []
    assert mistakes({**recipe, "sed": 1})
    assert mistakes({**recipe, "select": {"k": "many"}})
    assert mistakes({**recipe, "verify": {**recipe["verify"], "arms": [1]}})


@pytest.mark.parametrize(
    ("arm", "fits"),
    [
        ({"name": "mine", "file": "rows.jsonl", "seeds": 2}, True),
        ({"name": "mine", "data": {"file": "rows.jsonl"}}, True),
        ({"file": "rows.jsonl"}, False),
        ({"name": "mine", "fil": "rows.jsonl"}, False),
    ],
)
def test_the_schema_takes_an_arm_with_its_data_in_either_form(arm: object, fits: bool) -> None:
    recipe = YAML(typ="safe", pure=True).load(reference.FILES[0].read_text(encoding="utf-8").format(name="mine"))
    assert (mistakes({**recipe, "verify": {**recipe["verify"], "arms": [arm]}}) == []) is fits


def test_the_command_prints_it_with_meanings_and_defaults() -> None:
    result = CliRunner().invoke(cli, ["show", "--schema", "recipe"], catch_exceptions=False)
    found = json.loads(result.output)
    Draft202012Validator.check_schema(found)
    weights = found["$defs"]["Pilot"]["properties"]["weights"]
    assert weights["default"] == [-1.0, 0.0, 0.25, 0.5, 1.0, 2.0]
    assert weights["description"] == meanings(sections()["Pilot"])["weights"]
