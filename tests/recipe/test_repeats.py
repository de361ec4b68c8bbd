"""What a recipe may say of rows that are trained on more than once."""

from __future__ import annotations

from typing import get_args

import pytest

from curator.errors import RecipeError
from curator.forecast.outline import outline
from curator.forecast.rows import too_few
from curator.recipe.limits import GROUPINGS
from curator.recipe.repeats import Repeats
from tests.small_run import recipe


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ("{groups: {teas: 2}, max: 0}", r"select\.repeats\.max: found 0"),
        ("{groups: {teas: 4}}", r"'teas' is repeated 4 times, and max is 3; lower it, or raise max"),
        ("{groups: {teas: 0}}", r"select\.repeats\.groups\.teas: found 0"),
        ("{groups: {teas: 1}}", r"repeats no group, so repeats has no effect.*\{teas: 2\}"),
        ("{by: source}", r"repeats no group, so repeats has no effect.*\{NAME: 2\}"),
        ("{by: colour, groups: {red: 2}}", r"select\.repeats\.by: found 'colour'"),
    ],
)
def test_what_cannot_be_is_refused(section: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        recipe(f"select.repeats={section}")


def test_a_bank_learns_from_whole_sets_and_so_not_from_rehearsals() -> None:
    with pytest.raises(RecipeError, match=r"verify: stage is 'rehearsal', .* whole sets; set stage to upstream"):
        recipe("select={k: 20, by: bank}", "verify.pilot={}", "verify.stage=rehearsal")


def test_a_rehearsal_makes_no_pass_in_which_rows_could_be_repeated() -> None:
    with pytest.raises(RecipeError, match=r"select: repeats says how often a pass .* verify.stage rehearsal makes no"):
        recipe("select.repeats={groups: {teas: 2}}", "verify.stage=rehearsal")


def test_groups_can_be_of_rows_and_of_answers() -> None:
    known = get_args(Repeats.model_fields["by"].annotation)
    assert known == GROUPINGS
    assert {"category", "source", "licence", "refusal", "opener"} <= {*known}
    assert [Repeats(by=by, groups={"a": 2}).by for by in known] == [*known]
    assert recipe().select.repeats is None


def test_a_group_that_does_not_exist_is_told_the_nearest() -> None:
    section = Repeats(by="category", groups={"taes": 2, "teas": 3, "zzz": 2})
    assert section.unknown(["teas", "hats"]) == [
        ("taes", "no row of the pool has category 'taes'; did you mean 'teas'? Found: hats, teas"),
        ("zzz", "no row of the pool has category 'zzz'. Found: hats, teas"),
    ]
    assert section.unknown(["teas", "taes", "zzz"]) == []


@pytest.mark.parametrize("by", ["category", "length"])
def test_check_names_a_group_that_no_row_of_the_pool_is_in(by: str) -> None:
    near = {"category": ("taes", "teas"), "length": ("shrot", "short")}[by]
    asked = recipe(f"select.repeats={{by: {by}, groups: {{{near[0]}: 2, {near[1]}: 2}}}}")
    problems = too_few(asked, [("pool", "sources", 0), ("tasks", 0, "train"), ("probes", "harmful", 0)]).problems
    (sentence,) = [sentence for keys, sentence in problems if keys == ("select", "repeats", "groups", near[0])]
    assert sentence.startswith(f"no row of the pool has {by} {near[0]!r}; did you mean {near[1]!r}?")
    assert len(problems) == 1


def test_the_plan_says_what_is_repeated() -> None:
    told = outline(recipe("select.repeats={by: length, groups: {short: 3, long: 1}}"))
    assert told["selected"].endswith("the curated arm repeats rows by length: short 3 times, long 1 time")
