import itertools

import numpy as np
import pytest
from scipy import optimize, stats

from curator.decision.statistics import bootstrap, crossed, holm, interval, share_interval, spreads_differ, wilson


def effects(generator, seeds, prompts, sd_seed, sd_prompt, sd_residual, mean=0.0):
    return (
        mean
        + generator.normal(0, sd_seed, seeds)[:, None]
        + generator.normal(0, sd_prompt, prompts)
        + generator.normal(0, sd_residual, (seeds, prompts))
    )


def by_the_textbook(table):
    """max(MS_seed, MS_seed + MS_prompt - MS_residual) / (S P), sum by sum."""
    seeds, prompts = table.shape
    grand = sum(table[s, p] for s in range(seeds) for p in range(prompts)) / (seeds * prompts)
    row = [sum(table[s, p] for p in range(prompts)) / prompts for s in range(seeds)]
    column = [sum(table[s, p] for s in range(seeds)) / seeds for p in range(prompts)]
    of_seed = prompts * sum((r - grand) ** 2 for r in row) / (seeds - 1)
    of_prompt = seeds * sum((c - grand) ** 2 for c in column) / (prompts - 1)
    rest = sum((table[s, p] - row[s] - column[p] + grand) ** 2 for s in range(seeds) for p in range(prompts))
    rest /= (seeds - 1) * (prompts - 1)
    return max(of_seed, of_seed + of_prompt - rest) / (seeds * prompts)


@pytest.mark.parametrize("shape", [(2, 2), (3, 7), (6, 40), (12, 5)])
def test_a_full_table_has_the_textbooks_variance(shape):
    generator = np.random.default_rng(shape)
    for _ in range(5):
        table = generator.choice([-1.0, 0.0, 1.0], size=shape)
        found = crossed(table[None])
        assert found.variance == pytest.approx(by_the_textbook(table), rel=1e-9)
        assert found.mean == pytest.approx(table.mean())
        assert found.df == min(shape) - 1


def test_prompts_without_any_spread_between_them_leave_the_t_test_over_seed_means():
    level = np.array([0.1, -0.2, 0.3, 0.25, 0.05])
    table = np.repeat(level[:, None], 8, axis=1)
    found = interval(crossed(table[None]))
    expected = stats.ttest_1samp(level, 0)
    low, high = expected.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((low, high, expected.pvalue))


def test_a_crossed_mixed_model_gives_the_same_error():
    pandas = pytest.importorskip("pandas")
    mixed = pytest.importorskip("statsmodels.formula.api").mixedlm
    seeds, prompts = 8, 25
    table = effects(np.random.default_rng(3), seeds, prompts, 0.3, 0.4, 0.5, mean=-0.2)
    frame = pandas.DataFrame(
        {
            "y": table.ravel(),
            "seed": np.repeat(np.arange(seeds), prompts),
            "prompt": np.tile(np.arange(prompts), seeds),
            "everything": 1,
        }
    )
    parts = {"seed": "0 + C(seed)", "prompt": "0 + C(prompt)"}
    fitted = mixed("y ~ 1", frame, groups="everything", vc_formula=parts, re_formula="0").fit(reml=True)
    found = crossed(table[None])
    assert found.mean == pytest.approx(fitted.fe_params["Intercept"], abs=1e-6)
    assert np.sqrt(found.variance) == pytest.approx(fitted.bse_fe["Intercept"], rel=2e-3)
    of = dict(zip(fitted.model.exog_vc.names, fitted.vcomp, strict=True))
    assert found.sd_seed**2 == pytest.approx(of["seed"], rel=0.01)
    assert found.sd_prompt**2 == pytest.approx(of["prompt"], rel=0.01)
    assert found.sd_residual**2 == pytest.approx(fitted.scale, rel=0.01)


def test_the_sign_flip_test_over_seeds_agrees():
    generator = np.random.default_rng(11)
    for mean in (0.0, 0.05, 0.1, 0.2):
        table = effects(generator, 10, 200, 0.1, 0.0, 0.4, mean=mean)
        by_seed = table.mean(axis=1)
        flips = np.array(list(itertools.product([-1, 1], repeat=10)))
        exact = (np.abs((flips * by_seed).mean(axis=1)) >= abs(by_seed.mean()) - 1e-12).mean()
        assert interval(crossed(table[None])).p == pytest.approx(exact, abs=0.03)


def test_components_add_up_to_the_variance():
    found = crossed(effects(np.random.default_rng(0), 6, 30, 0.2, 0.3, 0.4)[None])
    parts = found.sd_seed**2 / 6 + found.sd_prompt**2 / 30 + found.sd_residual**2 / 180
    assert found.variance == pytest.approx(parts)


