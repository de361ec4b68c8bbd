"""audit.json: everything that an audit found in a corpus. The type is the schema."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from curator.report.part import Absent, AtLeastZero, BeforeAfter, Count, Many, Number, Part, Share, Values
from curator.report.part import Outcome as DecisionOutcome

VERSION: Literal[1] = 1


class Source(Part):
    """Rows that were read; what names them (file, sha256, bytes, hub, revision, sandbox, ...) depends on their kind."""

    model_config = ConfigDict(extra="allow")

    label: str
    read: Count
    kept: Count
    dropped: Count


class Finding(Part):
    """One thing found."""

    kind: str
    """A short name that stays the same."""
    severity: Literal["info", "warning", "error"]
    count: Count
    """Rows."""
    share: AtLeastZero
    """Of the rows that were looked at."""
    ids: Many[str]
    """All rows that it is about, sorted."""
    lines: Many[int | None] | Absent = None
    """Of each of `ids`, its record in the corpus, from 1; null for one that is not a row of the corpus."""
    what: str
    advice: str


class Match(Part):
    """A row that asks a probe."""

    id: str
    probe: str
    overlap: Share
    """Of their words."""


class Overlap(Part):
    """Rows that ask a probe of one set."""

    rows: Count
    probes: Count
    """That are asked."""
    of_probes: Count
    matches: Many[Match]


class NearProbe(Part):
    """A prompt that lies near a probe without sharing its words."""

    id: str
    set: str
    probe: str
    cosine: float


class Similarity(Part):
    """Mean cosine of the corpus's rows to the nearest rows of a task."""

    min: float
    p10: float
    p25: float
    median: float
    p75: float
    p90: float
    max: float
    mean: float
    score: str
    most: Many[str]
    """Ids of the rows most alike, the most first."""
    least: Many[str]
    above_pool_median: Share | None
    """Of the rows; null without a pool."""


class Coverage(Part):
    """One category of hazard."""

    rows: Count
    share: Share
    pool: Share | None
    """Share in the pool; null without one."""
    covered: Number
    """Mean cosine of the pool's rows to the nearest row of the corpus."""


class Confidence(Part):
    """How sure the assignment is: quantiles of the margin; null of nothing."""

    min: Number
    p10: Number
    p25: Number
    median: Number
    p75: Number
    p90: Number
    max: Number


class Assigned(Part):
    """Rows whose category is that of the nearest description of a hazard."""

    rows: Count
    confidence: Confidence


class Redundancy(Part):
    """How different the rows are from each other."""

    rows: Count
    effective: AtLeastZero
    """Effective number of rows."""
    vendi: AtLeastZero
    """Vendi score."""


class Retained(Part):
    """How much of what the corpus protects is left after fine-tuning."""

    value: Number
    """1 where all of it is left, 0 where nothing is; null where it protects nothing before."""
    low: Number
    high: Number
    reason: str | None
    """Why there is no value or no interval."""
    seeds: Count
    prompts: Count
    method: str


class Measured(Part):
    """What fine-tuning did to models aligned on the corpus."""

    run: str
    """The run folder."""
    arms: dict[str, BeforeAfter]
    """Arm -> harmfulness."""
    retained: Retained
    outcome: DecisionOutcome | None
    """Null without a pool, as are reason and sentence."""
    reason: str | None
    sentence: str | None


class Settings(Part):
    """Thresholds, and what made the vectors and judged."""

    clean: Values
    categorise: Values
    findings: Values
    embedder: str | None
    dtype: str | None = None
    """What the embedder, or the model whose hidden states made the vectors, computed in; null where none did."""
    judge: str | None


class Audit(Part):
    """Everything found in a corpus. Shares are in [0, 1]; what is not known is null. No text of a row stands in it."""

    version: Literal[1]
    """Of this format."""
    corpus: Source
    tasks: dict[str, Source]
    probes: dict[str, Source]
    pool: Source | None
    """What the corpus might have been taken from."""
    refusals: Share | None
    """Share of the answers in English that open with a refusal; null where none is in English."""
    languages: dict[str, Count]
    """Name -> rows."""
    licences: dict[str, Count]
    """Name -> rows."""
    control_tokens: dict[str, Count] | Absent = None
    """Text of a chat template's token -> rows that spell it; absent from audits of earlier versions."""
    overlap: dict[str, Overlap]
    """By probe set."""
    similarity: dict[str, Similarity]
    """By task."""
    exposure: Many[str]
    """Tasks, the most exposed first."""
    near_probes: Many[NearProbe] | None
    """Null without an embedder of prompts, as are the next three."""
    coverage: dict[str, Coverage] | None
    """By category of hazard, the largest first."""
    unassigned: Share | None
    """Share of rows without a category."""
    redundancy: Redundancy | None
    """Null without an embedder."""
    assigned: Assigned | None = None
    not_made: Many[str]
    """What would have needed an embedder."""
    measured: Measured | None
    """Null where nothing was trained."""
    settings: Settings
    findings: Many[Finding]
    """The worst first."""
