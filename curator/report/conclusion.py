"""The conclusions of a run in report.json: the decision, every rate and comparison, and the judges."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curator.conclusions import BeforeAfter, Beside, Comparison, Rate, Worst
from curator.conclusions.part import Absent, Count, Many, Number, Outcome, Part, Phase, Quantity, ShareOrNull, Values
from curator.conclusions.secondary import Agreement


class Regime(BeforeAfter):
    """What fine-tuning does to the control. If the control barely changes, or ends near 0 or 1, no selection method can
    make a visible difference.
    """

    control: str
    """The arm."""
    warning: str | None
    """Why no arm could win here."""


class Decision(Part):
    """The decision, made from the primary comparison alone."""

    outcome: Outcome
    """The outcome; the README explains each."""
    reason: str | None
    """Why the outcome is not distinguishable; null for other outcomes."""
    sentence: str
    """The decision with its figures."""
    primary: Comparison
    attribution: dict[str, Comparison]
    """Comparisons that attribute the difference to the mix, the choice, optimising and so on."""
    seeds_needed: int | None
    """How many seeds would show a difference of this size, if the interval is the reason; else null."""
    worst: Worst | Absent = None
    """If the decision is about the worst of several settings: the settings. `primary` is then about one of them."""
    beside: Beside | Absent = None
    """The results of single seeds."""
    verdict: str | Absent = None
    """The part of `sentence` that says what was measured."""

    @property
    def because(self) -> str:
        """The rest of `sentence` after the verdict; all of it if an earlier version wrote the report."""
        return self.sentence.partition(self.verdict)[2].strip() if self.verdict else self.sentence


class Rates(Part):
    """The rates of one arm on one task in one phase."""

    harmfulness: Rate
    """Share of the answers to harmful probes that are harmful."""
    over_refusal: Rate
    """Share of the benign probes that were refused or got a degenerate answer."""
    utility: Rate
    """The mean score on the task's held-out rows."""
    degenerate: Rate
    """Share of the answers to harmful probes that are degenerate."""

    def of(self, quantity: Quantity) -> Rate:
        """The rate of a quantity."""
        rate: Rate = getattr(self, quantity)
        return rate


class Phases(Part):
    """The rates of one arm on one task, before and after fine-tuning."""

    before: Rates
    after: Rates


class RoleComparison(Comparison):
    """A comparison with its part in the decision."""

    role: Literal["primary", "attribution", "secondary"]


class Look(Part):
    """One look at the primary comparison, and what followed."""

    seeds: Count
    information: Number
    """As a share of the information at the last look."""
    spent: Number = None
    """Share of the error of all looks that is spent so far."""
    level: Number
    """Level of this look alone."""
    difference: Number
    low: Number
    high: Number
    p: Number
    conditional_power: Number = None
    """The probability that the last look would be clear."""
    action: str


class Sequential(Part):
    """A sequential test, which adds seeds until a look stops: the settings of the recipe, and the looks."""

    max: Count
    first: Count = 6
    every: Count = 2
    spending: str = "pocock"
    futility: Number = None
    sd_seed: Number = None
    sd_prompt: Number = None
    sd_residual: Number = None
    stopped: str | None = None
    """The last look's action."""
    looks: Many[Look] = ()


class ProbeCategory(Part):
    """One category of harmful probes; descriptive."""

    category: str
    prompts: Count
    arms: dict[str, BeforeAfter]
    comparison: Comparison


class DepthRates(Part):
    """The answers of one arm to harmful probes that begin with a number of tokens of a compliant opening."""

    arm: str
    phase: Phase
    prefill: Count
    """Tokens of the opening; 0 for the usual answers."""
    harmful: Rate
    """Share of harmful answers to harmful probes, over the anticipated tasks."""
    refused: Rate
    """Share of refusals; null if the judge does not report refusals."""
    degenerate: Rate
    """Share of degenerate answers, which are not harmful."""


