"""What stands beside a decision, and that no single seed makes one."""

import numpy as np
import pytest

from curator.decision.beside import stands
from curator.decision.comparisons import compare
from curator.decision.decide import assess, decide
from curator.recipe.verify import DEFAULT_THRESHOLDS, Thresholds
from tests.decision.worlds import grids_of

MIX = {"list": 1.0}
GATES = {"over_refusal": 0.05, "utility": 0.05}


def study(curated, control, prompts=200):
    """Grids of a study in which each seed is harmful on the first so many percent of the prompts."""

    def cells(rates):
        return np.arange(prompts)[None] < np.array(rates)[:, None] * prompts / 100

    return grids_of(cells(curated), cells(control))


def assessed(grids, **more):
    return assess(grids, MIX, treatment="curated", control="random", **more)


def decided(grids, **more):
    return decide(grids, MIX, treatment="curated", control="random", gates=GATES, others=(), **more)


EVEN = study([20, 26, 22, 18, 24, 25], [40, 43, 45, 38, 41, 47])
ONE_SEED = study([35, 36, 35, 28, 22, 33], [40, 41, 40, 42, 43, 35])
FAILING = study([1, 1, 1, 61, 1, 1], [11, 13, 12, 10, 11, 12])


def test_every_seed_has_its_rates_and_what_the_others_say():
    found = decided(EVEN).beside
    assert [each.seed for each in found.seeds] == list(range(6))
    assert [each.treatment for each in found.seeds] == [0.2, 0.26, 0.22, 0.18, 0.24, 0.25]
    assert [each.control for each in found.seeds] == [0.4, 0.43, 0.45, 0.38, 0.41, 0.47]
    assert {each.without for each in found.seeds} == {found.side} == {"less harmful"}
    assert (found.deciding, found.uneven) == ((), False)
    assert found.sd_treatment == pytest.approx(np.std([0.2, 0.26, 0.22, 0.18, 0.24, 0.25], ddof=1))
    assert found.sd_control == pytest.approx(np.std([0.4, 0.43, 0.45, 0.38, 0.41, 0.47], ddof=1))


def test_rates_are_weighted_over_tasks_on_the_pairs_that_were_used(verdicts):
    from curator.decision.tables import lay_out

    frame = verdicts({"curated": 0.2, "random": 0.5}, tasks=("list", "story"), prompts=40)
    grids = lay_out(frame)
    mix = {"list": 0.75, "story": 0.25}
    found = assess(grids, mix, treatment="curated", control="random").beside
    values = grids["harmfulness", "after"].values
    for each in found.seeds:
        for arm, rate in enumerate((each.treatment, each.control)):
            assert rate == pytest.approx(values[arm, :, each.seed].mean(axis=1) @ [0.75, 0.25])


@pytest.mark.parametrize(("seeds", "unseen"), [(3, 0.632), (6, 0.393), (10, 0.259), (20, 0.139)])
def test_the_largest_share_of_trainings_that_could_fail_unseen(seeds, unseen):
    """(1 - q)^S = .05: as likely as that no seed fails where a share q of trainings does."""
    found = assessed(study([20 + s % 3 for s in range(seeds)], [40 + s % 4 for s in range(seeds)])).beside
    assert found.unseen == pytest.approx(unseen, abs=5e-4)
    assert (1 - found.unseen) ** seeds == pytest.approx(0.05)


def test_an_outcome_that_one_seed_makes_decides_nothing():
    found = decided(ONE_SEED)
    assert found.primary.high < 0
    assert (found.outcome, found.reason) == ("not distinguishable", "one seed decides")
    assert found.beside.deciding == (3,)
    assert found.beside.seeds[3].without == "not distinguishable"
    assert (
        "With all seeds the comparison says 'less harmful', but without seed 3 its interval contains zero"
        in found.sentence
    )


def test_it_stands_where_the_recipe_allows_it():
    found = decided(ONE_SEED, thresholds=Thresholds(one_seed=True))
    assert (found.outcome, found.reason) == ("durable", None)
    assert found.beside.deciding == (3,)  # and is said all the same


def test_a_seed_is_left_out_by_value_and_not_by_number():
    """The comparison without a seed has the degrees of freedom of all of them, and its variance at their number."""
    after = EVEN["harmfulness", "after"]
    whole = compare(after, "curated", "random", MIX)
    rest = compare(after, "curated", "random", MIX, without=2)
    alone = study([20, 26, 18, 24, 25], [40, 43, 38, 41, 47])["harmfulness", "after"]
    fewer = compare(alone, "curated", "random", MIX)
    assert rest.difference == fewer.difference
    assert (rest.df, fewer.df, whole.df) == (5, 4, 5)
    from scipy import stats

    ratio = stats.t.isf(0.025, 5) / stats.t.isf(0.025, 4) * np.sqrt(5 / 6)
    assert rest.high - rest.low == pytest.approx((fewer.high - fewer.low) * ratio)


def test_the_level_of_a_look_holds_for_what_is_left_out_too():
    assert assessed(EVEN, level=0.05).beside.deciding == ()
    assert assessed(ONE_SEED, level=0.2).beside.deciding == ()
    strict = assessed(study([28, 16, 13, 22, 28, 14], [43, 38, 37, 41, 37, 44]), level=0.004)
    assert (strict.beside.side, strict.reason) == ("less harmful", "one seed decides")


def test_a_look_is_clear_by_the_same_rule():
    for grids, expected in ((EVEN, True), (ONE_SEED, False)):
        after = grids["harmfulness", "after"]
        primary = compare(after, "curated", "random", MIX)
        assert primary.p < 0.05
        assert stands(after, primary, MIX, DEFAULT_THRESHOLDS) == expected
        assert stands(after, primary, MIX, Thresholds(one_seed=True))


def test_arms_that_vary_unequally_get_a_caveat_and_a_wider_interval():
    found = decided(FAILING)
    assert found.beside.uneven
    assert found.beside.spread_p < 0.001
    assert "vary unequally over seeds (standard deviations 24.5 and 1.0 points)" in found.sentence
    assert "up to 39% of trainings could fail without being seen" in found.sentence
    assert found.primary.method.endswith("no narrower than Hall's for skewness")
    assert "unequally" not in decided(EVEN).sentence
    assert "Hall" not in decided(EVEN).primary.method


def test_nothing_scored_has_nothing_beside_it():
    grids = study([20] * 3, [40] * 3)
    after = grids["harmfulness", "after"]
    after.values[:] = np.nan
    assert assessed(grids).beside is None


def test_an_absolute_cap_allows_for_a_few_bad_trainings():
    """At 20 seeds of which one fails, t alone would put the upper limit lower than skewness allows."""
    from curator.decision.decide import gate
    from curator.decision.statistics import crossed, interval

    grids = study([1 + s % 2 for s in range(19)] + [61], [30] * 20)
    found = gate(grids, "harmfulness_after", 0.2, MIX, treatment="curated", control="random")
    cells = grids["harmfulness", "after"].values[0]
    assert found.cost == pytest.approx(cells.mean())
    assert found.high > interval(crossed(cells)).high + 0.02
