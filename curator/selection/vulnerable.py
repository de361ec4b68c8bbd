"""A fixed share of rows that fine-tuning makes a model forget, as a limit beside quotas, composition and caps.

Vulnerable rows and the others partition the pool. Alone, this is two quotas. Beside `within` each stratum is split in
two, so that groups stay disjoint. Beside `quotas`, whose groups it crosses, it is two caps: of exactly k rows, at most
v vulnerable ones and at most k - v others are exactly v and k - v.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from curator.errors import SelectionError
from curator.recipe.halves import vulnerable_by
from curator.recipe.limits import Vulnerable
from curator.recipe.score import name_of
from curator.recipe.select import Select
from curator.selection.caps import CapsGiven
from curator.wording import these

if TYPE_CHECKING:
    from curator.run import Run

VULNERABLE, RESISTANT = "vulnerable", "not vulnerable"
Pairs = Mapping[str, tuple[int | None, int | None]]


class Narrowed(NamedTuple):
    """Limits that include the share of vulnerable rows, in the order of the rows.

    Attributes:
        labels: Group of each row. `quotas`: label -> (min, max). `caps`: as `limits` takes them.
        closed: Kind of which no row may be chosen -> the ids of its rows.
    """

    labels: Sequence[str | None]
    quotas: Pairs
    caps: CapsGiven
    closed: Mapping[str, tuple[str, ...]] = {}


def vulnerable_rows(run: Run) -> frozenset[str] | None:
    """The ids of the pool's vulnerable rows; null if the recipe sets no share of them."""
    section = run.recipe.select.vulnerable
    if section is None:
        return None
    score = vulnerable_by(run.recipe)
    assert score is not None  # a recipe without it is refused
    return most_forgotten(section, run.every_score(), name_of(score), run.recipe.weights())


def most_forgotten(
    section: Vulnerable, scores: pl.DataFrame, name: str, weights: Mapping[str, float]
) -> frozenset[str]:
    """The ids of the `section.top` share of rows with the largest score, ties by id.

    Args:
        scores: `id`, and a column `<name>:<task>` for each task of `weights`, in nats a token.
        weights: Task -> task mass.
    """
    total = pl.sum_horizontal(pl.col(f"{name}:{task}") * mass for task, mass in sorted(weights.items()))
    ranked = scores.select("id", total.alias("forgotten")).sort("forgotten", "id", descending=[True, False])
    return frozenset(ranked["id"].head(section.held(scores.height)))


def narrowed(
    section: Select, ids: Sequence[str], labels: Sequence[str | None], quotas: Pairs, vulnerable: Set[str]
) -> Narrowed:
    """A selection's limits on groups together with its share of vulnerable rows.

    Args:
        section: A section with `vulnerable` and `k`.
        ids: Ids of the pool's rows.
        labels: The group of each row.
        quotas: Label -> (min, max) of the groups.
        vulnerable: The ids of all vulnerable rows.

    Raises:
        SelectionError: Too few rows of a stratum are vulnerable, or too many.
    """
    assert section.vulnerable is not None
    assert section.k is not None
    wanted = section.vulnerable.wanted(section.k)
    kinds = [VULNERABLE if row_id in vulnerable else RESISTANT for row_id in ids]
    sizes = {VULNERABLE: wanted, RESISTANT: section.k - wanted}
    if section.quotas is not None:
        closed = {
            none: tuple(row_id for row_id, kind in zip(ids, kinds, strict=True) if kind == none)
            for none, size in sizes.items()
            if size == 0
        }
        both = sorted({*section.include} & {row_id for none in closed.values() for row_id in none})
        if both:
            raise SelectionError(f"include: names {both[0]!r}, and vulnerable.share leaves no row of its kind")
        share = section.vulnerable
        # Functions of k, so that another size has whole rows by the same rounding.
        most: dict[str, Callable[[int], int]] = {VULNERABLE: share.wanted, RESISTANT: lambda k: k - share.wanted(k)}
        caps: CapsGiven = {
            kind: ([kind if each == kind else None for each in kinds], most[kind])
            for kind in sizes
            if kind not in closed
        }
        return Narrowed(labels, quotas, caps, closed)
    if section.within is None:
        return Narrowed(kinds, {kind: (sizes[kind], sizes[kind]) for kind in set(kinds)}, {})
    barred = set(section.exclude)
    stock = Counter(
        (label, kind) for row_id, label, kind in zip(ids, labels, kinds, strict=True) if row_id not in barred
    )
    strata = {label: least or 0 for label, (least, _) in quotas.items()}
    must = {*section.include}
    held = Counter((label, kind) for row_id, label, kind in zip(ids, labels, kinds, strict=True) if row_id in must)

    def of_both(counts: Mapping[tuple[str | None, str], int]) -> dict[str, tuple[int, int]]:
        return {label: (counts[label, VULNERABLE], counts[label, RESISTANT]) for label in strata}

    inside = split(strata, of_both(stock), wanted, of_both(held))
    split_in_two = {f"{label}, {VULNERABLE}": inside[label] for label in strata}
    split_in_two |= {f"{label}, {RESISTANT}": size - inside[label] for label, size in strata.items()}
    both_labels = [f"{label}, {kind}" for label, kind in zip(labels, kinds, strict=True)]
    return Narrowed(both_labels, {label: (split_in_two[label],) * 2 for label in set(both_labels)}, {})


def split(
    strata: Mapping[str, int],
    stock: Mapping[str, tuple[int, int]],
    wanted: int,
    included: Mapping[str, tuple[int, int]] | None = None,
) -> dict[str, int]:
    """How many of each stratum's rows are vulnerable: `wanted` together, with shares of the strata as equal as
    possible.

    Each stratum first gets the number that it needs at least. The rest go one by one to the stratum with the smallest
    share, by Sainte-Lague's rule, ties by name.

    Args:
        strata: Label -> number of rows in the set.
        stock: Label -> number of vulnerable rows and of others that may be chosen.
        wanted: Number of vulnerable rows in the set.
        included: Label -> number of vulnerable rows and of others that must be chosen; null for none.

    Raises:
        SelectionError: No such split exists.
    """
    must = included or dict.fromkeys(strata, (0, 0))
    for label, size in strata.items():
        if sum(must[label]) > size:
            raise SelectionError(
                f"include: names {these(sum(must[label]), 'row', 'rows')} of {label!r}, and within gives it {size:,}; "
                "name fewer, or change within.shares"
            )
    most = {label: min(size - must[label][1], stock[label][0]) for label, size in strata.items()}
    counts = {label: max(must[label][0], size - stock[label][1]) for label, size in strata.items()}
    least, largest = sum(counts.values()), sum(most.values())
    if not least <= wanted <= largest:
        both = (
            "the strata of within and include" if included and any(map(sum, must.values())) else "the strata of within"
        )
        raise SelectionError(
            f"vulnerable: share needs {these(wanted, 'vulnerable row', 'vulnerable rows')}, but {both} allow {least:,} "
            f"to {largest:,}; change share or top, or name fewer groupings in within"
        )

    def behind(label: str) -> tuple[float, str]:
        return (counts[label] + 0.5) / strata[label], label

    waiting = [behind(label) for label in strata if counts[label] < most[label]]
    heapq.heapify(waiting)
    for _ in range(wanted - least):
        _, label = heapq.heappop(waiting)
        counts[label] += 1
        if counts[label] < most[label]:
            heapq.heappush(waiting, behind(label))
    return counts
