"""Section of a recipe for the selection of rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from curator.recipe.limits import Answers, Quotas, Vulnerable, Within
from curator.recipe.repeats import Repeats
from curator.recipe.source import Count, Part, Section, Source

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Parameter:
    """A number that an objective takes: finite, and at least 0.

    Attributes:
        default: Its value if the recipe gives none.
        positive: Whether 0 is refused too.
        monotone_to: The largest value at which the objective is monotone with equal row weights; above it there is no
            certificate.
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
        parameters: Name -> the parameter's default and range.
        task_cover: Whether it needs the largest cosine of every pool row to a task row.
        row_weights: Whether it supports row weights.
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
        ValueError: One of them is not a parameter of this objective, or is out of range.
    """
    known = OBJECTIVES[objective].parameters
    for name, value in given.items():
        if name not in known:
            raise ValueError(
                f"parameters: objective {objective!r} has no parameter {name!r}; allowed: {', '.join(known) or 'none'}"
            )
        if not known[name].allows(value):
            sign = ">" if known[name].positive else ">="
            raise ValueError(f"parameters[{name!r}]: found {value!r}; it must be a finite number {sign} 0")
    return {name: float(given.get(name, parameter.default)) for name, parameter in known.items()}


# The names above are spelled once: the allowed values of the recipe's key are the keys of the dict.
if TYPE_CHECKING:
    ObjectiveName = str
else:
    ObjectiveName = Literal[tuple(OBJECTIVES)]


def _weight_kind(value: Any) -> str:
    return "@auto" if value == "auto" else "@number"


Weight = Annotated[
    Annotated[float, Tag("@number")] | Annotated[Literal["auto"], Tag("@auto")], Discriminator(_weight_kind)
]


DEFAULT_WEIGHT = 0.0
"""The weight where a recipe says none and no share of coverage is kept: coverage alone. A set that was given or chosen
by trials is measured at it."""
DEFAULT_COVERAGE = 0.9


def _monotone(data: Mapping[str, object]) -> bool:
    """Whether the objective is monotone, so that a share of coverage can be kept; true if settings are invalid."""
    objective, given = data.get("objective", "facility-location"), data.get("parameters") or {}
    known = OBJECTIVES[objective].parameters if isinstance(objective, str) and objective in OBJECTIVES else {}
    values = {name: given.get(name, each.default) for name, each in known.items()} if isinstance(given, dict) else {}
    return all(value <= known[name].monotone_to for name, value in values.items() if known[name].allows(value))


class Select(Section):
    """How many rows are chosen, and what is optimised. Give exactly one of `k`, `budget_tokens` and `data`, and at most
    one of `weight`, `coverage` and `by: bank`. Without any of these three rows are chosen by coverage alone: `coverage`
    is 0.9 and `prefer` is `none`, or `weight` is 0 where more rows can lower the objective. Sets of `data` and `by:
    bank` are measured at weight 0.
    """

    k: Count | None = None
    """Number of rows to choose."""
    budget_tokens: Count | None = None
    """Most tokens of the target model that the set may hold."""
    data: Source | None = None
    """A set that is given: it is scored, compared with the objective and verified, and nothing is chosen."""
    objective: ObjectiveName = "facility-location"
    """What coverage is."""
    parameters: dict[str, Annotated[float, Field(ge=0.0)]] = Field(default_factory=dict)
    """Parameters of the objective: `nu` of `conditional-gain`, `alpha` of `log-det`, `theta` of `graph-cut`."""
    weight: Weight | None = None
    """How strongly rows similar to the tasks are avoided. Negative prefers them, 0 is coverage alone, and `auto` lets a
    pilot choose. Give it in place of `coverage`.
    """
    coverage: Part | None = None
    """Share to keep of the coverage between that of a random set (0) and the most found (1). Of the sets that keep it,
    `prefer` chooses one. It is 0.9 where nothing else is said.
    """
    prefer: Literal["dissimilar", "similar", "none"] = "none"
    """With `coverage`: the least similar set, the most similar one, or the one that covers most."""
    by: Literal["bank"] | None = None
    """`bank` chooses rows by trials of many sets; see `verify.pilot.bank`."""
    cover_by: str | None = None
    """Name of the representation that coverage is computed in; null takes the first."""
    neighbours: Count = 64
    """Number of nearest rows that can cover a row."""
    quotas: Quotas | None = None
    """Limits on groups of rows."""
    within: Within | None = None
    """Compose the set as the pool is."""
    answers: Answers | None = None
    """Caps on repeated answers and openers; null for none. `{}` sets both at their defaults."""
    vulnerable: Vulnerable | None = None
    """Draw a share of the set from the rows that fine-tuning makes a model forget most; null for none."""
    repeats: Repeats | None = None
    """Train on some of the chosen rows more than once."""
    include: list[str] = Field(default_factory=list)
    """Ids of rows that must be chosen."""
    exclude: list[str] = Field(default_factory=list)
    """Ids of rows that must not be chosen. No control is drawn from them either, and `full` leaves them out; an arm of
    your own keeps them.
    """
    stochastic: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """For a very large `k`: epsilon of stochastic greedy."""

    @model_validator(mode="before")
    @classmethod
    def _unsaid(cls, data: object) -> object:
        """Fills in coverage, which depends on other settings."""
        if not isinstance(data, dict):
            return data
        if data.get("weight") is None and data.get("coverage") is None:
            chosen = data.get("data") is None and data.get("by") is None
            unsaid = {"coverage": DEFAULT_COVERAGE} if chosen and _monotone(data) else {"weight": DEFAULT_WEIGHT}
            data = {**data, **unsaid}
        return data

    @model_validator(mode="after")
    def _agree(self) -> Select:
        sizes = [name for name in ("k", "budget_tokens", "data") if getattr(self, name) is not None]
        if len(sizes) != 1:
            raise ValueError(
                f"needs exactly one of k, budget_tokens, data; found {' and '.join(sizes) or 'none of them'}"
            )
        if self.data is not None:
            for name in ("coverage", "quotas", "within", "answers", "vulnerable", "include", "exclude", "stochastic"):
                if getattr(self, name):
                    raise ValueError(f"{name} chooses rows, and data gives them; remove one of the two")
            if self.weight == "auto":
                raise ValueError("weight: auto chooses rows by a pilot, and data gives them; set weight to a number")
            if self.by is not None:
                raise ValueError("by: bank chooses rows by trials, and data gives them; remove one of the two")
        if self.by == "bank":
            unsaid = {"weight": (None, DEFAULT_WEIGHT), "coverage": (None,)}
            given = [name for name, values in unsaid.items() if getattr(self, name) not in values]
            if given:
                raise ValueError(f"{given[0]} has no effect: by: bank chooses the rows without it; remove it")
            if self.repeats is not None:
                raise ValueError(
                    "repeats trains on some groups more often, and by: bank learns the shares of groups from trials "
                    "without repeats; remove one of the two"
                )
        if self.coverage is None:
            self.refuse_unread("prefer", reason="only coverage reads it, and coverage is not set")
        elif self.weight is not None:
            raise ValueError(
                f"weight ({self.weight}) and coverage ({self.coverage:g}) are both given, and coverage finds the "
                "weight; remove one of the two"
            )
        if self.stochastic is not None and self.k is None:
            raise ValueError("stochastic is only valid with k; remove it, or give k instead of budget_tokens")
        if self.within is not None and self.k is None:
            raise ValueError("within is only valid with k; remove it, or give k instead of budget_tokens")
        if self.within is not None and self.quotas is not None:
            raise ValueError(
                "quotas and within both set how many rows of a group are chosen; remove one of the two (within.shares "
                "sets the shares of a group)"
            )
        self._vulnerable()
        parameters = parameters_of(self.objective, self.parameters)
        for name, parameter in OBJECTIVES[self.objective].parameters.items():
            if self.coverage is not None and parameters[name] > parameter.monotone_to:
                raise ValueError(
                    f"coverage: {self.objective} with {name} {parameters[name]:g} is not monotone, so adding rows can "
                    f"lower it; lower {name} to {parameter.monotone_to:g}, choose another objective, or give weight"
                )
        if not OBJECTIVES[self.objective].neighbours:
            self.refuse_unread("neighbours", reason=f"objective {self.objective} compares all rows")
        both = sorted(set(self.include) & set(self.exclude))
        if both:
            raise ValueError(f"include and exclude both name {both[0]!r}; remove it from one of them")
        return self

    def _vulnerable(self) -> None:
        if self.vulnerable is None:
            return
        if self.k is None:
            raise ValueError("vulnerable is only valid with k; remove it, or give k instead of budget_tokens")
        if self.quotas is not None and self.answers is not None and self.answers.shares:
            raise ValueError(
                "quotas, answers and vulnerable together limit groups that cross in three ways; remove one of them, "
                "or set the shares of a group with within.shares instead of quotas"
            )

    def refuse_uneven(self, weights: Collection[float]) -> None:
        """Checks that a share of coverage can be kept where the rows of sources have these weights.

        Raises:
            ValueError: It may not be: with rows of less weight, the objective is only monotone for smaller parameters.
                Whether it still is depends on which of the sources' rows are left in the pool, which is not known yet.
        """
        if self.coverage is None or not max(weights, default=0.0):
            return
        values, share = parameters_of(self.objective, self.parameters), min(weights) / max(weights)
        for name, parameter in OBJECTIVES[self.objective].parameters.items():
            most = parameter.monotone_to * share
            if values[name] > most * (1 + 1e-12):
                raise ValueError(
                    f"coverage: {self.objective} with {name} {values[name]:g} may not be monotone where sources "
                    f"have weights from {min(weights):g} to {max(weights):g}, so adding rows could lower it; lower "
                    f"{name} to "
                    f"{math.floor(1000 * most) / 1000:g}, remove the weights, choose another objective, or give weight"
                )

    @property
    def groupings(self) -> tuple[str, ...]:
        """The groupings of limits on groups: those of `quotas`, of `within`, else the category."""
        if self.within is not None:
            return tuple(self.within.by)
        return ("category" if self.quotas is None else self.quotas.by,)

    def may_compose(self, by: str) -> bool:
        """Whether the recipe may ask for the pool's shares by a grouping: `within` is allowed, and does not read the
        grouping yet.
        """
        return self.k is not None and self.quotas is None and (self.within is None or by not in self.within.by)

    @property
    def piloted(self) -> bool:
        """Whether rows are chosen by trial trainings, with separate probes."""
        return self.weight == "auto" or self.by == "bank"


MEASURES = ("objective", "parameters", "neighbours", "cover_by")
"""Settings that measure a given set; all other settings of `select` except `data` choose rows."""


def unchosen() -> dict[str, object]:
    """Every setting of `select` that chooses rows, at the value that disables it, for a recipe with `data`."""
    fields = {name: field for name, field in Select.model_fields.items() if name not in (*MEASURES, "data")}
    return {name: field.get_default(call_default_factory=True) for name, field in fields.items()} | {
        "weight": DEFAULT_WEIGHT
    }


def rows_wanted(section: Select, tokens: pl.Series) -> int:
    """`k`, or about the number of this pool's rows that fit into the budget, at least 1."""
    if section.k is not None:
        return section.k
    assert section.budget_tokens is not None
    return max(1, min(len(tokens), int(section.budget_tokens / float(tokens.mean() or 1.0))))  # type: ignore[arg-type]
