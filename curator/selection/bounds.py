"""The limits that a recipe's `select` states, in the terms of `limits`. They need rows and traits alone, so that limits
which no set meets are found before anything is embedded or trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, NamedTuple

from curator.errors import SelectionError
from curator.recipe.limits import Answers, Quotas, openers_of
from curator.recipe.select import Select
from curator.selection.groups import composed, grouped, named, strata
from curator.selection.limits import limits
from curator.selection.vulnerable import Narrowed, narrowed

if TYPE_CHECKING:
    import polars as pl

    from curator.selection.caps import CapsGiven
    from curator.selection.limits import Limits
    from curator.selection.problem import Listed, Rows


class Ids(NamedTuple):
    """A pool without vectors: its ids, ascending, and the number of each one's row."""

    ids: tuple[str, ...]
    rows: Rows


def bounds_of(
    section: Select,
    pool: Listed,
    ids: Sequence[str],
    rows: pl.DataFrame,
    traits: pl.DataFrame | None,
    *,
    k: int | None,
    vulnerable: Set[str] | None = None,
) -> Limits:
    """The limits on a set.

    Args:
        section: The recipe's `select`.
        pool: The rows that may be chosen; `ids` are theirs, in the order that its `rows` number.
        rows: The pool, in the columns of ROW_SCHEMA.
        traits: What kind of answer each row has (see `Run.traits`); needed if the section has `answers`, or limits by
            one of `recipe.limits.TRAITS`.
        k: The exact size; null under a budget.
        vulnerable: Ids of the vulnerable rows; needed if the section has `vulnerable`.

    Raises:
        SelectionError: No set meets the limits; the message names arguments of `limits`.
    """
    position = {row_id: row for row, row_id in enumerate(rows["id"])}
    order = [position[row_id] for row_id in ids]
    by_row, quotas = groups_of(section, rows, traits)
    limited = Narrowed(by_row, quotas, {})
    if section.vulnerable is not None:
        assert vulnerable is not None
        limited = narrowed(section, rows["id"].to_list(), by_row, quotas, vulnerable)
    return limits(
        pool,
        k,
        groups=[limited.labels[row] for row in order],
        quotas=limited.quotas,
        costs=None if section.budget_tokens is None else rows["tokens"].gather(order).to_list(),
        budget=section.budget_tokens,
        include=section.include,
        exclude=section.exclude,
        closed=limited.closed,
        grouped=_grouped(section),
        caps={**caps_of(section.answers, traits, ids), **_in_order(limited.caps, order)},
    )


def groups_of(
    section: Select, rows: pl.DataFrame, traits: pl.DataFrame | None
) -> tuple[list[str | None], Mapping[str, tuple[int | None, int | None]]]:
    """The group of each row of the pool, null for none, and label -> (min, max) of groups with a limit.

    Args:
        section: The recipe's `select`.
        rows: The pool, in the columns of ROW_SCHEMA.
        traits: Traits of the rows; needed for limits by one of `recipe.limits.TRAITS`.

    Raises:
        SelectionError: `quotas.groups` names a group that the pool does not have, or no set has the composition of
            `within`.
    """
    if section.within is None:
        labels = grouped(rows, traits, section.groupings)[section.groupings[0]].to_list()
        return labels, quotas_of(section.quotas, {label for label in labels if label is not None})
    assert section.k is not None  # `within` needs a size k
    excluded, by = set(section.exclude), section.within.by
    by_row = strata(rows, traits, by)
    counts = composed(section.within, by_row, [row_id not in excluded for row_id in rows["id"]], section.k)
    return [named(stratum, by) for stratum in by_row], {named(each, by): (n, n) for each, n in counts.items()}


def quotas_of(section: Quotas | None, labels: set[str]) -> Mapping[str, tuple[int | None, int | None]]:
    """Label -> (min, max) for every group of the pool that has a limit.

    Raises:
        SelectionError: `groups` names a group that the pool does not have.
    """
    if section is None:
        return {}
    unknown = sorted(set(section.groups) - labels)
    if unknown:
        raise SelectionError(
            f"quotas.groups: no row of the pool has {section.by} {unknown[0]!r}; found: "
            f"{', '.join(sorted(labels)) or 'none'}"
        )
    limits = {label: section.groups.get(label, section) for label in sorted(labels)}
    pairs = {label: (quota.min, quota.max) for label, quota in limits.items()}
    return {label: pair for label, pair in pairs.items() if pair != (None, None)}


def caps_of(section: Answers | None, traits: pl.DataFrame | None, ids: Sequence[str]) -> CapsGiven:
    """Name of the cap (`answer` or `opener`) -> the label of each of `ids`, and the largest share of a set for one
    label.
    """
    if section is None:
        return {}
    assert traits is not None
    openers = openers_of(traits.select("opener", "answer").iter_rows())
    answer_of = dict(traits.select("id", "answer").iter_rows())
    answers = [answer_of[row_id] for row_id in ids]
    labels = {"answer": answers, "opener": [openers[answer] for answer in answers]}
    return {name: (labels[name], share) for name, share in section.shares.items()}


def _grouped(section: Select) -> str:
    """The setting that limits the rows of a group, as `explain` calls it."""
    if section.within is None:
        return "quota" if section.quotas is not None or section.vulnerable is None else "vulnerable"
    return "within" if section.vulnerable is None else "within and vulnerable"


def _in_order(caps: CapsGiven, order: Sequence[int]) -> CapsGiven:
    return {name: ([labels[row] for row in order], share) for name, (labels, share) in caps.items()}
