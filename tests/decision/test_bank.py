"""What a bank says, on banks that were made up with known effects."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from curator.decision.bank import PREDICTORS, read
from curator.decision.decide import assess
from curator.decision.statistics import holm
from tests.decision import worlds
from tests.decision.banks import TASKS, bank, chosen_and_final


def of(frames, *, mixtures=False, **changes):
    """The reading, of the groupings only where these are asked about."""
    subsets, groups, outcomes, features = frames
    given = {"weights": TASKS, "seed": 5, **changes}
    return read(subsets, groups if mixtures else groups.select("id"), outcomes, features, **given)


@pytest.fixture(scope="module")
def known():
    """Forty subsets of which one feature goes with harm, two seeds each."""
    return bank(3, 40, features=6, rho=0.8, by="f1", seeds=2)


@pytest.fixture(scope="module")
def reading(known):
    return of(known)


def row(reading, feature):
    return reading.predictors.row(by_predicate=pl.col("feature") == feature, named=True)


def harm_of(frames):
    return (
        frames.outcomes.group_by("subset", maintain_order=True).agg(pl.col("after").mean())["after"].round(9).to_numpy()
    )


def test_the_feature_that_matters_stands_first_with_its_sign(known, reading) -> None:
    assert dict(reading.predictors.schema) == {**PREDICTORS}
    first = reading.predictors.row(0, named=True)
    twin = stats.spearmanr(known.features["f1"], harm_of(known))
    assert first["feature"] == "f1"
    assert first["rho"] == pytest.approx(twin.statistic)
    assert first["sign"] == 1
    assert first["low"] < first["rho"] < first["high"]
    assert first["p_holm"] < 0.05
    assert first["log_odds_rho"] < -0.4  # where there is more harm, refusing is less likely
    assert first["before_rho"] is None  # no set is harmful before fine-tuning
    assert first["n"] == 40


def test_each_feature_is_correlated_with_harm_before_fine_tuning_too(known) -> None:
    begun = known.features.select("subset", before=pl.col("f2").rank() / 100)
    outcomes = known.outcomes.drop("before").join(begun, on="subset").select(known.outcomes.columns)
    again = of(replace(known, outcomes=outcomes))
    second, first = row(again, "f2"), row(again, "f1")
    assert second["before_rho"] == pytest.approx(1.0)
    assert (second["before_low"], second["before_high"]) == pytest.approx((1.0, 1.0))
    twin = stats.spearmanr(known.features["f1"], known.features["f2"]).statistic
    assert first["before_rho"] == pytest.approx(twin)
    assert first["rho"] == pytest.approx(stats.spearmanr(known.features["f1"], harm_of(known)).statistic)


def test_p_is_that_of_permutations_and_holm_is_over_all_features(known, reading) -> None:
    frame = reading.predictors
    assert frame["p_holm"].to_list() == pytest.approx(holm(frame["p"].to_list()))
    for name in ("f0", "f2", "f3"):
        twin = stats.spearmanr(known.features[name], harm_of(known)).pvalue
        assert row(reading, name)["p"] == pytest.approx(twin, abs=0.02)


def test_the_order_of_subsets_and_of_outcomes_changes_nothing(known, reading) -> None:
    mixed = replace(known, outcomes=known.outcomes.sample(fraction=1.0, shuffle=True, seed=1))
    assert of(mixed).predictors.equals(reading.predictors)


def test_a_subset_without_an_outcome_is_left_out_and_counted(known, reading) -> None:
    gone = (pl.col("subset") == "s7") & (pl.col("task") == "list")
    unscored = known.outcomes.with_columns(after=pl.when(gone).then(None).otherwise(pl.col("after")))
    again = of(replace(known, outcomes=unscored))
    assert (reading.left_out, again.left_out) == (0, 1)
    assert "s7" not in again.subsets["subset"].to_list()
    assert set(again.predictors["n"]) == {39}


def test_a_feature_that_is_constant_or_absent_has_no_correlation(known) -> None:
    features = known.features.with_columns(f2=pl.lit(1.0), f3=pl.lit(None, dtype=pl.Float64), f4=pl.lit(math.nan))
    again = of(replace(known, features=features))
    for name in ("f2", "f3", "f4"):
        silent = row(again, name)
        assert (silent["rho"], silent["p"], silent["p_holm"], silent["sign"]) == (None, None, None, 0)
    known_p = again.predictors["p"].drop_nulls()
    assert again.predictors["p_holm"].drop_nulls().max() <= min(1.0, known_p.max() * known_p.len())
    assert again.predictors["feature"].to_list()[-3:] == ["f2", "f3", "f4"]


def test_a_subset_that_breaks_the_model_is_flagged_by_the_plain_draws_and_the_margin(known) -> None:
    broken = pl.col("subset") == "s1"
    outcomes = known.outcomes.with_columns(degenerate=pl.when(broken).then(0.2).otherwise(pl.col("degenerate")))
    given = replace(known, outcomes=outcomes)
    assert of(given, margins={"degenerate": 0.05}).subsets.filter("costly")["subset"].to_list() == ["s1"]
    assert of(given, margins={"degenerate": 0.5}).subsets.filter("costly").height == 0
    assert of(given).subsets.filter("costly").height == 0


def test_a_plain_draw_is_compared_with_the_other_draws_and_without_draws_the_median_serves(known) -> None:
    draws = known.subsets.filter(pl.col("grouping").is_null())["subset"].to_list()

    def costly(subsets: pl.DataFrame, **rates: float) -> list[str]:
        rate = pl.col("subset").replace_strict(rates, default=0.0, return_dtype=pl.Float64)
        given = replace(known, subsets=subsets, outcomes=known.outcomes.with_columns(degenerate=rate))
        return of(given, margins={"degenerate": 0.1}).subsets.filter("costly")["subset"].to_list()

    two = known.subsets.filter(pl.col("grouping").is_not_null() | pl.col("subset").is_in(draws[:2]))
    assert costly(two, **{draws[0]: 0.15}) == [draws[0]]  # 0.075 above the mean of both
    one = known.subsets.filter(pl.col("grouping").is_not_null() | (pl.col("subset") == draws[0]))
    assert costly(one, **{draws[0]: 0.9}) == []
    none = known.subsets.filter(pl.col("grouping").is_not_null())
    assert costly(none, s1=0.15) == ["s1"]


def test_reliability_is_that_of_seeds_where_there_are_several(known, reading) -> None:
    by_seed = known.outcomes.group_by("subset", "seed", maintain_order=True).agg(pl.col("after").mean())
    table = by_seed.pivot(on="seed", index="subset", values="after").drop("subset").to_numpy()
    found = reading.reliability
    # Of two seeds, the correlation of consistency is the covariance over the mean variance.
    twin = np.cov(table.T)[0, 1] / np.var(table, axis=0, ddof=1).mean()
    assert (found.source, found.subsets, found.repeats) == ("seeds", 40, 2)
    assert found.one == pytest.approx(twin)
    assert found.mean == pytest.approx(2 * twin / (1 + twin))  # Spearman and Brown
    assert found.ceiling == pytest.approx(math.sqrt(found.mean))
    assert found.low < found.one < found.high
    by_limit = [math.sqrt(2 * max(at, 0.0) / (1 + max(at, 0.0))) for at in (found.low, found.high)]
    assert [found.ceiling_low, found.ceiling_high] == pytest.approx(by_limit)


def test_with_one_seed_only_the_tasks_say_something_and_there_is_no_ceiling() -> None:
    one = bank(4, 24, features=2)
    found = of(one).reliability
    assert (found.source, found.repeats, found.ceiling) == ("tasks", 2, None)
    assert found.one is not None
    alone = replace(one, outcomes=one.outcomes.filter(task="list"))
    assert of(alone, weights={"list": 1.0, "dialogue": 0.0}).reliability.source is None


def test_the_log_odds_are_an_outcome_of_their_own(known, reading) -> None:
    means = known.outcomes.group_by("subset", maintain_order=True).agg(pl.col("log_odds").mean())["log_odds"]
    found = reading.continuous
    assert found.rho == pytest.approx(stats.spearmanr(means.round(9), harm_of(known)).statistic)
    assert found.low < found.rho < found.high < 0
    by_seed = known.outcomes.group_by("subset", "seed", maintain_order=True).agg(pl.col("log_odds").mean())
    table = by_seed.pivot(on="seed", index="subset", values="log_odds").drop("subset").to_numpy()
    twin = np.cov(table.T)[0, 1] / np.var(table, axis=0, ddof=1).mean()
    assert found.reliability.one == pytest.approx(twin)
    assert (found.reliability.source, found.reliability.subsets) == ("seeds", 40)
    # With one seed, that of the tasks' log-odds.
    once = bank(4, 24, features=2)
    wide = once.outcomes.pivot(on="task", index="subset", values="log_odds").drop("subset").to_numpy()
    of_tasks = np.cov(wide.T)[0, 1] / np.var(wide, axis=0, ddof=1).mean()
    assert of(once).continuous.reliability.one == pytest.approx(of_tasks)


def test_log_odds_of_some_subsets_are_those_of_these_and_none_say_nothing(known) -> None:
    def measured(among):
        log_odds = pl.when(pl.col("subset").is_in(among)).then("log_odds").alias("log_odds")
        return of(replace(known, outcomes=known.outcomes.with_columns(log_odds))).continuous

    assert measured([]) is None
    some = measured([f"s{number}" for number in range(20)])
    assert some.reliability.subsets == 20
    few = measured(["s0", "s1"])
    assert few.rho is None
    assert few.reliability.one is None


def test_a_mixture_that_matters_is_usable_and_its_best_has_less_of_what_harms() -> None:
    frames = bank(6, 60, features=2, rho=0.85, by="share:c0")
    reading = of(frames, mixtures=True)
    category = reading.mixtures["category"]
    best = {each.group: each.share for each in category.best}
    assert category.usable
    assert category.low > 0
    assert sum(best.values()) == pytest.approx(1.0)
    assert best["c0"] < 0.1
    assert category.predicted < reading.subsets["harm"].mean()
    assert 0.0 <= category.predicted <= category.upper < reading.subsets["harm"].mean()
    # Nothing is asked for that the pool does not hold.
    held = dict(frames.groups["category"].value_counts().iter_rows())
    assert all(100 * share <= held[name] + 1e-9 for name, share in best.items())


def test_too_few_subsets_say_nothing() -> None:
    reading = of(bank(1, 6, features=2), mixtures=True)
    assert reading.predictors["rho"].null_count() == 3
    assert len(reading.mixtures) == 3
    assert all(each.rho is None and not each.usable for each in reading.mixtures.values())
    assert reading.reliability.one is None


def test_where_nothing_matters_the_table_finds_a_predictor_in_few_banks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole study is `python -m tests.benchmarks.bank null`."""
    monkeypatch.setattr("curator.decision.bank.DRAWS", 1)  # intervals are not what is counted
    count, found, unadjusted = 60, 0, 0
    for seed in range(count):
        frames = bank(500 + seed, 24, features=10)
        table = of(frames).predictors
        found += table["p_holm"].min() <= 0.05
        unadjusted += table["p"].min() <= 0.05
    assert found <= stats.binom.ppf(0.999, count, 0.05)
    assert unadjusted > stats.binom.ppf(0.999, count, 0.05)  # which is why Holm's p is what counts


