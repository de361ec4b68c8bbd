"""Power of a gate: the probability that it passes if the true cost is zero, and the seeds needed for it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy import special

from curator.conclusions import LEVEL

_NODES, _SHARES = np.polynomial.legendre.leggauss(200)


def passing(
    margin: float,
    seeds: int,
    prompts: int,
    *,
    sd_seed: float,
    sd_prompt: float = 0.0,
    sd_residual: float = 0.0,
    alpha: float = LEVEL,
) -> float:
    """Probability that a gate passes if the true cost is zero: that the upper limit of its interval is below `margin`.

    Only the variance between seeds is estimated from few of them, as a chi square with `seeds` - 1 degrees of freedom;
    the part of the prompts rests on many and is taken as known. If both were as uncertain, as in the t of
    `sequential.detectable`, the result for few seeds and quiet gates would be up to three points too low.

    Args:
        margin: The gate's margin, as a difference of shares.
        seeds, prompts: Number of paired seeds, and of prompts.
        sd_seed, sd_prompt, sd_residual: Spread of the paired difference, as in `sequential.variance`.
        alpha: Two-sided error of the interval.

    Returns:
        The probability, in [0, 1]; 0 for fewer than two seeds or prompts.
    """
    df = min(seeds, prompts) - 1
    if df < 1:
        return 0.0
    of_seeds = sd_seed**2 / seeds + sd_residual**2 / (seeds * prompts)
    of_prompts = sd_prompt**2 / prompts
    if of_seeds + of_prompts == 0:
        # No pair differs, and the interval is the binomial one of `statistics.interval`.
        return float(1 - (alpha / 2) ** (1 / prompts) < margin)
    critical = -float(special.stdtrit(df, alpha / 2))
    # The probability given the estimated variance, averaged over its quantiles.
    estimated = of_seeds * 2 * special.gammaincinv(df / 2, (_NODES + 1) / 2) / df + of_prompts
    given = special.ndtr((margin - critical * np.sqrt(estimated)) / math.sqrt(of_seeds + of_prompts))
    return float(_SHARES / 2 @ given)


def seeds_to_pass(
    margin: float,
    prompts: int,
    spread: Mapping[str, float],
    *,
    power: float = 0.8,
    minimum: int = 3,
    most: int = 1000,
) -> int | None:
    """The fewest seeds at which `passing` is at least `power`; null if `most` are not enough.

    Args:
        spread: Keyword arguments of `passing`: `sd_seed`, `sd_prompt`, `sd_residual`.
        minimum, most: Fewest and most seeds that are considered.
    """

    def enough(seeds: int) -> bool:
        return passing(margin, seeds, prompts, **spread) >= power

    if not enough(most):
        return None
    return next(seeds for seeds in range(minimum, most + 1) if enough(seeds))