class DepthDifference(Part):
    """Difference in harmfulness, treatment minus control, after a number of tokens of the opening."""

    prefill: Count
    comparison: Comparison
    """The comparison; it is not tested and not part of the Holm family."""


class Depth(Part):
    """How deep refusal goes; it is secondary and never decides."""

    rates: Many[DepthRates]
    differences: Many[DepthDifference]

    @property
    def tokens(self) -> list[int]:
        """The lengths of the opening, from 0 up."""
        return sorted({rates.prefill for rates in self.rates})

    def of(self, arm: str, phase: Phase, prefill: int) -> DepthRates:
        """The rates of one arm in one phase at one depth."""
        wanted = arm, phase, prefill
        return next(rates for rates in self.rates if (rates.arm, rates.phase, rates.prefill) == wanted)

    def difference(self, phase: Phase, prefill: int) -> Comparison:
        """The comparison in one phase at one depth."""
        return next(
            pair.comparison for pair in self.differences if (pair.comparison.phase, pair.prefill) == (phase, prefill)
        )


class Flips(Part):
    """Harmful probes to which some answers of a model are harmful and some are not; secondary."""

    arm: str
    phase: Phase
    share: Rate
    """Their share of the probes with two or more scored answers, over the anticipated tasks; `scored` counts probes."""


class OutcomeCounts(Part):
    """Number of answers to harmful probes by outcome."""

    harmful: Count
    safe: Count
    degenerate: Count
    unscored: Count

    @property
    def total(self) -> int:
        """The number of all answers."""
        return self.harmful + self.safe + self.degenerate + self.unscored


class PanelJudge(Part):
    """One judge of the panel."""

    name: str
    kind: str
    told: str = ""
    """What it is, in words."""
    guard: str | None
    revision: str | None
    settings: Values = Field(default_factory=dict)
    """Every setting of the recipe that decides its verdicts."""
    outcomes: OutcomeCounts
    cost: dict[str, Count] | None = None
    """Requests and tokens, as the endpoint counts them."""
    clipped: Count = 0
    """Answers that were cut to its length limit."""


class SecondOpinion(Part):
    """The decision by another judge alone; it is shown and never decides."""

    judge: str
    outcome: str
    reason: str | None
    primary: Comparison | None


class Judges(Part):
    """The judges of the answers."""

    headline: str
    """The judge whose verdicts decide if the rule is headline."""
    rule: Literal["headline", "majority", "any-harmful"] = "headline"
    """The rule by which the panel decides."""
    outcomes: OutcomeCounts
    """Outcomes of the verdicts that decide."""
    panel: Many[PanelJudge]
    agreement: Many[Agreement]
    """Each pair of judges."""
    second_opinions: Many[SecondOpinion]
    """Decisions by the other judges alone; they are shown and never decide."""

    @property
    def deciding(self) -> tuple[PanelJudge, ...]:
        """The judges whose verdicts decide."""
        return tuple(judge for judge in self.panel if self.rule != "headline" or judge.name == self.headline)


class Labels(Part):
    """The answers that people have labelled."""

    outcome: str | None = None
    run: str | None = None
    file: str | None = None
    sha256: str | None = None
    rows: Count
    excluded: Count = 0
    unlabelled: Count = 0


class Assumed(Part):
    """What the difference would be if the judge erred like this in both arms."""

    sensitivity: float
    specificity: float
    difference: float


class JudgeError(Part):
    """The effect of the judge's errors on the primary difference; it never decides."""

    judge: str | None
    labels: Labels | None
    corrects: bool
    """Whether the labels suffice to correct the difference."""
    why: str | None
    """Why they do not suffice; null if they do."""
    sensitivity: ShareOrNull
    specificity: ShareOrNull
    difference: Number
    low: Number
    high: Number
    assumed: Many[Assumed]
    tipping: Number
    """The judge's sensitivity in the treatment arm, divided by that in the control arm, at which the arms would be
    equal.
    """
