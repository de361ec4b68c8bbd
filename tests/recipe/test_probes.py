"""What a recipe may say of prefilled openings and of drawn answers."""

from __future__ import annotations

import pytest

from curator.errors import RecipeError
from curator.recipe.probes import OPENING
from tests.small_run import recipe


def test_depths_are_in_order_and_without_the_usual_answer():
    found = recipe("probes.prefill=[10, 0, 5]").probes
    assert found.depths == (5, 10)
    assert found.opens_with == OPENING
    assert recipe("probes.prefill=[3]", "probes.opening=gladly").probes.opens_with == "gladly"
    assert recipe().probes.depths == ()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["probes.prefill=[5, 5]"], "duplicate value 5 in prefill; remove one"),
        (["probes.prefill=[0]"], r"prefill has only 0.*a number of tokens above 0"),
        (["probes.prefill=[-1]"], "prefill"),
        (["probes.prefill=[2.5]"], "prefill"),
        (["probes.opening=gladly"], "opening has no effect: only prefill reads it.*; remove it"),
        (["probes.prefill=[1]", "probes.opening=' '"], "opening"),
        (["verify.generate.samples=3"], r"samples is 3 without a temperature.*same greedy answer"),
        (["verify.generate.samples=0"], "samples"),
        (["verify.generate.temperature=0"], "temperature"),
        (["verify.generate.samples=2", "verify.generate.temperature=-1"], "temperature"),
    ],
)
def test_what_says_nothing_or_two_things_is_refused(settings, words):
    with pytest.raises(RecipeError, match=words):
        recipe(*settings)


def test_one_answer_may_be_drawn():
    section = recipe("verify.generate.temperature=0.7").verify.generate
    assert section.drawn == {"samples": 1, "temperature": 0.7}
    assert recipe().verify.generate.drawn == {}
