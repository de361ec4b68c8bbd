"""Alignment rows that were repeated or trained on behind an opener, as report.json describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from curator.conclusions.part import Count, Many, Number, Part
from curator.recipe.verify import CURATED, RECOVERY

if TYPE_CHECKING:
    import polars as pl

    from curator.recipe.augment import Recovery as Section
    from curator.recipe.repeats import Repeats as RepeatsSection


class Recovered(Part):
    """An arm whose refusals were trained on behind an opener."""

    arm: str
    rows_of: str
    """The arm that has the same rows."""
    rows: Number
    """Rows of a set, mean over seeds."""
    opened: Number
    """Those of them behind an opener, mean over seeds."""


class Recovery(Part):
    """Refusals that were trained on behind a harmless compliant opener. No loss was taken on the opener."""

    arms: Many[Recovered]
    least: Count
    most: Count
    """Tokens of an opener."""
    openers: Count
    """Number of different openers, as they were cut."""


class RepeatedGroup(Part):
    """A group whose rows were trained on more than once in a pass."""

    group: str
    times: Count
    rows: Count
    """Rows of the curated set in it."""


class Repeats(Part):
    """Rows of the curated set that were trained on more than once in a pass over it. In other arms, no row was."""

    by: str
    groups: Many[RepeatedGroup]
    rows: Count
    """Rows of a pass, each as often as it was trained on, without the keep rows."""


def repeats(section: RepeatsSection | None, often: pl.DataFrame | None) -> Repeats | None:
    """How rows of the curated arm were repeated; null if none were.

    Args:
        section: The recipe's.
        often: Columns `arm`, `group` and `repeats` of every row of an arm that is repeated.
    """
    if section is None or often is None:
        return None
    curated = often.filter(arm=CURATED)
    groups = tuple(
        RepeatedGroup(group=name, times=times, rows=curated.filter(group=name).height)
        for name, times in section.groups.items()
    )
    return Repeats(by=section.by, groups=groups, rows=int(curated["repeats"].sum()))


def recovery(
    section: Section | None, opened: pl.DataFrame | None, arms: Mapping[tuple[str, int], Sequence[str]]
) -> Recovery | None:
    """What the recovery arms were trained on; null if there are none.

    Args:
        section: The recipe's.
        opened: Column `id` of the rows behind an opener, and `opener`.
        arms: (arm, seed) -> ids of its set.
    """
    if section is None or opened is None:
        return None
    behind, recovered = set(opened["id"]), []
    for name, same in RECOVERY.items():
        sets = [ids for (arm, _), ids in arms.items() if arm == name]
        if sets:
            rows, counts = (sum(map(len, sets)), sum(len(behind & set(ids)) for ids in sets))
            recovered.append(Recovered(arm=name, rows_of=same, rows=rows / len(sets), opened=counts / len(sets)))
    least, most = section.tokens
    return Recovery(arms=tuple(recovered), least=least, most=most, openers=opened["opener"].n_unique())
