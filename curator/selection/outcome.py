"""The outcome of a selection: the chosen set beside the pool and the sets of other arms, in a line and as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from curator.recipe.verify import CURATED, RANDOM, RANDOM_CAPPED
from curator.records import Selection
from curator.selection.composition import POOL, Composition
from curator.wording import at_least, most_frequent, number, of_the_gain

SETS = {CURATED: "chosen", POOL: "pool", RANDOM: "random", RANDOM_CAPPED: "random within the caps"}
"""The sets that are shown first, in this order, and what each is called; other arms follow under their own names."""
WIDEST = 4
"""Most other arms in a table for a terminal."""
UNKNOWN = "unknown"


class Table(NamedTuple):
    """Cells under `heads`: a row a figure, a column a set."""

    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]


def line(sets: Sequence[Composition]) -> str:
    """The main figures of a selection in one line; empty if there is no chosen set of the pool's rows."""
    by_name = {each.set: each for each in sets}
    chosen, pool = by_name.get(CURATED), by_name.get(POOL)
    if chosen is None or pool is None:
        return ""
    parts = []
    if chosen.coverage is not None:
        beside = ", ".join(
            f"{SETS[name]} {number(by_name[name].coverage)}" for name in (RANDOM, RANDOM_CAPPED) if name in by_name
        )
        parts.append(f"coverage {number(chosen.coverage)}" + (f" ({beside})" if beside else ""))
    parts.append(f"similarity {number(chosen.similarity)} (pool {number(pool.similarity)})")
    if chosen.refusals is not None and pool.refusals is not None:
        parts.append(f"{chosen.refusals:.0%} refusals (pool {pool.refusals:.0%})")
    if chosen.vulnerable is not None and pool.vulnerable is not None:
        parts.append(f"{chosen.vulnerable:.0%} vulnerable rows (pool {pool.vulnerable:.0%})")
    return ", ".join(parts)


def table(sets: Sequence[Composition | Mapping[str, Any]]) -> Table:
    """What each figure is, and its value for every set.

    Args:
        sets: Results of `compositions` or `recorded`.
    """
    read = (each if isinstance(each, Composition) else Composition(**each) for each in sets)
    by_name = {each.set: each for each in read}
    shown = [*(name for name in SETS if name in by_name), *(name for name in by_name if name not in SETS)]
    rows = [(label, *(cell(by_name[name]) for name in shown)) for label, cell in _FIGURES]
    return Table(("", *(SETS.get(name, name) for name in shown)), [row for row in rows if {*row[1:]} - {UNKNOWN}])


def parted(whole: Table) -> list[Table]:
    """The columns of SETS, then those of other arms, as many in each table as a terminal shows."""
    first = [column for column, head in enumerate(whole.heads) if head in SETS.values()]
    others = [column for column in range(1, len(whole.heads)) if column not in first]
    parts = [first, *(others[start : start + WIDEST] for start in range(0, len(others), WIDEST))]
    return [
        Table(
            tuple(whole.heads[column] for column in (0, *part)),
            [tuple(cells[column] for column in (0, *part)) for cells in whole.rows],
        )
        for part in parts
    ]


def recorded(sets: Sequence[Composition]) -> list[dict[str, object]]:
    """The sets as a stage records them."""
    return [asdict(each) for each in sets]


def certified(selection: Selection) -> str:
    """The certificate of a selection in words."""
    value, bound, gap = selection.value, selection.bound, selection.relative_gap
    if bound is None:
        return "no certificate"
    parts = []
    if 0.0 < value <= bound:
        parts.append(f"at least {at_least(value / bound)} of the upper bound")
    if gap is not None:
        parts.append(of_the_gain(gap, "random sets within the limits"))
    return ", ".join(parts) or f"value {value:.4g}, upper bound {bound:.4g}"


def quality(selection: Selection, overlaps: Sequence[float]) -> str:
    """How good a selection is, in one line.

    Args:
        selection: What was chosen.
        overlaps: Of every pair of sets, this one and those by other seeds, layers or embedders, in [0, 1].
    """
    parts = [certified(selection)]
    recall = selection.parameters.get("recall", 1.0)
    if recall < 1.0:
        parts.append(f"neighbours found with recall {at_least(recall)}")
    if overlaps:
        parts.append(f"overlap with other seeds or representations from {min(overlaps):.0%}")
    return ", ".join(parts)


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0%}"


_FIGURES: tuple[tuple[str, Callable[[Composition], str]], ...] = (
    ("rows", lambda each: number(each.rows)),
    ("coverage of the pool", lambda each: number(each.coverage)),
    ("similarity to the tasks", lambda each: number(each.similarity)),
    ("refusals", lambda each: _share(each.refusals)),
    ("different answers", lambda each: number(each.answers)),
    ("most frequent answer", lambda each: _share(each.top_answer)),
    ("different openers", lambda each: number(each.openers)),
    ("most frequent opener", lambda each: _share(each.top_opener)),
    ("vulnerable rows", lambda each: _share(each.vulnerable)),
    ("words of an answer, median", lambda each: number(each.words)),
    ("most frequent format", lambda each: most_frequent(each.formats)),
    ("categories", lambda each: number(each.categories)),
)
