"""audit.json: everything that an audit found in a corpus. The type is the schema."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from curator.conclusions import BeforeAfter
from curator.conclusions.part import Absent, AtLeastZero, Count, Many, Number, Part, Share, Values
from curator.conclusions.part import Outcome as DecisionOutcome
from curator.conclusions.secondary import Retained

VERSION: Literal[1] = 1


class Source(Part):
    """Rows that were read; what names them (file, sha256, bytes, hub, revision, sandbox, ...) depends on their kind.
    `named` is the corpus as it was asked for, and `mapped` is there where its columns were mapped to fields by the user
    or by their kind.
    """

    model_config = ConfigDict(extra="allow")

    label: str
    read: Count
    kept: Count
    dropped: Count


class Finding(Part):
    """One thing found."""

    kind: str
    """A short name that stays the same between versions."""
    severity: Literal["info", "warning", "error"]
    count: Count
    """Number of rows."""
    share: AtLeastZero
    """Share of the rows that were examined."""
    ids: Many[str]
    """Ids of all rows that the finding is about, sorted."""
    lines: Many[int | None] | Absent = None
    """For each of `ids`, the number of its record in `source`, from 1; null for one that is not a row of it."""
    source: str | Absent = None
    """The file or data set that `ids` are rows of: the corpus, or a task's; absent from audits of earlier versions."""
    what: str
    advice: str


class Match(Part):
    """A row that contains a probe."""

    id: str
    probe: str
    overlap: Share
    """Share of the probe's words that the row contains."""


class Overlap(Part):
    """Rows that contain a probe of one set."""

    rows: Count
    probes: Count
    """Probes that the corpus contains."""
    of_probes: Count
    matches: Many[Match]


class NearProbe(Part):
    """A prompt that resembles a probe without sharing its words."""

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
    """Ids of the most similar rows, the most similar first."""
    least: Many[str]
    above_pool_median: Share | None
    """Share of the rows above the pool's median; null without a pool."""


class Coverage(Part):
    """One category of hazard."""

    rows: Count
    share: Share
    pool: Share | None
    """Share of the pool; null without a pool."""
    covered: Number
    """Mean cosine of the pool's rows of the category to the nearest row of the corpus; null if it has none."""


class Confidence(Part):
    """How sure the assignment is: quantiles of the margin; null if no row was assigned."""

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


class Measured(Part):
    """What fine-tuning did to models aligned on the corpus."""

    run: str
    """The run folder."""
    arms: dict[str, BeforeAfter]
    """Arm -> harmfulness before and after fine-tuning."""
    retained: Retained
    outcome: DecisionOutcome | None
    """The decision's outcome; null without a pool, like `reason` and `sentence`."""
    reason: str | None
    sentence: str | None


class Settings(Part):
    """Thresholds, the embedder and the judge."""

    clean: Values
    categorise: Values
    findings: Values
    embedder: str | None
    dtype: str | None = None
    """Data type that the embedder or model computed in; null if there was none."""
    judge: str | None


class Audit(Part):
    """Everything found in a corpus. Shares are in [0, 1]; what is not known is null. It contains no text of a row."""

    version: Literal[1]
    """Version of this format."""
    corpus: Source
    tasks: dict[str, Source]
    probes: dict[str, Source]
    pool: Source | None
    """The pool that the corpus may have been taken from."""
    refusals: Share | None
    """Share of the English answers that begin with a refusal; null if no answer is in English."""
    languages: dict[str, Count]
    """Name -> rows."""
    licences: dict[str, Count]
    """Name -> rows."""
    control_tokens: dict[str, Count] | Absent = None
    """Text of a chat template's token -> rows that spell it; audits of earlier versions lack it."""
    overlap: dict[str, Overlap]
    """Overlap with each probe set."""
    similarity: dict[str, Similarity]
    """Similarity to each task."""
    exposure: Many[str]
    """Tasks that the corpus is exposed to, the most exposed first."""
    near_probes: Many[NearProbe] | None
    """Prompts that resemble a probe; null without an embedder of prompts, like the next three keys."""
    coverage: dict[str, Coverage] | None
    """Coverage of each category of hazard, the largest first."""
    unassigned: Share | None
    """Share of rows without a category."""
    redundancy: Redundancy | None
    """How diverse the rows are; null without an embedder."""
    assigned: Assigned | None = None
    not_made: Many[str]
    """What was not examined, because it needs an embedder."""
    measured: Measured | None
    """What training on the corpus showed; null if nothing was trained."""
    settings: Settings
    findings: Many[Finding]
    """Findings, the most severe first."""
