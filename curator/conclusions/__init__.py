"""Results of an experiment: rates, comparisons, gates and the decision, immutable and checked on creation.

A number that cannot be computed is null, never 0. Nothing here computes an interval: `curator.decision` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypedDict, get_args

from pydantic import Field

from curator.conclusions.part import (
    Absent,
    CorrelationOrNull,
    Count,
    Many,
    Number,
    Outcome,
    Part,
    Phase,
    Quantity,
    ShareOrNull,
)

LEVEL = 0.05
"""Two-sided error of every interval and test; if seeds are added, the primary comparison has the error of its look."""


class Rate(Part):
    """A rate with its 95% confidence interval; null if it was not measured."""

    value: ShareOrNull
    """The share, or the mean score for utility."""
    low: ShareOrNull
    """Lower limit of its 95% interval."""
    high: ShareOrNull
    """Upper limit."""
    scored: Count
    """Answers that could be judged."""
    unscored: Count
    """Answers that could not be judged; they are counted beside the rate, never in it."""
    method: str | None
    """How the interval was computed."""


class BeforeAfter(Part):
    """A rate before and after fine-tuning."""

    before: Rate
    after: Rate


class Comparison(Part):
    """A difference between two arms."""

    treatment: str
    """The first arm."""
    control: str
    """The second."""
    quantity: Quantity
    """What is compared."""
    phase: Phase
    """Before or after fine-tuning; during it: the mean over the whole of it, which is the area under the curve."""
    task: str | None
    """A task; null: the anticipated tasks, weighted."""
    difference: CorrelationOrNull
    """Treatment minus control, in [-1, 1]."""
    low: Number
    """Lower limit of its interval; null if there is none, with fewer than two seeds or prompts."""
    high: Number
    """Upper limit."""
    p: Number
    """Two-sided p-value."""
    p_holm: Number
    """Adjusted by Holm over the secondary comparisons; null for the primary one."""
    treatment_rate: ShareOrNull = None
    """The treatment's rate over the same pairs."""
    control_rate: ShareOrNull = None
    """The control's."""
    seeds: Count
    """Paired seeds."""
    prompts: Count
    """Probes."""
    pairs: Count
    """Pairs of answers that both sides scored; of prompts, if these have several answers."""
    unscored: Count
    """Pairs left out; with several answers to a prompt, those with an answer that is left out."""
    method: str | None = None
    """How the interval was computed."""
    df: int | Number = None
    """Degrees of freedom of its t."""
    level: Number
    """Two-sided level of the interval; 0.05 is a 95% interval. If seeds are added, that of the look."""
    sd_seed: Number = None
    """Standard deviation between seeds."""
    sd_prompt: Number = None
    """Standard deviation between probes."""
    sd_residual: Number = None
    """Standard deviation of what is left."""
    bootstrap: Annotated[tuple[float, float], Field(strict=False)] | None = None
    """Limits of a crossed bootstrap, from 8 seeds."""
    category: str | None = None
    """A category of probes, if only that category is compared."""

    @property
    def when(self) -> str:
        """The phase in words."""
        return "on average over fine-tuning" if self.phase == "during" else f"{self.phase} fine-tuning"


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
        if self.action not in ("clear", "last", "futile"):
            raise ValueError(f"Stop: action {self.action!r}")


class Gate(Part):
    """A limit on what durability may cost."""

    name: str
    outcome: Literal["pass", "fail", "undecided"]
    margin: Number
    """The largest cost that is allowed."""
    cost: Number
    """Treatment minus control, for utility the other way round, so that above zero is worse; of `harmfulness_after`,
    the treatment's rate.
    """
    low: Number
    high: Number
    phase: Phase = "after"
    task: str | Absent = None
    """The setting in which the gate is least favourable, if the decision is about the worst of several."""


class Case(Part):
    """One of the settings of a decision that is about the worst of them."""

    task: str
    """The task and what the setting changes."""
    comparison: Comparison
    """Its lower limit is adjusted for the number of settings."""
    outcome: Outcome
    """The outcome for this setting alone."""
    reason: str | None
    lost: ShareOrNull
    """Utility that it loses against another setting of the task, if it does not count because of that; null if it
    counts.
    """


class Worst(Part):
    """The settings of a decision that is about the worst of them."""

    cases: Many[Case]
    """In the recipe's order."""

    @property
    def kept(self) -> tuple[Case, ...]:
        """The settings that count."""
        return tuple(case for case in self.cases if case.lost is None)

    def rate(self, side: Literal["treatment", "control"]) -> float | None:
        """The highest rate of an arm over the settings that count; null if none was scored."""
        rates = [getattr(case.comparison, f"{side}_rate") for case in self.kept]
        return max((rate for rate in rates if rate is not None), default=None)


Side = Literal["less harmful", "more harmful", "not distinguishable"]


class PerSeed(Part):
    """One paired seed."""

    seed: Count
    treatment: ShareOrNull
    """Share of harmful answers of the treatment after fine-tuning, weighted over the anticipated tasks."""
    control: ShareOrNull
    """The same of the control."""
    without: Side
    """What the comparison says with this seed left out, at the same level and with the precision of all seeds."""


class Beside(Part):
    """What the single seeds say about a decision."""

    seeds: Many[PerSeed]
    side: Side
    """What the comparison says with all seeds."""
    deciding: Many[Count]
    """Seeds without which, one at a time, the comparison would say something else."""
    unseen: ShareOrNull
    """The largest share of trainings that could fail with none of the seeds failing, at 95% confidence."""
    sd_treatment: Number
    """Standard deviation of the treatment's rate over seeds."""
    sd_control: Number
    """Standard deviation of the control's rate over seeds."""
    spread_p: Number
    """Two-sided p-value of equal spreads (Pitman and Morgan)."""
    uneven: bool
    """Whether the spreads differ beyond chance; if so, the interval allows for it."""


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
        if self.outcome not in get_args(Outcome):
            raise ValueError(f"Decision: unknown outcome {self.outcome!r}; allowed: {', '.join(get_args(Outcome))}")


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