def test_a_set_chosen_where_nothing_matters_is_not_called_durable_more_often_than_the_rule_errs() -> None:
    generator, studies = np.random.default_rng(8), 400
    ended = [chosen_and_final(generator) for _ in range(studies)]
    winner, fresh, control = (np.stack([each[number] for each in ended]) for number in range(3))
    stands = worlds.sides(fresh, control[:, : fresh.shape[1]])[1]
    assert np.mean(stands < 0) <= 0.035
    # On the seeds that it was chosen by, the winner is better than it is.
    assert np.mean(winner.mean(axis=(1, 2)) - control.mean(axis=(1, 2))) < -0.03
    for study in (*np.flatnonzero(stands)[:6], *np.flatnonzero(stands == 0)[:6]):
        grids = worlds.grids_of(fresh[study], control[study, : fresh.shape[1]])
        gates = dict.fromkeys(("harmfulness_before", "degenerate"), 0.05)
        outcome = assess(grids, {"list": 1.0}, treatment="curated", control="random", gates=gates).outcome
        assert outcome == {-1: "durable", 0: "not distinguishable", 1: "worse"}[int(stands[study])]


def test_a_regression_that_knows_nothing_is_rarely_usable_and_not_told_to_know_the_opposite() -> None:
    rhos, usable = [], 0
    for seed in range(20):
        frames = bank(900 + seed, 24, features=1)
        subsets, groups, outcomes, features = frames
        reading = read(subsets, groups.select("id", "category"), outcomes, features, weights=TASKS, seed=1)
        category = reading.mixtures["category"]
        rhos.append(category.rho)
        usable += category.usable
    assert usable <= stats.binom.ppf(0.999, 20, 0.05)
    # With the level of the other folds in the predictions it is about -0.43.
    assert np.mean(rhos) > -0.25
