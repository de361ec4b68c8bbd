"""What a recipe says of vectors, similarity and the choice of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from curator.recipe.source import Count, Section, Source

if TYPE_CHECKING:
    import polars as pl

Whole = Annotated[int, Field(ge=0)]


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


@dataclass(frozen=True)
class Parameter:
    """A number that an objective takes: finite, and at least 0.

    Attributes:
        default: Its value where the recipe gives none.
        positive: Whether 0 is refused too.
        monotone_to: The largest value at which the objective is monotone when all rows weigh the same; above it, no
            certificate is valid.
    """

    default: float
    positive: bool = False
    monotone_to: float = math.inf

    def allows(self, value: object) -> bool:
        """Whether a value is a number in the range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (value > 0 if self.positive else value >= 0) and value < math.inf


@dataclass(frozen=True)
class Objective:
    """A coverage term; `curator.selection.objectives` computes it.

    Attributes:
        parameters: Name -> what it may be.
        task_cover: Whether it needs the largest cosine of every pool row to a task row.
        row_weights: Whether rows can count differently.
        neighbours: Whether it is computed on the graph of nearest rows, and not on the vectors themselves.
    """

    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    task_cover: bool = False
    row_weights: bool = True
    neighbours: bool = True


OBJECTIVES = {
    "facility-location": Objective(),
    "conditional-gain": Objective({"nu": Parameter(1.0)}, task_cover=True),
    "log-det": Objective({"alpha": Parameter(1.0, positive=True)}, row_weights=False, neighbours=False),
    "graph-cut": Objective({"theta": Parameter(0.5, monotone_to=0.5)}),
}


def parameters_of(objective: str, given: Mapping[str, Any]) -> dict[str, float]:
    """All parameters of an objective by name: the given ones, and the defaults of the others.

    Raises:
        ValueError: One of them is not a parameter of this objective, or not in its range.
    """
    known = OBJECTIVES[objective].parameters
    for name, value in given.items():
        if name not in known:
            raise ValueError(
                f"parameters: {name!r} is not known to objective {objective!r}; it takes {', '.join(known) or 'none'}"
            )
        if not known[name].allows(value):
            sign = ">" if known[name].positive else ">="
            raise ValueError(f"parameters[{name!r}]: found {value!r}; it must be a finite number {sign} 0")
    return {name: float(given.get(name, parameter.default)) for name, parameter in known.items()}


# The names above are spelled once: the values that a recipe's key may have are the keys of the dict.
if TYPE_CHECKING:
    AggregateName = str
    ObjectiveName = str
else:
    AggregateName = Literal[tuple(AGGREGATES)]
    ObjectiveName = Literal[tuple(OBJECTIVES)]


class Represent(Section):
    """What turns a row into a vector.

    From `hidden-states` of a causal model at `layer` (-1 is the last, after the final norm; 0 the embeddings) and
    `token`; from its `gradients`, `of` the start of LoRA of `rank` or `of` the head, projected to `dimensions` numbers
    by signs drawn from `seed`; or from a sentence embedder `id`. The causal model is the recipe's, or another `id` with
    `chat_template` (null: its tokenizer's own). `centre` subtracts the pool's mean before unit length.

    Rows of more than `max_tokens` lose their beginning (with an embedder their end). A batch has at most `batch_tokens`
    tokens, padding counted; on a CPU 1,024, beyond which it gets slower. It decides speed, memory and last bits only.
    """

    kind: Literal["hidden-states", "sentence-transformers", "gradients"] = Field("hidden-states", alias="from")
    id: str | None = None
    revision: str | None = None
    chat_template: str | None = None
    layer: int = -1
    token: Literal["last-completion", "eos", "mean-completion", "end-of-prompt"] = "last-completion"
    centre: bool = True
    max_tokens: Count = 1024
    batch_tokens: Count = 8192
    of: Literal["lora", "head"] = "lora"
    rank: Count = 8
    dimensions: Count = 4096
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _embedder(self) -> Represent:
        if self.kind == "sentence-transformers" and self.id is None:
            raise ValueError("from: sentence-transformers needs id, a model on the Hub or a local folder")
        if self.chat_template is not None and (self.kind == "sentence-transformers" or self.id is None):
            raise ValueError(
                "chat_template goes with the id of another causal model; remove it (an embedder reads the text "
                "alone, and the recipe's own model has model.chat_template)"
            )
        if self.id is None:
            self.refuse_unread("revision", reason="is of id, another model than the recipe's")
        if self.kind != "hidden-states":
            self.refuse_unread("layer", "token", reason=f"is of hidden-states, and these vectors are from {self.kind}")
        if self.kind != "gradients":
            names = ("of", "rank", "dimensions", "seed")
            self.refuse_unread(*names, reason=f"is of gradients, and these vectors are from {self.kind}")
        elif self.of == "head":
            self.refuse_unread("rank", reason="is of gradients of lora, and these are of the head")
        return self


def _how_many(value: Any) -> str:
    return "@list" if isinstance(value, list | tuple) else "@one"


Representations = Annotated[
    Annotated[Represent, Tag("@one")] | Annotated[Annotated[list[Represent], Field(min_length=1)], Tag("@list")],
    Discriminator(_how_many),
]


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


