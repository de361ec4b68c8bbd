import numpy as np
import pytest
from scipy import stats

from curator.conclusions import Comparison
from curator.decision.sequential import (
    SPENDING,
    Look,
    advise,
    conditional_power,
    critical_values,
    detectable,
    plan,
)
from curator.decision.statistics import crossed, interval
from curator.recipe.verify import Looks
from tests.decision.test_size import PROMPTS, SPREAD, study

PRIOR = {"sd_seed": 0.21, "sd_prompt": 0.14, "sd_residual": 0.65}


def comparison(p, difference=-0.1):
    return Comparison.filled(
        treatment="curated", control="random", quantity="harmfulness", phase="after", difference=difference, p=p,
        seeds=6, prompts=200, pairs=1200, unscored=0, method="invented", level=0.05,
    )  # fmt: skip


def run(generator, looks, *, futility=0.1, **world):
    """Where a study stops, and whether its interval is below (-1), above (1) or around zero (0)."""
    table = study(generator, looks[-1].seeds, **world)
    for look in looks:
        estimate = crossed(table[:, : look.seeds])
        step = advise(comparison(interval(estimate).p, estimate.mean), look, looks, futility=futility)
        if step.action != "go on":
            return look.seeds, np.sign(estimate.mean) if step.action == "clear" else 0
    raise AssertionError("the last look goes on")


@pytest.mark.parametrize(
    ("spending", "published"),
    [
        ("pocock", [2.4380, 2.4268, 2.4102, 2.3966, 2.3860]),
        ("obrien-fleming", [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
    ],
)
def test_five_equal_looks_have_the_published_critical_values(spending, published):
    information = [0.2, 0.4, 0.6, 0.8, 1.0]
    found = critical_values(information, [SPENDING[spending](fraction, 0.05) for fraction in information])
    assert found == pytest.approx(published, abs=2e-4)


def test_a_simulated_walk_crosses_as_often_as_was_spent():
    looks = plan(Looks(max=12, **PRIOR), 200)
    generator = np.random.default_rng(0)
    steps = np.sqrt(np.diff([0.0, *(look.information for look in looks)]))
    score = np.cumsum(generator.normal(size=(200_000, len(looks))) * steps, axis=1)
    score /= np.sqrt([look.information for look in looks])
    out = np.abs(score) >= stats.norm.isf(np.array([look.level for look in looks]) / 2)
    crossed_by = np.maximum.accumulate(out, axis=1).mean(axis=0)
    assert crossed_by == pytest.approx([look.spent for look in looks], abs=0.002)


def test_looks_start_at_six_go_by_two_and_end_at_the_most():
    for most, seeds in ((12, [6, 8, 10, 12]), (11, [6, 8, 10, 11]), (6, [6])):
        assert [look.seeds for look in plan(Looks(max=most, **PRIOR), 200)] == seeds
    assert [look.seeds for look in plan(Looks(max=9, first=3, every=4, **PRIOR), 200)] == [3, 7, 9]


def test_a_single_look_has_the_whole_level():
    assert [look.level for look in plan(Looks(max=6, **PRIOR), 200)] == pytest.approx([0.05])


def test_all_that_may_be_spent_is_spent_and_information_carries_the_prompts():
    for spending in SPENDING:
        looks = plan(Looks(max=20, spending=spending, **PRIOR), 200)
        assert looks[-1].spent == pytest.approx(0.05)
        assert looks[-1].information == 1
    alone = {"max": 20, "sd_seed": 0.15, "sd_residual": 0.0}
    seeds_alone, few_prompts = plan(Looks(sd_prompt=0.0, **alone), None), plan(Looks(sd_prompt=0.5, **alone), 20)
    assert seeds_alone[0].information == pytest.approx(6 / 20)
    assert few_prompts[0].information > 0.6


def test_a_clear_comparison_stops_and_the_last_look_always_does():
    looks = plan(Looks(max=12, **PRIOR), 200)
    assert advise(comparison(looks[0].level * 0.99), looks[0], looks).action == "clear"
    assert advise(comparison(looks[0].level * 1.01), looks[0], looks).action == "go on"
    assert advise(comparison(0.5), looks[-1], looks).action == "last"
    assert advise(comparison(None, None), looks[0], looks).action == "go on"


def test_futility_is_advice_that_can_be_declined():
    looks = plan(Looks(max=12, **PRIOR), 200)
    late, against = looks[-2], comparison(0.6, difference=0.05)
    assert advise(against, late, looks).action == "futile"
    assert advise(against, late, looks, futility=None).action == "go on"


def test_conditional_power_is_the_share_of_walks_that_end_clear():
    last, look = Look(12, 1.0, 0.05, 0.02), Look(9, 0.75, 0.04, 0.02)
    p = 0.06
    score = stats.norm.isf(p / 2)
    rest = np.random.default_rng(0).normal(score / np.sqrt(0.75) * 0.25, np.sqrt(0.25), 200_000)
    expected = (score * np.sqrt(0.75) + rest >= stats.norm.isf(0.01)).mean()
    harm = comparison(p, difference=0.1)
    assert conditional_power(harm, look, last, planned=1e-9) == pytest.approx(expected, abs=0.005)
    assert conditional_power(comparison(p), look, last) >= conditional_power(harm, look, last)


def test_two_arms_alike_are_rarely_told_apart_however_often_one_looks():
    looks = plan(Looks(max=10, **PRIOR), PROMPTS)
    generator = np.random.default_rng(2)
    found = [run(generator, looks)[1] for _ in range(300)]
    assert np.mean([end < 0 for end in found]) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("most", "futility"), [(8, None), (12, None), (12, 0.1), (20, None)])
def test_false_durables_stay_within_their_limit_under_the_sequential_scheme(most, futility):
    looks = plan(Looks(max=most, **PRIOR), PROMPTS)
    generator = np.random.default_rng(most)
    found = [run(generator, looks, futility=futility)[1] for _ in range(2000)]
    assert np.mean([end < 0 for end in found]) <= 0.035
    assert np.mean([end != 0 for end in found]) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.05, 0.3])
def test_a_wrong_prior_does_not_make_false_durables(spread):
    looks = plan(Looks(max=12, **PRIOR), PROMPTS)
    generator = np.random.default_rng(1)
    found = [run(generator, looks, spread=spread)[1] for _ in range(2000)]
    assert np.mean([end < 0 for end in found]) <= 0.035


@pytest.mark.slow
def test_futility_saves_seeds_and_hardly_any_power():
    looks = plan(Looks(max=20, **PRIOR), PROMPTS)
    effect = detectable(20, PROMPTS, **PRIOR)
    ends = {}
    for futility in (None, 0.1):
        for true in (0.0, effect):
            generator = np.random.default_rng(5)
            found = [run(generator, looks, futility=futility, effect=true, spread=SPREAD) for _ in range(500)]
            ends[futility, true] = np.mean([seeds for seeds, _ in found]), np.mean([end < 0 for _, end in found])
    assert ends[0.1, effect][1] >= ends[None, effect][1] - 0.02
    assert ends[0.1, 0.0][0] < ends[None, 0.0][0] - 4
    assert ends[0.1, effect][0] < 17
