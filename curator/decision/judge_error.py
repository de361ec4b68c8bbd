"""Correction of a difference for a judge's errors, from people's labels of the same outcome (Rogan and Gladen 1978).

A judge with sensitivity Se and specificity Sp flags Se p + (1 - Sp)(1 - p) of the answers where a share p is harmful,
so p = (flagged + Sp - 1) / (Se + Sp - 1). This holds answer by answer, and so also for means over several answers to a
prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from curator.conclusions import LEVEL, Comparison
from curator.recipe.verify import DEFAULT_THRESHOLDS, Thresholds

LEAST_LABELS = 50
"""Fewest labelled answers of each arm for a correction."""

LEAST_AGREEMENT = 1.2
"""Sensitivity + specificity must exceed this: at 1 a judge carries no information, and just above it the correction
diverges."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Labelled:
    """Counts of answers of one arm, comparable to those judged, that people and the judge labelled as harmful or
    not.
    """

    both_harmful: int
    only_people: int
    both_harmless: int
    only_judge: int

    @property
    def answers(self) -> int:
        return self.both_harmful + self.only_people + self.both_harmless + self.only_judge


@dataclass(frozen=True)
class Corrected:
    """A difference of harm rates, corrected for the judge's error.

    Attributes:
        corrects: Whether the labels suffice. If not, `why` says so, `difference` and limits are null, and only
            `assumed` is given: a sensitivity analysis, which never decides.
        sensitivity, specificity: Pooled over both arms; null without labels of this kind.
        difference, low, high: Unclipped; the limits combine the comparison's interval and the uncertainty of the
            labels.
        assumed: (sensitivity, specificity) -> the difference if the judge had these in both arms; only pairs with which
            the arms' true rates would be in [0, 1].
        tipping: The judge's sensitivity for the treatment's harmful answers, relative to that for the control's, at
            which the arms would be equal (if it never flagged harmless ones); null if the control has none.
    """

    corrects: bool
    why: str | None
    sensitivity: float | None
    specificity: float | None
    difference: float | None
    low: float | None
    high: float | None
    assumed: Mapping[tuple[float, float], float]
    tipping: float | None


