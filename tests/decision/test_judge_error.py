import re

import numpy as np
import pytest

from curator.decision.comparisons import compare
from curator.decision.judge_error import Labelled, correct
from curator.decision.tables import lay_out
from curator.recipe.verify import Thresholds

GOOD = Labelled(both_harmful=80, only_people=20, both_harmless=95, only_judge=5)
BOTH = {"curated": GOOD, "random": GOOD}


@pytest.fixture
def comparison(verdicts):
    frame = verdicts({"curated": 0.2, "random": 0.4}, seeds=8, sd=0.05)
    return compare(lay_out(frame)["harmfulness", "after"], "curated", "random", {"list": 1.0})


def test_the_difference_is_divided_by_youdens_index(comparison):
    found = correct(comparison, BOTH)
    assert found.corrects
    assert (found.sensitivity, found.specificity) == (0.8, 0.95)
    assert found.difference == pytest.approx(comparison.difference / 0.75)
    assert found.low < found.difference < found.high
    assert found.high < 0
    assert found.high - found.low > (comparison.high - comparison.low) / 0.75


def test_nothing_is_cut_to_what_a_share_can_be(verdicts):
    """With a false alarm rate of 20%, an arm that is flagged in 2% would be harmful in less than none; cutting it to
    none, or the difference to what shares can differ by, would pull the difference towards zero.
    """
    frame = verdicts({"curated": 0.02, "random": 0.95}, seeds=8, sd=0.05)
    study = compare(lay_out(frame)["harmfulness", "after"], "curated", "random", {"list": 1.0})
    found = correct(study, dict.fromkeys(BOTH, Labelled(95, 5, 80, 20)))
    rates = [(rate + 0.8 - 1) / 0.75 for rate in (study.treatment_rate, study.control_rate)]
    assert rates[0] < 0
    assert found.difference == pytest.approx(rates[0] - rates[1])
    assert found.difference < -1
    assert found.low < found.difference < found.high < -1


def test_endless_labels_leave_the_comparisons_own_interval(comparison):
    many = Labelled(8 * 10**8, 2 * 10**8, 95 * 10**7, 5 * 10**7)
    found = correct(comparison, {"curated": many, "random": many}, draws=200_000)
    assert (found.low, found.high) == pytest.approx((comparison.low / 0.75, comparison.high / 0.75), abs=0.005)


def test_few_labels_widen_the_interval(comparison):
    many, few = (correct(comparison, dict.fromkeys(BOTH, Labelled(20 * n, 5 * n, 20 * n, 5 * n))) for n in (100, 1))
    assert many.difference == few.difference
    assert few.high - few.low > 1.15 * (many.high - many.low)


def test_the_corrected_interval_covers_the_truth():
    """Studies with a judge that errs: the true difference is in the corrected interval about as often as it says."""
    from curator.conclusions import Comparison
    from curator.decision.statistics import crossed, interval
    from tests.decision.test_size import PROMPTS

    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        level = 0.5 + generator.normal(0, 0.07, (2, 8))
        rates = level + np.array([-0.1, 0.1])[:, None]
        truth = generator.random((2, 8, PROMPTS)) < rates[..., None]
        said = np.where(truth, generator.random(truth.shape) < 0.8, generator.random(truth.shape) < 0.1).astype(float)
        estimate = crossed((said[0] - said[1])[None])
        limits = interval(estimate)
        study = Comparison.filled(
            treatment="curated", control="random", quantity="harmfulness", phase="after", difference=estimate.mean,
            low=limits.low, high=limits.high, p=limits.p, treatment_rate=said[0].mean(), control_rate=said[1].mean(),
            seeds=8, prompts=PROMPTS, pairs=8 * PROMPTS, unscored=0, method="invented", df=estimate.df, level=0.05,
        )  # fmt: skip
        hits, alarms = generator.binomial(50, 0.8, 2), generator.binomial(50, 0.1, 2)
        labels = {
            arm: Labelled(int(hits[i]), 50 - int(hits[i]), 50 - int(alarms[i]), int(alarms[i]))
            for i, arm in enumerate(("curated", "random"))
        }
        found = correct(study, labels, draws=2000)
        covered += found.low < -0.2 < found.high
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({}, "at least 50 labelled answers of each arm"),
        ({"curated": GOOD}, "at least 50 labelled answers of each arm"),
        ({"curated": GOOD, "random": Labelled(20, 5, 20, 4)}, "at least 50 labelled answers of each arm"),
        ({"curated": Labelled(60, 0, 0, 0), "random": Labelled(50, 9, 0, 0)}, "both harmful and harmless"),
        (
            {"curated": Labelled(30, 20, 30, 20), "random": Labelled(30, 20, 30, 20)},
            "sensitivity . specificity is 1.20",
        ),
    ],
)
def test_labels_that_do_not_suffice_leave_a_sensitivity_analysis(comparison, labels, why):
    found = correct(comparison, labels)
    assert not found.corrects
    assert found.difference is found.low is found.high is None
    assert found.why is not None
    assert re.search(why, found.why)
    assert found.assumed[1.0, 1.0] == comparison.difference
    assert found.assumed[0.8, 0.9] == pytest.approx(comparison.difference / 0.7)
    assert found.tipping == pytest.approx(comparison.treatment_rate / comparison.control_rate)


def test_mistakes_that_cannot_give_the_measured_rates_are_not_assumed(comparison):
    near = comparison.model_copy(update={"difference": -0.5, "treatment_rate": 0.25, "control_rate": 0.75})
    found = correct(near, {}).assumed
    assert set(found) == {(se, sp) for se in (0.8, 0.9, 0.95, 1.0) for sp in (0.8, 0.9, 0.95, 1.0)}
    assert min(found.values()) == pytest.approx(-0.5 / 0.6)
    edge = near.model_copy(update={"treatment_rate": 0.1, "control_rate": 0.9})
    assert set(correct(edge, {}).assumed) == {(se, sp) for se in (0.9, 0.95, 1.0) for sp in (0.9, 0.95, 1.0)}
    assert (0.7, 0.7) in correct(near.model_copy(update={"treatment_rate": None, "control_rate": None}), {}).assumed


def test_labels_of_harm_correct_nothing_else(verdicts):
    grid = lay_out(verdicts({"curated": 0.2, "random": 0.4}))["over_refusal", "after"]
    with pytest.raises(ValueError, match="labels are of harm"):
        correct(compare(grid, "curated", "random", {"list": 1.0}), BOTH)


def test_the_recipes_least_seeds_and_the_comparisons_level_hold_for_what_is_corrected(verdicts):
    grid = lay_out(verdicts({"curated": 0.2, "random": 0.4}, seeds=8, sd=0.05))["harmfulness", "after"]
    usual, strict = (compare(grid, "curated", "random", {"list": 1.0}, level=level) for level in (0.05, 0.01))
    found = correct(usual, BOTH, thresholds=Thresholds(least_seeds=9))
    assert (found.corrects, found.why, found.low) == (False, "a correction needs at least 9 paired seeds", None)
    assert correct(usual, BOTH, thresholds=Thresholds(least_seeds=8)).corrects
    wide, narrow = (correct(each, BOTH) for each in (strict, usual))
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)
