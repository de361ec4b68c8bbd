from __future__ import annotations

import numpy as np
import pytest

from curator.decision.retained import retained
from curator.decision.statistics import crossed, interval
from curator.decision.tables import Grid
from curator.recipe.verify import Thresholds


def grids(
    before: dict[str, np.ndarray], after: dict[str, np.ndarray], tasks: tuple[str, ...] = ("one",)
) -> dict[tuple[str, str], Grid]:
    """Values `(s, p)` before, `(t, s, p)` after, by arm."""

    def grid(phase: str, values: np.ndarray, names: tuple[str | None, ...]) -> Grid:
        seeds, prompts = tuple(range(values.shape[2])), tuple(f"p{n}" for n in range(values.shape[3]))
        return Grid("harmfulness", phase, ("curated", "none"), names, seeds, prompts, values, np.isfinite(values))

    arms = ("curated", "none")
    return {
        ("harmfulness", "before"): grid("before", np.stack([before[arm][None] for arm in arms]), (None,)),
        ("harmfulness", "after"): grid("after", np.stack([after[arm] for arm in arms]), tasks),
    }


def shares(share: float, seeds: int, prompts: int, rng: np.random.Generator) -> np.ndarray:
    return (rng.random((seeds, prompts)) < share).astype(np.float64)


def full(value: float, *shape: int) -> np.ndarray:
    return np.full(shape, value)


def test_the_share_left_is_the_ratio_of_what_is_protected() -> None:
    before = {"curated": full(0.0, 4, 10), "none": full(1.0, 4, 10)}
    for harmful, left in ((0.0, 1.0), (1.0, 0.0)):
        found = retained(grids(before, {"curated": full(harmful, 1, 4, 10), "none": full(1.0, 1, 4, 10)}), {"one": 1.0})
        assert (found.value, found.low, found.high) == (left, None, None)
        assert found.reason == "all seeds and prompts gave the same result, so their spread is unknown"
        assert (found.seeds, found.prompts) == (4, 10)


def test_tasks_count_by_their_weight_and_unscored_answers_not_at_all() -> None:
    before = {"curated": full(0.0, 3, 4), "none": full(1.0, 3, 4)}
    curated = np.stack([full(0.0, 3, 4), full(1.0, 3, 4)])
    curated[0, 1, 2] = np.nan
    after = {"curated": curated, "none": full(1.0, 2, 3, 4)}
    assert retained(grids(before, after, ("one", "two")), {"one": 0.75, "two": 0.25}).value == pytest.approx(0.75)
    assert retained(grids(before, after, ("one", "two")), {"one": 1.0}).value == pytest.approx(1.0)


def test_a_set_that_protects_nothing_has_nothing_to_keep() -> None:
    same = {"curated": full(0.5, 4, 6), "none": full(0.5, 4, 6)}
    found = retained(grids(same, {arm: values[None] for arm, values in same.items()}), {"one": 1.0})
    assert (found.value, found.low) == (None, None)
    assert found.reason == "the set does not protect the model before fine-tuning, so there is no protection to keep"


def test_two_seeds_give_no_interval() -> None:
    before = {"curated": full(0.0, 2, 6), "none": full(1.0, 2, 6)}
    found = retained(grids(before, {arm: values[None] for arm, values in before.items()}), {"one": 1.0})
    assert (found.value, found.low, found.high) == (1.0, None, None)
    assert found.reason == "an interval needs 3 seeds, and the arm has 2"


def test_the_fewest_seeds_of_an_interval_are_the_recipes() -> None:
    rng = np.random.default_rng(2)
    before = {"curated": shares(0.1, 5, 30, rng), "none": shares(0.9, 5, 30, rng)}
    after = {"curated": shares(0.5, 5, 30, rng)[None], "none": shares(0.9, 5, 30, rng)[None]}
    usual = retained(grids(before, after), {"one": 1.0})
    strict = retained(grids(before, after), {"one": 1.0}, thresholds=Thresholds(least_seeds=6))
    assert usual.low is not None
    assert (strict.low, strict.high) == (None, None)
    assert strict.reason == "an interval needs 6 seeds, and the arm has 5"


def test_arms_of_fewer_seeds_than_others_are_taken_as_they_are() -> None:
    none_before, none_after = full(np.nan, 5, 6), full(np.nan, 1, 5, 6)
    none_before[0], none_after[0, 0] = 1.0, 1.0
    before = {"curated": full(0.0, 5, 6), "none": none_before}
    found = retained(grids(before, {"curated": full(0.25, 1, 5, 6), "none": none_after}), {"one": 1.0})
    assert (found.value, found.low, found.high) == (0.75, None, None)


def test_a_set_that_may_protect_nothing_has_no_interval() -> None:
    rng = np.random.default_rng(1)
    before = {"curated": shares(0.5, 4, 8, rng), "none": shares(0.7, 4, 8, rng)}
    found = retained(grids(before, {arm: values[None] for arm, values in before.items()}), {"one": 1.0})
    assert (found.low, found.high) == (None, None)
    assert found.reason == "the protection before fine-tuning does not differ clearly from zero"


def test_the_interval_is_every_ratio_that_the_cells_do_not_refute() -> None:
    rng = np.random.default_rng(2)
    before = {"curated": shares(0.1, 5, 30, rng), "none": shares(0.9, 5, 30, rng)}
    after = {"curated": shares(0.5, 5, 30, rng)[None], "none": shares(0.9, 5, 30, rng)[None]}
    found = retained(grids(before, after), {"one": 1.0})
    assert found.low is not None
    assert found.high is not None
    for ratio in np.linspace(-0.5, 1.5, 81):
        cells = after["none"] - after["curated"] - ratio * (before["none"] - before["curated"])[None]
        told = interval(crossed(cells))
        assert told.low is not None
        assert told.high is not None
        assert (told.low <= 0 <= told.high) == (found.low <= ratio <= found.high)


def test_the_value_lies_in_its_interval_where_answers_are_unscored() -> None:
    rng = np.random.default_rng(3)
    seen = 0
    for _ in range(20):
        tables = [shares(share, 4, 12, rng) for share in (0.1, 0.9, 0.5, 0.9)]
        for table in tables:
            table[rng.random(table.shape) < 0.25] = np.nan
        before, after = {"curated": tables[0], "none": tables[1]}, {"curated": tables[2][None], "none": tables[3][None]}
        found = retained(grids(before, after), {"one": 1.0})
        if found.low is not None:
            assert found.high is not None
            assert found.value is not None
            assert found.low <= found.value <= found.high
            seen += 1
    assert seen > 10


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [4, 8])
def test_the_interval_holds_the_truth_as_often_as_it_says(seeds: int) -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        # Seeds and prompts both vary, and shares stay inside [0, 1], so that the truth is 0.5.
        own = 0.5 + rng.uniform(-0.25, 0.25, (seeds, 1)) + rng.uniform(-0.25, 0.25, (1, 60))
        after = (rng.random((seeds, 60)) < own).astype(np.float64)
        before = {"curated": shares(0.1, seeds, 60, rng), "none": shares(0.9, seeds, 60, rng)}
        none = shares(0.9, seeds, 60, rng)
        found = retained(grids(before, {"curated": after[None], "none": none[None]}), {"one": 1.0})
        assert found.low is not None
        assert found.high is not None
        held.append(found.low <= 0.5 <= found.high)
    assert np.mean(held) >= 0.93
