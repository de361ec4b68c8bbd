"""What a recipe may say of the groups of a set."""

from __future__ import annotations

import pytest

from curator.errors import RecipeError
from tests.small_run import recipe

WRONG = [
    (
        ["select={k: 9, within: [refusal], quotas: {max: 3}}"],
        "select: quotas and within both set how many rows of a group are chosen; remove one of the two",
    ),
    (["select={budget_tokens: 9, within: [refusal]}"], "select: within is only valid with k; remove it, or give k"),
    (
        ["select.within={by: [refusal], shares: {refusal: {other: 0.4}}}"],
        "select.within: shares.refusal sums to 0.4; it must sum to 1",
    ),
    (
        ["select.within={by: [length], shares: {refusal: {other: 1.0}}}"],
        "select.within: shares.refusal is not in by (length); add it there, or remove it",
    ),
    (["select.within=[length, length]"], "select.within: duplicate value 'length' in by; remove one"),
    (
        ["select.quotas={by: mood}"],
        "select.quotas.by: found 'mood'; allowed: category, source, licence, refusal,",
    ),
]


@pytest.mark.parametrize(("given", "words"), WRONG)
def test_limits_that_say_nothing_or_two_things_are_named(given: list[str], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(*given)
    assert words in str(caught.value)


def test_a_list_of_groupings_reads_as_the_pools_composition_by_them() -> None:
    short, long = (recipe(f"select.within={text}").select for text in ("[refusal, length]", "{by: [refusal, length]}"))
    assert short == long
    assert short.within is not None
    assert (short.within.by, short.within.shares) == (["refusal", "length"], {})
    assert short.groupings == ("refusal", "length")
    assert recipe().select.groupings == ("category",)
    assert recipe("select.quotas={by: opener, max: 3}").select.groupings == ("opener",)
