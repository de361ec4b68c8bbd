"""What an experiment of a given size can see: exact noncentral t, with the variance between seeds and draws in it.

Every function takes the spread of the paired difference: `sd_seed` between seeds (a new control draw each), `sd_prompt`
between prompts, `sd_residual` of one cell; the mean's variance is sd_seed^2/S + sd_prompt^2/P + sd_residual^2/(S P).
"""

from __future__ import annotations

import math

from scipy import optimize, stats


def variance(
    seeds: int, prompts: int | None = None, *, sd_seed: float, sd_prompt: float = 0.0, sd_residual: float = 0.0
) -> float:
    """Variance of the mean difference; `prompts=None` leaves out what comes of the prompts."""
    of_prompts = 0.0 if prompts is None else sd_prompt**2 / prompts + sd_residual**2 / (seeds * prompts)
    return sd_seed**2 / seeds + of_prompts


def chance(
    difference: float,
    seeds: int,
    prompts: int | None = None,
    *,
    sd_seed: float,
    sd_prompt: float = 0.0,
    sd_residual: float = 0.0,
    alpha: float = 0.05,
) -> float:
    """Chance that a true `difference` gives an interval clear of zero; 0 for fewer than two seeds or prompts."""
    df = min(seeds, seeds if prompts is None else prompts) - 1
    if df < 1:
        return 0.0
    spread = variance(seeds, prompts, sd_seed=sd_seed, sd_prompt=sd_prompt, sd_residual=sd_residual)
    if difference == 0:
        return alpha
    if spread == 0:
        return 1.0
    # t squared is F: both tails in one exact term, and stable where the noncentral t of scipy gives NaN.
    critical = float(stats.t.isf(alpha / 2, df))
    return float(stats.ncf.sf(critical**2, 1, df, difference**2 / spread))


def detectable(
    seeds: int,
    prompts: int | None = None,
    *,
    sd_seed: float,
    sd_prompt: float = 0.0,
    sd_residual: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float | None:
    """The smallest true difference that shows with chance `power`, null for fewer than two seeds or prompts.

    A value above 1 means that no difference between two shares can show.
    """
    df = min(seeds, seeds if prompts is None else prompts) - 1
    if df < 1:
        return None
    error = math.sqrt(variance(seeds, prompts, sd_seed=sd_seed, sd_prompt=sd_prompt, sd_residual=sd_residual))
    critical = float(stats.t.isf(alpha / 2, df))

    def short(shift: float) -> float:
        return float(stats.ncf.sf(critical**2, 1, df, shift**2)) - power

    top = critical + 1.0
    while short(top) < 0:
        top *= 2
    return error * float(optimize.brentq(short, 1e-6, top))


def seeds_needed(
    difference: float,
    prompts: int | None = None,
    *,
    sd_seed: float,
    sd_prompt: float = 0.0,
    sd_residual: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
    minimum: int = 3,
    most: int = 10_000,
) -> int | None:
    """The fewest paired seeds at which a true `difference` shows with chance `power`.

    Null when `most` seeds would not do: the difference is zero, or the prompts are too few for any number of seeds.
    """

    def enough(seeds: int) -> bool:
        found = detectable(
            seeds, prompts, sd_seed=sd_seed, sd_prompt=sd_prompt, sd_residual=sd_residual, alpha=alpha, power=power
        )
        return found is not None and found <= abs(difference)

    if difference == 0 or not enough(most):
        return None
    low, high = minimum - 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
