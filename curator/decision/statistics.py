"""Means over crossed seeds and prompts, with intervals that account for both.

A table is `(t, s, p)`: tasks, seeds, prompts; NaN marks a pair that was not scored, or a prompt that a task lacks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from curator.conclusions import LEVEL
from curator.wording import these

Table = NDArray[np.float64]
SKEWED = "no narrower than Hall's for skewness"
"""The end of the method of an interval that allows for skewness."""
_ALIKE = 1e-9  # smaller differences between shares are rounding, not spread


@dataclass(frozen=True)
class Crossed:
    """A task-weighted mean over crossed seeds and prompts, and the components of its variance.

    Attributes:
        mean: Sum over tasks of weight times the mean of the task's scored cells; null if a task has none.
        variance: Variance of the mean over new seeds and new prompts; null with fewer than two seeds or two prompts.
        df: min(seeds, prompts of the smallest task) - 1.
        seeds, prompts: Number of distinct seeds, and prompts, with a scored cell. `cells`: number of scored cells.
        sd_seed, sd_prompt, sd_residual: Components: variance = sd_seed^2 / S + sd_prompt^2 / P + sd_residual^2 / (S P)
            on a full table (components that come out negative are zero).
        skewness: Skewness of the mean, from the seeds' third moment; 0 with fewer than three seeds.
    """

    mean: float | None
    variance: float | None
    df: int
    seeds: int
    prompts: int
    cells: int
    sd_seed: float | None = None
    sd_prompt: float | None = None
    sd_residual: float | None = None
    skewness: float = 0.0


@dataclass(frozen=True)
class Interval:
    """Limits, the two-sided p-value against zero, and how they were made."""

    low: float | None
    high: float | None
    p: float | None
    method: str


def crossed(table: Table, weights: Sequence[float] = (1.0,)) -> Crossed:
    """The mean of a table and its variance, with seeds and prompts as crossed random effects.

    On one full table of S seeds and P prompts the variance is max(MS_seed, MS_seed + MS_prompt - MS_residual) / (S P)
    from the two-way analysis of variance. The same three terms are formed from sums of deviations over each seed and
    over each prompt, so that holes are left out rather than filled (the two-way cluster variance of Cameron, Gelbach
    and Miller 2011, with MS_residual from the additive least-squares fit). Weighted deviations of all tasks are added
    before they are squared, so that what tasks share by seed or by prompt is included.

    Args:
        table: `(t, s, p)` float64, NaN where not scored.
        weights: `t` task weights that sum to 1.
    """
    scored = ~np.isnan(table)
    counts = scored.sum(axis=(1, 2))  # (t,)
    sizes = scored.any(axis=1).sum(axis=1)  # (t,) prompts of each task
    seeds = int(scored.any(axis=(0, 2)).sum())
    prompts = int(scored.any(axis=(0, 1)).sum())
    # The variance joins mean squares of S - 1 and P - 1 degrees of freedom. Satterthwaite's (1946) df of the whole
    # would be estimated from the same few squares, one of them subtracted; the smaller number is safe, and usual with
    # two-way clusters (Cameron and Miller 2015). Simulated one-sided error at 2, 3, 5 and 8 seeds: 0.3, 1.4, 2.0 and
    # 1.8%, of the 2.5% allowed.
    df = min(seeds, int(sizes.min(initial=prompts))) - 1
    if not counts.size or counts.min() == 0:
        return Crossed(None, None, df, seeds, prompts, int(counts.sum()))
    weight = np.asarray(weights, dtype=np.float64)
    values = np.where(scored, table, 0.0)
    means = values.sum(axis=(1, 2)) / counts
    mean = float(weight @ means)
    if df < 1:
        return Crossed(mean, None, df, seeds, prompts, int(counts.sum()))
    # Scaled by what a cell adds to the mean, so that the squares below are variances of the mean and not of a cell. On
    # a full table of one task they are MS_seed, MS_prompt and MS_residual, each divided by S P.
    cell_weight = (weight / counts)[:, None, None]
    deviations = np.where(scored, table - means[:, None, None], 0.0) * cell_weight
    seed_sums = deviations.sum(axis=(0, 2))
    by_seed = seeds / (seeds - 1) * float((seed_sums**2).sum())
    # Tasks share their seeds but may have prompts of their own, so n / (n - 1) is each task's for prompts.
    prompt_sums = deviations.sum(axis=1) * np.sqrt(sizes / (sizes - 1))[:, None]  # (t, p)
    by_prompt = float((prompt_sums.sum(axis=0) ** 2).sum())
    residual = float((_residuals(deviations, scored) ** 2).sum())
    # MS_seed and MS_prompt both hold the residual, which is subtracted once. If MS_prompt is below MS_residual by
    # chance, the sum would be less than the variance of seeds alone, or negative, so that variance is the minimum.
    variance = max(by_seed, by_seed + by_prompt - residual)
    return Crossed(
        mean=mean,
        variance=variance,
        df=df,
        seeds=seeds,
        prompts=prompts,
        cells=int(counts.sum()),
        sd_seed=_root((by_seed - residual) * seeds),
        sd_prompt=_root((by_prompt - residual) * prompts),
        sd_residual=_root(residual * seeds * prompts),
        skewness=_skewness(seed_sums, seeds, variance),
    )


def _skewness(seed_sums: NDArray[np.float64], seeds: int, variance: float) -> float:
    """The unbiased third moment of the mean, to which each seed contributes, divided by its standard error cubed."""
    if seeds < 3 or variance <= _ALIKE**2:
        return 0.0
    return float(seeds**2 / ((seeds - 1) * (seeds - 2)) * (seed_sums**3).sum() / variance**1.5)


def of_as_many(rest: Crossed, whole: Crossed) -> Crossed:
    """The estimate without some seeds, with the precision and degrees of freedom of the original number of seeds.

    This separates the influence of a seed from the cost of having one seed fewer.
    """
    if rest.variance is None:
        return rest
    share = rest.seeds / whole.seeds
    return replace(rest, variance=rest.variance * share, df=whole.df, skewness=rest.skewness * share**0.5)


def seed_means(table: Table, weights: Sequence[float] = (1.0,)) -> NDArray[np.float64]:
    """`(s,)` each seed's task-weighted mean over scored cells, NaN where one of the tasks has none."""
    scored = ~np.isnan(table)
    counts = scored.sum(axis=2)
    means = np.divide(
        np.where(scored, table, 0.0).sum(axis=2), counts, out=np.full(counts.shape, np.nan), where=counts > 0
    )
    rates: NDArray[np.float64] = np.asarray(weights, dtype=np.float64) @ means
    return rates


