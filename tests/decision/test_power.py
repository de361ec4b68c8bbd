import numpy as np
import pytest
from scipy import stats

from curator.decision.sequential import chance, detectable, seeds_needed


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
        assert chance(found, seeds, prompts, **spread) == pytest.approx(0.9, abs=1e-9)


def test_both_tails_of_the_noncentral_t_are_counted():
    critical = stats.t.isf(0.025, 4)
    error = 0.15 / np.sqrt(5)
    both = stats.nct.sf(critical, 4, 0.1 / error) + stats.nct.cdf(-critical, 4, 0.1 / error)
    assert chance(0.1, 5, sd_seed=0.15) == pytest.approx(both)
    assert chance(-0.1, 5, sd_seed=0.15) == pytest.approx(both)
    assert chance(0.0, 5, sd_seed=0.15) == 0.05


def test_two_prompts_or_one_seed_see_nothing():
    assert detectable(1, sd_seed=0.15) is None
    assert detectable(9, 1, sd_seed=0.15) is None
    assert chance(1.0, 1, sd_seed=0.15) == 0


def test_no_number_of_seeds_replaces_prompts():
    assert seeds_needed(0.01, 50, sd_seed=0.15, sd_prompt=0.3) is None
    assert seeds_needed(0.0, sd_seed=0.15) is None


def test_more_of_anything_never_sees_less():
    sizes = [detectable(s, 200, sd_seed=0.15, sd_prompt=0.2, sd_residual=0.5) for s in range(2, 40)]
    assert sizes == sorted(sizes, reverse=True)
    sizes = [detectable(8, p, sd_seed=0.15, sd_prompt=0.2, sd_residual=0.5) for p in (2, 5, 20, 100, 500)]
    assert sizes == sorted(sizes, reverse=True)
