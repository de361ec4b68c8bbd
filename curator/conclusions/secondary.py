"""Results beside the decision, which they never change: each is written once, as its file says it."""

from __future__ import annotations

from curator.conclusions.part import CorrelationOrNull, Count, Number, Part, ShareOrNull


class WithinSeed(Part):
    """McNemar's test within one seed; descriptive."""

    task: str
    seed: Count
    only_treatment: Count
    """Prompts on which only the treatment was harmful; with several answers to each, more of its answers were."""
    only_control: Count
    pairs: Count
    """Prompts scored in both."""
    p: Number
    """Exact and two-sided; with several answers to each prompt of the sign test, which is McNemar's for one answer."""


class Forgetting(Part):
    """How much fine-tuning raises the loss of safe answers that no set holds, in nats per token."""

    task: str
    loss: str
    rows: Count
    seeds: Count
    before: Number
    """Mean loss before fine-tuning."""
    mean: Number
    """Mean rise over rows; that of a row is the mean over seeds."""
    sd: Number
    """Its standard deviation over rows."""
    agreement: Number
    """Agreement of two seeds, the mean Spearman correlation between their rises; null with one seed."""


class Prediction(Part):
    """Spearman's rho between a score, known before any training, and forgetting."""

    score: str
    task: str
    loss: str
    rho: CorrelationOrNull
    """Above zero, rows that score as more similar are forgotten more; null if score or forgetting never varies."""
    low: Number
    high: Number
    rows: Count
    seeds: Count


class Agreement(Part):
    """How often two judges agree that an answer to a harmful probe is harmful or not."""

    first: str
    second: str
    answers: Count
    """Answers that both scored."""
    share: ShareOrNull
    """Share of these on which they agree."""
    kappa: Number
    """Cohen's kappa."""
    both: Count
    only_first: Count
    only_second: Count
    neither: Count


class PilotRound(Part):
    """The results of a candidate in one round of the pilot; rates are null if nothing was scored."""

    number: Count
    """From 0."""
    seeds: Count
    """Seeds so far, which the experiment does not use."""
    before: ShareOrNull
    """Harmful before fine-tuning."""
    after: ShareOrNull
    """Harmful after fine-tuning."""
    degenerate: ShareOrNull
    """Degenerate answers after fine-tuning."""
    costly: bool
    """Whether `before` or `degenerate` is above the mean of the other draws by more than the margin of its gate; such a
    candidate ranks behind all others.
    """
    place: Count
    """Rank among its kind, from 1."""
    kept: bool
    """Whether it goes on or, in the last round, won."""


class Retained(Part):
    """How much of what the corpus protects is left after fine-tuning."""

    value: Number
    """1 if all of the protection is left, 0 if none is; null if the corpus does not protect before fine-tuning."""
    low: Number
    high: Number
    reason: str | None
    """Why there is no value or no interval, else null."""
    seeds: Count
    prompts: Count
    method: str
