from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from curator.experiment.plan import NONE, Cell, plan
from curator.recipe.training import Training
from curator.recipe.verify import ARMS, Arm, Verify

TRAINING = Training(steps=1)


@st.composite
def settings(draw):
    seeds = draw(st.integers(1, 5))
    others = draw(st.lists(st.sampled_from(ARMS[2:]), unique=True))
    fewer = st.one_of(st.none(), st.integers(1, seeds))
    arms = [Arm(name=name, seeds=draw(fewer)) for name in ["curated", "random", *others]]
    return Verify(arms=draw(st.permutations(arms)), seeds=seeds, align=TRAINING, finetune=TRAINING)


@given(settings(), st.lists(st.sampled_from(["list", "letter", "a+b"]), min_size=1, unique=True))
def test_every_arm_is_aligned_at_each_of_its_seeds_and_fine_tuned_on_every_task(verify, tasks):
    found = plan(verify, tasks)
    pairs = {(arm.name, seed) for arm in verify.arms for seed in range(arm.seeds or verify.seeds)}
    assert {(cell.arm, cell.seed) for cell in found.aligned} == {pair for pair in pairs if pair[0] != NONE}
    assert {(cell.arm, cell.seed, cell.task) for cell in found.finetuned} == {
        (*pair, task) for pair in pairs for task in tasks
    }
    assert len(found.aligned) == len(set(found.aligned))
    assert len(found.finetuned) == len(set(found.finetuned))
    assert all(cell.task is None for cell in found.aligned)


@given(settings())
def test_every_model_is_asked_and_the_base_once_where_the_arm_none_runs(verify):
    found = plan(verify, ["list"])
    base = [Cell(NONE, 0)] if any(arm.name == NONE for arm in verify.arms) else []
    assert list(found.asked) == [*base, *found.aligned, *found.finetuned]
    folders = [cell.folder for cell in found.asked]
    assert len(set(folders)) == len(folders)


@given(settings())
def test_seeds_come_first_so_that_an_interrupted_grid_holds_whole_pairs(verify):
    found = plan(verify, ["list"])
    for cells in (found.aligned, found.finetuned):
        assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)


@given(settings())
def test_a_seed_more_only_adds_models(verify):
    verify = verify.model_copy(update={"arms": [Arm(name=arm.name) for arm in verify.arms]})
    less, more = plan(verify, ["list"]), plan(verify.model_copy(update={"seeds": verify.seeds + 1}), ["list"])
    assert set(less.asked) <= set(more.asked)
    assert {cell.seed for cell in set(more.asked) - set(less.asked)} == {verify.seeds}


def test_a_model_lives_in_a_folder_that_tells_its_arm_seed_and_task():
    assert Cell("random", 3).folder == "before/random-3"
    assert Cell("random", 3, "list").folder == "after/list/random-3"


def test_a_plan_needs_nothing_heavy():
    heavy = ("torch", "transformers", "polars")
    code = f"import sys, curator.experiment.plan; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
