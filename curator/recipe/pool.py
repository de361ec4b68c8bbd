"""What a recipe says of the candidates: where they come from, what leaves them, and how they are sorted by hazard."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from curator.recipe.source import Count, Section, Share, Source, labels

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


class Embedder(Section):
    """The sentence embedder that cleaning and categories use: a model on the Hub, or a local folder."""

    id: Annotated[str, Field(min_length=1)] = MINILM
    revision: str | None = None


class NearDuplicates(Section):
    """When two rows are one: the Jaccard similarity of their shingles (`shingle` words in a row) is `jaccard` or more,
    and that of the words of their prompts, and of their answers, half of it or more. `permutations` of MinHash find the
    pairs. A bare number is the `jaccard`.
    """

    jaccard: Annotated[float, Field(ge=0.5, le=1.0)] = 0.8
    shingle: Annotated[int, Field(ge=1, le=20)] = 2
    permutations: Annotated[int, Field(ge=32, le=1024)] = 128


class Decontaminate(Section):
    """When a row contains a probe: runs of `ngram` words that both have hold a share `overlap` or more of its words.

    Probes of fewer than `shortest` words count only where a whole turn is equal to them. `neighbours` lists, without
    dropping any, the rows whose prompt has at least this cosine to a probe, by the pool's embedder; null lists none.
    A bare number is the `overlap`.
    """

    overlap: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    ngram: Annotated[int, Field(ge=1, le=20)] = 3
    shortest: Count = 5
    neighbours: Share | None = None


class Clean(Section):
    """What leaves the pool: rows of more than `max_tokens` templated tokens of the target model, exact duplicates, near
    and semantic duplicates (`semantic_duplicates` is a cosine, null for none), and what contains a probe
    (`decontaminate` holds for tasks, keep rows and arms of the user's too; null leaves equal prompts only).
    """

    max_tokens: Count = 1024
    near_duplicates: NearDuplicates | None = NearDuplicates()
    semantic_duplicates: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    decontaminate: Decontaminate | None = Decontaminate()

    @field_validator("near_duplicates", "decontaminate", mode="before")
    @classmethod
    def _bare_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Reads `near_duplicates: 0.8` as `{jaccard: 0.8}`, and `decontaminate: 0.8` as `{overlap: 0.8}`."""
        name = "jaccard" if info.field_name == "near_duplicates" else "overlap"
        return {name: float(value)} if _is_number(value) else value


class Categorise(Section):
    """Rows without a category get that of the nearest description in our hazard taxonomy, by the pool's embedder, where
    the cosine is `least` or more; else none.
    """

    least: Share = 0.2


class Findings(Section):
    """From when something about a corpus is reported; shares are of its rows, cosines by the pool's embedder.

    `canned`: the share that has one answer, word for word, and `canned_error`: from which that is an error. `refusals`:
    the share of refusals below which there are too few. `effective`: the effective number of rows below which it is
    redundant. `fewest`: rows below which none of these is looked at. `semantic`: the cosine of semantic duplicates, and
    `near_probe` that of a prompt near a probe, where `clean` names none. `everyday`: by how much a prompt must lie
    nearer an everyday subject than any hazard to be called not harmful. `few`, `some`, `many`: shares from which copies
    and duplicates, rows in other languages, and prompts that are not harmful are a warning.
    """

    canned: Share = 0.1
    canned_error: Share = 0.5
    refusals: Share = 0.05
    effective: Annotated[float, Field(ge=0.0)] = 5.0
    fewest: Count = 20
    semantic: Share = 0.95
    near_probe: Share = 0.8
    everyday: Share = 0.05
    few: Share = 0.01
    some: Share = 0.05
    many: Share = 0.1


class PoolSection(Section):
    """Candidate safety examples: where they come from, what leaves them, and whether `categorise` fills in categories
    (null: only those that the data has); `findings` says from when something about them is reported.
    """

    sources: Annotated[list[Source], Field(min_length=1)]
    clean: Clean = Clean()
    embedder: Embedder = Embedder()
    categorise: Categorise | None = None
    findings: Findings = Findings()

    @model_validator(mode="after")
    def _weights(self) -> PoolSection:
        if not any(source.weight > 0 for source in self.sources):
            raise ValueError("sources: all have weight 0; at least one must be positive")
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

    @field_validator("categorise", mode="before")
    @classmethod
    def _bare_least(cls, value: Any) -> Any:
        """Reads `categorise: 0.2` as `categorise: {least: 0.2}`."""
        return {"least": float(value)} if _is_number(value) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
