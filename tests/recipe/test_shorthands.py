"""What may be written in a section's place reads as that section."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator
from pydantic import JsonValue, ValidationError

from curator.errors import RecipeError
from curator.recipe.allowed import allowed
from curator.recipe.schema import sections
from curator.recipe.shorthands import SHORTHANDS, expanded
from tests.small_run import recipe

# Section -> a value in its short form, and the same in full.
FORMS: dict[str, tuple[JsonValue, dict[str, JsonValue]]] = {
    "Arm": ("curated", {"name": "curated"}),
    "Categorise": (0.3, {"least": 0.3}),
    "Category": ("topic", {"from": "topic"}),
    "Decontaminate": (0.6, {"overlap": 0.6}),
    "LogOdds": ("pilot", {"from": "pilot"}),
    "NearDuplicates": (1, {"jaccard": 1.0}),
    "Refusals": ("exact", {"judge": "exact"}),
    "RegimeSearch": ("auto", {"auto": True}),
    "Within": (["refusal", "length"], {"by": ["refusal", "length"]}),
}


@pytest.mark.parametrize("name", SHORTHANDS)
def test_a_short_form_reads_as_the_section_in_full(name: str) -> None:
    short, whole = FORMS[name]
    kind = sections()[name]
    assert kind.model_validate(short) == kind.model_validate(whole)
    assert Draft202012Validator(SHORTHANDS[name].schema).is_valid(short)
    for key in SHORTHANDS[name].keys:
        assert expanded(key, short) == whole


@pytest.mark.parametrize("name", SHORTHANDS)
@pytest.mark.parametrize("value", [True, None, {}, "", -1, [[]]], ids=repr)
def test_what_the_schema_does_not_take_as_a_short_form_is_not_read_as_one(name: str, value: JsonValue) -> None:
    fits = Draft202012Validator(SHORTHANDS[name].schema).is_valid(value)
    assert (SHORTHANDS[name].expanded(value) != value) is fits
    if not fits and not isinstance(value, dict):
        with pytest.raises(ValidationError) as caught:
            sections()[name].model_validate(value)
        assert [(error["type"], error["loc"]) for error in caught.value.errors()] == [("model_type", ())]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("pool.refusals=[exact]", "pool.refusals: found a list of 1; allowed: a mapping, or the name of a judge"),
        ("pool.categorise=true", "pool.categorise: found True; allowed: a mapping, or a number"),
        ("pool.clean.near_duplicates=2", "pool.clean.near_duplicates.jaccard: found 2; allowed: 1.0 or less"),
        ("pool.clean.decontaminate=1" + "0" * 400, "allowed: a number"),
        ("pool.sources.0.category=3", "pool.sources[0].category: found 3; allowed: a mapping, or the name of a column"),
        ("verify.log_odds=recipe", "verify.log_odds: found 'recipe'; allowed: a mapping, or pilot"),
        (
            "verify.arms=[curated, random, [none]]",
            "verify.arms[2]: found a list of 1; allowed: a mapping, or the name of an arm",
        ),
        ("select.within=refusal", "select.within: found 'refusal'; allowed: a mapping, or a list such as [refusal]"),
        ("verify.regime=on", "verify.regime: found 'on'; allowed: a mapping, or auto"),
        ("select.weight=[1]", "select.weight: found a list of 1; allowed: a number, auto"),
        ("verify.seeds=few", "verify.seeds: found 'few'; allowed: a whole number, a mapping"),
        ("verify.seeds=0", "verify.seeds: found 0; allowed: 1 or more"),
        ("represent=hidden-states", "represent: found 'hidden-states'; allowed: a mapping, a list"),
        ("engine.cache=''", "engine.cache: found ''; allowed: at least 1 character"),
        ("engine.cache=3", "engine.cache: found 3; allowed: true or false, text"),
        ("select.within=[]", "select.within.by: found a list of 0; allowed: at least 1 item"),
        ("select.within=[[length]]", "select.within.by[0]: found a list of 1; allowed: category, source, licence,"),
    ],
)
def test_a_value_in_neither_form_is_named_with_what_is_allowed(setting: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(setting)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", SHORTHANDS)
def test_the_message_about_a_section_names_its_short_form_too(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        sections()[name].model_validate(True)
    (error,) = caught.value.errors()
    assert allowed(error, union=False) == f"a mapping, or {SHORTHANDS[name].words}"
