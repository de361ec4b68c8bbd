"""Rates of single arms, and one arm against another."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from scipy import special

from curator.conclusions import LEVEL, Comparison, Rate
from curator.conclusions.secondary import WithinSeed
from curator.decision.statistics import (
    Table,
    bootstrap,
    crossed,
    holm,
    interval,
    of_as_many,
    seed_means,
    share_interval,
    spreads_differ,
)
from curator.decision.tables import Cells, Grid, arm_cells, paired_cells
from curator.records import DURING
from curator.wording import these

ANTICIPATED = "anticipated"
"""The reserved task name of the weighted mix of the anticipated tasks in `Findings.arms`."""

BOOTSTRAP_FROM = 8
"""Fewest paired seeds for which the crossed bootstrap is printed beside the interval. The variance between resampled
seeds is (S - 1) / S of that between seeds, and percentiles lack the tails of t, so that it is too narrow with fewer
seeds."""


def rate(grid: Grid, arm: str, weights: Mapping[str, float]) -> Rate:
    """One arm's share (mean score for utility), weighted over tasks, with its 95% interval.

    `scored` and `unscored` count answers over all these tasks. If a task has no scored answer, the value is null and
    all answers count as unscored.
    """
    cells = arm_cells(grid, arm, weights)
    estimate = crossed(cells.values, cells.weights)
    if estimate.mean is None:
        method = "none: unscored" if cells.expected.any() else "none: not evaluated"
        return Rate(value=None, low=None, high=None, scored=0, unscored=cells.scored + cells.unscored, method=method)
    # A single arm's interval includes what both arms share by seed and prompt: two intervals may overlap although the
    # arms differ clearly.
    limits = share_interval(estimate)
    return Rate(
        value=estimate.mean, low=limits.low, high=limits.high, scored=cells.scored, unscored=cells.unscored,
        method=limits.method,
    )  # fmt: skip


def compare(
    grid: Grid,
    treatment: str,
    control: str,
    weights: Mapping[str, float],
    *,
    task: str | None = None,
    level: float = LEVEL,
    fill: str | None = None,
    without: int | None = None,
    cases: int = 1,
) -> Comparison:
    """Treatment minus control over the pairs that both arms have scored.

    Args:
        weights: Tasks and their weights, with sum 1.
        task: Task name that the comparison reports.
        level: Two-sided error of the interval.
        fill: `best` or `worst` counts unscored answers as best or worst for the treatment.
        without: A seed to leave out; the precision and the kind of interval stay those with all seeds.
        cases: Number of settings of which this is one, where more harm in any of them decides: the lower limit, and the
            p-value of more harm, allow for all (Bonferroni).
    """
    # Pairs share seed and prompt, so what both arms have in common by either cancels in the difference, cell by cell.
    treated, untreated = paired_cells(grid, treatment, control, weights, fill)
    estimate = crossed(treated.values - untreated.values, treated.weights)
    # If only one arm varies strongly over seeds, the differences are skewed and t is not valid for them.
    apart = spreads_differ(*(seed_means(cells.values, cells.weights) for cells in (treated, untreated)))
    if without is not None:
        treated, untreated = (cells.without(grid.seeds.index(without)) for cells in (treated, untreated))
        estimate = of_as_many(crossed(treated.values - untreated.values, treated.weights), estimate)
    skewed = apart is not None and apart <= LEVEL
    limits = interval(estimate, level, skewed=skewed)
    if cases > 1 and estimate.mean is not None:
        p = limits.p if limits.p is None or estimate.mean <= 0 else min(1.0, cases * limits.p)
        method = f"{limits.method}; the lower limit allows for {these(cases, 'setting', 'settings')}"
        limits = replace(limits, low=interval(estimate, level / cases, skewed=skewed).low, p=p, method=method)
    return Comparison.filled(
        treatment=treatment,
        control=control,
        quantity=grid.quantity,
        phase=grid.phase,
        task=task,
        difference=estimate.mean,
        low=limits.low,
        high=limits.high,
        p=limits.p,
        treatment_rate=None if estimate.mean is None else _mean(treated),
        control_rate=None if estimate.mean is None else _mean(untreated),
        seeds=estimate.seeds,
        prompts=estimate.prompts,
        pairs=estimate.cells,
        unscored=treated.unscored,
        method=limits.method,
        # Without a variance there is no t; code that derives a standard error from the limits must see that.
        df=estimate.df if estimate.variance is not None else None,
        level=level,
        sd_seed=estimate.sd_seed,
        sd_prompt=estimate.sd_prompt,
        sd_residual=estimate.sd_residual,
    )


def _mean(cells: Cells) -> float:
    # On the pairs that were used, so that the two rates differ by exactly the printed difference.
    return float(np.nanmean(cells.values, axis=(1, 2)) @ np.array(cells.weights))


def differences(
    grid: Grid, treatment: str, control: str, weights: Mapping[str, float]
) -> tuple[Table, tuple[float, ...]]:
    """`(t, s, p)` treatment minus control, NaN where either side is unscored, and the task weights; for custom
    analyses.
    """
    treated, untreated = paired_cells(grid, treatment, control, weights)
    return treated.values - untreated.values, treated.weights


def with_bootstrap(comparison: Comparison, grid: Grid, weights: Mapping[str, float], seed: int) -> Comparison:
    """The comparison with the crossed bootstrap's 95% limits beside its own, from BOOTSTRAP_FROM seeds on."""
    if comparison.seeds < BOOTSTRAP_FROM or comparison.low is None:
        return comparison
    table, shares = differences(grid, comparison.treatment, comparison.control, weights)
    # Seeds that only one arm ran are not resampled: with them every resample would hold fewer pairs.
    seeds, prompts = ~np.isnan(table).all(axis=(0, 2)), ~np.isnan(table).all(axis=(0, 1))
    low, high = bootstrap(table[:, seeds][..., prompts], shares, seed=seed)
    # If all pairs are equal, so is every resample, and limits of zero width would claim certainty.
    return comparison.model_copy(update={"bootstrap": (low, high) if high > low else None})


