"""All findings of an experiment, from one judge's verdicts: rates, comparisons, the regime and the decision."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from curator.conclusions import LEVEL, Comparison, Decision, Rate, Stop
from curator.conclusions.secondary import WithinSeed
from curator.decision.comparisons import ANTICIPATED, anticipated, compare, family, rate, within_seeds
from curator.decision.curve import Curves, curves, laid_out, primary_of
from curator.decision.decide import Grids, decide
from curator.decision.tables import QUANTITIES, restrict
from curator.recipe.verify import DEFAULT_CURVE, DEFAULT_THRESHOLDS, NONE, Curve, Thresholds
from curator.records import PHASES

Arms = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Rate]]]]


@dataclass(frozen=True)
class Regime:
    """What fine-tuning does to the control; read it before any comparison.

    Attributes:
        before, after: The control's harmfulness.
        warning: Why no arm can win here (floor, ceiling, alignment that never took, nothing eroded), or null.
    """

    control: str
    before: Rate
    after: Rate
    warning: str | None


@dataclass(frozen=True)
class Breakdown:
    """One category of harmful probes, descriptive: no p-values, no decision.

    Attributes:
        arms: arm -> `before` or `after` -> harmfulness over the anticipated tasks.
        comparison: Treatment against control after fine-tuning, p null.
    """

    category: str
    prompts: int
    arms: Mapping[str, Mapping[Literal["before", "after"], Rate]]
    comparison: Comparison


@dataclass(frozen=True)
class Findings:
    """All figures of an experiment.

    Attributes:
        regime: The control before and after, with a warning.
        decision: The decision on the primary comparison, gates and attribution with it.
        comparisons: The primary one first, then the Holm family.
        arms: arm -> task (and ANTICIPATED, the weighted mix) -> phase -> quantity -> Rate.
        categories: One breakdown per probe category, if categories were given.
        within: Treatment against control after fine-tuning, one entry per task and seed, descriptive.
        curves: Harmfulness during fine-tuning; null if it was not evaluated.
    """

    regime: Regime
    decision: Decision
    comparisons: tuple[Comparison, ...]
    arms: Arms
    categories: tuple[Breakdown, ...] = field(default=())
    within: tuple[WithinSeed, ...] = field(default=())
    curves: Curves | None = None


def conclude(
    verdicts: pl.DataFrame,
    *,
    weights: Mapping[str, float],
    gates: Mapping[str, float],
    control: str = "random",
    treatment: str = "curated",
    level: float = LEVEL,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    categories: Mapping[str, str] | None = None,
    stop: Stop | None = None,
    seed: int = 0,
    curve: Curve = DEFAULT_CURVE,
    rehearsal: bool = False,
    doubles: Collection[str] = (),
) -> Findings:
    """All rates, comparisons and the decision, from one judge's verdicts.

    Args:
        verdicts: Columns of VERDICT_SCHEMA.
        weights: Every task's weight: those of anticipated tasks sum to 1, others are 0 and reported separately.
        gates: Margins by gate name (`decide.GATES`); gates that are not named are left out.
        level: Two-sided error of the primary interval; a sequential look's nominal level where seeds are added.
        thresholds: The recipe's `verify.decision`; see `decide.assess`.
        categories: Harmful probe id -> category, for the breakdown.
        stop: The look at which adding seeds ended, for the sentence; `level` is then that look's.
        seed: Random seed of the crossed bootstrap beside the primary interval.
        curve: The recipe's `verify.curve`, which names the outcome of the primary comparison.
        rehearsal: Whether arms are mixed into fine-tuning instead of being aligned on (`verify.stage`). Before
            fine-tuning every arm is then the base, so that a gate on it would compare the base with itself: leave it
            out.
        doubles: See `comparisons.family`.

    Raises:
        ValueError: An arm has no verdicts, a task is called ANTICIPATED, weights do not sum to 1, a gate's name is
            unknown, verdicts come from several judges or twice for one answer.
    """
    if ANTICIPATED in weights:
        raise ValueError(f"{ANTICIPATED!r} is reserved for the weighted mix of tasks; give the task another name")
    mix = anticipated(weights)
    grids, primary = laid_out(verdicts), primary_of(curve)
    arms = grids["harmfulness", "after"].arms
    for arm in (treatment, control):
        if arm not in arms:
            raise ValueError(f"arm {arm!r} has no verdicts; arms with verdicts: {', '.join(arms)}")
    others = family(
        grids, weights, treatment, control, primary=primary,
        mean_decides=thresholds.over == "mean" or len(mix) == 1, doubles=doubles,
    )  # fmt: skip
    decision = decide(
        grids,
        weights,
        treatment=treatment,
        control=control,
        gates=gates,
        others=others,
        level=level,
        thresholds=thresholds,
        stop=stop,
        seed=seed,
        primary=primary,
        rehearsal=rehearsal,
    )
    assert decision.primary is not None
    mixes = {ANTICIPATED: mix, **{task: {task: 1.0} for task in weights}}
    return Findings(
        regime=_regime(grids, mix, control, thresholds, aligned=not rehearsal and control != NONE),
        decision=decision,
        comparisons=(decision.primary, *others),
        arms={
            arm: {
                task: {
                    phase: {quantity: rate(grids[quantity, phase], arm, share) for quantity in QUANTITIES}
                    for phase in PHASES
                }
                for task, share in mixes.items()
            }
            for arm in arms
        },
        categories=_breakdown(grids, mix, treatment, control, categories or {}),
        within=tuple(
            entry for task in weights for entry in within_seeds(grids["harmfulness", "after"], treatment, control, task)
        ),
        curves=curves(verdicts, weights, treatment, control, curve),
    )


def _regime(grids: Grids, mix: Mapping[str, float], control: str, thresholds: Thresholds, *, aligned: bool) -> Regime:
    """`aligned` is whether the control was aligned: otherwise its answers before fine-tuning are those of the base,
    which tell nothing about an alignment.
    """
    before, after = (rate(grids["harmfulness", phase], control, mix) for phase in PHASES)
    warning = None
    if aligned and before.value is not None and before.value >= thresholds.ceiling:
        warning = (
            f"alignment had no effect: {control} gives harmful answers to {before.value:.0%} of the probes before "
            "fine-tuning"
        )
    elif after.value is not None and after.value <= thresholds.floor:
        warning = (
            f"floor: {control} gives harmful answers to {after.value:.1%} of the probes after fine-tuning, so no arm "
            "can be better"
        )
    elif after.value is not None and after.value >= thresholds.ceiling:
        warning = (
            f"ceiling: {control} gives harmful answers to {after.value:.1%} of the probes after fine-tuning, so no arm "
            "can last"
        )
    elif aligned and before.value is not None and after.value is not None and after.value <= before.value:
        warning = (
            f"fine-tuning eroded nothing: {control} gives harmful answers to {before.value:.1%} of the probes before "
            f"and to {after.value:.1%} after it"
        )
    return Regime(control, before, after, warning)


def _breakdown(
    grids: Grids, mix: Mapping[str, float], treatment: str, control: str, categories: Mapping[str, str]
) -> tuple[Breakdown, ...]:
    members: dict[str, list[str]] = {}
    for probe, category in sorted(categories.items()):
        members.setdefault(category, []).append(probe)
    breakdowns = []
    for category, probes in sorted(members.items()):
        parts = {phase: restrict(grids["harmfulness", phase], probes) for phase in PHASES}
        arms = {arm: {phase: rate(part, arm, mix) for phase, part in parts.items()} for arm in parts["after"].arms}
        comparison = compare(parts["after"], treatment, control, mix).model_copy(
            update={"p": None, "category": category}
        )
        breakdowns.append(Breakdown(category, len(parts["after"].probes), arms, comparison))
    return tuple(breakdowns)
