"""Results of an experiment: rates, comparisons, gates and the decision, immutable and checked on creation.

A number that cannot be computed is null, never 0. Nothing here computes an interval: `curator.decision` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from curator.records import require

LEVEL = 0.05
"""Two-sided error of every interval and test; if seeds are added, the primary comparison has the error of its look."""


@dataclass(frozen=True)
class Rate:
    """A share with its 95% interval.

    Attributes:
        value: In [0, 1], or null if nothing was scored.
        low, high: Limits of the interval; null if there is none.
        scored, unscored: Answers counted in the rate, and beside it.
        method: How the interval was made.
    """

    value: float | None
    low: float | None
    high: float | None
    scored: int
    unscored: int
    method: str

    def __post_init__(self) -> None:
        require(self.scored >= 0 and self.unscored >= 0, "Rate: counts are negative")
        require((self.value is None) == (self.scored == 0), "Rate: a value needs scored answers, and only then")
        if self.value is not None:
            require(math.isfinite(self.value), f"Rate: value {self.value} is not finite")


@dataclass(frozen=True)
class Comparison:
    """One arm against another on one quantity, treatment minus control.

    Attributes:
        quantity: `harmfulness`, `over_refusal`, `utility` or `degenerate`; `phase` is before or after fine-tuning;
            `task` is a task's name, or null for the weighted mix of the anticipated tasks.
        difference: Mean of treatment - control over seeds and prompts, in [-1, 1]; null if nothing was scored.
        low, high: 95% limits; null if none is valid (fewer than two seeds or prompts).
        p: Two-sided p-value; `p_holm` after Holm over all secondary comparisons, null for the primary one.
        treatment_rate, control_rate: Absolute rates of the two arms on the pairs used.
        seeds, prompts: Size of the crossed table. `pairs` used and `unscored` pairs left out; if prompts have several
            answers, pairs of prompts, and those with an answer that is left out.
        method: How the interval was made. `df`: degrees of freedom. `level`: two-sided error of the interval (a
            sequential look's own if seeds are added; its limits are then the repeated interval).
        sd_seed, sd_prompt, sd_residual: Spread of the paired difference, for planning the next experiment.
        bootstrap: Limits of the crossed bootstrap printed beside the primary one, from 8 seeds on.
        category: The probe category of a descriptive breakdown, else null.
    """

    treatment: str
    control: str
    quantity: str
    phase: str
    task: str | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    treatment_rate: float | None
    control_rate: float | None
    seeds: int
    prompts: int
    pairs: int
    unscored: int
    method: str
    df: int | None = None
    level: float = LEVEL
    sd_seed: float | None = None
    sd_prompt: float | None = None
    sd_residual: float | None = None
    bootstrap: tuple[float, float] | None = None
    category: str | None = None


@dataclass(frozen=True)
class Stop:
    """Where adding seeds ended.

    Attributes:
        action: `clear`, `last` (no look is left) or `futile`.
        seeds, most: Number of paired seeds that were run, and the maximum. `looks`: number of looks taken.
        conditional_power: The probability at this look that the last one would be clear, in [0, 1].
    """

    action: str
    seeds: int
    most: int
    looks: int
    conditional_power: float

    def __post_init__(self) -> None:
        require(self.action in ("clear", "last", "futile"), f"Stop: action {self.action!r}")


@dataclass(frozen=True)
class Gate:
    """A limit on the cost of durability.

    Attributes:
        name: `harmfulness_before`, `over_refusal`, `utility`, `degenerate` or `harmfulness_after`.
        outcome: `pass`, `fail` or `undecided`.
        margin: The largest cost allowed. `cost`, `low`, `high`: curated minus control (control minus curated for
            utility) with its 95% limits; for `harmfulness_after`, the curated arm's own rate.
        phase: Before or after fine-tuning.
        task: The least favourable setting, if the decision is about the worst of several; else null.
    """

    name: str
    outcome: str
    margin: float
    cost: float | None
    low: float | None
    high: float | None
    phase: str = "after"
    task: str | None = None

    def __post_init__(self) -> None:
        require(self.outcome in ("pass", "fail", "undecided"), f"Gate {self.name}: outcome {self.outcome!r}")


@dataclass(frozen=True)
class Case:
    """One of several settings that a decision is about the worst of.

    Attributes:
        task: Name of the setting.
        comparison: Treatment against control at this setting; its lower limit allows for all settings.
        outcome, reason: The result of the rule for this setting alone.
        lost: How far its utility is below that of another setting of the task, in [0, 1], if it was left out for that;
            null if it counts.
    """

    task: str
    comparison: Comparison
    outcome: str
    reason: str | None
    lost: float | None = None


@dataclass(frozen=True)
class Worst:
    """The anticipated settings that a decision is about the worst of, in the recipe's order."""

    cases: tuple[Case, ...]

    @property
    def kept(self) -> tuple[Case, ...]:
        """The settings that count."""
        return tuple(case for case in self.cases if case.lost is None)

    def rate(self, side: Literal["treatment", "control"]) -> float | None:
        """The highest rate of an arm over the settings that count; null if none was scored."""
        rates = [getattr(case.comparison, f"{side}_rate") for case in self.kept]
        return max((rate for rate in rates if rate is not None), default=None)


@dataclass(frozen=True)
class PerSeed:
    """One paired seed.

    Attributes:
        treatment, control: Harmful share after fine-tuning over the pairs used, weighted over the anticipated tasks;
            null if a task has no scored pair of this seed.
        without: The outcome of the comparison without this seed, as in `Beside.side`, at the same level and with the
            precision of the original number of seeds (see `beside.beside_of`).
    """

    seed: int
    treatment: float | None
    control: float | None
    without: str


@dataclass(frozen=True)
class Beside:
    """The diagnostics of a decision by seed.

    Attributes:
        seeds: One entry per seed, in order.
        side: The outcome of the comparison with all seeds: `less harmful`, `more harmful` or `not distinguishable`.
        unseen: The largest share of trainings that could fail although none of these seeds did (95% confidence).
        sd_treatment, sd_control: Standard deviation of each arm's rates over seeds; null with fewer than two seeds.
        spread_p: Two-sided p-value of equal spreads (Pitman 1939, Morgan 1939); null with fewer than three seeds.
    """

    seeds: tuple[PerSeed, ...]
    side: str
    unseen: float
    sd_treatment: float | None
    sd_control: float | None
    spread_p: float | None

    @property
    def deciding(self) -> tuple[int, ...]:
        """Seeds whose removal, one at a time, changes the outcome of the comparison."""
        return tuple(each.seed for each in self.seeds if each.without != self.side)

    @property
    def uneven(self) -> bool:
        """Whether the arms' spreads differ by more than chance."""
        return self.spread_p is not None and self.spread_p <= LEVEL


@dataclass(frozen=True)
class Decision:
    """The result of the experiment for the curated set, with this data set, model and tasks.

    Attributes:
        outcome: `durable`, `trade-off`, `not distinguishable` or `worse`.
        reason: For `not distinguishable`: interval, undecided gate, floor, ceiling, unscored, too few seeds, one seed
            decides, or, for the worst case, utility; else null.
        sentence: The decision in words: outcome, verdict, reason, both rates before fine-tuning, and scope.
        primary: The comparison that decides.
        gates: The gates with their figures.
        attribution: Comparison of matched with random, of curated with matched, of random within the caps on answers
            with random, of curated with best random, of the least with the most similar rows (and both matched to the
            pool's composition), where run.
        seeds_needed: For `interval`: number of paired seeds at which a difference as large as the measured one would be
            detected with 80% power, or null.
        beside: Diagnostics by seed; null if nothing was scored.
        worst: The settings, if the decision is about the worst of several; else null.
        verdict: The part of the sentence that states the measurement, with the interval.
    """

    outcome: str
    reason: str | None
    sentence: str
    primary: Comparison | None
    gates: tuple[Gate, ...]
    attribution: Mapping[str, Comparison] = field(default_factory=dict)
    seeds_needed: int | None = None
    beside: Beside | None = None
    worst: Worst | None = None
    verdict: str = ""

    def __post_init__(self) -> None:
        outcomes = ("durable", "trade-off", "not distinguishable", "worse")
        require(self.outcome in outcomes, f"Decision: unknown outcome {self.outcome!r}; allowed: {', '.join(outcomes)}")


def kappa(both: int, only_first: int, only_second: int, neither: int) -> tuple[float | None, float | None]:
    """Share of cases on which two raters agree on yes or no, in [0, 1], and Cohen's kappa, in [-1, 1].

    Both are null without cases; kappa also if both raters always give the same single answer.

    Source: Cohen, A coefficient of agreement for nominal scales, 1960.
    """
    n = both + only_first + only_second + neither
    if n == 0:
        return None, None
    share = (both + neither) / n
    first, second = (both + only_first) / n, (both + only_second) / n
    chance = first * second + (1 - first) * (1 - second)
    return share, None if chance == 1 else (share - chance) / (1 - chance)


class Length(TypedDict):
    """The changes of a setting of the search for the regime to the recipe's fine-tuning; `steps` or `epochs` is
    null.
    """

    steps: int | None
    epochs: float | None
    learning_rate: float


class Answered(TypedDict):
    """The control's answers to harmful probes: the number that were `scored`, and their harmful share with Wilson's
    interval, null if none was scored. `degenerate`: the share of degenerate answers, which are not harmful.
    """

    scored: int
    unscored: int
    share: float | None
    low: float | None
    high: float | None
    degenerate: float | None


class Tried(TypedDict):
    """One task at one setting: the control's answers after fine-tuning, and the mean training loss of its seeds."""

    task: str
    setting: Length
    steps: int
    first_loss: float
    last_loss: float
    after: Answered
    in_range: bool


class FoundRegime(TypedDict):
    """The result of the search for the regime, as in its `done.json`; `setting` is the one that it names, null for
    none.
    """

    control: str
    seeds: int
    probes: int
    before: Answered
    lines: list[Tried]
    setting: Length | None
    advice: str
    summary: str
