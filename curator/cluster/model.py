"""cluster.json: ids, figures and terms of the clusters of a task, no row's text; terms are words of the task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from curator.conclusions.part import Count, Many, Number, Part, Share
from curator.corpus.model import Source

VERSION: Literal[1] = 1
Positive = Annotated[int, Field(ge=1)]


class Settings(Part):
    """What decides the result."""

    clusters: Positive
    seed: int
    restarts: Positive
    iterations: Positive
    stability: Positive
    """Number of seeds whose clusterings are compared."""
    of: int | None
    """The cluster that was named; null for the one with the largest share of lists among those with enough rows."""
    sample: Positive
    """Rows of a task file made from the cluster."""
    terms: Count
    anchor_nearest: Positive
    anchor_rows: Positive


class AnchoredShare(Part):
    """Rows of a cluster among those that the anchors rank first."""

    rows: Count
    share: Share


class Cluster(Part):
    """Rows that k-means put together."""

    number: Positive
    """Its rank by the share of lists."""
    size: Count
    """Number of rows."""
    lists: Share
    """Share of the rows whose answer is a list."""
    similarity: Number
    """Mean cosine of all pairs of its rows; null for a single row."""
    similarity_rank: Positive
    """Its rank by similarity."""
    terms: Many[str]
    """Words that set its rows apart, the strongest first."""
    nearest: Many[str]
    """Ids of the rows nearest the centre."""
    anchored: AnchoredShare | None
    """Rows among those that the anchors rank first; null without anchors."""
    rows: Many[str]
    """Ids of all rows, the nearest to the centre first."""


class Chosen(Part):
    """The fragile cluster, or why there is none."""

    number: int | None
    reason: str | None


class Spread(Part):
    """Adjusted Rand index of every pair of clusterings, at most 1."""

    mean: float
    min: float
    max: float


class FoundAgain(Part):
    """How many other clusterings contain the chosen cluster."""

    found: Count
    of: Count
    jaccard: Many[Share]
    mean: Share


class Stability(Part):
    """Whether other seeds find the same clusters."""

    seeds: Count
    adjusted_rand: Spread
    chosen: FoundAgain | None


class ScoredRow(Part):
    """A row with its similarity to the anchors."""

    id: str
    score: float


class Anchors(Part):
    """Rows with the highest and lowest similarity to given anchors."""

    harmful: Count
    safe: Count
    nearest: Positive
    """How many of the nearest anchors count, for each kind."""
    top: Many[ScoredRow]
    bottom: Many[ScoredRow]


class SampledRows(Part):
    """Rows drawn from one cluster."""

    cluster: Positive
    pick: str
    rows: Many[str]


class Clusters(Part):
    """What was found in a task's rows."""

    version: Literal[1]
    """Version of this format."""
    tasks: dict[str, Source]
    rows: Count
    embedder: str
    settings: Settings
    inertia: float
    rounds: Count
    settled: bool
    """Whether k-means converged."""
    clusters: Many[Cluster]
    """Clusters, those with the largest share of lists first."""
    chosen: Chosen
    stability: Stability | None
    """Stability over seeds; null with one seed."""
    anchors: Anchors | None
    sample: SampledRows | None
