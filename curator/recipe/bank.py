"""Section of a recipe for a bank: many kinds of sets of rows that are tried to learn what makes alignment last."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from curator.recipe.source import Count, Name, Section

GROUPINGS = ("category", "opener", "answer-length", "cluster", "format", "source")
"""Groupings of candidates; `experiment.features` labels them."""
UNITS = {"s": 1, "min": 60, "h": 3600}
"""Seconds of each unit of a budget."""
LEAST = 8
"""Fewest mixtures for a budget; fewer cannot be analysed."""

# The names are spelled once: the allowed values of a grouping are those of the tuple.
if TYPE_CHECKING:
    Grouping = str
else:
    Grouping = Literal[GROUPINGS]


class Bank(Section):
    """How `select.by: bank` learns what to choose: many sets are drawn, aligned on, fine-tuned and judged. The sets
    that are likely to last are confirmed against as many random ones.
    """

    mixtures: Count = 60
    """Number of sets whose groups have random shares. With a `budget`, the most that are drawn."""
    groupings: Annotated[list[Grouping], Field(min_length=1)] = Field(default_factory=lambda: list(GROUPINGS))
    """What rows are grouped by; each set uses one of them."""
    concentrations: Annotated[list[Annotated[float, Field(gt=0.0)]], Field(min_length=1)] = Field(
        default_factory=lambda: [0.3, 1.0, 5.0]
    )
    """Concentrations of the Dirichlet distribution that shares are drawn from, in turn. Below 1 few groups hold most of
    a set, and above 1 all hold about as much.
    """
    draws: Annotated[int, Field(ge=0)] = 12
    """Random sets that are tried beside the mixtures."""
    seeds: Count = 1
    """Seeds of each set."""
    tasks: Literal["all"] | Annotated[list[Name], Field(min_length=1)] = "all"
    """The anticipated tasks to fine-tune on, or `all`."""
    candidates: Annotated[int, Field(ge=2)] = 6
    """Sets that go into the confirmation."""
    budget: str | None = None
    """Time for mixtures, draws and confirmation together, in s, min or h. As many mixtures are drawn as are expected to
    fit, and at least eight.
    """

    @model_validator(mode="after")
    def _agree(self) -> Bank:
        self.refuse_repeated("groupings", "concentrations", "tasks")
        if self.budget is not None:
            seconds_of(self.budget)
        return self

    @property
    def seconds(self) -> float | None:
        """The budget; null without one."""
        return None if self.budget is None else seconds_of(self.budget)

    def mix(self, weights: Mapping[str, float]) -> dict[str, float]:
        """The tasks that the bank runs on and their mass, with sum 1.

        Args:
            weights: Task mass by name, 0 for tasks that are not anticipated.
        """
        ran = {name: mass for name, mass in weights.items() if mass > 0 and (self.tasks == "all" or name in self.tasks)}
        total = sum(ran.values())
        return {name: mass / total for name, mass in ran.items()}


def seconds_of(budget: str) -> float:
    """A time such as `20 min`, `1.5 h` or `90 s`, in seconds.

    Raises:
        ValueError: It has another form, or is 0.
    """
    match = re.fullmatch(rf"(\d+(?:\.\d+)?) ?({'|'.join(UNITS)})", budget)
    if match is None or float(match[1]) == 0:
        raise ValueError(f"budget: found {budget!r}; allowed: a time above 0 in s, min or h, for example 20 min")
    return float(match[1]) * UNITS[match[2]]


def affordable(seconds: float, *, mixture: float, beside: float, most: int) -> int:
    """The number of mixtures that fit into a budget: the time left after everything else, divided by the time of a
    mixture; at most `most`, and at least LEAST if `most` allows it.

    Args:
        seconds: The budget.
        mixture: Seconds of a mixture, above 0.
        beside: Seconds of the draws and the confirmation.
    """
    return min(most, max(LEAST, int((seconds - beside) / mixture)))
