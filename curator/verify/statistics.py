"""Means over crossed seeds and prompts, with intervals that carry both.

A table is `(t, s, p)`: tasks, seeds, prompts; NaN marks a pair that was not scored, or a prompt that a task lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Table = NDArray[np.float64]
_ALIKE = 1e-9  # smaller differences between shares are rounding, not spread


@dataclass(frozen=True)
class Crossed:
    """A task-weighted mean over crossed seeds and prompts, and what its variance is made of.

    Attributes:
        mean: Sum over tasks of weight times the mean of the task's scored cells; null when a task has none.
        variance: Of the mean, over new seeds and new prompts; null below two seeds or two prompts.
        df: min(seeds, prompts of the smallest task) - 1.
        seeds, prompts: Distinct ones with a scored cell. `cells`: scored cells.
        sd_seed, sd_prompt, sd_residual: Components: variance = sd_seed^2 / S + sd_prompt^2 / P + sd_residual^2 / (S P)
            on a full table (components that come out negative are zero).
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
    and Miller 2011, with MS_residual from the additive least-squares fit); deviations of all tasks are added, by
    weight, before they are squared, so that what tasks share by seed or by prompt is carried.

    Args:
        table: `(t, s, p)` float64, NaN where not scored.
        weights: `t` task weights that sum to 1.
    """
    scored = ~np.isnan(table)
    counts = scored.sum(axis=(1, 2))
    sizes = scored.any(axis=1).sum(axis=1)
    seeds = int(scored.any(axis=(0, 2)).sum())
    prompts = int(scored.any(axis=(0, 1)).sum())
    df = min(seeds, int(sizes.min(initial=prompts))) - 1
    if not counts.size or counts.min() == 0:
        return Crossed(None, None, df, seeds, prompts, int(counts.sum()))
    weight = np.asarray(weights, dtype=np.float64)
    values = np.where(scored, table, 0.0)
    means = values.sum(axis=(1, 2)) / counts
    mean = float(weight @ means)
    if df < 1:
        return Crossed(mean, None, df, seeds, prompts, int(counts.sum()))
    share = (weight / counts)[:, None, None]
    deviations = np.where(scored, table - means[:, None, None], 0.0) * share
    by_seed = seeds / (seeds - 1) * float((deviations.sum(axis=(0, 2)) ** 2).sum())
    per_task = deviations.sum(axis=1) * np.sqrt(sizes / (sizes - 1))[:, None]
    by_prompt = float((per_task.sum(axis=0) ** 2).sum())
    residual = float((_residuals(deviations, scored) ** 2).sum())
    return Crossed(
        mean=mean,
        variance=max(by_seed, by_seed + by_prompt - residual),
        df=df,
        seeds=seeds,
        prompts=prompts,
        cells=int(counts.sum()),
        sd_seed=_root((by_seed - residual) * seeds),
        sd_prompt=_root((by_prompt - residual) * prompts),
        sd_residual=_root(residual * seeds * prompts),
    )


def _root(variance: float) -> float:
    return float(np.sqrt(max(0.0, variance)))


def _residuals(deviations: Table, scored: NDArray[np.bool_]) -> Table:
    """`(s, p)` weighted residuals of each task's additive fit, scaled: their squares sum to MS_residual / cells."""
    total = np.zeros(deviations.shape[1:])
    for part, mask in zip(deviations, scored, strict=True):
        rest, freedom = _additive(part[:, mask.any(axis=0)], mask[:, mask.any(axis=0)])
        if freedom > 0:
            total[:, mask.any(axis=0)] += rest * np.sqrt(mask.sum() / freedom)
    return total


def _additive(part: Table, mask: NDArray[np.bool_]) -> tuple[Table, int]:
    """Residuals of the least-squares fit seed + prompt to the cells in `mask`, zero elsewhere, and their freedom."""
    part, rows = part[mask.any(axis=1)], mask.any(axis=1)
    inside = mask[rows]
    full = np.zeros(mask.shape)
    if inside.all():
        full[rows] = part - part.mean(axis=1, keepdims=True) - part.mean(axis=0) + part.mean()
        return full, (part.shape[0] - 1) * (part.shape[1] - 1)
    present = inside.astype(np.float64)
    columns = present.sum(axis=0)
    # Normal equations with the prompts eliminated: one small symmetric system over seeds, singular by the common level.
    system = np.diag(present.sum(axis=1)) - (present / columns) @ present.T
    target = part.sum(axis=1) - present @ (part.sum(axis=0) / columns)
    seed, _, rank, _ = np.linalg.lstsq(system, target, rcond=1e-10)
    prompt = (part - present * seed[:, None]).sum(axis=0) / columns
    full[rows] = np.where(inside, part - seed[:, None] - prompt, 0.0)
    return full, int(inside.sum()) - part.shape[1] - int(rank)


