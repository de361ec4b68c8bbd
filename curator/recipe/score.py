"""What a recipe says of scores: how much a candidate resembles a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from curator.recipe.source import Count, Section


@dataclass(frozen=True)
class Aggregate:
    """How the cosines of a pool row to the rows of a task become one score; `curator.score.cosine` computes it.

    Attributes:
        size: The number that it takes: `n` (the recipe's `score.n`, at most the rows of a task), `k` (the rows that are
            to be chosen, at most those of the pool), or null for none.
        high: The largest score; the smallest is -1.
        tied: Whether many rows score alike, so that arms order equal ones by their mean cosine before their id.
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

# The names are spelled once: the values that a recipe's key may have are the keys of the dict.
if TYPE_CHECKING:
    AggregateName = str
else:
    AggregateName = Literal[tuple(AGGREGATES)]


class Score(Section):
    """How much a candidate resembles a task; larger is more similar.

    `cosine`: cosines over the task's rows, aggregated (`n` is for top-mean). `interference`: how much a small step on
    the task raises the loss of the candidate's safe answer; the step is `step` (the gradient, or its sign) of length
    `size` (relative to the weights' own length), the loss is of the `whole` answer or its `first-token`. `rank-sum`:
    the mean rank by each of the scores in `of`. `consensus`: the mean rank by the cosine of every representation of the
    recipe (models, layers, embedders), aggregated alike.
    """

    kind: Literal["cosine", "interference", "rank-sum", "consensus"] = Field("cosine", alias="from")
    aggregate: AggregateName = "top-mean"
    n: Count = 10
    step: Literal["sign", "gradient"] = "sign"
    size: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-3
    loss: Literal["first-token", "whole"] = "first-token"
    rows: Count = 64
    of: list[Score] = Field(default_factory=list)

    @model_validator(mode="after")
    def _parts(self) -> Score:
        if (self.kind == "rank-sum") != bool(self.of):
            raise ValueError("of: goes with from: rank-sum, which needs at least two scores in it")
        if self.kind == "rank-sum" and (len(self.of) < 2 or any(part.kind == "rank-sum" for part in self.of)):
            raise ValueError("of: needs at least two scores, none of them a rank-sum")
        if self.kind not in ("cosine", "consensus"):
            self.refuse_unread("aggregate", "n", reason=f"is of cosine and consensus, and this score is {self.kind}")
        elif AGGREGATES[self.aggregate].size != "n":
            self.refuse_unread("n", reason=f"is of aggregate: top-mean, and the aggregate is {self.aggregate}")
        if self.kind != "interference":
            names = ("step", "size", "loss", "rows")
            self.refuse_unread(*names, reason=f"is of interference, and this score is {self.kind}")
        return self


def parts_of(score: Score) -> Sequence[Score]:
    """The scores of a rank sum, or the score alone."""
    return score.of or (score,)
