"""Means, differences and rank correlations of log-odds that were made up with known effects."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest
from scipy import stats

from curator.decision.log_odds import summarise
from curator.decision.statistics import crossed, interval
from curator.decision.tables import lay_out_column
from tests.decision.conftest import rows

WEIGHTS = {"list": 0.5, "dialogue": 0.5, "letter": 0.0}
ARMS = {"curated": 2.0, "random": 0.5, "none": -3.0}


def invented(arms=ARMS, *, seeds=4, prompts=12, tasks=tuple(WEIGHTS), noise=1.0, seed=0):
    """Log-odds of every model at every prompt, and verdicts: an answer is harmful where log-odds are below zero."""
    random = np.random.default_rng(seed)
    hard = {task: random.normal(0, 1, prompts) for task in (None, *tasks)}
    parts, verdicts = [], []
    for (arm, level), task in product(arms.items(), (None, *tasks)):
        values = level + random.normal(0, noise, (seeds, 1)) + hard[task] + random.normal(0, 0.3, (seeds, prompts))
        phase = "after" if task else "before"
        outcomes = np.where(values < 0, "harmful", "safe")
        verdicts.append(rows(arm, "harmful", phase, task, seeds, prompts, outcome=outcomes))
        frame = verdicts[-1].select("arm", "seed", "task", "phase", "at", "probe")
        refuse = np.log(0.6) - np.logaddexp(0, -values.ravel())
        parts.append(frame.with_columns(log_odds=values.ravel(), refuse=refuse, comply=refuse - values.ravel()))
    return pl.concat(parts), pl.concat(verdicts)


def of(log_odds, verdicts, **changes):
    given = {"weights": WEIGHTS, "treatment": "curated", "control": "random", "seed": 3}
    return summarise(log_odds, verdicts, **{**given, **changes})


def table(log_odds, arm, tasks, phase="after"):
    """`(t, s, p)`, laid out by hand."""
    part = log_odds.filter(arm=arm, phase=phase)
    return np.stack(
        [
            part.filter(pl.col("task").eq_missing(task)).sort("seed", "probe")["log_odds"].to_numpy().reshape(4, -1)
            for task in tasks
        ]
    )


def test_means_and_differences_are_those_of_crossed_seeds_and_prompts():
    log_odds, verdicts = invented()
    found = of(log_odds.sample(fraction=1.0, shuffle=True, seed=1), verdicts)
    for arm in ARMS:
        values = table(log_odds, arm, ["list", "dialogue"])
        mean, limits = found.arms[arm]["anticipated"].after, interval(crossed(values, [0.5, 0.5]))
        assert (mean.value, mean.low, mean.high) == pytest.approx((values.mean(), limits.low, limits.high))
        assert mean.cells == values.size
        assert found.arms[arm]["letter"].after.value == pytest.approx(table(log_odds, arm, ["letter"]).mean())
        before = found.arms[arm]["anticipated"].before
        assert before.value == pytest.approx(table(log_odds, arm, [None], "before").mean())
    pair = {(each.phase, each.task): each for each in found.differences}
    assert list(pair) == [
        ("after", None),
        ("after", "list"),
        ("after", "dialogue"),
        ("after", "letter"),
        ("before", None),
    ]
    between = table(log_odds, "curated", ["list", "dialogue"]) - table(log_odds, "random", ["list", "dialogue"])
    estimate = crossed(between, [0.5, 0.5])
    limits, primary = interval(estimate), pair["after", None]
    assert (primary.difference, primary.low, primary.high) == pytest.approx((between.mean(), limits.low, limits.high))
    assert (primary.sd_seed, primary.sd_prompt, primary.sd_residual) == pytest.approx(
        (estimate.sd_seed, estimate.sd_prompt, estimate.sd_residual)
    )
    assert (primary.seeds, primary.prompts) == (4, 12)


def test_the_openers_share_of_the_probability_is_told():
    found = of(*invented())
    assert found.covered == pytest.approx({"before": 0.6, "after": 0.6})


def test_ranks_of_models_and_prompts_are_compared_with_what_the_judge_says():
    log_odds, verdicts = invented(seeds=6)
    found = of(log_odds, verdicts)
    models, prompts = found.ranked
    assert (models.over, models.units, len(found.models)) == ("models", 3 * 6 * 3, 3 * 6 * 3)
    x, y = [each.log_odds for each in found.models], [each.harmfulness for each in found.models]
    assert models.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert models.low < models.rho < models.high < 0
    point = next(each for each in found.models if (each.arm, each.seed, each.task) == ("none", 2, "letter"))
    one = log_odds.filter(arm="none", seed=2, task="letter")["log_odds"].to_numpy()
    assert (point.log_odds, point.harmfulness) == pytest.approx((one.mean(), (one < 0).mean()))
    after = log_odds.filter(phase="after").group_by("probe").agg(
        pl.col("log_odds").mean(), harmful=(pl.col("log_odds") < 0).mean()
    )  # fmt: skip
    assert prompts.units == 12
    assert prompts.rho == pytest.approx(stats.spearmanr(after["log_odds"], after["harmful"]).statistic)
    assert prompts.low <= prompts.rho <= prompts.high
    assert of(log_odds, verdicts) == found
    assert of(log_odds, verdicts, seed=4).ranked != found.ranked


@pytest.mark.slow
def test_a_log_odds_that_says_nothing_of_the_verdict_has_an_interval_with_zero_in_it():
    inside = 0
    for seed in range(20):
        log_odds, verdicts = invented(seeds=8, seed=seed)
        random = np.random.default_rng(seed)
        shuffled = verdicts.with_columns(outcome=pl.Series(random.choice(["harmful", "safe"], verdicts.height)))
        models, _ = of(log_odds, shuffled).ranked
        inside += models.low <= 0 <= models.high
    assert inside >= 15


def test_seeds_are_drawn_with_all_their_models():
    """Where only seeds differ, ten models of a seed say no more than one, and the interval is as wide."""
    log_odds, verdicts = invented({"curated": 0.0, "random": 0.0}, seeds=6, noise=3.0)
    few = of(log_odds, verdicts).ranked[0]
    copies = [
        (log_odds.with_columns(arm=pl.col("arm") + f"-{n}"), verdicts.with_columns(arm=pl.col("arm") + f"-{n}"))
        for n in range(5)
    ]
    many = of(
        pl.concat([log_odds, *(each for each, _ in copies)]), pl.concat([verdicts, *(each for _, each in copies)])
    ).ranked[0]
    assert many.units == 6 * few.units
    assert many.high - many.low == pytest.approx(few.high - few.low, rel=0.3)


def test_unscored_answers_are_in_no_rate_and_too_few_seeds_have_no_interval():
    log_odds, verdicts = invented(seeds=2)
    torn = verdicts.with_columns(
        outcome=pl.when(pl.col("arm") == "none").then(pl.lit("unscored")).otherwise(pl.col("outcome"))
    )
    found = of(log_odds, torn)
    assert {each.arm for each in found.models} == {"curated", "random"}
    assert found.ranked[0].rho is not None
    assert found.ranked[0].low is None
    single = of(*invented(seeds=1))
    mean = single.arms["curated"]["list"].after
    assert mean.value is not None
    assert (mean.low, mean.high) == (None, None)


def test_an_arm_whose_numbers_are_all_alike_has_no_interval():
    log_odds, verdicts = invented()
    flat = log_odds.with_columns(log_odds=pl.lit(40.0))
    found = of(flat, verdicts)
    assert found.arms["curated"]["list"].after.value == 40.0
    assert found.arms["curated"]["list"].after.low is None
    assert found.differences[0].difference == 0.0
    assert found.differences[0].low is None
    assert all(each.rho is None for each in found.ranked)


def test_two_numbers_of_one_model_at_one_probe_are_a_mistake():
    log_odds, _ = invented()
    with pytest.raises(ValueError, match="one answer has two verdicts"):
        lay_out_column(pl.concat([log_odds, log_odds]), "log_odds", "after")
