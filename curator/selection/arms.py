"""The sets of all arms: the curated one, and other ways to choose k rows, against which it is measured.

Each way returns row ids in the order chosen. Rows are taken by id, never by position, and ties go by id, so the order
in which ids arrive changes nothing.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from curator.errors import SelectionError
from curator.recipe.score import AGGREGATES
from curator.recipe.verify import (
    BEST_RANDOM,
    CURATED,
    FULL,
    HIGH_SIMILARITY,
    LOW_SIMILARITY,
    MATCHED_RANDOM,
    NONE,
    RANDOM,
    RANDOM_CAPPED,
)
from curator.records import Scores, Selection
from curator.seeds import generator
from curator.selection.problem import column

ARM_SCHEMA = {"arm": pl.String, "seed": pl.Int64, "id": pl.String}
_QUANTILES = 4
PASSES = 4  # through a draw, in which its rows are exchanged for others

Ids = tuple[str, ...]


@dataclass(frozen=True)
class Stock:
    """What the sets of all arms are drawn from.

    Attributes:
        scores: Of all `n` rows. `groups`, `lengths`: `n` labels and `(n,)` tokens, in the order of `scores`.
        ids: The `c` rows that controls may hold. `similarity`, `mean_cosine`: `(c,)` of them.
        selection: The curated set.
        size: How many rows of `ids` are put in order, before a budget cuts them.
        budget: Most tokens of a set; null where sets have as many rows as the curated one.
        given: Arms whose ids are known: the user's own, and the pilot's best random draw.
        drawable: `ids` as a set, null for all rows.
        capped: Rows in an order -> those of them, in it, that the caps on answers leave; null without caps.
        seed: The recipe's.
    """

    scores: Scores
    groups: Sequence[str]
    lengths: NDArray[np.float64]
    ids: Ids
    similarity: NDArray[np.float64]
    mean_cosine: NDArray[np.float64]
    selection: Selection
    size: int
    budget: int | None
    given: Mapping[str, Sequence[str]]
    drawable: Set[str] | None
    capped: Callable[[Ids], Ids] | None
    seed: int

    def cut(self, order: Ids) -> Ids:
        """The rows of an order that fit the budget; all of them without a budget."""
        return order if self.budget is None else within(order, self.tokens, self.budget)

    @cached_property
    def tokens(self) -> dict[str, float]:
        return dict(zip(self.scores.ids, self.lengths.tolist(), strict=True))


def _random(stock: Stock, seed: int) -> Ids:
    return stock.cut(random(stock.ids, stock.size, generator(stock.seed, RANDOM, seed)))


def _random_capped(stock: Stock, seed: int) -> Ids:
    assert stock.capped is not None
    left = stock.capped(random(stock.ids, len(stock.ids), generator(stock.seed, RANDOM_CAPPED, seed)))
    if stock.budget is None and len(left) < stock.size:
        raise SelectionError(
            f"answers: arm {RANDOM_CAPPED!r} needs {stock.size} rows, and the caps leave {len(left)} candidates; "
            "raise the caps, or lower k"
        )
    return stock.cut(left if stock.budget is not None else left[: stock.size])


def _matched_random(stock: Stock, seed: int) -> Ids:
    draws = generator(stock.seed, MATCHED_RANDOM, seed)
    drawn = matched_random(
        stock.scores.ids,
        stock.groups,
        stock.lengths,
        stock.selection.ids,
        k=len(stock.selection.ids),
        drawable=stock.drawable,
        generator=draws,
    )
    if stock.budget is None:
        return drawn
    cells = _cells(stock.scores.ids, stock.groups, stock.lengths)
    goal = min(stock.budget, sum(stock.tokens[row_id] for row_id in stock.selection.ids))
    exchanged = nearer(drawn, stock.ids, cells, stock.tokens, goal, generator=draws)
    rest = random(stock.ids, len(stock.ids), draws)
    return within(tuple(dict.fromkeys((*exchanged, *rest))), stock.tokens, goal)


def _low_similarity(stock: Stock, seed: int) -> Ids:
    aggregate = AGGREGATES.get(str(stock.scores.parameters.get("aggregate")))
    if aggregate is not None and aggregate.tied:
        return stock.cut(per_example(stock.ids, stock.similarity, stock.mean_cosine, stock.size))
    return stock.cut(low_similarity(stock.ids, stock.similarity, stock.size))


DRAWS: dict[str, Callable[[Stock, int], Ids]] = {
    CURATED: lambda stock, seed: stock.selection.ids,
    RANDOM: _random,
    MATCHED_RANDOM: _matched_random,
    RANDOM_CAPPED: _random_capped,
    BEST_RANDOM: lambda stock, seed: tuple(stock.given[BEST_RANDOM]),
    LOW_SIMILARITY: _low_similarity,
    HIGH_SIMILARITY: lambda stock, seed: stock.cut(high_similarity(stock.ids, stock.similarity, stock.size)),
    FULL: lambda stock, seed: full(stock.ids),
    NONE: lambda stock, seed: (),
}
"""The built-in arms by name: from what is drawn from, and the number of the seed, to row ids."""


def draw_arms(
    rows: pl.DataFrame,
    scores: Scores,
    selection: Selection,
    *,
    seeds: Mapping[str, int],
    mean_cosine: NDArray[np.float64],
    budget: int | None = None,
    given: Mapping[str, Sequence[str]] | None = None,
    drawable: Set[str] | None = None,
    capped: Callable[[Ids], Ids] | None = None,
    seed: int,
) -> pl.DataFrame:
    """Row ids of each arm at each seed, in the columns of ARM_SCHEMA; random arms are drawn anew at every seed.

    All sets are drawn here, so that they are fixed before any training starts.

    Args:
        rows: The pool, in the columns of ROW_SCHEMA: categories and lengths are matched by `matched-random`.
        scores: Of the same `n` rows. `selection`: the curated arm, and the size of all arms but `full`.
        seeds: Arm -> how many seeds it runs.
        mean_cosine: `(n,)` aligned with `scores`, which breaks the ties of the per-example score.
        budget: Most tokens of a set, where the curated one was chosen under a budget: random, low and high similarity
            then take rows in their order while one fits. Matched random takes as many rows as the curated set, some of
            them exchanged for others of their group and length quartile until it has about as many tokens (`nearer`);
            where no exchange brings it there, random rows fill it up. A set that is given is what it is.
        given: Arms whose ids are given: the user's own, and the pilot's best random draw.
        drawable: Ids that controls are drawn from; null for all. A given set may hold rows that are not candidates.
        capped: Rows in an order -> those that the caps on answers leave, which `random-capped` takes from; null without
            caps.
        seed: The recipe's.

    Raises:
        SelectionError: There are too few candidates for a set of that size.
    """
    row_of = {row_id: row for row, row_id in enumerate(rows["id"])}
    order = [row_of[row_id] for row_id in scores.ids]
    candidates = np.flatnonzero([drawable is None or row_id in drawable for row_id in scores.ids])
    stock = Stock(
        scores=scores,
        groups=[category or "no category" for category in rows["category"].gather(order)],
        lengths=rows["tokens"].gather(order).to_numpy().astype(np.float64),
        ids=tuple(scores.ids[row] for row in candidates),
        similarity=scores.combined[candidates],
        mean_cosine=mean_cosine[candidates],
        selection=selection,
        # A budget is filled along the whole order: how many rows it pays for depends on which they are.
        size=len(selection.ids) if budget is None else len(candidates),
        budget=budget,
        given=given or {},
        drawable=drawable,
        capped=capped,
        seed=seed,
    )

    def draw(arm: str, number: int) -> Ids:
        return DRAWS[arm](stock, number) if arm in DRAWS else tuple(stock.given[arm])

    return pl.concat(
        pl.DataFrame({"arm": arm, "seed": number, "id": draw(arm, number)}, schema=ARM_SCHEMA)
        for arm, count in seeds.items()
        for number in range(count)
    )


def full(ids: Sequence[str]) -> tuple[str, ...]:
    """All ids, sorted."""
    return tuple(sorted(ids))


def random(ids: Sequence[str], k: int, generator: np.random.Generator) -> tuple[str, ...]:
    """`k` ids drawn without replacement.

    Raises:
        SelectionError: k is not from 1 to the number of ids.
    """
    _check_size(ids, k)
    ordered = sorted(ids)
    return tuple(ordered[row] for row in generator.choice(len(ordered), k, replace=False))


def random_within(
    ids: Sequence[str], tokens: Mapping[str, float], budget: float, generator: np.random.Generator
) -> Ids:
    """Ids drawn one after the other, each kept while it still fits into the budget.

    Raises:
        SelectionError: None fits.
    """
    return within(random(ids, len(ids), generator), tokens, budget)


def nearer(
    drawn: Ids,
    ids: Sequence[str],
    cells: Mapping[str, tuple[str, int]],
    tokens: Mapping[str, float],
    goal: float,
    *,
    generator: np.random.Generator,
) -> Ids:
    """The drawn rows, some exchanged so that all together have about `goal` tokens, and no more where that can be: in
    random order, for the row of the same cell that brings the sum nearest to it. Groups and length
    quartiles stay as frequent.

    Args:
        drawn: Part of `ids`, the rows that may be drawn.
        cells: Id -> group and length quartile.
        tokens: Id -> how many.
        goal: Tokens of all rows together.
    """
    spare: dict[tuple[str, int], list[tuple[float, str]]] = {}
    for row_id in set(ids) - set(drawn):
        spare.setdefault(cells[row_id], []).append((tokens[row_id], row_id))
    for members in spare.values():
        members.sort()
    rows, over = list(drawn), sum(tokens[row_id] for row_id in drawn) - goal

    def rank(over: float) -> tuple[bool, float]:
        return over > 0.0, abs(over)

    for position in np.concatenate([generator.permutation(len(rows)) for _ in range(PASSES)]):
        members, old = spare.get(cells[rows[position]], []), (tokens[rows[position]], rows[position])
        after = bisect(members, (old[0] - over, ""))
        near = min(members[max(after - 1, 0) : after + 1], key=lambda row: rank(over + row[0] - old[0]), default=old)
        if rank(over + near[0] - old[0]) < rank(over):
            members.remove(near)
            insort(members, old)
            rows[position], over = near[1], over + near[0] - old[0]
    return tuple(rows)


def matched_random(
    ids: Sequence[str],
    groups: Sequence[Any],
    lengths: ArrayLike | None,
    chosen: Sequence[str],
    *,
    k: int,
    drawable: Set[str] | None = None,
    generator: np.random.Generator,
) -> tuple[str, ...]:
    """`k` ids drawn so that groups, and length quartiles within each group, are as frequent as among `chosen`.

    Group counts are exactly those of `chosen` (scaled to k by largest remainder where k differs). Lengths are cut at
    the quartiles of the pool's lengths within the group; a cell always holds enough rows, since `chosen` lies in it.
    The draw may share rows with `chosen`, as a random draw does. Where `drawable` leaves a cell too few rows, the rest
    is drawn from the nearest lengths of the same group, and from other groups when that is used up.

    Args:
        ids: `n` ids of the pool.
        groups: `n` labels.
        lengths: `(n,)` tokens, or null to match groups only.
        chosen: Ids to match, part of `ids`.
        k: How many to draw.
        drawable: Ids that may be drawn; null for all.
        generator: Source of randomness.

    Raises:
        SelectionError: Shapes differ, `chosen` is empty or holds unknown ids, or a cell is too small when k is larger
            than `chosen`.
    """
    _check_size(ids, k)
    if len(groups) != len(ids):
        raise SelectionError(f"groups: {len(groups)} labels for {len(ids)} ids; there must be one an id")
    cells = _cells(ids, groups, None if lengths is None else column("lengths", lengths, len(ids)))
    unknown = sorted(set(chosen) - set(ids))
    if unknown or not chosen:
        raise SelectionError(f"chosen: {unknown[0] if unknown else 'nothing'!r} given; it must hold ids of the pool")
    quota = _scaled(Counter(cells[row_id] for row_id in chosen), k)
    picked: list[str] = []
    short: list[tuple[str, int]] = []
    for cell in sorted(quota):
        members = sorted(row_id for row_id in ids if cells[row_id] == cell and (drawable is None or row_id in drawable))
        if len(members) < quota[cell] and drawable is None:
            raise SelectionError(
                f"k: {k} asks for {quota[cell]} rows of group {cell[0]!r} and there are {len(members)}; lower k"
            )
        count = min(quota[cell], len(members))
        picked += [members[row] for row in generator.choice(len(members), count, replace=False)]
        short += [cell] * (quota[cell] - count)
    picked += _nearest_cells(short, cells, sorted(set(drawable or ()) - set(picked)), generator)
    return tuple(picked[row] for row in generator.permutation(len(picked)))


def _nearest_cells(
    short: Sequence[tuple[str, int]],
    cells: Mapping[str, tuple[str, int]],
    spare: list[str],
    generator: np.random.Generator,
) -> list[str]:
    if len(spare) < len(short):
        raise SelectionError(f"k: {len(short)} rows more are needed than may be drawn; lower k, or add sources")
    spare = [spare[row] for row in generator.permutation(len(spare))]
    replacements = []
    for group, quartile in short:
        # Any row of the same group is nearer than every row of another; min takes the first of equals, so the shuffle
        # above decides between them.
        distance = [(cells[row_id][0] != group, abs(cells[row_id][1] - quartile)) for row_id in spare]
        replacements.append(spare.pop(distance.index(min(distance))))
    return replacements


def low_similarity(ids: Sequence[str], score: ArrayLike, k: int) -> tuple[str, ...]:
    """The `k` ids of lowest score, lowest first. With the per-example score: the rows least similar to most task rows.

    Raises:
        SelectionError: k is not from 1 to the number of ids, or score is not `(n,)` finite numbers.
    """
    return _ranked(ids, [column("score", score, len(ids))], k)


def high_similarity(ids: Sequence[str], score: ArrayLike, k: int) -> tuple[str, ...]:
    """The `k` ids of highest score, highest first.

    Raises:
        SelectionError: As `low_similarity`.
    """
    return _ranked(ids, [-column("score", score, len(ids))], k)


def per_example(ids: Sequence[str], score: ArrayLike, mean_cosine: ArrayLike, k: int) -> tuple[str, ...]:
    """The paper's per-example sets, merged: the `k` ids least similar to the most task rows, ties by lower mean cosine.

    Args:
        ids: `n` ids.
        score: `(n,)` the `per-example` score (minus a share, so lowest comes first).
        mean_cosine: `(n,)` the `mean` score.
        k: How many.

    Raises:
        SelectionError: As `low_similarity`.
    """
    return _ranked(ids, [column("score", score, len(ids)), column("mean_cosine", mean_cosine, len(ids))], k)


def within(order: Sequence[str], costs: Mapping[str, float], budget: float) -> tuple[str, ...]:
    """The ids in this order, each while it still fits into the budget.

    Raises:
        SelectionError: None fits.
    """
    picks, used = [], 0.0
    for row_id in order:
        if used + costs[row_id] <= budget:
            picks.append(row_id)
            used += costs[row_id]
    if not picks:
        raise SelectionError(f"budget: {budget:g} is less than any row costs; raise it")
    return tuple(picks)


def _ranked(ids: Sequence[str], keys: list[NDArray[np.float64]], k: int) -> tuple[str, ...]:
    _check_size(ids, k)
    order = sorted(range(len(ids)), key=lambda row: (*(float(key[row]) for key in keys), ids[row]))
    return tuple(ids[row] for row in order[:k])


def _cells(
    ids: Sequence[str], groups: Sequence[Any], lengths: NDArray[np.float64] | None
) -> dict[str, tuple[str, int]]:
    if lengths is None:
        return {row_id: (str(label), 0) for row_id, label in zip(ids, groups, strict=True)}
    by_group: dict[str, list[float]] = {}
    for label, length in zip(groups, lengths, strict=True):
        by_group.setdefault(str(label), []).append(float(length))
    shares = np.arange(1, _QUANTILES) / _QUANTILES
    cuts = {label: np.quantile(values, shares) for label, values in by_group.items()}
    return {
        row_id: (str(label), int(np.searchsorted(cuts[str(label)], length)))
        for row_id, label, length in zip(ids, groups, lengths, strict=True)
    }


def _scaled(counts: Counter[tuple[str, int]], k: int) -> dict[tuple[str, int], int]:
    total = sum(counts.values())
    if total == k:
        return dict(counts)
    shares = {cell: count * k / total for cell, count in counts.items()}
    floors = {cell: int(share) for cell, share in shares.items()}
    # Largest remainder: the rows left over go to the cells whose shares were cut most, equal ones by name.
    by_rest = sorted(shares, key=lambda cell: (floors[cell] - shares[cell], cell))
    for cell in by_rest[: k - sum(floors.values())]:
        floors[cell] += 1
    return floors


def _check_size(ids: Sequence[str], k: int) -> None:
    if not 1 <= k <= len(ids):
        raise SelectionError(f"k: found {k}; it must be a whole number from 1 to the {len(ids)} rows there are")
