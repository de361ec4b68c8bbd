"""Section of a recipe for the candidates: their sources, cleaning, and categories of hazard."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from curator.recipe.package import MINILM
from curator.recipe.source import Count, Name, Section, Share, Source, labels


class Embedder(Section):
    """The sentence embedder of cleaning and categories."""

    id: Annotated[str, Field(min_length=1)] = MINILM
    """A model on the Hub, a folder, or `package:NAME/PATH`."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""


class NearDuplicates(Section):
    """When two rows are near duplicates: their word shingles have a Jaccard similarity of at least `jaccard`, and the
    words of their prompts, and of their answers, one of at least half of it. A bare number is the `jaccard`.
    """

    jaccard: Annotated[float, Field(ge=0.5, le=1.0)] = 0.8
    """Smallest Jaccard similarity of two near duplicates."""
    shingle: Annotated[int, Field(ge=1, le=20)] = 2
    """Words in one shingle."""
    permutations: Annotated[int, Field(ge=32, le=1024)] = 128
    """MinHash permutations that find the pairs."""


class Decontaminate(Section):
    """When a row contains a probe. A bare number is the `overlap`."""

    overlap: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """Smallest share of the probe's words that lie in runs of `ngram` words that both texts contain."""
    ngram: Annotated[int, Field(ge=1, le=20)] = 3
    """Words in one run."""
    shortest: Count = 5
    """Probes of fewer words count only where a whole turn equals them."""
    neighbours: Share | None = None
    """List the rows whose prompt has at least this cosine to a probe, by the pool's embedder, in
    `1-pool/near-probes.parquet`. They are not dropped. Null lists none.
    """


class Clean(Section):
    """What is removed from the pool. Exact duplicates always are."""

    max_tokens: Count = 1024
    """Drop longer rows, in tokens of the target model with its chat template."""
    near_duplicates: NearDuplicates | None = NearDuplicates()
    """Drop near duplicates; null keeps them."""
    semantic_duplicates: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Drop rows whose embeddings have at least this cosine; null keeps them. Rows that the embedder reads only in part
    are not compared.
    """
    decontaminate: Decontaminate | None = Decontaminate()
    """Drop rows that contain a probe, from tasks, keep rows and arms of your own too; null drops equal prompts only."""


UNSURE = 0.05
"""Least lead in cosine of a category over the next one for a confident assignment, since a hazard can be worded in many
ways."""


class Categorise(Section):
    """Rows without a category get that of the nearest description in the hazard taxonomy, by the pool's embedder. A
    bare number is the `least`.
    """

    least: Share = 0.2
    """Smallest cosine to the description; rows below it get no category."""


class Findings(Section):
    """Thresholds from which a finding about a corpus is reported. Shares are of its rows, cosines by the pool's
    embedder.
    """

    canned: Share = 0.1
    """Share of rows with one identical answer that is reported."""
    canned_error: Share = 0.5
    """Share of rows with one identical answer that is an error."""
    opener: Share = 0.2
    """Share of rows whose answers begin with the same three words that an audit reports."""
    refusals: Share = 0.05
    """Share of refusals below which there are too few."""
    effective: Annotated[float, Field(ge=0.0)] = 5.0
    """Effective number of rows below which the corpus is redundant."""
    fewest: Count = 20
    """Corpora of fewer rows are not examined for the findings above."""
    semantic: Share = 0.95
    """Cosine of semantic duplicates, where `pool.clean` does not state one."""
    near_probe: Share = 0.8
    """Cosine of a prompt to a near probe, where `pool.clean` does not state one."""
    everyday: Share = 0.05
    """How much nearer a prompt must be to an everyday subject than to any hazard to be called harmless."""
    few: Share = 0.01
    """Share of copies and duplicates that is a warning."""
    some: Share = 0.05
    """Share of rows in other languages that is a warning."""
    many: Share = 0.1
    """Share of harmless prompts that is a warning."""


PHRASES = "phrases"
"""The default judge of refusals: English phrases at the start of an answer."""


class Refusals(Section):
    """What says which answers of the pool are refusals: a `judge` of the panel, by name, that is deterministic and runs
    on this machine (`refusal`, `sandbox` or `embedding`), or an `embedding`, a folder that `curator judge fit` wrote.
    `phrases` are English phrases at the start of an answer. A bare name is the `judge`.
    """

    judge: Name | None = None
    """A judge of the panel, by name, or `phrases`."""
    embedding: Annotated[str, Field(min_length=1)] | None = None
    """A folder that `curator judge fit` wrote."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Refusals:
        if (self.judge is None) == (self.embedding is None):
            raise ValueError("needs exactly one of judge and embedding")
        return self


class PoolSection(Section):
    """Candidate safety examples: harmful requests with safe answers."""

    sources: Annotated[list[Source], Field(min_length=1)]
    """Where the candidates come from."""
    clean: Clean = Clean()
    """What is removed."""
    embedder: Embedder = Embedder()
    """The embedder of cleaning and categories."""
    categorise: Categorise | None = None
    """Fill in categories of rows that have none; null leaves those that the data has."""
    refusals: Refusals = Refusals(judge=PHRASES)
    """What says which answers are refusals, by which rows are matched, limited and compared."""
    findings: Findings = Findings()
    """Thresholds from which a finding about the pool is reported."""

    @model_validator(mode="after")
    def _weights(self) -> PoolSection:
        if not any(source.weight > 0 for source in self.sources):
            raise ValueError("sources: every weight is 0; at least one must be positive")
        return self

    @property
    def embeds(self) -> bool:
        """Whether cleaning or categories need the embedder."""
        clean = self.clean
        near = clean.decontaminate is not None and clean.decontaminate.neighbours is not None
        return clean.semantic_duplicates is not None or self.categorise is not None or near

    def weights(self) -> dict[str, float]:
        """Label of each source -> how much each of its rows counts in coverage."""
        return dict(zip(labels(self.sources), (source.weight for source in self.sources), strict=True))