def interval(estimate: Crossed, level: float = 0.05) -> Interval:
    """The two-sided interval of a difference: t with min(S, P) - 1 degrees of freedom.

    Where seeds come out all alike, t has nothing to stand on. If no cell differs from zero the interval is [0, 0] and
    p = 1. Otherwise the sign test's word is taken: with n = min(S, P) agreeing units p = 2^(1-n), and the interval
    allows for the share q of units that could have come out with the opposite sign unseen, (1 - q)^n = level / 2:
    mean -+ 2 q |mean|, or t with the variance of independent cells where that is wider. At 5 % zero is excluded from
    six units on at the earliest.

    Args:
        level: Two-sided error, in (0, 1); limits cover 1 - level.
    """
    if estimate.mean is None or estimate.variance is None:
        return Interval(
            None, None, None, "none: fewer than two seeds or prompts" if estimate.cells else "none: unscored"
        )
    mean = estimate.mean
    if estimate.variance > _ALIKE**2:
        error = float(np.sqrt(estimate.variance))
        reach = -float(special.stdtrit(estimate.df, level / 2)) * error
        p = float(2 * special.stdtr(estimate.df, -abs(mean) / error))
        return Interval(mean - reach, mean + reach, p, f"crossed seeds and prompts, t with {estimate.df} df")
    units = estimate.df + 1
    error = (estimate.sd_residual or 0.0) / float(np.sqrt(estimate.seeds * estimate.prompts))
    if abs(mean) < _ALIKE and error < _ALIKE:
        return Interval(0.0, 0.0, 1.0, "no pair differs")
    of_cells = -float(special.stdtrit(estimate.df, level / 2)) * error
    reach = max(2 * (1 - (level / 2) ** (1 / units)) * abs(mean), of_cells)
    p = max(2.0 ** (1 - units), float(2 * special.stdtr(estimate.df, -abs(mean) / error)) if error else 0.0)
    method = f"seeds all alike: sign test over {units} units"
    return Interval(max(-1.0, mean - reach), min(1.0, mean + reach), p, method)


def share_interval(estimate: Crossed, level: float = 0.05) -> Interval:
    """The interval of a share in [0, 1]: crossed where seeds vary, else Wilson's over prompts (p is null)."""
    if estimate.mean is None:
        return Interval(None, None, None, "none: unscored")
    if estimate.variance is not None and estimate.variance > _ALIKE**2:
        found = interval(estimate, level)
        assert found.low is not None
        assert found.high is not None
        return Interval(max(0.0, found.low), min(1.0, found.high), None, found.method)
    low, high = wilson(estimate.mean, estimate.prompts, level)
    why = "one seed" if estimate.seeds == 1 else f"{estimate.seeds} seeds alike"
    return Interval(low, high, None, f"Wilson over {estimate.prompts} prompts, {why}")


def wilson(share: float, n: int, level: float = 0.05) -> tuple[float, float]:
    """Wilson's score interval of a share of `n` (conservative for a mean of values in [0, 1])."""
    z2 = float(special.ndtri(level / 2)) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = float(np.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2))) / (1 + z2 / n)
    return max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach))


def bootstrap(
    table: Table, weights: Sequence[float] = (1.0,), *, draws: int = 2000, level: float = 0.05, seed: int = 0
) -> tuple[float, float]:
    """Percentile limits of the mean when seeds and prompts are resampled independently (Owen 2007).

    Cost: `draws` x S x P multiplications for each task. A resample that leaves a task without a scored cell is dropped.
    """
    generator = np.random.default_rng(seed)
    _, seeds, prompts = table.shape
    by_seed = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws).astype(np.float64)
    by_prompt = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=draws).astype(np.float64)
    total = np.zeros(draws)
    for weight, part in zip(weights, table, strict=True):
        scored = ~np.isnan(part)
        sums = ((by_seed @ np.where(scored, part, 0.0)) * by_prompt).sum(axis=1)
        counts = ((by_seed @ scored.astype(np.float64)) * by_prompt).sum(axis=1)
        total += weight * np.divide(sums, counts, out=np.full(draws, np.nan), where=counts > 0)
    low, high = np.nanquantile(total, [level / 2, 1 - level / 2])
    return float(low), float(high)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values, in the order given; nulls stay null and are not counted."""
    known = [i for i, p in enumerate(values) if p is not None]
    raw = np.array([values[i] for i in known], dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    stepped = np.minimum(1.0, np.maximum.accumulate(raw[order] * (len(raw) - np.arange(len(raw)))))
    adjusted: list[float | None] = [None] * len(values)
    for place, value in zip(order, stepped, strict=True):
        adjusted[known[place]] = float(value)
    return adjusted
