import numpy as np
import pytest
from scipy import stats

from curator.decision.power import passing, seeds_to_pass
from curator.decision.sequential import detectable, seeds_needed
from tests.decision import worlds

QUIET = {"sd_prompt": 0.08, "sd_residual": 0.3}
"""Of a cost of which there is little in either arm."""


@pytest.mark.parametrize(("seeds", "difference"), [(3, 0.49), (5, 0.25), (8, 0.17), (10, 0.15), (20, 0.10), (73, 0.05)])
def test_the_method_pages_figures_come_out(seeds, difference):
    assert detectable(seeds, sd_seed=0.15) == pytest.approx(difference, abs=0.005)


def test_seeds_needed_is_the_first_size_that_detects():
    for difference in (0.49, 0.25, 0.1, 0.05):
        needed = seeds_needed(difference, sd_seed=0.15)
        assert detectable(needed, sd_seed=0.15) <= difference
        assert needed == 3 or detectable(needed - 1, sd_seed=0.15) > difference
    assert seeds_needed(0.05, sd_seed=0.15) in (73, 74)


def test_the_chance_at_the_detectable_difference_is_the_power_asked():
    spread = {"sd_seed": 0.15, "sd_prompt": 0.3, "sd_residual": 0.6}
    for seeds, prompts in ((3, 200), (6, 50), (20, 300)):
        found = detectable(seeds, prompts, power=0.9, **spread)
        assert worlds.chance(found, seeds, prompts, **spread) == pytest.approx(0.9, abs=1e-6)


def test_two_prompts_or_one_seed_see_nothing():
    assert detectable(1, sd_seed=0.15) is None
    assert detectable(9, 1, sd_seed=0.15) is None


def test_no_number_of_seeds_replaces_prompts():
    assert seeds_needed(0.01, 50, sd_seed=0.15, sd_prompt=0.3) is None
    assert seeds_needed(0.0, sd_seed=0.15) is None


def test_more_of_anything_never_sees_less():
    sizes = [detectable(s, 200, sd_seed=0.15, sd_prompt=0.2, sd_residual=0.5) for s in range(2, 40)]
    assert sizes == sorted(sizes, reverse=True)
    sizes = [detectable(8, p, sd_seed=0.15, sd_prompt=0.2, sd_residual=0.5) for p in (2, 5, 20, 100, 500)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(("sd", "reviewed"), [(0.01, 0.97), (0.02, 0.88), (0.03, 0.69), (0.05, 0.41), (0.15, 0.11)])
def test_the_reviewed_chances_that_a_gate_passes_come_out(sd, reviewed):
    """Of 2,000 simulated studies of 6 seeds and 200 prompts, with a margin of 5 points and no cost."""
    assert passing(0.05, 6, 200, sd_seed=sd, **QUIET) == pytest.approx(reviewed, abs=0.02)


@pytest.mark.parametrize("seeds", [3, 6, 10])
def test_a_simulated_gate_passes_as_often_as_the_formula_says(seeds):
    """Draws of the normal model that the formula stands on, with the estimate of `statistics.crossed`."""
    generator, studies, prompts, sd = np.random.default_rng(seeds), 2000, 100, 0.03
    cells = generator.normal(0, 0.3, (studies, seeds, prompts))
    cells += generator.normal(0, sd, (studies, seeds, 1)) + generator.normal(0, 0.08, (studies, 1, prompts))
    means = cells.mean(axis=2)
    table = worlds.Table(means, cells.mean(axis=1), (cells**2).sum(axis=(1, 2)), means, means)
    passed = worlds.limits(table, widen=lambda part: np.zeros(studies, dtype=bool))[1] < 0.05
    assert passed.mean() == pytest.approx(passing(0.05, seeds, prompts, sd_seed=sd, **QUIET), abs=0.03)


def test_seeds_to_pass_is_the_first_number_that_is_enough():
    for sd, expected in ((0.01, 5), (0.03, 8), (0.05, 13)):
        needed = seeds_to_pass(0.05, 200, {"sd_seed": sd, **QUIET})
        assert needed == expected
        assert passing(0.05, needed, 200, sd_seed=sd, **QUIET) >= 0.8
        assert passing(0.05, needed - 1, 200, sd_seed=sd, **QUIET) < 0.8
    assert seeds_to_pass(0.01, 20, {"sd_seed": 0.03, "sd_prompt": 0.3}) is None


def test_where_no_pair_differs_a_gate_passes_from_72_prompts_on():
    assert [passing(0.05, 6, prompts, sd_seed=0.0) for prompts in (10, 71, 72, 200)] == [0, 0, 1, 1]
    assert passing(0.05, 1, 200, sd_seed=0.1) == 0


def test_prompts_alone_leave_a_gate_its_chance():
    """Without spread between seeds and cells, the limit's reach and the estimate's error both come of the prompts."""
    error = 0.2 / np.sqrt(50)
    expected = stats.norm.cdf((0.2 - stats.t.isf(0.025, 5) * error) / error)
    assert passing(0.2, 6, 50, sd_seed=0.0, sd_prompt=0.2) == pytest.approx(expected)
