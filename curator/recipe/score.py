"""Section of a recipe for scores, such as the similarity of a candidate to a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from curator.recipe.pool import Embedder
from curator.recipe.source import Count, Part, Section, require_all


@dataclass(frozen=True)
class Aggregate:
    """How the cosines of a pool row to the rows of a task become one score; `curator.score.cosine` computes it.

    Attributes:
        size: The number that it takes: `n` (the recipe's `score.n`, at most the rows of a task), `k` (the rows to
            choose, at most those of the pool), or null for none.
        high: The largest score; the smallest is -1.
        tied: Whether many rows have equal scores, so that arms order these by mean cosine before id.
    """

    size: Literal["n", "k"] | None = None
    high: float = 1.0
    tied: bool = False


AGGREGATES = {
    "max": Aggregate(),
    "mean": Aggregate(),
    "top-mean": Aggregate(size="n"),
    "per-example": Aggregate(size="k", high=0.0, tied=True),
}


@dataclass(frozen=True)
class Kind:
    """A way to score rows; `SCORERS` of `curator.score.stage` computes it.

    Attributes:
        reads: The settings that it takes; others are refused.
        of_vectors: Whether each representation of the recipe gives a different score.
        models: The models that it uses: the recipe's `base`; models `aligned` on random halves of the pool; or these
            also `fine-tuned` on the anticipated tasks. Null for a score without models.
        defaults: Settings whose default for this kind differs from that of `Score`.
    """

    reads: tuple[str, ...]
    of_vectors: bool = False
    models: Literal["base", "aligned", "fine-tuned"] | None = None
    defaults: Mapping[str, object] = field(default_factory=dict)

    @property
    def aligns(self) -> bool:
        """Whether models are trained for it."""
        return self.models in ("aligned", "fine-tuned")


_FIRST_TOKENS: dict[str, object] = {"loss": "first-16"}
_AS_SELECTED: dict[str, object] = {"rows": None}

KINDS = {
    "cosine": Kind(("aggregate", "n", "by"), of_vectors=True),
    "interference": Kind(("step", "size", "loss", "rows")),
    "rank-sum": Kind(("of",), of_vectors=True),
    "consensus": Kind(("aggregate", "n")),
    "format": Kind(("aggregate", "n")),
    "content": Kind(("aggregate", "n", "embedder")),
    "own-distribution": Kind(("loss",), models="base", defaults=_FIRST_TOKENS),
    "depth": Kind(("rows", "seeds"), models="aligned", defaults=_AS_SELECTED),
    "forgetting": Kind(("loss", "rows", "seeds"), models="fine-tuned", defaults=_FIRST_TOKENS | _AS_SELECTED),
    "geometry": Kind(("rows", "seeds"), models="fine-tuned", defaults=_AS_SELECTED),
    "metagradient": Kind((), models="base"),
}

# The names are spelled once: the allowed values of a recipe's keys are those of the dicts.
if TYPE_CHECKING:
    AggregateName = str
    KindName = str
else:
    AggregateName = Literal[tuple(AGGREGATES)]
    KindName = Literal[tuple(KINDS)]


class Score(Section):
    """How similar a candidate is to a task, or what a model says about it. Larger is more.

    | `from` | what it is |
    | --- | --- |
    | `cosine` | cosines to the task's rows in a representation |
    | `interference` | how much a small step on the task raises the loss of the candidate's safe answer |
    | `rank-sum` | the mean rank over several scores |
    | `consensus` | the mean rank over the cosines of every representation |
    | `format` | cosine of features of how prompt and answer look |
    | `content` | cosine of embedded prompts without their format words |
    | `own-distribution` | how likely the answer is under the base model |
    | `depth` | how much of what alignment changes in the answer lies beyond its fifth token |
    | `forgetting` | how much fine-tuning on the anticipated tasks raises the loss of the answer |
    | `geometry` | whether the row moves weights as alignment does, and not as the tasks do |
    | `metagradient` | how much harm after fine-tuning rises when the row counts more in alignment |

    `depth`, `forgetting` and `geometry` align models on random halves of the pool and score the other half, so that no
    row is scored by a model that was aligned on it. `curator.score.models` states the formulas.
    """

    kind: KindName = Field("cosine", alias="from")
    """The kind of score; see above."""
    aggregate: AggregateName = "top-mean"
    """How the cosines to the rows of a task become one number. `top-mean` is the mean of the `n` largest."""
    n: Count = 10
    """Number of task rows in `top-mean`."""
    by: str | None = None
    """Name of the representation that `cosine` reads; null takes the one that coverage is computed in."""
    embedder: Embedder | None = None
    """Embedder of `content`; null takes the pool's."""
    step: Literal["sign", "gradient"] = "sign"
    """The step of `interference`: the gradient, or its sign."""
    size: Part = 1e-3
    """Length of that step, relative to the length of the weights."""
    loss: Literal["first-token", "first-16", "whole"] = "first-token"
    """Which answer tokens the loss is of. `own-distribution` and `forgetting` have the default `first-16`, which
    `interference` does not allow.
    """
    rows: Count | None = 64
    """For `interference`, task rows in the step. For `depth`, `forgetting` and `geometry`, rows that a model is aligned
    on; their default is null, which takes as many as are selected.
    """
    seeds: Count = 1
    """How often models are aligned on the halves."""
    of: list[Score] = Field(default_factory=list)
    """The scores of a `rank-sum`, two or more."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: object) -> object:
        """Fills in the defaults that differ by kind."""
        kind = KINDS.get(str(data.get("from", data.get("kind")))) if isinstance(data, dict) else None
        return {**kind.defaults, **data} if kind is not None and isinstance(data, dict) else data

    @model_validator(mode="after")
    def _parts(self) -> Score:
        if (self.kind == "rank-sum") != bool(self.of):
            raise ValueError("of: only from: rank-sum has it, with at least two scores")
        if self.kind == "rank-sum" and (len(self.of) < 2 or any(part.kind == "rank-sum" for part in self.of)):
            raise ValueError("of: needs at least two scores, none of them a rank-sum")
        require_all(*(partial(self._read, name) for name in type(self).model_fields if name != "kind"))
        if AGGREGATES[self.aggregate].size != "n":
            self.refuse_unread("n", reason=f"only aggregate: top-mean reads it, and the aggregate is {self.aggregate}")
        if self.kind == "interference" and self.loss == "first-16":
            raise ValueError("loss: found first-16; allowed for interference: first-token, whole")
        if self.kind == "interference" and self.rows is None:
            raise ValueError("rows: found null; give the number of task rows that interference takes a step on")
        return self

    def _read(self, name: str) -> None:
        if name not in KINDS[self.kind].reads:
            *others, last = (kind for kind, settings in KINDS.items() if name in settings.reads)
            readers = f"{', '.join(others)} and {last}" if others else last
            self.refuse_unread(
                name, reason=f"only {readers} {'read' if others else 'reads'} it, and this score is {self.kind}"
            )


def needs_training(part: Score) -> bool:
    """Whether models are trained to compute a score."""
    return KINDS[part.kind].aligns or part.kind == "metagradient"


def parts_of(score: Score) -> Sequence[Score]:
    """The scores of a rank sum, or the score alone."""
    return score.of or (score,)


def name_of(section: Score) -> str:
    """The name of a score of models, e.g. `forgetting/first-16` or `depth/200-rows/2-seeds`."""
    reads, parts = KINDS[section.kind].reads, [section.kind]
    parts += [section.loss] if "loss" in reads else []
    parts += [f"{section.rows}-rows"] if "rows" in reads and section.rows is not None else []
    parts += [f"{section.seeds}-seeds"] if "seeds" in reads and section.seeds > 1 else []
    return "/".join(parts)


def decides(section: Score) -> Mapping[str, object]:
    """Everything that decides a score, for keys: all settings except later ones at their defaults.

    A setting that KINDS had from the beginning is always included, so that older run folders keep their keys.
    """
    always = {"kind", "aggregate", "n", "step", "size", "loss", "rows", "of"}
    return {
        **section.without_later(*type(section).model_fields.keys() - always),
        "of": [decides(part) for part in section.of],
    }
