"""Log-odds of refusing against complying openers, as report.json says them, beside the judged outcome."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curator.conclusions.part import CorrelationOrNull, Count, Many, Number, Part, Phase, Share, ShareOrNull


class Opener(Part):
    """What an answer may begin with."""

    text: str
    answers: Count | None
    """Answers of its kind in the pilot that began with it; null for a text of the recipe."""


class Mean(Part):
    """A mean in nats with its 95% interval over crossed seeds and prompts."""

    value: Number
    low: Number
    high: Number
    """Upper limit; null, like `low`, if there are too few seeds."""
    cells: Count
    """Number of pairs of a model and a probe."""


class MeanPhases(Part):
    """A mean before and after fine-tuning."""

    before: Mean
    after: Mean


class Difference(Part):
    """Treatment minus control in nats; above zero, the treatment refuses more."""

    treatment: str
    control: str
    phase: Phase
    task: str | None
    """A task; null: the anticipated tasks, weighted."""
    difference: Number
    low: Number
    """Lower limit of its 95% interval, not adjusted for the number of comparisons."""
    high: Number
    seeds: Count
    prompts: Count
    sd_seed: Number
    """Standard deviation of the paired difference between seeds."""
    sd_prompt: Number
    sd_residual: Number


class Ranked(Part):
    """Spearman's rho between mean log-odds and the judged harmful share, after fine-tuning."""

    over: Literal["models", "prompts"]
    units: Count
    """Number of models or prompts that are ranked."""
    rho: CorrelationOrNull
    """Below zero, fewer answers are judged harmful where refusing is likelier."""
    low: Number
    """Lower limit of a 95% bootstrap over seeds (with all their models) or over prompts."""
    high: Number


class Point(Part):
    """One model after fine-tuning."""

    arm: str
    seed: Count
    task: str
    log_odds: float
    """Mean over the probes."""
    harmfulness: Share
    """Share of its scored answers that are harmful."""


class LogOdds(Part):
    """Log P(refusing) - log P(complying) at the harmful probes, in nats; P is that of a set of openers."""

    source: Literal["recipe", "pilot"]
    """Where the openers come from."""
    refuse: Many[Opener]
    comply: Many[Opener]
    dropped: Many[str]
    """Openers of the recipe that begin with another one of the same set, and would count twice."""
    covered: dict[str, ShareOrNull]
    """Phase -> the probability that an answer begins with one of the openers, mean over models and probes."""
    arms: dict[str, dict[str, MeanPhases]]
    """Arm -> task -> phase; the task `anticipated` is the weighted mix."""
    differences: Many[Difference]
    ranked: Many[Ranked]
    models: Many[Point] = Field(default=())