def correct(
    comparison: Comparison,
    labels: Mapping[str, Labelled],
    *,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    draws: int = 20_000,
    seed: int = 0,
) -> Corrected:
    """The difference divided by sensitivity + specificity - 1.

    Both arms share each draw of (sensitivity, specificity) from their Jeffreys posteriors over the labels of both arms,
    so that the constant of the correction cancels and only its slope is uncertain. Corrected rates of single arms are
    not clipped to [0, 1]: clipping moves only an arm near an end, and so biases the difference towards zero.

    Args:
        comparison: A comparison on harmfulness, with an interval.
        labels: Arm name -> counts; used if both arms of the comparison have at least LEAST_LABELS.
        thresholds: The recipe's `verify.decision`; with fewer than its `least_seeds` nothing is corrected.
        draws, seed: Number of posterior draws, and their random seed.

    Raises:
        ValueError: The comparison is not about harmfulness, the only outcome that is labelled.
    """
    if comparison.quantity != "harmfulness":
        raise ValueError(f"the labels are of harm, and the comparison is of {comparison.quantity}")
    arms = [labels[arm] for arm in (comparison.treatment, comparison.control) if arm in labels]
    # Pooled: separately, each arm's rates would rest on half the labels, and their noise would look like a difference
    # of arms.
    caught, missed = sum(a.both_harmful for a in arms), sum(a.only_people for a in arms)
    cleared, alarmed = sum(a.both_harmless for a in arms), sum(a.only_judge for a in arms)
    sensitivity = caught / (caught + missed) if caught + missed else None
    specificity = cleared / (cleared + alarmed) if cleared + alarmed else None
    difference = comparison.difference
    why, level = _lacking(comparison, arms, sensitivity, specificity, thresholds), comparison.level or LEVEL
    limits: tuple[float | None, float | None] = (None, None)
    if why is None and comparison.low is not None and comparison.high is not None and comparison.df is not None:
        generator = np.random.default_rng(seed)
        # Jeffreys' prior, half a label each way: an observed share of 0 or 1 is not certain (Brown, Cai and DasGupta
        # 2001). One slope per draw for both arms: with separate slopes 1 - Sp would not cancel in the difference.
        slope = (
            generator.beta(caught + 0.5, missed + 0.5, draws) + generator.beta(cleared + 0.5, alarmed + 0.5, draws) - 1
        )
        # A ratio whose denominator may be zero has no bounded interval (Fieller 1954).
        if np.quantile(slope, level / 2) <= 0:
            why = "there are too few labels to show that sensitivity + specificity exceeds 1"
        else:
            # The comparison's standard error, from its limits: its noise and that of the labels are independent.
            reach = (comparison.high - comparison.low) / 2
            error = reach / -float(special.stdtrit(comparison.df, level / 2))
            centre = (comparison.high + comparison.low) / 2
            # Divided draw by draw and not limit by limit: a steep and a flat slope stretch the two ends unequally.
            values = (centre + error * generator.standard_t(comparison.df, draws)) / slope
            low, high = np.quantile(values, [level / 2, 1 - level / 2])
            limits = float(low), float(high)
    # The point estimate uses the counted shares, since the posterior is pulled slightly towards one half.
    corrected = None
    if why is None and difference is not None and sensitivity is not None and specificity is not None:
        corrected = difference / (sensitivity + specificity - 1)
    return Corrected(
        corrects=why is None,
        why=why,
        sensitivity=sensitivity,
        specificity=specificity,
        difference=corrected,
        low=limits[0],
        high=limits[1],
        assumed={} if difference is None else _assumed(comparison, difference),
        tipping=_tipping(comparison),
    )


def _lacking(
    comparison: Comparison,
    arms: list[Labelled],
    sensitivity: float | None,
    specificity: float | None,
    thresholds: Thresholds,
) -> str | None:
    if comparison.difference is None or comparison.low is None or comparison.df is None:
        return "the comparison has no interval"
    if comparison.seeds < thresholds.least_seeds:
        return f"a correction needs at least {thresholds.least_seeds} paired seeds"
    if len(arms) < 2 or min(arm.answers for arm in arms) < LEAST_LABELS:
        return f"a correction needs at least {LEAST_LABELS} labelled answers of each arm"
    if sensitivity is None or specificity is None:
        return "a correction needs labels of both harmful and harmless answers"
    # With a sum of 1, verdicts are independent of the truth; at 1.2 a difference and its noise are already multiplied
    # by 5.
    if sensitivity + specificity <= LEAST_AGREEMENT:
        return f"sensitivity + specificity is {sensitivity + specificity:.2f}, not above {LEAST_AGREEMENT}"
    return None


def _assumed(comparison: Comparison, difference: float) -> dict[tuple[float, float], float]:
    # The divisor is in (0, 1]: errors that are equal in both arms can hide a difference but never reverse it.
    shares = (0.7, 0.8, 0.9, 0.95, 1.0)
    rates = [rate for rate in (comparison.treatment_rate, comparison.control_rate) if rate is not None]
    # A judge flags at least 1 - Sp and at most Se of any answers: other pairs cannot have given these rates.
    return {
        (se, sp): difference / (se + sp - 1)
        for se in shares
        for sp in shares
        if all(1 - sp - _ROUNDING <= rate <= se + _ROUNDING for rate in rates)
    }


def _tipping(comparison: Comparison) -> float | None:
    # Unequal errors can reverse it: equal true rates p give Se_treatment p and Se_control p.
    treatment, control = comparison.treatment_rate, comparison.control_rate
    if treatment is None or not control:
        return None
    ratio = treatment / control
    return ratio if math.isfinite(ratio) else None
