"""How often each row of the curated arm is trained on: weights by group, stored beside the set of ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import polars as pl

from curator.errors import SelectionError
from curator.recipe.limits import TRAITS
from curator.recipe.repeats import Repeats
from curator.recipe.verify import REPEATED
from curator.wording import these

REPEATS_SCHEMA = {"arm": pl.String, "id": pl.String, "group": pl.String, "repeats": pl.Int64}
"""For every row of an arm of REPEATED: its group, null for none, and how often a pass trains on it, at least 1."""


def labels_of(by: str, rows: pl.DataFrame, traits: Callable[[], pl.DataFrame]) -> dict[str, str | None]:
    """Id -> group of every row of the pool, null for a row in no group.

    Args:
        by: A column of `rows`, in the columns of ROW_SCHEMA, or one of `traits`, which is read only then.
    """
    return dict((traits() if by in TRAITS else rows).select("id", by).iter_rows())


def table(section: Repeats, labels: Mapping[str, str | None], arms: Iterable[str], ids: Sequence[str]) -> pl.DataFrame:
    """How often the chosen rows are trained on, in the columns of REPEATS_SCHEMA and the order of the ids.

    Args:
        labels: The result of `labels_of`.
        arms: The recipe's arms; those in REPEATED are in the table.
        ids: The curated set.
    """
    rows = [
        (arm, row_id, labels[row_id], section.groups.get(labels[row_id] or "", 1))
        for arm in arms
        if arm in REPEATED
        for row_id in ids
    ]
    return pl.DataFrame(rows, schema=REPEATS_SCHEMA, orient="row")


def require_groups(section: Repeats, labels: Mapping[str, str | None]) -> Mapping[str, str | None]:
    """The labels, after a check that every group of the section has rows.

    Raises:
        SelectionError: One of the groups has no rows in the pool.
    """
    problems = section.unknown({label for label in labels.values() if label is not None})
    if problems:
        raise SelectionError("\n".join(f"select.repeats.groups.{group}: {sentence}" for group, sentence in problems))
    return labels


def repeated(section: Repeats | None, labels: Mapping[str, str | None], ids: Sequence[str]) -> tuple[str, ...]:
    """The ids in their order, each repeated as often as its group says; once if the section is null."""
    if section is None:
        return tuple(ids)
    return tuple(row_id for row_id in ids for _ in range(section.groups.get(labels[row_id] or "", 1)))


def told(section: Repeats, labels: Mapping[str, str | None], ids: Sequence[str]) -> str:
    """What one pass over a set of these ids trains on, in words."""
    rows = len(repeated(section, labels, ids))
    if rows == len(ids):
        return f"no chosen row is repeated by {section.by}"
    return f"one pass trains on {these(rows, 'row', 'rows')}, some repeated by {section.by}"