CONTRASTS = (("low-similarity", "high-similarity"), ("low-matched", "high-matched"))
"""The contrast of Hsiung et al. (arXiv 2506.05346): in its original form, and for sets that have the pool's
composition."""


def family(
    grids: Mapping[tuple[str, str], Grid],
    weights: Mapping[str, float],
    treatment: str,
    control: str,
    *,
    primary: tuple[str, str] = ("harmfulness", "after"),
    mean_decides: bool = True,
    doubles: Collection[str] = (),
) -> tuple[Comparison, ...]:
    """All comparisons but the primary one, as one Holm family; the intervals are unadjusted.

    On harmfulness: the treatment and every other arm against the control, the treatment against every other arm, and
    the least similar rows against the most similar ones if both were run (CONTRASTS), after fine-tuning (weighted, and
    on each task separately, including unanticipated ones) and before. On over-refusal, utility and degenerate share:
    the treatment against the control, before and after, weighted. If harmfulness was measured during fine-tuning, end
    and area are two outcomes: `primary` names the one on which the pairs above are compared, and on the other the
    treatment is compared with the control.

    If the decision is not about the mean (`mean_decides`), the weighted comparison of treatment and control belongs to
    the family. `doubles` are arms that are the treatment under another name: their comparisons would repeat others, and
    are left out.
    """
    after, before = grids[primary], grids["harmfulness", "before"]
    mix = anticipated(weights)
    others = [arm for arm in after.arms if arm not in (treatment, control, *doubles)]
    pairs = [(treatment, control), *((arm, control) for arm in others), *((treatment, arm) for arm in others)]
    # Either arm may already be treatment or control.
    pairs += [pair for pair in CONTRASTS if set(pair) <= set(after.arms) and not {pair, pair[::-1]} & set(pairs)]
    # A single anticipated task is the whole mix, so it is not tested twice.
    apart = [task for task in weights if weights[task] < 1 and task in after.tasks]
    members = []
    for pair in pairs:
        # The primary comparison was named before any verdict and has its own 5%; all others share theirs.
        if pair != (treatment, control) or not mean_decides:
            members.append(compare(after, *pair, mix))
        members += [compare(after, *pair, {task: 1.0}, task=task) for task in apart]
        members.append(compare(before, *pair, mix))
    for quantity in ("over_refusal", "utility", "degenerate"):
        members += [compare(grids[quantity, phase], treatment, control, mix) for phase in ("before", "after")]
    for phase in ("after", DURING):
        other = grids.get(("harmfulness", phase), after)
        if other is not after and set(mix) <= set(other.tasks):
            members.append(compare(other, treatment, control, mix))
    adjusted = holm([comparison.p for comparison in members])
    return tuple(comparison.model_copy(update={"p_holm": p}) for comparison, p in zip(members, adjusted, strict=True))


def anticipated(weights: Mapping[str, float]) -> dict[str, float]:
    """The tasks that are in the weighted mix.

    Raises:
        ValueError: The weights do not sum to 1, or one is negative.
    """
    if min(weights.values(), default=0.0) < 0 or abs(sum(weights.values()) - 1) > 1e-6:
        raise ValueError(f"task weights must be at least 0 and sum to 1; found {dict(weights)}")
    return {task: weight for task, weight in weights.items() if weight > 0}


def within_seeds(grid: Grid, treatment: str, control: str, task: str) -> tuple[WithinSeed, ...]:
    """One entry for each seed that both arms ran and that has a scored pair, in seed order.

    Descriptive: McNemar's test (1947, in its exact form) tests whether these two models differ. A new seed trains new
    models, so these p-values do not apply to the arms.

    Args:
        grid: Harmfulness after fine-tuning.
        treatment, control: The arms.
        task: The task that models are fine-tuned on.
    """
    treated, untreated = paired_cells(grid, treatment, control, {task: 1.0})
    if not len(treated.values):
        return ()
    changes = treated.values[0] - untreated.values[0]  # (s, p); one answer a prompt makes it -1, 0 or 1
    pairs = (~np.isnan(changes)).sum(axis=1)  # comparisons with NaN are false, so unscored prompts count nowhere
    only_treatment, only_control = (changes > 0).sum(axis=1), (changes < 0).sum(axis=1)
    # Only prompts on which the two differ carry information: under the null both directions are equally likely.
    tail = special.bdtr(np.minimum(only_treatment, only_control), only_treatment + only_control, 0.5)
    return tuple(
        WithinSeed(
            task=task,
            seed=seed,
            only_treatment=int(treatment_alone),
            only_control=int(control_alone),
            pairs=int(scored),
            p=min(1.0, 2 * float(p)),
        )
        for seed, treatment_alone, control_alone, scored, p in zip(
            grid.seeds, only_treatment, only_control, pairs, tail, strict=True
        )
        if scored
    )