def spreads_differ(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Two-sided p-value of equal standard deviations of paired values; null below three pairs.

    By Pitman (1939) and Morgan (1939): sums and differences of pairs are uncorrelated where the spreads are equal. In
    simulations it detects that one arm alone fails in a sixth of its trainings in 83, 98 and 100% of studies of 6, 10
    and 20 seeds; swapping the two arms within seeds detected fewer, and cannot detect any below six. If both arms fail
    in the same way it rejects too often (20% at 20 seeds), which can widen an interval needlessly but never narrows
    one.
    """
    paired = ~(np.isnan(first) | np.isnan(second))
    if paired.sum() < 3:
        return None
    total, change = (values - values.mean() for values in ((first + second)[paired], (first - second)[paired]))
    sizes = np.linalg.norm(total), np.linalg.norm(change)
    if min(sizes) < _ALIKE:  # the arms are perfectly correlated, so their spreads are equal
        return 1.0
    r, df = float(total @ change / (sizes[0] * sizes[1])), int(paired.sum()) - 2
    return 0.0 if abs(r) > 1 - _ALIKE else float(2 * special.stdtr(df, -abs(r) * np.sqrt(df / (1 - r * r))))


def _root(variance: float) -> float:
    return float(np.sqrt(max(0.0, variance)))


def _residuals(deviations: Table, scored: NDArray[np.bool_]) -> Table:
    """`(s, p)` weighted residuals of each task's additive fit, scaled: their squares sum to MS_residual / cells."""
    total = np.zeros(deviations.shape[1:])
    for part, mask in zip(deviations, scored, strict=True):
        of_task = mask.any(axis=0)  # a prompt of another task is not a hole
        residuals, freedom = _additive(part[:, of_task], mask[:, of_task])
        if freedom > 0:
            total[:, of_task] += residuals * np.sqrt(mask.sum() / freedom)
    return total


def _additive(part: Table, mask: NDArray[np.bool_]) -> tuple[Table, int]:
    """Residuals of the least-squares fit seed + prompt to the cells in `mask`, zero elsewhere, and their degrees of
    freedom.
    """
    part, ran = part[mask.any(axis=1)], mask.any(axis=1)
    inside = mask[ran]
    residuals = np.zeros(mask.shape)
    if inside.all():
        residuals[ran] = part - part.mean(axis=1, keepdims=True) - part.mean(axis=0) + part.mean()
        return residuals, (part.shape[0] - 1) * (part.shape[1] - 1)
    # With holes, row and column means are not the fit: a seed that lacks a hard prompt would look better.
    present = inside.astype(np.float64)
    seeds_of_prompt = present.sum(axis=0)
    # Normal equations with the prompts eliminated: one small symmetric system over seeds, singular because of the
    # common level.
    system = np.diag(present.sum(axis=1)) - (present / seeds_of_prompt) @ present.T
    target = part.sum(axis=1) - present @ (part.sum(axis=0) / seeds_of_prompt)
    seed_effects, _, rank, _ = np.linalg.lstsq(system, target, rcond=1e-10)
    prompt_effects = (part - present * seed_effects[:, None]).sum(axis=0) / seeds_of_prompt
    residuals[ran] = np.where(inside, part - seed_effects[:, None] - prompt_effects, 0.0)
    # The rank is S - 1, and less where seeds and prompts fall into parts that share no cell.
    return residuals, int(inside.sum()) - part.shape[1] - int(rank)


def interval(estimate: Crossed, level: float = LEVEL, *, skewed: bool = False) -> Interval:
    """The two-sided interval of a difference: t with min(S, P) - 1 degrees of freedom.

    `skewed` allows for differences with a skewed distribution over seeds, as when one arm fails in few trainings and
    the other does not: each limit is then the wider of that of t and that of Hall's (1992) cubic transformation of t,
    which removes the skewness of the mean and, unlike Johnson's (1978) modified t, is monotone. It was chosen by
    simulation (.github/docs/statistics.md).

    If all seeds agree, t is undefined. If no cell differs from zero, p = 1 and the limits are -+q, the largest share of
    prompts that may differ with none of P seen, (1 - q)^P = level / 2: no difference in ten prompts does not show that
    the difference is below five points, but in 73 it does. Otherwise the sign test is used: with n = min(S, P) agreeing
    units p = 2^(1-n), and the interval allows for the share q of units that could have come out with the opposite sign
    unseen, (1 - q)^n = level / 2: mean -+ 2 q |mean|, or t with the variance of independent cells if that is wider. At
    5% at least six units are needed to exclude zero.

    Args:
        estimate: A difference of shares, in [-1, 1].
        level: Two-sided error, in (0, 1); limits cover 1 - level.
    """
    if estimate.mean is None or estimate.variance is None:
        return Interval(
            None, None, None, "none: fewer than two seeds or prompts" if estimate.cells else "none: unscored"
        )
    mean = estimate.mean
    if estimate.variance > _ALIKE**2:
        error = float(np.sqrt(estimate.variance))
        critical = -float(special.stdtrit(estimate.df, level / 2))
        low, high = mean - critical * error, mean + critical * error
        p = float(2 * special.stdtr(estimate.df, -abs(mean) / error))
        method = f"crossed seeds and prompts, t with {estimate.df} df"
        if skewed and estimate.skewness:
            # The transformation is unbounded, but a difference of shares lies within [-1, 1].
            low = min(low, max(-1.0, mean - error * _untransformed(critical, estimate.skewness)))
            high = max(high, min(1.0, mean - error * _untransformed(-critical, estimate.skewness)))
            moved = math.copysign(1.0, mean) * _transformed(mean / error, estimate.skewness)
            p = max(p, min(1.0, float(2 * special.stdtr(estimate.df, -moved))))
            method += f", {SKEWED}"
        return Interval(low, high, p, method)
    # There is no spread between seeds: if all units agree, only their number is informative.
    units = estimate.df + 1
    error = (estimate.sd_residual or 0.0) / float(np.sqrt(estimate.seeds * estimate.prompts))
    if abs(mean) < _ALIKE and error < _ALIKE:
        unseen = 1 - (level / 2) ** (1 / estimate.prompts)
        return Interval(
            -unseen, unseen, 1.0, f"no pair differs: exact binomial over {these(estimate.prompts, 'prompt', 'prompts')}"
        )
    # Seeds that agree in total may still differ cell by cell, which t over independent cells accounts for; the wider
    # counts.
    of_cells = -float(special.stdtrit(estimate.df, level / 2)) * error
    reach = max(2 * (1 - (level / 2) ** (1 / units)) * abs(mean), of_cells)
    p = max(2.0 ** (1 - units), float(2 * special.stdtr(estimate.df, -abs(mean) / error)) if error else 0.0)
    method = f"identical seeds: sign test over {units} units"
    return Interval(max(-1.0, mean - reach), min(1.0, mean + reach), p, method)


def _transformed(t: float, skewness: float) -> float:
    """Hall's (1992) transformation of a t whose mean has this skewness: t + k t^2 / 3 + k^2 t^3 / 27 + k / 6."""
    return t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6


def _untransformed(value: float, skewness: float) -> float:
    """The t that `_transformed` maps to `value`."""
    beyond = skewness * (value - skewness / 6)
    # The cube root of 1 + beyond, minus 1, without cancellation where the root is close to 1.
    root = math.expm1(math.log1p(beyond) / 3) if beyond > -0.5 else float(np.cbrt(1 + beyond)) - 1
    return 3 / skewness * root


def share_interval(estimate: Crossed, level: float = LEVEL, *, skewed: bool = False) -> Interval:
    """The interval of a share in [0, 1]: crossed if seeds vary, else Wilson's over prompts (p is null).

    `level` and `skewed` are as in `interval`.
    """
    if estimate.mean is None:
        return Interval(None, None, None, "none: unscored")
    if estimate.variance is not None and estimate.variance > _ALIKE**2:
        limits = interval(estimate, level, skewed=skewed)
        assert limits.low is not None
        assert limits.high is not None
        # Limits of t may lie outside [0, 1], the range of a share.
        return Interval(max(0.0, limits.low), min(1.0, limits.high), None, limits.method)
    low, high = wilson(estimate.mean, estimate.prompts, level)
    why = "one seed" if estimate.seeds == 1 else f"{estimate.seeds} identical seeds"
    return Interval(low, high, None, f"Wilson over {these(estimate.prompts, 'prompt', 'prompts')}, {why}")


def wilson(share: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's (1927) score interval of a share of `n` cases; conservative for a mean of values in [0, 1]."""
    z2 = float(special.ndtri(level / 2)) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = float(np.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2))) / (1 + z2 / n)
    # At a share of 0 or 1 the limit is that share exactly; rounding would leave it a little inside.
    return max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach))


