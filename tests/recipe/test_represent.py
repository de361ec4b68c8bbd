"""What representations are called, and which of them a key names."""

from __future__ import annotations

import pytest

from curator.errors import RecipeError
from curator.recipe.represent import Represent, label, names_of
from tests.small_run import recipe

MINILM = "from: sentence-transformers, id: owner/minilm"
SEVERAL = (
    "represent=[{from: hidden-states}, {token: first-answer, name: opening}, "
    f"{{{MINILM}, side: prompt}}, {{{MINILM}, side: answer}}]"
)
NAMES = ["layer -1, last-completion", "opening", "owner/minilm, prompt", "owner/minilm, answer"]


def test_a_representation_is_called_by_its_name_or_by_what_it_is_made_of():
    assert names_of(recipe(SEVERAL).representations) == NAMES
    assert label(Represent(token="first-answer", first=8)) == "layer -1, first-answer-8"
    assert label(Represent(kind="gradients", name="steps")) == "steps"


@pytest.mark.parametrize(
    "represent",
    ["{name: a}, {name: a, layer: 1}", "{from: sentence-transformers, id: a}, {name: a}"],
)
def test_a_name_is_of_one_representation(represent):
    with pytest.raises(RecipeError, match="represent: duplicate name 'a'; give each representation its own"):
        recipe(f"represent=[{represent}]")


def test_representations_without_a_name_may_be_alike_and_are_numbered():
    several = recipe("represent=[{layer: 1}, {layer: 1, centre: false}]").representations
    assert names_of(several) == ["layer 1, last-completion (1)", "layer 1, last-completion (2)"]


WRONG = [
    (["select.cover_by=openin"], "select: cover_by is 'openin', which is not the name of a representation; did"),
    (["score={by: other}"], "score: by is 'other', which is not the name of a representation; allowed"),
    (
        ["score={from: rank-sum, of: [{by: opening}, {by: closing}]}"],
        "score: by is 'closing', which is not the name of a representation",
    ),
    (
        ["select.weight=auto", "verify.pilot={scores: [{by: openings}]}"],
        "score: by is 'openings', which is not the name of a representation; did you mean 'opening'",
    ),
    (
        ["select.weight=auto", "select.cover_by=opening", "verify.pilot={represent: every}"],
        "select: cover_by names one representation, and verify.pilot.represent 'every' tries",
    ),
    (
        ["score={from: consensus, by: opening}"],
        "score: by has no effect: only cosine reads it, and this score is consensus",
    ),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_a_key_names_a_representation_that_there_is(settings, message):
    with pytest.raises(RecipeError, match=message):
        recipe(SEVERAL, *settings)


@pytest.mark.parametrize("setting", ["select.cover_by=a", "score={by: a}"])
def test_one_representation_needs_no_name_to_be_chosen_by(setting):
    key = setting.partition("=")[0].split(".")[0]
    with pytest.raises(RecipeError, match=f"{key}: .*by has no effect: it chooses among several representations"):
        recipe("represent={name: a}", setting)


def test_coverage_is_by_the_first_representation_unless_another_is_named():
    assert recipe(SEVERAL).covering == 0
    for number, name in enumerate(NAMES):
        assert recipe(SEVERAL, f"select.cover_by={name}").covering == number
