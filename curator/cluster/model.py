"""cluster.json: ids, figures and terms of the clusters of a task, no row's text; terms are words of the task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from curator.corpus.model import Source
from curator.report.part import Count, Many, Number, Part, Share

VERSION: Literal[1] = 1
Positive = Annotated[int, Field(ge=1)]


class Settings(Part):
    """What decides the result."""

    clusters: Positive
    seed: int
    restarts: Positive
    iterations: Positive
    stability: Positive
    """Seeds whose clusterings are compared."""
    of: int | None
    """The cluster asked for; null: the most list-like of enough rows."""
    sample: Positive
    """Rows that a task file made from it has."""
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
    """Its position by list-likeness."""
    size: Count
    """Rows."""
    lists: Share
    """Of the rows, those whose answer is a list."""
    similarity: Number
    """Mean cosine of all pairs of its rows; null for a row alone."""
    similarity_rank: Positive
    """Its position by that."""
    terms: Many[str]
    """Words that set its rows apart, the strongest first."""
    nearest: Many[str]
    """Ids of the rows nearest the centre."""
    anchored: AnchoredShare | None
    """Null without anchors."""
    rows: Many[str]
    """Ids, the nearest to the centre first."""


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
    """In how many other clusterings the chosen cluster is found again."""

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
    """A row with its likeness to the anchors."""

    id: str
    score: float


class Anchors(Part):
    """Rows most and least like given anchors."""

    harmful: Count
    safe: Count
    nearest: Positive
    """Of each, how many count."""
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
    """Of this format."""
    tasks: dict[str, Source]
    rows: Count
    embedder: str
    settings: Settings
    inertia: float
    rounds: Count
    settled: bool
    """Whether k-means had come to rest."""
    clusters: Many[Cluster]
    """The most list-like first."""
    chosen: Chosen
    stability: Stability | None
    """Null where one seed was asked for."""
    anchors: Anchors | None
    sample: SampledRows | None
