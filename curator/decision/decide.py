"""From figures to a decision: the one rule that runs, suites and second opinions share.

A decision in words (`sentence`) is complete in itself: it names the control, the rates, and what the decision holds
for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from curator.conclusions import LEVEL, Beside, Comparison, Decision, Gate, Stop, Worst
from curator.conclusions.part import Outcome, Phase, Quantity
from curator.decision.beside import LESS_HARMFUL, MORE_HARMFUL, OPEN, Unscored, beside_of, outcome_of
from curator.decision.comparisons import CONTRASTS, anticipated, compare, with_bootstrap
from curator.decision.sentence import needed, sentence
from curator.decision.statistics import crossed, share_interval
from curator.decision.tables import Grid, paired_cells
from curator.decision.verdict import verdict
from curator.decision.worst import ruined, tasks_in_words, worst_case
from curator.recipe.verify import DEFAULT_THRESHOLDS, Thresholds

Grids = Mapping[tuple[str, str], Grid]

GATES: dict[str, tuple[Quantity, Phase]] = {
    "harmfulness_before": ("harmfulness", "before"),
    "over_refusal": ("over_refusal", "after"),
    "utility": ("utility", "after"),
    "degenerate": ("degenerate", "after"),
    "harmfulness_after": ("harmfulness", "after"),
}
"""Gate name -> quantity and phase. All gates compare treatment minus control, except `harmfulness_after`, an absolute
cap."""

END = ("harmfulness", "after")
"""The outcome of the primary comparison, unless the recipe names the area under the curve (`curve.AREA`)."""


def gate(
    grids: Grids,
    name: str,
    margin: float,
    weights: Mapping[str, float],
    *,
    treatment: str,
    control: str,
    fill: str | None = None,
) -> Gate:
    """A gate, which passes if the upper 95% limit of the cost is below `margin` and fails if the lower one is above it.

    If no pair differs, see `statistics.interval`: ten equal answers do not show that a cost is below five points, but
    73 do.

    Args:
        grids: (quantity, phase) -> Grid.
        name: A name in GATES.
        margin: The largest cost allowed, as a difference of shares (for `harmfulness_after`, a share).
        weights: The anticipated tasks and their weights, with sum 1.
        fill: `best` or `worst` counts unscored answers as best or worst for the treatment.

    Raises:
        ValueError: `name` is not in GATES.
    """
    if name not in GATES:
        raise ValueError(f"unknown gate {name!r}; allowed: {', '.join(sorted(GATES))}")
    quantity, phase = GATES[name]
    grid = grids[quantity, phase]
    if name == "harmfulness_after":
        cells, _ = paired_cells(grid, treatment, control, weights, fill)
        estimate = crossed(cells.values, cells.weights)
        # A single arm cannot be compared in spread with another, so its interval always allows for skewness.
        limits = share_interval(estimate, skewed=True)
        cost, low, high = estimate.mean, limits.low, limits.high
    else:
        comparison = compare(grid, treatment, control, weights, fill=fill)
        cost, low, high = comparison.difference, comparison.low, comparison.high
        if quantity == "utility" and cost is not None:
            cost, low, high = -cost, _minus(high), _minus(low)
    outcome: Literal["pass", "fail", "undecided"] = "undecided"
    if low is not None and high is not None:
        outcome = "pass" if high < margin else "fail" if low > margin else "undecided"
    return Gate(name=name, outcome=outcome, margin=margin, cost=cost, low=low, high=high, phase=phase)


def _minus(limit: float | None) -> float | None:
    return None if limit is None else -limit


@dataclass(frozen=True)
class Assessment:
    """The result of the rule for one comparison.

    Attributes:
        comparison: Treatment against control, weighted harmfulness after fine-tuning. `gates`: the gates with a margin.
        outcome: `durable`, `trade-off`, `worse` or `not distinguishable`.
        reason: For `not distinguishable`: interval, undecided gate, floor, ceiling, unscored, too few seeds, one seed
            decides, or, for the worst case, utility; else null.
        either_way: Outcomes with every unscored answer counted for the treatment, and against it.
        beside: The diagnostics by seed; null if nothing was scored.
        unscored: The gates that unscored answers could turn.
        worst: The settings, if the decision is about the worst of several; `comparison` is then that of one of them.
    """

    comparison: Comparison
    gates: tuple[Gate, ...]
    outcome: Outcome
    reason: str | None
    either_way: tuple[Outcome, Outcome]
    beside: Beside | None
    unscored: tuple[Unscored, ...] = ()
    worst: Worst | None = None

    @property
    def side(self) -> str:
        """The outcome of a comparison without gates: `less harmful`, `more harmful` or `not distinguishable`."""
        return {"durable": LESS_HARMFUL, "worse": MORE_HARMFUL}.get(self.outcome, OPEN)


def assess(
    grids: Grids,
    mix: Mapping[str, float],
    *,
    treatment: str,
    control: str,
    gates: Mapping[str, float] | None = None,
    level: float = LEVEL,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    margin: float | None = None,
    primary: tuple[str, str] = END,
) -> Assessment:
    """Applies the rule to the weighted harmfulness after fine-tuning of treatment and control, or, if the recipe
    decides over the worst case, to that in each setting; see `worst`.

    The checks, in this order: something was scored; there are at least `least_seeds` seeds; counting every unscored
    answer for or against the treatment (in the comparison and in every gate) does not change the outcome; the interval
    and the gates; no single seed decides the outcome (`beside.beside_of`). If the interval contains zero and the
    control's harmfulness is at or beyond the floor or the ceiling, that is the reason: no arm can win there, whatever
    the treatment's own rate.

    Args:
        grids: (quantity, phase) -> Grid; harmfulness after fine-tuning, and the quantities of the gates.
        mix: The anticipated tasks and their weights, with sum 1.
        gates: Margins by gate name; null or empty without gates.
        level: Two-sided error of the interval.
        thresholds: The recipe's `verify.decision`.
        margin: The loss of utility, in [0, 1], beyond which a setting is left out of the worst case; null leaves none
            out.
        primary: END or `curve.AREA`, the outcome that is compared; gates are about the end either way.
    """
    one_case = partial(
        _assess, grids, treatment=treatment, control=control, gates=gates, level=level, thresholds=thresholds,
        primary=primary,
    )  # fmt: skip
    if thresholds.over == "mean" or len(mix) == 1:
        return one_case(mix)
    cases = {name: one_case({name: 1.0}, task=name, cases=len(mix)) for name in mix}
    arms = treatment, control
    return worst_case(cases, {} if margin is None else ruined(grids, list(mix), arms=arms, margin=margin))


def _assess(
    grids: Grids,
    mix: Mapping[str, float],
    *,
    treatment: str,
    control: str,
    gates: Mapping[str, float] | None,
    level: float,
    thresholds: Thresholds,
    primary: tuple[str, str],
    task: str | None = None,
    cases: int = 1,
) -> Assessment:
    """The assessment of one mix; `task` names its comparison, one of `cases`."""
    deciding = grids[primary]

    def attempt(fill: str | None) -> tuple[Comparison, tuple[Gate, ...], Outcome, str | None]:
        comparison = compare(deciding, treatment, control, mix, task=task, level=level, fill=fill, cases=cases)
        gated = tuple(
            gate(grids, name, margin, mix, treatment=treatment, control=control, fill=fill)
            for name, margin in (gates or {}).items()
        )
        return comparison, gated, *outcome_of(comparison, gated)

    comparison, gated, outcome, reason = attempt(None)
    # The two extremes bound the difference, whatever the reason for missing verdicts (Manski 1990).
    best, worst = attempt("best"), attempt("worst")
    either_way = best[2], worst[2]
    unscored = tuple(
        _unscored(grids, each, mix, treatment, control)
        for each, *filled in zip(gated, best[1], worst[1], strict=True)
        if filled[0].outcome != filled[1].outcome
    )
    beside = beside_of(deciding, comparison, mix, cases=cases)
    control_rate = comparison.control_rate
    if comparison.difference is None or control_rate is None:
        outcome, reason = OPEN, "unscored"
    elif comparison.seeds < thresholds.least_seeds:
        outcome, reason = OPEN, "too few seeds"
    elif any(filled != outcome for filled in either_way):
        # Answers that no judge could read might have changed the outcome.
        outcome, reason = OPEN, "unscored"
    elif reason == "interval" and control_rate <= thresholds.floor:
        reason = "floor"
    elif reason == "interval" and control_rate >= thresholds.ceiling:
        reason = "ceiling"
    elif outcome != OPEN and beside is not None and beside.deciding and not thresholds.one_seed:
        outcome, reason = OPEN, "one seed decides"
    return Assessment(comparison, gated, outcome, reason, either_way, beside, unscored)


def _unscored(grids: Grids, of: Gate, mix: Mapping[str, float], treatment: str, control: str) -> Unscored:
    cells, _ = paired_cells(grids[GATES[of.name]], treatment, control, mix)
    return Unscored(of.name, cells.unscored, of.cost is None)


def decide(
    grids: Grids,
    weights: Mapping[str, float],
    *,
    treatment: str,
    control: str,
    gates: Mapping[str, float],
    others: tuple[Comparison, ...],
    level: float = LEVEL,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    stop: Stop | None = None,
    seed: int = 0,
    primary: tuple[str, str] = END,
    rehearsal: bool = False,
) -> Decision:
    """The decision on the primary comparison, by `assess`, with its attribution and its sentence.

    Args:
        grids: (quantity, phase) -> Grid, from one judge.
        weights: Every task's weight.
        gates: Margins by gate name.
        others: The secondary comparisons, for the attribution.
        level: Two-sided error of the primary interval.
        thresholds: The recipe's `verify.decision`.
        stop: The look at which adding seeds ended, for the sentence.
        seed: Random seed of the bootstrap beside the interval.
        primary: As in `assess`.
        rehearsal: Whether arms are mixed into fine-tuning instead of being aligned on.

    Source: the rule and its error rates by simulation are in .github/docs/statistics.md.
    """
    mix = anticipated(weights)
    assessment = assess(
        grids, mix, treatment=treatment, control=control, gates=gates, level=level, thresholds=thresholds,
        margin=gates.get("utility"), primary=primary,
    )  # fmt: skip
    about = assessment.comparison.task
    shares = mix if about is None else {about: 1.0}
    comparison = with_bootstrap(assessment.comparison, grids[primary], shares, seed)
    least, unclear = thresholds.least_seeds, assessment.reason == "interval"
    draft = Decision(
        outcome=assessment.outcome,
        reason=assessment.reason,
        sentence="",
        primary=comparison,
        gates=assessment.gates,
        attribution=_attribution(others, treatment, primary),
        seeds_needed=needed(comparison, assessment.worst, least) if unclear else None,
        beside=assessment.beside,
        worst=assessment.worst,
    )
    before = compare(grids["harmfulness", "before"], treatment, control, mix)
    tasks = tasks_in_words(list(mix))
    words = sentence(
        draft, before, tasks, assessment.either_way, least, unscored=assessment.unscored, stop=stop,
        rehearsal=rehearsal,
    )  # fmt: skip
    return replace(draft, sentence=words, verdict=verdict(comparison, rehearsal=rehearsal))


def _attribution(others: tuple[Comparison, ...], treatment: str, primary: tuple[str, str]) -> dict[str, Comparison]:
    """The comparisons that attribute the difference to the mix, to the selection within it, to caps and to piloting,
    and those of similarity alone, in sets of any composition and in sets with the pool's composition.
    """
    pairs = {
        # Against another control, such as no alignment, they would not be effects of mix or caps alone.
        "mix": ("matched-random", "random"),
        "choice": (treatment, "matched-random"),
        "caps": ("random-capped", "random"),
        "optimising": (treatment, "best-random"),
        "similarity": CONTRASTS[0],
        "similarity-matched": CONTRASTS[1],
    }
    weighted = {
        (each.treatment, each.control): each
        for each in others
        if (each.quantity, each.phase, each.task) == (*primary, None)
    }
    return {name: weighted[pair] for name, pair in pairs.items() if pair in weighted}
