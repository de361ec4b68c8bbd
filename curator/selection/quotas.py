"""Checks of what quotas rely on: rows in no group, which no quota limits, and categories that the embedder is unsure
of.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from curator.recipe.pool import UNSURE
from curator.wording import these

if TYPE_CHECKING:
    import polars as pl

    from curator.recipe.select import Select


def remarks(
    section: Select,
    labels: Mapping[str, str | None],
    chosen: Collection[str],
    hazards: pl.DataFrame | None,
    *,
    many: float,
) -> list[str]:
    """Warnings about the groups of a selection within quotas; empty without quotas.

    Args:
        labels: Id of each row of the pool -> its group, null for none.
        chosen: Ids of the chosen rows.
        hazards: How sure each category is, as recorded by stage `pool`; null if all categories come from the data.
        many: Least share of unsure categories among the chosen rows that is reported.
    """
    if section.quotas is None:
        return []
    by, rows, sentences = section.quotas.by, these(len(chosen), "chosen row", "chosen rows"), []
    without = {row for row, label in labels.items() if label is None}
    if without:
        verb = "has" if len(without & {*chosen}) == 1 else "have"
        sentences.append(
            f"quotas are by {by}, and {len(without & {*chosen}):,} of {rows} {verb} none, so no quota limits them "
            f"({len(without):,} of {these(len(labels), 'row', 'rows')} of the pool)"
        )
    if by == "category" and hazards is not None:
        doubtful = unsure(hazards) & {*chosen}
        if chosen and len(doubtful) >= many * len(chosen):
            sentences.append(
                f"quotas are by category, and {len(doubtful):,} of {rows} got one that the embedder is unsure of "
                f"({UNSURE:g} or less in cosine above the next)"
            )
    return sentences


def unsure(hazards: pl.DataFrame) -> set[str]:
    """Ids of rows whose category the embedder is unsure of."""
    named = hazards.filter(hazards["assigned"] & hazards["category"].is_not_null())
    return set(named.filter(named["confidence"] <= UNSURE)["id"])
