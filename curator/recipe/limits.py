"""Sections of a recipe that limit a set: quotas of groups, a composition like the pool's, and caps on rows that share
an answer or an opener.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from curator.recipe.source import Section, Share
from curator.wording import these

Whole = Annotated[int, Field(ge=0)]
Part = Annotated[float, Field(gt=0.0, le=1.0)]

TRAITS = ("refusal", "opener", "length", "format")
"""Groupings of rows by the kind of answer; stage `pool` computes them (`pool/traits.py`)."""
GROUPINGS = ("category", "source", "licence", *TRAITS)
"""Groupings of rows; `curator.selection.groups` knows the column of each."""

# The names are spelled once: the allowed values of `by` are those of the tuple.
if TYPE_CHECKING:
    Grouping = str
else:
    Grouping = Literal[GROUPINGS]


class Quota(Section):
    """The fewest and the most rows of one group; null for no limit."""

    min: Whole | None = None
    """Fewest rows."""
    max: Whole | None = None
    """Most rows."""

    @model_validator(mode="after")
    def _order(self) -> Quota:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max}); lower min, or raise max")
        return self


class Quotas(Quota):
    """Limits on each group of rows. Rows without a label are in no group."""

    by: Grouping = "category"
    """What rows are grouped by."""
    groups: dict[str, Quota] = Field(default_factory=dict)
    """Limits of single groups by name, in place of the general ones."""

    def unmet(self, rows: Mapping[str | None, int], k: int | None) -> list[tuple[str | None, str]]:
        """Why no set of `k` rows (null for any size) meets the quotas: pairs of a sentence's group in `groups`, or
        null, and the sentence.

        Args:
            rows: Label of each of the pool's groups (null for no group) -> number of its rows that may be chosen, 0
                where the recipe excludes them all.
        """
        labels = sorted(label for label in rows if label is not None)
        limits = {label: self.groups.get(label, self) for label in labels}
        problems: list[tuple[str | None, str]] = [
            (label, f"no row of the pool has {self.by} {label!r}; found: {', '.join(labels) or 'none'}")
            for label in sorted(set(self.groups) - set(labels))
        ]
        for label, limit in limits.items():
            if (limit.min or 0) > rows[label]:
                left = f"only {rows[label]:,}" if rows[label] else "none"
                problems.append(
                    (
                        label if label in self.groups else None,
                        f"min is {limit.min:,} for {self.by} {label!r}, and {left} of its rows can be chosen; "
                        "lower min",
                    )
                )
        least = sum(limit.min or 0 for limit in limits.values())
        most = rows.get(None, 0) + sum(
            rows[label] if limit.max is None else min(limit.max, rows[label]) for label, limit in limits.items()
        )
        if k is not None and least > k:
            need = these(least, "row", "rows")
            groups = these(len(limits), "group", "groups")
            problems.append((None, f"the minima of {groups} need {need}, more than k ({k:,}); lower min, or raise k"))
        if k is not None and most < k <= sum(rows.values()):
            left = these(most, "row", "rows")
            problems.append((None, f"the maxima allow {left}, fewer than k ({k:,}); raise max, or lower k"))
        return problems


def counted(share: float, size: int) -> int:
    """The most rows among `size` that may share something: `share` of them, rounded down, but at least 1."""
    # .29 * 100 is 28.999...96 in floating point, but means 29 rows.
    return max(1, int(share * size + 1e-9))


def openers_of(rows: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Answer -> the opener that all rows with this answer count under, from the opener and the answer of every row.

    It is the first of their openers by name, since an apostrophe can give two openers to texts with the same words.
    """
    first: dict[str, str] = {}
    for opener, answer in rows:
        first[answer] = min(opener, first.get(answer, opener))
    return first


class Answers(Section):
    """Caps on repeated answers, as shares of a set: floor(share x k) rows, and at least one. Under `budget_tokens`, k
    is the number of rows that the budget pays for at the pool's mean length.
    """

    max_same: Part | None = 0.02
    """Largest share of rows with one answer, word for word; case and punctuation do not count. Null for no cap."""
    max_opener: Part | None = 0.05
    """Largest share of rows whose answers share their first three words. Null for no cap."""

    @property
    def shares(self) -> dict[str, float]:
        """Name of the cap -> the largest share of a set."""
        shares = {"answer": self.max_same, "opener": self.max_opener}
        return {name: share for name, share in shares.items() if share is not None}

    def left(self, rows: Mapping[str, Mapping[str, int]], k: int) -> int:
        """The most rows of a set of `k` within these shares.

        Args:
            rows: Opener -> answer -> number of rows that may be chosen.
        """
        same, opener = (math.inf if share is None else counted(share, k) for share in (self.max_same, self.max_opener))
        return int(sum(min(opener, sum(min(same, count) for count in answers.values())) for answers in rows.values()))


CAPPED_BY = {"answer": "max_same", "opener": "max_opener"}
"""Name of the cap -> its setting in `Answers`."""


class Vulnerable(Section):
    """How much of a set comes from the rows that fine-tuning makes a model forget most, by the recipe's score
    `forgetting`.
    """

    share: Share
    """Share of the chosen rows that are among those rows, to the nearest row."""
    top: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.25
    """Share of the pool's rows that counts as forgotten most."""

    def wanted(self, k: int) -> int:
        """Number of vulnerable rows among `k` chosen ones."""
        return math.floor(self.share * k + 0.5)

    def held(self, rows: int) -> int:
        """Number of vulnerable rows in a pool of `rows`, at least 1."""
        return max(1, math.floor(self.top * rows + 0.5))

    def unmet(self, rows: int, k: int) -> str | None:
        """A sentence on why no `k` of a pool's rows have the share; null if some have."""
        wanted, held = self.wanted(k), self.held(rows)
        if wanted > held:
            return (
                f"share {self.share:g} of k ({k:,}) is {these(wanted, 'vulnerable row', 'vulnerable rows')}, and top "
                f"{self.top:g} of the pool ({these(rows, 'row', 'rows')}) is {held:,}; raise top, or lower share or k"
            )
        if k - wanted > rows - held:
            return (
                f"share {self.share:g} of k ({k:,}) needs {these(k - wanted, 'other row', 'other rows')}, and the pool "
                f"has {rows - held:,} outside its top {self.top:g}; lower top or k, or raise share"
            )
        return None


class Within(Section):
    """A set composed as the pool is: each stratum, the rows with the same labels of all groupings, has its share of the
    pool's rows. Rows without a label form a stratum of their own. The first grouping keeps its shares to less than one
    row, and each further one within the labels of those before it. `[refusal, length]` is short for `{by: [refusal,
    length]}`.
    """

    by: Annotated[list[Grouping], Field(min_length=1)]
    """What rows are grouped by."""
    shares: dict[Grouping, dict[str, Share]] = Field(default_factory=dict)
    """State the composition by a grouping instead: label to share of the rows, sum 1. Other labels get no rows. Stated
    groupings come before the others.
    """

    @model_validator(mode="after")
    def _agree(self) -> Within:
        self.refuse_repeated("by")
        for name, shares in self.shares.items():
            if name not in self.by:
                raise ValueError(f"shares.{name} is not in by ({', '.join(self.by)}); add it there, or remove it")
            if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
                raise ValueError(f"shares.{name} sums to {sum(shares.values()):g}; it must sum to 1")
        return self
