"""What a recipe says of what a set may hold: quotas of groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from curator.recipe.source import Section

Whole = Annotated[int, Field(ge=0)]


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
