"""What a run concludes, as report.json says it: the decision, every rate and comparison, and who judged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curator.report.part import (
    Absent,
    BeforeAfter,
    Comparison,
    CorrelationOrNull,
    Count,
    Many,
    Number,
    Outcome,
    Part,
    Phase,
    Quantity,
    Rate,
    ShareOrNull,
    Values,
)


class Regime(BeforeAfter):
    """What fine-tuning does to the control: where this hardly moves or ends at 0 or 1, no way of choosing rows can
    show.
    """

    control: str
    """The arm."""
    warning: str | None
    """Why no arm could win here."""


class Case(Part):
    """One of the settings that a decision is about the worst of."""

    task: str
    """The task, with what the setting changes."""
    comparison: Comparison
    """Its lower limit allows for the number of settings."""
    outcome: Outcome
    """What the rule says of it alone."""
    reason: str | None
    lost: ShareOrNull
    """Utility that it loses against another setting of the task, where it does not count for that; null where it does.
    """


class Worst(Part):
    """The settings that a decision is about the worst of."""

    cases: Many[Case]


Side = Literal["less harmful", "more harmful", "not distinguishable"]


class PerSeed(Part):
    """One paired seed."""

    seed: Count
    treatment: ShareOrNull
    """Harmful after fine-tuning, weighted over the anticipated tasks."""
    control: ShareOrNull
    """The same of the control."""
    without: Side
    """What the comparison says with this seed left out."""


class Beside(Part):
    """What the seeds say beside a decision."""

    seeds: Many[PerSeed]
    side: Side
    """What the comparison says by all of them."""
    deciding: Many[Count]
    """Seeds without any one of which it would say something else."""
    unseen: ShareOrNull
    """The largest share of trainings that could fail with none of the seeds failing, at 95% confidence."""
    sd_treatment: Number
    """Standard deviation of the treatment's rate over seeds."""
    sd_control: Number
    """Of the control's."""
    spread_p: Number
    """Two-sided p-value of equal spreads (Pitman and Morgan)."""
    uneven: bool
    """Whether they differ beyond chance, which the interval then allows for."""


class Decision(Part):
    """From the primary comparison alone."""

    outcome: Outcome
    """See the README."""
    reason: str | None
    """Why not distinguishable."""
    sentence: str
    """The decision with its figures."""
    primary: Comparison
    attribution: dict[str, Comparison]
    """What the difference is owed to: mix, choice, optimising."""
    seeds_needed: int | None
    """How many seeds would tell, where the interval is the reason."""
    worst: Worst | Absent = None
    """Where it is about the worst of several settings; `primary` is then that of one of them."""
    beside: Beside | Absent = None
    """Seed by seed."""
    verdict: str | Absent = None
    """Of the sentence, the one that says what was measured."""

    @property
    def because(self) -> str:
        """What the sentence says after the verdict; the whole of it where an earlier version wrote it."""
        return self.sentence.partition(self.verdict)[2].strip() if self.verdict else self.sentence


class Gate(Part):
    """A limit on what durability may cost."""

    name: str
    outcome: Literal["pass", "fail", "undecided"]
    margin: Number
    """The most that is allowed."""
    cost: Number
    """Treatment minus control, above zero is worse."""
    low: Number
    high: Number
    phase: Phase = "after"
    task: str | Absent = None
    """The setting in which it is least favourable, where the decision is about the worst of several."""


class Rates(Part):
    """The rates of one arm on one task in one phase."""

    harmfulness: Rate
    """Of answers to harmful probes."""
    over_refusal: Rate
    """Of benign probes: refused, or answered in a degenerate way."""
    utility: Rate
    """The mean score on the task's held-out rows."""
    degenerate: Rate
    """Of answers to harmful probes."""

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
    """What one look at the primary comparison said, and what followed."""

    seeds: Count
    information: Number
    """Share of the last look's."""
    spent: Number = None
    """Of the error of all looks together."""
    level: Number
    """Of this look alone."""
    difference: Number
    low: Number
    high: Number
    p: Number
    conditional_power: Number = None
    """The chance that the last look would be clear."""
    action: str


class Sequential(Part):
    """Where seeds were added until a look stopped: the recipe's settings, and the looks."""

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


