"""Section of a recipe for rows that are trained on more than once: weights by group instead of filters."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from pydantic import Field, model_validator

from curator.recipe.limits import Grouping
from curator.recipe.source import Count, Section
from curator.wording import these


class Repeats(Section):
    """How often a chosen row is trained on in every pass over the curated set, by its group. Rows of other groups, and
    rows without a label, are trained on once. The choice of rows does not depend on it. `verify.exposure` counts
    repeated rows as often as they are trained on.
    """

    by: Grouping = "category"
    """What rows are grouped by."""
    max: Count = 3
    """Largest number that `groups` may hold."""
    groups: dict[str, Count] = Field(default_factory=dict)
    """How often the rows of a group are trained on."""

    @model_validator(mode="after")
    def _agree(self) -> Repeats:
        if all(times == 1 for times in self.groups.values()):
            raise ValueError(
                "groups repeats no group, so repeats has no effect; name one, for example "
                f"{{{next(iter(self.groups), 'NAME')}: 2}}, or remove repeats"
            )
        for name, times in self.groups.items():
            if times > self.max:
                raise ValueError(
                    f"groups: {name!r} is repeated {these(times, 'time', 'times')}, and max is {self.max}; lower it, "
                    "or raise max"
                )
        return self

    def require_passes(self, stage: str) -> None:
        """Refuses `verify.stage: rehearsal`, which has no passes over the curated set.

        Raises:
            ValueError: The stage is rehearsal.
        """
        if stage == "rehearsal":
            raise ValueError(
                "select: repeats says how often a pass over the curated set trains on a row, and verify.stage "
                "rehearsal makes no such pass, because it mixes the first rows of the set into fine-tuning; remove "
                "repeats, or set verify.stage to upstream"
            )

    def unknown(self, labels: Collection[str]) -> list[tuple[str, str]]:
        """Each group without rows in the pool, and a sentence about it.

        Args:
            labels: The labels of the pool's rows.
        """
        problems = []
        for name in sorted(set(self.groups) - set(labels)):
            near = get_close_matches(name, labels, 1)
            listed = ", ".join(sorted(labels)[:20]) + (f" and {len(labels) - 20:,} more" if len(labels) > 20 else "")
            hint = f"; did you mean {near[0]!r}?" if near else "."
            problems.append((name, f"no row of the pool has {self.by} {name!r}{hint} Found: {listed or 'none'}"))
        return problems
