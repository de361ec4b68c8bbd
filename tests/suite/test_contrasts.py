"""One arm against another, and all such comparisons of a suite as one family."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from curator.conclusions import LEVEL
from curator.decision.decide import LESS_HARMFUL as LESS
from curator.decision.decide import MORE_HARMFUL as MORE
from curator.decision.decide import OPEN, decide
from curator.decision.tables import Grid, lay_out
from curator.recipe.verify import Thresholds
from curator.suite import results
from curator.suite.results import contrast, decided


def grid(rates: dict[str, float], *, seeds: int = 12, prompts: int = 80, unscored: int = 0, seed: int = 0) -> Grid:
    """Verdicts of arms whose answers are harmful at these rates, with some spread between seeds."""
    random, rows = np.random.default_rng(seed), []
    for arm, share in rates.items():
        for number in range(seeds):
            own = float(np.clip(share + 0.02 * random.standard_normal(), 0, 1)) if 0 < share < 1 else share
            for prompt in range(prompts):
                outcome = "harmful" if random.random() < own else "safe"
                if arm == "low-similarity" and prompt < unscored:
                    outcome = "unscored"
                rows.append((arm, number, f"p{prompt}", outcome))
    frame = pl.DataFrame(rows, schema=["arm", "seed", "probe", "outcome"], orient="row").with_columns(
        task=pl.lit("list"), phase=pl.lit("after"), kind=pl.lit("harmful"), sample=pl.lit(0), judge=pl.lit("exact"),
        refused=pl.lit(False), score=pl.lit(None, dtype=pl.Float64),
    )  # fmt: skip
    return lay_out(frame)["harmfulness", "after"]


def low_high(low: float, high: float, **options: Any) -> dict[str, Any]:
    arms = {"low-similarity": low, "high-similarity": high}
    return contrast(grid(arms, **options), "low-similarity", "high-similarity", {"list": 1.0})


def test_a_clear_difference_has_a_side() -> None:
    assert low_high(0.2, 0.6)["alone"] == LESS
    assert low_high(0.6, 0.2)["alone"] == MORE
    assert low_high(0.6, 0.2)["difference"] == pytest.approx(0.4, abs=0.08)


def test_of_several_settings_it_is_the_worst_that_keeps_its_task_where_the_recipe_says_so() -> None:
    names, mix = ("list", "list@rows=20"), {"list": 0.5, "list@rows=20": 0.5}
    clear = grid({"low-similarity": 0.2, "high-similarity": 0.6})
    alike = clear.values[[1, 1]]  # both arms are the second
    both = replace(
        clear,
        tasks=names,
        values=np.concatenate([clear.values, alike], axis=1),
        judged=np.concatenate([clear.judged, clear.judged], axis=1),
        answers=None,
        scored=None,
    )
    arms = "low-similarity", "high-similarity"
    worst = Thresholds(over="worst")
    assert contrast(both, *arms, mix)["alone"] == LESS
    found = contrast(both, *arms, mix, worst)
    assert (found["alone"], found["reason"], found["task"]) == (OPEN, "interval", "list@rows=20")
    utility = replace(both, quantity="utility", values=1 - 0 * both.values)
    utility.values[:, 1] -= 0.5 + 0.1 * np.random.default_rng(0).random(utility.values[:, 1].shape)
    kept = contrast(both, *arms, mix, worst, utility=utility, margin=0.05)
    assert (kept["alone"], kept["task"]) == (LESS, "list")


@pytest.mark.parametrize(
    ("low", "high", "options", "reason"),
    [
        (0.3, 0.3, {"seed": 3}, "interval"),
        (0.2, 0.6, {"seeds": 2}, "too few seeds"),
        (0.0, 0.002, {}, "floor"),
        (1.0, 0.998, {}, "ceiling"),
        (0.25, 0.45, {"unscored": 60}, "unscored"),
        (0.25, 0.45, {"unscored": 80}, "unscored"),
    ],
)
def test_what_cannot_be_said_has_its_reason(low: float, high: float, options: dict[str, Any], reason: str) -> None:
    found = low_high(low, high, **options)
    assert (found["alone"], found["reason"]) == (OPEN, reason)


def test_the_limits_are_the_recipes() -> None:
    table = grid({"low-similarity": 0.3, "high-similarity": 0.3}, seed=3)
    clear = grid({"low-similarity": 0.2, "high-similarity": 0.6})

    def reason(found: Grid, **limits: Any) -> str | None:
        told = contrast(found, "low-similarity", "high-similarity", {"list": 1.0}, Thresholds(**limits))
        return told["reason"]

    assert reason(table) == "interval"
    assert reason(table, floor=0.5) == "floor"
    assert reason(table, ceiling=0.1) == "ceiling"
    assert reason(clear, floor=0.9) is None
    assert reason(clear, least_seeds=13) == "too few seeds"


@given(
    rates=st.tuples(*[st.sampled_from([0.0, 0.03, 0.08, 0.3, 0.7, 0.92, 0.97, 1.0])] * 2),
    seeds=st.integers(1, 7),
    prompts=st.integers(2, 20),
    unscored=st.sampled_from([0.0, 0.1, 1.0]),
    limits=st.sampled_from([{}, {"floor": 0.5}, {"ceiling": 0.5}, {"least_seeds": 6}]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=80)
def test_a_suite_says_of_two_arms_what_a_run_decides_of_them(
    rates: tuple[float, float], seeds: int, prompts: int, unscored: float, limits: dict[str, Any], seed: int
) -> None:
    random, shape = np.random.default_rng(seed), (1, seeds, prompts)
    values = np.stack([(random.random(shape) < share).astype(np.float64) for share in rates])
    values[random.random(values.shape) < unscored] = np.nan
    table = Grid(
        "harmfulness", "after", ("low-similarity", "high-similarity"), ("list",), tuple(range(seeds)),
        tuple(map(str, range(prompts))), values, np.ones(values.shape, dtype=bool),
    )  # fmt: skip
    names, thresholds = ("low-similarity", "high-similarity"), Thresholds(**limits)
    decision = decide(
        {("harmfulness", phase): table for phase in ("before", "after")}, {"list": 1.0},
        treatment=names[0], control=names[1], gates={}, others=(), thresholds=thresholds,
    )  # fmt: skip
    found = contrast(table, *names, {"list": 1.0}, thresholds)
    wording = {"durable": LESS, "worse": MORE, "not distinguishable": OPEN}
    assert (found["alone"], found["reason"]) == (wording[decision.outcome], decision.reason)


def told(p: float | None, alone: str = LESS) -> dict[str, Any]:
    return {"p": p, "level": LEVEL, "alone": alone, "reason": None if alone != OPEN else "interval"}


def test_only_the_adjusted_p_decides() -> None:
    found = decided([told(0.001), told(0.02, MORE), told(0.03), told(None, OPEN)])
    # Holm among three: 0.003, then 0.04, then 0.04 (no smaller than the one before).
    assert [one["p_holm"] for one in found] == [pytest.approx(0.003), pytest.approx(0.04), pytest.approx(0.04), None]
    assert [one["outcome"] for one in found] == [LESS, MORE, LESS, OPEN]
    wider = decided([told(0.001), told(0.02, MORE), told(0.03), *[told(0.5, OPEN)] * 3])
    assert [one["outcome"] for one in wider[:3]] == [LESS, OPEN, OPEN]
    assert wider[1]["reason"] == "not clear among 6 comparisons"


def test_a_suite_without_any_difference_seldom_claims_one() -> None:
    random = np.random.default_rng(1)
    claims = 0
    for _ in range(400):
        ps = stats.uniform.rvs(size=10, random_state=random)
        found = decided([told(float(p), LESS if p < 0.05 else OPEN) for p in ps])
        claims += any(one["outcome"] != OPEN for one in found)
    assert claims / 400 < 0.08  # the family's error is 5%; of ten unadjusted tests it would be 40%


def test_at_a_look_a_difference_must_be_clear_at_the_looks_own_level(monkeypatch: pytest.MonkeyPatch) -> None:
    table = grid({"curated": 0.28, "random": 0.36, "low-similarity": 0.3}, seeds=12, seed=1)
    fixed, look = (contrast(table, "curated", "random", {"list": 1.0}, level=level) for level in (LEVEL, 0.001))
    assert (fixed["alone"], fixed["level"]) == (LESS, LEVEL)
    assert (look["alone"], look["reason"], look["level"]) == (OPEN, "interval", 0.001)

    monkeypatch.setattr("curator.judge.stage.deciding_verdicts", lambda run: run.verdicts("exact"))
    levels = []
    monkeypatch.setattr(results, "_figures", lambda *given, decides: levels.append(given[3]))
    run = SimpleNamespace(
        recipe=SimpleNamespace(judges=SimpleNamespace(headline="exact", rule="headline", panel=[])),
        verdicts=lambda _: pl.DataFrame(),
        utility=pl.DataFrame,
        stop=lambda: (0.0228, None, None),
    )
    results._judged(run)
    assert levels == [0.0228]


def test_a_p_value_of_a_look_is_relative_to_its_level() -> None:
    clear, unclear = decided([{**told(0.004), "level": 0.01}, {**told(0.02), "level": 0.01}])
    assert (clear["p_holm"], clear["outcome"]) == (pytest.approx(0.04), LESS)
    assert (unclear["p_holm"], unclear["outcome"]) == (pytest.approx(0.1), OPEN)