def bootstrap(
    table: Table, weights: Sequence[float] = (1.0,), *, draws: int = 2000, level: float = LEVEL, seed: int = 0
) -> tuple[float, float]:
    """Percentile limits of the mean, seeds and prompts resampled independently (the pigeonhole bootstrap, Owen 2007).

    `table` and `weights` are as in `crossed`, and 1 - `level` is the coverage. Cost: `draws` x S x P multiplications
    for each task. A resample that leaves a task without a scored cell is dropped.
    """
    generator = np.random.default_rng(seed)
    _, seeds, prompts = table.shape
    # Draws with replacement as counts: a cell's weight is its seed's count times its prompt's, without copying tables.
    # All tasks share the draws, so that what they share by seed or by prompt stays shared.
    seed_counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws).astype(np.float64)  # (b, s)
    prompt_counts = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=draws).astype(np.float64)
    total = np.zeros(draws)
    for weight, part in zip(weights, table, strict=True):
        scored = ~np.isnan(part)
        sums = ((seed_counts @ np.where(scored, part, 0.0)) * prompt_counts).sum(axis=1)
        counts = ((seed_counts @ scored.astype(np.float64)) * prompt_counts).sum(axis=1)
        total += weight * np.divide(sums, counts, out=np.full(draws, np.nan), where=counts > 0)
    low, high = np.nanquantile(total, [level / 2, 1 - level / 2])
    return float(low), float(high)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) step-down adjusted p-values, in the order given; nulls stay null and are not counted."""
    known = [i for i, p in enumerate(values) if p is not None]
    raw = np.array([values[i] for i in known], dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    # The smallest of m is multiplied by m, the next by m - 1, ...; the running maximum keeps their order.
    stepped = np.minimum(1.0, np.maximum.accumulate(raw[order] * (len(raw) - np.arange(len(raw)))))
    adjusted: list[float | None] = [None] * len(values)
    for position, p in zip(order, stepped, strict=True):
        adjusted[known[position]] = float(p)
    return adjusted


def spearman(x: Table, y: Table) -> Table:
    """Spearman's rho of each pair of rows of two `(b, n)` arrays, ties sharing their mean rank; NaN for a constant."""
    from scipy.stats import rankdata

    a, b = (rankdata(values, axis=1) for values in (x, y))
    a, b = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (a, b))
    length = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    products = (a * b).sum(axis=1)
    rho: Table = np.divide(products, length, out=np.full(len(length), np.nan), where=length > 0)
    return np.clip(rho, -1.0, 1.0)
