"""A recipe that only chooses rows: what it may lack, what it cannot ask for then, and that a build goes on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from curator.errors import RecipeError
from curator.keys import inputs_of, stage_keys
from curator.pipeline import build
from curator.recipe import Recipe
from curator.recipe.file import dump, examined, load, parse
from curator.recipe.unverified import SECTIONS, require_untrained
from tests.small_run import recipe

WHOLE = recipe()


def without(*names: str, **changed: object) -> str:
    """The text of the small recipe without these sections, with others in place of its own."""
    written: dict[str, Any] = YAML(typ="safe").load(dump(WHOLE))
    return dump({name: value for name, value in {**written, **changed}.items() if name not in names})


def told(text: str, *settings: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse(text, settings, whole=False)
    return str(caught.value)


@pytest.mark.parametrize("missing", [SECTIONS, ("judges",), ("probes", "verify")])
def test_sections_that_only_a_verification_needs_may_be_left_out(missing: tuple[str, ...]) -> None:
    text = without(*missing)
    chooses = parse(text, whole=False)
    assert chooses.lacks == missing
    assert parse(dump(chooses), whole=False) == chooses  # what is written down lacks them, too
    assert not set(missing) & set(chooses.model_dump())
    _, problems = examined(load(text, name="r.yaml"))
    assert [sentence for _, sentence in problems] == [
        f"r.yaml: {name}: missing; add it, or choose rows without verification with `curator select`"
        for name in missing
    ]
    assert WHOLE.lacks == ()
    assert set(SECTIONS) <= set(WHOLE.model_dump())


def test_a_missing_section_is_told_beside_every_other_mistake() -> None:
    with pytest.raises(RecipeError) as caught:
        parse(without("judges"), ["select.k=many"], name="r.yaml")
    assert any("select.k" in problem for problem in caught.value.problems)
    assert any("judges: missing" in problem for problem in caught.value.problems)


def test_a_build_beyond_the_choice_is_refused_and_names_the_other_way(tmp_path: Path) -> None:
    chooses = parse(without("probes", "judges"), whole=False)
    with pytest.raises(RecipeError, match=r"no probes or judges.*add them, or choose rows .*`curator select`"):
        build(chooses, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (["select.weight=auto"], "select: weight: auto finds the weight by training on candidate sets"),
        (["select={k: 20, by: bank}"], "select: by: bank chooses rows by training on many sets"),
        (["score={from: depth}"], "score: depth trains models to score rows"),
        (["model.instruction={data: {sandbox: keep}, rows: 48}"], "model: instruction tunes the model"),
    ],
)
def test_what_trains_is_refused_where_nothing_says_how_and_by_a_choice_without_training(
    settings: list[str], what: str
) -> None:
    sentence = told(without("verify", "judges"), *settings)
    assert what in sentence
    assert "and the recipe has no verify or judges" in sentence
    with pytest.raises(RecipeError) as caught:
        require_untrained(recipe(*settings))
    assert what in str(caught.value)
    assert "`curator build --until select`" in str(caught.value)
    require_untrained(WHOLE)


def test_a_score_that_steps_as_fine_tuning_does_needs_the_section_that_says_how() -> None:
    assert "score: interference takes a step as verify.finetune does" in told(
        without("verify"), "score={from: interference}"
    )
    assert parse(without("judges"), ["score={from: interference}"], whole=False).score.kind == "interference"


def test_what_a_choice_has_made_is_kept_when_its_verification_is_added(tmp_path: Path) -> None:
    def keys(each: Recipe) -> dict[str, str]:
        return stage_keys(each, inputs_of(each, tmp_path))

    chosen, whole = (keys(parse(text, whole=False)) for text in (without("judges"), without()))
    kept = {stage for stage in chosen if chosen[stage] == whole[stage]}
    assert {"base", "pool", "represent", "scores", "select", "train", "answer"} <= kept
    assert chosen["judge"] != whole["judge"]