class Quota(Section):
    """The least and the most rows of one group; null for no limit."""

    min: Whole | None = None
    max: Whole | None = None

    @model_validator(mode="after")
    def _order(self) -> Quota:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max}); lower it")
        return self


class Quotas(Quota):
    """Limits on each group of rows that share the same `by`; rows without one are in no group.

    `min` and `max` hold for every group, `groups` for single ones by name, in their place.
    """

    by: Literal["category", "source", "licence"] = "category"
    groups: dict[str, Quota] = Field(default_factory=dict)

    def unmet(self, rows: Mapping[str | None, int], k: int | None) -> list[tuple[str | None, str]]:
        """Why no set of `k` rows (null: of any size) meets the quotas: the group in `groups` that a sentence is about,
        or null, and the sentence.

        Args:
            rows: Label of a group (null: in no group) -> how many of its rows may be chosen.
        """
        labels = sorted(label for label in rows if label is not None)
        limits = {label: self.groups.get(label, self) for label in labels}
        problems: list[tuple[str | None, str]] = [
            (label, f"no row of the pool has {self.by} {label!r}; there are {', '.join(labels) or 'none'}")
            for label in sorted(set(self.groups) - set(labels))
        ]
        for label, limit in limits.items():
            if (limit.min or 0) > rows[label]:
                problems.append(
                    (
                        label if label in self.groups else None,
                        f"min is {limit.min:,} for {self.by} {label!r}, and {rows[label]:,} of its rows may be chosen; "
                        "lower min",
                    )
                )
        least = sum(limit.min or 0 for limit in limits.values())
        most = rows.get(None, 0) + sum(
            rows[label] if limit.max is None else min(limit.max, rows[label]) for label, limit in limits.items()
        )
        if k is not None and least > k:
            problems.append((None, f"the minima of {len(limits):,} groups need {least:,} rows, more than k ({k:,})"))
        if k is not None and most < k <= sum(rows.values()):
            problems.append((None, f"the maxima leave {most:,} rows, fewer than k ({k:,}); raise max, or lower k"))
        return problems


def _weight_kind(value: Any) -> str:
    return "@auto" if value == "auto" else "@number"


Weight = Annotated[
    Annotated[float, Tag("@number")] | Annotated[Literal["auto"], Tag("@auto")], Discriminator(_weight_kind)
]


class Select(Section):
    """How many rows, and what is optimised; `weight` is lambda of the objective, of either sign, or `auto`.

    Exactly one of `k` (rows), `budget_tokens` (the most tokens of the target model that the set may hold) and `data`
    (a set that is given and not chosen: it is scored, measured against the objective and verified as it is).
    `parameters` are the objective's own; `include` and `exclude` are row ids that must and may not be in; `stochastic`
    is for very large k: epsilon of stochastic greedy, in (0, 1).
    """

    k: Count | None = None
    budget_tokens: Count | None = None
    data: Source | None = None
    objective: ObjectiveName = "facility-location"
    parameters: dict[str, Annotated[float, Field(ge=0.0)]] = Field(default_factory=dict)
    weight: Weight = 0.5
    neighbours: Count = 64
    quotas: Quotas | None = None
    include: list[str] = Field(default_factory=list)
    exclude: list[str] = Field(default_factory=list)
    stochastic: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None

    @model_validator(mode="after")
    def _agree(self) -> Select:
        sizes = [name for name in ("k", "budget_tokens", "data") if getattr(self, name) is not None]
        if len(sizes) != 1:
            raise ValueError(
                f"needs exactly one of k, budget_tokens, data; found {' and '.join(sizes) or 'none of them'}"
            )
        if self.data is not None:
            for name in ("quotas", "include", "exclude", "stochastic"):
                if getattr(self, name):
                    raise ValueError(f"{name} goes with rows that are chosen; remove it, or data, which gives them")
            if self.weight == "auto":
                raise ValueError("weight: auto chooses rows by a pilot, and data gives them; write a number")
        if self.stochastic is not None and self.k is None:
            raise ValueError("stochastic goes with k only; remove it, or give k instead of budget_tokens")
        parameters_of(self.objective, self.parameters)
        if not OBJECTIVES[self.objective].neighbours:
            self.refuse_unread("neighbours", reason=f"is not of objective: {self.objective}, which compares all rows")
        both = sorted(set(self.include) & set(self.exclude))
        if both:
            raise ValueError(f"include and exclude both name {both[0]!r}; a row can be in only one of them")
        return self


def rows_wanted(section: Select, tokens: pl.Series) -> int:
    """`k`, or about how many rows of this pool the budget pays for, at least 1."""
    if section.k is not None:
        return section.k
    assert section.budget_tokens is not None
    return max(1, min(len(tokens), int(section.budget_tokens / float(tokens.mean() or 1.0))))  # type: ignore[arg-type]


def label(section: Represent) -> str:
    """How a representation is called in tables."""
    if section.kind == "sentence-transformers":
        return f"{section.id}"
    name = f"gradients of {section.of}" if section.kind == "gradients" else f"layer {section.layer}, {section.token}"
    return name if section.id is None else f"{section.id}, {name}"


def names_of(representations: Sequence[Represent]) -> list[str]:
    """What each representation is called; those that would be called alike are numbered."""
    names = [label(section) for section in representations]
    return [
        name if names.count(name) == 1 else f"{name} ({names[:position].count(name) + 1})"
        for position, name in enumerate(names)
    ]