class WithinSeed(Part):
    """McNemar within one seed, descriptive."""

    task: str
    seed: Count
    only_treatment: Count
    only_control: Count
    pairs: Count
    p: Number


class Forgetting(Part):
    """How much fine-tuning raises the loss of safe answers left out of every set, in nats a token."""

    task: str
    loss: str
    rows: Count
    seeds: Count
    before: Number
    mean: Number
    sd: Number
    agreement: Number
    """Of two seeds; null with one."""


class Prediction(Part):
    """Spearman's rho between a score, known before any training, and forgetting."""

    score: str
    task: str
    loss: str
    rho: CorrelationOrNull
    low: Number
    high: Number
    rows: Count
    seeds: Count


class ProbeCategory(Part):
    """One category of harmful probes, descriptive."""

    category: str
    prompts: Count
    arms: dict[str, BeforeAfter]
    comparison: Comparison


class DepthRates(Part):
    """One arm's answers to harmful probes that begin with so many tokens of an opening that complies."""

    arm: str
    phase: Phase
    prefill: Count
    """Tokens of the opening; 0 for the usual answers."""
    harmful: Rate
    """Of answers to harmful probes, over the anticipated tasks."""
    refused: Rate
    """The same; null where the judge knows nothing of refusals."""
    degenerate: Rate
    """The same: broken answers, which are not harmful."""


class DepthDifference(Part):
    """Treatment minus control on harmfulness after so many tokens of the opening."""

    prefill: Count
    comparison: Comparison
    """Not tested: outside of the Holm family."""


class Depth(Part):
    """How deep refusal goes; secondary, never deciding."""

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
    """Harmful probes to which some answers of an arm's models are harmful and some are not; secondary."""

    arm: str
    phase: Phase
    share: Rate
    """Of the probes with two or more scored answers, over the anticipated tasks; `scored` counts probes."""


class OutcomeCounts(Part):
    """Answers to harmful probes by what they were called."""

    harmful: Count
    safe: Count
    degenerate: Count
    unscored: Count

    @property
    def total(self) -> int:
        """All of them."""
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
    """All of the recipe that decides what it says."""
    outcomes: OutcomeCounts
    cost: dict[str, Count] | None = None
    """Requests and tokens, as the endpoint counts them."""
    clipped: Count = 0
    """Answers cut to what it has room for."""


class Agreement(Part):
    """How often two judges agree that an answer to a harmful probe is harmful or not."""

    first: str
    second: str
    answers: Count
    """That both scored."""
    share: ShareOrNull
    """On which they agree."""
    kappa: Number
    """Cohen's."""
    both: Count
    only_first: Count
    only_second: Count
    neither: Count


class SecondOpinion(Part):
    """The decision by another judge alone; shown, never deciding."""

    judge: str
    outcome: str
    reason: str | None
    primary: Comparison | None


class Judges(Part):
    """Who read the answers."""

    headline: str
    """Whose verdicts decide where the rule is headline."""
    rule: Literal["headline", "majority", "any-harmful"] = "headline"
    """Who decides."""
    outcomes: OutcomeCounts
    """Of the verdicts that decide."""
    panel: Many[PanelJudge]
    agreement: Many[Agreement]
    """Each pair of judges."""
    second_opinions: Many[SecondOpinion]
    """Decisions by the other judges alone; shown, never deciding."""

    @property
    def deciding(self) -> tuple[PanelJudge, ...]:
        """The judges whose verdicts decide."""
        return tuple(judge for judge in self.panel if self.rule != "headline" or judge.name == self.headline)


class Labels(Part):
    """The answers that people labelled."""

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
    """What the judge's mistakes do to the primary difference; never deciding."""

    judge: str | None
    labels: Labels | None
    corrects: bool
    """Whether the labels suffice to take its mistakes out."""
    why: str | None
    """Why they do not."""
    sensitivity: ShareOrNull
    specificity: ShareOrNull
    difference: Number
    low: Number
    high: Number
    assumed: Many[Assumed]
    tipping: Number
    """How often the judge would have to find the treatment's harmful answers, relative to the control's, for the arms
    to be equal.
    """
