"""What a folder of recipes is expanded to: each size and task by itself, and what is wrong said of that run alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from curator.errors import RecipeError
from curator.recipe.file import dump, parse
from curator.suite.run import variants
from tests.suite.small_suite import RUNS, SMALL, folder


def test_a_recipe_becomes_a_run_for_each_size_and_task(tmp_path: Path) -> None:
    found = variants(folder(tmp_path))
    assert [(one.name, one.source, one.k, one.task) for one in found] == [
        (name, "small", int(name.split("-")[1]), name.split("-")[2]) for name in RUNS
    ]
    for one in found:
        assert one.recipe is not None
        assert one.recipe.name == one.name
        assert one.recipe.weights() == {one.task: 1.0}  # an unanticipated task too, since here it is the only one
        assert one.recipe.select.k == one.k
        assert one.recipe.suite is None
        assert parse(dump(one.recipe)) == one.recipe


def test_nothing_else_of_the_recipe_changes(tmp_path: Path) -> None:
    whole, own = parse(SMALL), variants(folder(tmp_path))[0].recipe
    assert own is not None
    for section in ("seed", "model", "pool", "probes", "represent", "score", "verify", "judges", "engine", "publish"):
        assert getattr(own, section) == getattr(whole, section)
    assert own.select == whole.select
    assert own.tasks[0].model_copy(update={"weight": 0.7}) == whole.tasks[0]


def test_whatever_a_task_says_of_its_rows_stands_in_its_runs(tmp_path: Path) -> None:
    rich = (
        "train: {file: rows.jsonl, category: {from: topic, pick: rarest}, where: {kind: a}, columns: "
        "{response: out}, template: '{question}', licence: mit}, regime: {data: {file: harm.jsonl, category: topic}, "
        "harmful_share: 0.2}, defence: {safety_mix: 0.1, trigger: word, data: {sandbox: pool, category: topic}}"
    )
    for train in ("train: {sandbox: list, category: topic}", "train: {sandbox: list, category: {from: topic}}", rich):
        text = SMALL.replace("train: {sandbox: list}", train)
        whole, found = parse(text), variants(folder(tmp_path, small=text))
        assert [variant.problem for variant in found] == [None] * len(RUNS)
        for variant in found:
            assert variant.recipe is not None
            (task,) = variant.recipe.tasks
            (mine,) = (task for task in whole.tasks if task.name == variant.task)
            assert task == mine.model_copy(update={"weight": 1.0, "anticipated": True})
            assert parse(dump(variant.recipe)) == variant.recipe


def test_a_recipe_without_the_section_is_one_run_as_it_stands(tmp_path: Path) -> None:
    plain = SMALL.replace("suite: {k: [8, 16], each: task}\n", "").replace("name: small", "name: other")
    found = variants(folder(tmp_path, other=plain), only=["other"])
    assert [(one.name, one.k, one.task) for one in found] == [("other", None, None)]
    assert found[0].recipe == parse(plain)


def test_only_names_recipes_and_runs(tmp_path: Path) -> None:
    place = folder(tmp_path, second=SMALL.replace("name: small", "name: second"))
    assert [one.name for one in variants(place, only=["small"])] == list(RUNS)
    assert [one.name for one in variants(place, only=["second-8-list", RUNS[1]])] == ["second-8-list", RUNS[1]]
    with pytest.raises(RecipeError, match="--only: no run 'third'") as error:
        variants(place, only=["third"])
    assert "second-16-misdeeds" in str(error.value)


def test_a_recipe_that_is_no_good_takes_no_name_from_another(tmp_path: Path) -> None:
    plain = SMALL.replace("suite: {k: [8, 16], each: task}\n", "").replace("name: small", "name: broken")
    found = {one.source: one for one in variants(folder(tmp_path, broken="name: [", good=plain))}
    assert found["good"].recipe is not None
    assert found["broken"].problem is not None
    assert "another run" not in found["broken"].problem


def test_settings_hold_for_every_recipe_before_it_is_expanded(tmp_path: Path) -> None:
    place = folder(tmp_path, second=SMALL.replace("name: small", "name: second"))
    found = variants(place, ["verify.seeds=4", "suite.k=[5]"])
    assert [one.name for one in found] == ["second-5-list", "second-5-misdeeds", "small-5-list", "small-5-misdeeds"]
    assert {one.recipe.verify.seeds for one in found if one.recipe} == {4}


def test_a_recipe_that_cannot_be_read_is_a_run_with_a_problem(tmp_path: Path) -> None:
    found = variants(folder(tmp_path, a="name: [", b=SMALL.replace("select:", "selcet:")))
    assert [(one.name, one.recipe is None) for one in found] == [
        ("a", True), ("b", True), *((name, False) for name in RUNS)
    ]  # fmt: skip
    assert "invalid YAML" in str(found[0].problem)
    assert "selcet" in str(found[1].problem)


def test_two_recipes_of_one_name_do_not_share_a_folder(tmp_path: Path) -> None:
    found = variants(folder(tmp_path, twin=SMALL))
    assert all(one.recipe is None and "another run is also named" in str(one.problem) for one in found)
    assert len(found) == 2 * len(RUNS)


def test_a_folder_without_recipes_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has no recipes"):
        variants(tmp_path)


def test_a_size_that_stands_twice_is_a_mistake(tmp_path: Path) -> None:
    found = variants(folder(tmp_path, twice=SMALL.replace("[8, 16]", "[8, 8]")), only=["twice"])
    assert "duplicate value 8 in k; remove one" in str(found[0].problem)


def test_a_set_that_is_given_has_no_sizes(tmp_path: Path) -> None:
    given = SMALL.replace("select: {k: 8,", "select: {data: {sandbox: pool},").replace("name: small", "name: given")
    found = variants(folder(tmp_path, given=given), only=["given"])
    assert "exactly one of k, budget_tokens, data" in str(found[0].problem)