def test_tasks_on_the_same_prompts_are_the_table_of_their_weighted_cells():
    generator = np.random.default_rng(5)
    first, second = generator.choice([-1.0, 0.0, 1.0], size=(2, 6, 20))
    both = crossed(np.stack([first, second]), (0.3, 0.7))
    one = crossed((0.3 * first + 0.7 * second)[None])
    for name in ("mean", "variance", "df", "seeds", "prompts", "sd_seed", "sd_prompt", "sd_residual"):
        assert getattr(both, name) == pytest.approx(getattr(one, name)), name


def test_tasks_with_prompts_of_their_own_add_their_prompt_variance():
    generator = np.random.default_rng(6)
    parts = [effects(generator, 6, size, 0.0, 0.5, 0.1) for size in (20, 30)]
    table = np.full((2, 6, 50), np.nan)
    table[0, :, :20], table[1, :, 20:] = parts
    found = crossed(table, (0.5, 0.5))
    of_prompts = sum(0.25 * part.mean(axis=0).var(ddof=1) / part.shape[1] for part in parts)
    assert found.variance == pytest.approx(of_prompts, rel=0.1)
    assert found.df == 5


def test_an_order_of_seeds_or_prompts_changes_nothing():
    generator = np.random.default_rng(1)
    table = np.where(generator.random((7, 30)) < 0.1, np.nan, generator.choice([-1.0, 0.0, 1.0], size=(7, 30)))
    found, moved = crossed(table[None]), crossed(table[generator.permutation(7)][:, generator.permutation(30)][None])
    assert (found.mean, found.variance) == pytest.approx((moved.mean, moved.variance))


def test_the_residual_of_a_table_with_holes_is_the_least_squares_one():
    generator = np.random.default_rng(2)
    table = effects(generator, 5, 9, 0.3, 0.3, 0.5)
    table[generator.random(table.shape) < 0.25] = np.nan
    cells = np.argwhere(~np.isnan(table))
    design = np.zeros((len(cells), 14))
    design[np.arange(len(cells)), cells[:, 0]] = design[np.arange(len(cells)), 5 + cells[:, 1]] = 1
    values = table[tuple(cells.T)]
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    residual = ((values - design @ solution) ** 2).sum() / (len(cells) - rank)
    found = crossed(table[None])
    assert found.sd_residual == pytest.approx(np.sqrt(residual * 5 * 9 / len(cells)))
    assert found.mean == pytest.approx(np.nanmean(table))


def test_unequal_holes_do_not_hide_what_a_seed_adds():
    generator = np.random.default_rng(8)
    errors, said = [], []
    for _ in range(300):
        table = effects(generator, 6, 40, 0.2, 0.2, 0.4)
        table[generator.random(table.shape) < np.linspace(0, 0.4, 6)[:, None]] = np.nan
        found = crossed(table[None])
        errors.append(found.mean)
        said.append(found.variance)
    assert np.mean(said) == pytest.approx(np.var(errors), rel=0.25)


def test_seeds_that_share_no_prompt_are_still_given_an_interval():
    table = np.full((4, 8), np.nan)
    for s in range(4):
        table[s, 2 * s : 2 * s + 2] = [s / 10, s / 10 + 0.1]
    found = crossed(table[None])
    assert found.cells == 8
    assert interval(found).low < found.mean < interval(found).high


def test_one_seed_or_one_prompt_has_a_mean_and_no_interval():
    for shape in ((1, 1, 50), (1, 50, 1)):
        found = crossed(np.ones(shape))
        assert (found.mean, found.variance) == (1.0, None)
        assert interval(found).low is None


def test_a_task_without_a_scored_cell_leaves_no_mean():
    table = np.zeros((2, 3, 4))
    table[1] = np.nan
    assert crossed(table, (0.5, 0.5)).mean is None
    assert crossed(np.zeros((0, 3, 4)), ()).mean is None


@pytest.mark.parametrize(("prompts", "level"), [(50, 0.05), (73, 0.05), (200, 0.02)])
def test_arms_that_answer_alike_may_differ_on_prompts_that_were_not_asked(prompts, level):
    found = interval(crossed(np.zeros((1, 6, prompts))), level)
    assert (-found.low, found.p) == (found.high, 1.0)
    # With that share of prompts that differ, none is seen with a chance of half the level.
    assert stats.binom.pmf(0, prompts, found.high) == pytest.approx(level / 2)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
@pytest.mark.parametrize(("seeds", "prompts"), [(2, 2), (3, 20), (8, 100)])
def test_no_interval_is_a_point_where_all_cells_are_alike(value, seeds, prompts):
    estimate = crossed(np.full((1, seeds, prompts), value))
    found = [interval(estimate)] + ([share_interval(estimate)] if value >= 0 else [])
    assert all(limits.high > limits.low and limits.low <= value <= limits.high for limits in found)


@pytest.mark.parametrize(("seeds", "clear"), [(3, False), (5, False), (6, True), (12, True)])
def test_a_difference_without_any_spread_is_clear_only_from_six_seeds_on(seeds, clear):
    found = interval(crossed(np.full((1, seeds, 200), -1.0)))
    assert found.low == -1.0
    assert found.high > -1.0
    assert (found.high < 0) == clear
    assert (found.p < 0.05) == clear
    assert found.p == 2.0 ** (1 - seeds)


def test_equal_counts_on_other_prompts_are_no_certainty():
    table = np.zeros((3, 30))
    for s in range(3):
        table[s, 2 * s : 2 * s + 2] = -1
    estimate = crossed(table[None])
    assert estimate.variance == pytest.approx(0, abs=1e-15)
    found = interval(estimate)
    assert found.low < -0.1
    assert found.high > 0
    assert found.p > 0.05


def test_wilson_is_the_published_one():
    proportion = pytest.importorskip("statsmodels.stats.proportion").proportion_confint
    for k, n in ((0, 10), (3, 10), (10, 10), (37, 200)):
        assert wilson(k / n, n) == pytest.approx(proportion(k, n, method="wilson"), abs=1e-12)


def test_a_share_keeps_within_zero_and_one_and_one_seed_is_wilson():
    table = np.zeros((1, 4, 50))
    table[0, 0, 0] = 1
    found = share_interval(crossed(table))
    assert found.low == 0.0
    alone = share_interval(crossed(table[:, :1]))
    assert (alone.low, alone.high) == wilson(1 / 50, 50)
    assert "one seed" in alone.method


def test_the_bootstrap_resamples_seeds_and_prompts():
    generator = np.random.default_rng(4)
    table = effects(generator, 20, 100, 0.2, 0.2, 0.3)
    found = crossed(table[None])
    low, high = bootstrap(table[None], draws=4000)
    assert (high - low) / 3.92 == pytest.approx(np.sqrt(found.variance), rel=0.15)
    assert bootstrap(table[None]) == bootstrap(table[None])


def test_holm_is_the_published_one_and_skips_nulls():
    published = pytest.importorskip("statsmodels.stats.multitest").multipletests
    values = [0.04, 0.001, 0.03, 0.5, 0.012, 0.03]
    assert holm(values) == pytest.approx(list(published(values, method="holm")[1]))
    assert holm([None, 0.02, None, 0.03]) == [None, 0.04, None, 0.04]
    assert holm([]) == []


def test_pitman_and_morgans_p_is_that_of_sums_against_differences():
    generator = np.random.default_rng(0)
    first, second = generator.normal(0, 2, 9), generator.normal(0, 1, 9)
    expected = stats.pearsonr(first + second, first - second).pvalue
    assert spreads_differ(first, second) == pytest.approx(expected)
    assert spreads_differ(np.append(first, np.nan), np.append(second, 0.3)) == pytest.approx(expected)
    assert spreads_differ(first, first + 1) == 1
    assert spreads_differ(first, np.full(9, 0.3)) == 0
    assert spreads_differ(first[:2], second[:2]) is None


def test_the_limits_for_skewed_seeds_are_where_halls_transformation_reaches_t():
    """Found by a root search on the transformation itself, and never inside the limits of t."""
    rates = np.array([-0.1, -0.11, -0.09, -0.12, 0.45, -0.1, -0.08, -0.1])
    table = (rates[:, None] + np.linspace(-0.01, 0.01, 50))[None]
    estimate = crossed(table)
    assert estimate.skewness == pytest.approx(stats.skew(rates, bias=False) / np.sqrt(8), rel=1e-3)
    usual, wide = interval(estimate), interval(estimate, skewed=True)
    error, k = np.sqrt(estimate.variance), estimate.skewness

    def beyond(limit, edge):
        t = (estimate.mean - limit) / error
        return t + k * t**2 / 3 + k**2 * t**3 / 27 + k / 6 - edge

    edge = stats.t.isf(0.025, 7)
    assert wide.high == pytest.approx(optimize.brentq(beyond, -5, 5, args=(-edge,)))
    assert optimize.brentq(beyond, -5, 5, args=(edge,)) > usual.low
    assert wide.low == usual.low
    assert wide.high > usual.high


def test_p_and_limits_for_skewed_seeds_agree_at_every_level():
    generator = np.random.default_rng(1)
    for _ in range(40):
        estimate = crossed((generator.exponential(1, (7, 1)) - 2 + generator.normal(0, 0.3, (7, 30)))[None])
        for level in (0.01, 0.05, 0.2):
            found = interval(estimate, level, skewed=True)
            assert (found.p <= level) == (found.low > 0 or found.high < 0)


def test_the_limits_for_skewed_seeds_end_where_a_difference_of_shares_does():
    table = np.repeat([[0.0], [0.01], [0.5]], 50, axis=1) + 0.01 * np.random.default_rng(0).random((3, 50))
    estimate = crossed(table[None])
    assert 0.5 < interval(estimate).high < 1
    assert interval(estimate, skewed=True).high == 1  # without an end it would be 1.4
