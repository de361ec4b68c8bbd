"""The sets of all arms: the curated set, and sets of k rows chosen in other ways, to which it is compared.

Each way returns row ids in the order chosen. Rows are taken by id, never by position, and ties are broken by id, so the
order of the input ids changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from curator.errors import SelectionError
from curator.recipe.score import AGGREGATES
from curator.recipe.verify import (
    BEST_RANDOM,
    CURATED,
    CURATED_RECOVERY,
    FULL,
    HIGH_MATCHED,
    HIGH_SIMILARITY,
    LOW_MATCHED,
    LOW_SIMILARITY,
    MATCHED_RANDOM,
    NONE,
    RANDOM,
    RANDOM_CAPPED,
    RANDOM_RECOVERY,
)
from curator.records import Scores, Selection
from curator.seeds import generator
from curator.selection.groups import Stratum, grouped, strata
from curator.selection.matched import (
    Group,
    Ids,
    cells_of,
    check_size,
    interleaved,
    matched_random,
    nearer,
    within_strata,
)
from curator.selection.problem import column
from curator.wording import these

ARM_SCHEMA = {"arm": pl.String, "seed": pl.Int64, "id": pl.String}
ALIKE = ("refusal", "length", "category")
"""Groupings that `low-matched` and `high-matched` are matched by."""


@dataclass(frozen=True)
class Stock:
    """What the sets of all arms are drawn from.

    Attributes:
        scores: Scores of all `n` rows. `groups`, `lengths`: `n` pairs of refusal and category, and `(n,)` tokens, in
            the order of `scores`. `strata`: id -> its labels by ALIKE.
        ids: The `c` rows that controls may hold. `similarity`, `mean_cosine`: `(c,)` values of these rows.
        selection: The curated set.
        size: How many rows of `ids` are put in order, before a budget cuts them.
        budget: Most tokens of a set; null if all sets have as many rows as the curated one.
        given: Arms whose ids are given: the user's own, and the pilot's best random draw.
        drawable: `ids` as a set, null for all rows.
        capped: Ordered rows -> those that the caps on answers leave, in the same order; null without caps.
        seed: The recipe's seed.
    """

    scores: Scores
    groups: Sequence[Group]
    lengths: NDArray[np.float64]
    strata: Mapping[str, Stratum]
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
            f"answers: arm {RANDOM_CAPPED!r} needs {these(stock.size, 'row', 'rows')}, but the caps allow "
            f"{len(left):,}; raise the caps, or lower k"
        )
    return stock.cut(left if stock.budget is not None else left[: stock.size])


def _matched_random(stock: Stock, seed: int) -> Ids:
    draws = generator(stock.seed, MATCHED_RANDOM, seed)
    drawn = matched_random(
        stock.scores.ids,
        stock.groups,
        stock.lengths,
        stock.selection.ids,
        drawable=stock.drawable,
        generator=draws,
    )
    if stock.budget is None:
        return drawn
    cells = cells_of(stock.scores.ids, stock.groups, stock.lengths)
    goal = min(stock.budget, sum(stock.tokens[row_id] for row_id in stock.selection.ids))
    exchanged = nearer(drawn, stock.ids, cells, stock.tokens, goal, generator=draws)
    rest = random(stock.ids, len(stock.ids), draws)
    return within(tuple(dict.fromkeys((*exchanged, *rest))), stock.tokens, goal)


def _lowest(stock: Stock, k: int) -> Ids:
    return low_similarity(stock.ids, stock.similarity, k, ties=_ties(stock))


def _highest(stock: Stock, k: int) -> Ids:
    return high_similarity(stock.ids, stock.similarity, k, ties=_ties(stock))


def _ties(stock: Stock) -> NDArray[np.float64] | None:
    """What orders rows of one score: the mean cosine where the aggregate gives many rows the same score."""
    aggregate = AGGREGATES.get(str(stock.scores.parameters.get("aggregate")))
    return stock.mean_cosine if aggregate is not None and aggregate.tied else None


def _matched(order: Ids, stock: Stock) -> Ids:
    """The best rows of an order of all candidates, with strata by ALIKE as frequent as among the candidates."""
    if stock.budget is None:
        return within_strata(order, stock.strata, stock.size)
    return stock.cut(interleaved(order, stock.strata))


DRAWS: dict[str, Callable[[Stock, int], Ids]] = {
    CURATED: lambda stock, seed: stock.selection.ids,
    RANDOM: _random,
    MATCHED_RANDOM: _matched_random,
    RANDOM_CAPPED: _random_capped,
    BEST_RANDOM: lambda stock, seed: tuple(stock.given[BEST_RANDOM]),
    LOW_SIMILARITY: lambda stock, seed: stock.cut(_lowest(stock, stock.size)),
    HIGH_SIMILARITY: lambda stock, seed: stock.cut(_highest(stock, stock.size)),
    LOW_MATCHED: lambda stock, seed: _matched(_lowest(stock, len(stock.ids)), stock),
    HIGH_MATCHED: lambda stock, seed: _matched(_highest(stock, len(stock.ids)), stock),
    FULL: lambda stock, seed: full(stock.ids),
    NONE: lambda stock, seed: (),
    CURATED_RECOVERY: lambda stock, seed: stock.selection.ids,
    RANDOM_RECOVERY: _random,
}
"""The built-in arms by name: each takes the stock and the number of the seed, and returns row ids."""


def draw_arms(
    rows: pl.DataFrame,
    traits: pl.DataFrame,
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
        rows, traits: The pool, in the columns of ROW_SCHEMA and of `pool.traits`. `matched-random` has the curated
            set's composition by refusal, category and quartile of tokens; `low-matched` and `high-matched` have the
            pool's by ALIKE.
        scores: Scores of the same `n` rows.
        selection: The curated arm. All arms except `full` have its size.
        seeds: Arm -> how many seeds it runs.
        mean_cosine: `(n,)` aligned with `scores`; breaks the ties of the per-example score.
        budget: Most tokens of a set, if the curated set was chosen under a budget. Random, low and high similarity then
            take rows in their order while one fits. `low-matched` and `high-matched` do the same in an order of which
            every prefix has about the pool's composition. Matched random takes as many rows as the curated set and
            exchanges some for others of the same group and length quartile until it has about as many tokens
            (`nearer`); if no exchange suffices, random rows fill it up. Given sets are not changed.
        given: Arms whose ids are given: the user's own, and the pilot's best random draw.
        drawable: Ids that controls are drawn from; null for all. A given set may hold rows that are not candidates, and
            a recipe may exclude rows.
        capped: Ordered rows -> those that the caps on answers leave, from which `random-capped` takes; null without
            caps.
        seed: The recipe's seed.

    Returns:
        One row per arm, seed and row id, in the columns of ARM_SCHEMA.

    Raises:
        SelectionError: There are too few candidates for a set of this size.
    """
    row_of = {row_id: row for row, row_id in enumerate(rows["id"])}
    order = [row_of[row_id] for row_id in scores.ids]
    candidates = np.flatnonzero([drawable is None or row_id in drawable for row_id in scores.ids])
    stock = Stock(
        scores=scores,
        groups=[
            (refusal or "unknown", category or "no category")
            for _, refusal, category in grouped(rows, traits, ("refusal", "category"))[order].iter_rows()
        ],
        strata=dict(zip(rows["id"], strata(rows, traits, ALIKE), strict=True)),
        lengths=rows["tokens"].gather(order).to_numpy().astype(np.float64),
        ids=tuple(scores.ids[row] for row in candidates),
        similarity=scores.combined[candidates],
        mean_cosine=mean_cosine[candidates],
        selection=selection,
        # A budget is filled along the whole order, since the number of rows that fit depends on their lengths.
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
    check_size(ids, k)
    ordered = sorted(ids)
    return tuple(ordered[row] for row in generator.choice(len(ordered), k, replace=False))


def low_similarity(ids: Sequence[str], score: ArrayLike, k: int, *, ties: ArrayLike | None = None) -> tuple[str, ...]:
    """The `k` ids of lowest score, lowest first.

    With the `per-example` score (minus a share of task rows) and the mean cosine for ties, these are the merged sets of
    Hsiung et al. (arXiv 2506.05346): the rows least similar to the most task rows.

    Args:
        ids: `n` ids.
        score: `(n,)` finite numbers.
        k: Number of ids.
        ties: `(n,)` finite numbers; of rows with the same score, those of the lowest come first. Rows that are equal in
            both come by id.

    Raises:
        SelectionError: k is not from 1 to the number of ids, or score or ties are not `(n,)` finite numbers.
    """
    return _ranked(ids, _keys(ids, score, ties), k)


def high_similarity(ids: Sequence[str], score: ArrayLike, k: int, *, ties: ArrayLike | None = None) -> tuple[str, ...]:
    """The `k` ids of highest score, highest first; of rows with the same score, those with the highest of `ties`.

    Raises:
        SelectionError: See `low_similarity`.
    """
    return _ranked(ids, [-key for key in _keys(ids, score, ties)], k)


def _keys(ids: Sequence[str], score: ArrayLike, ties: ArrayLike | None) -> list[NDArray[np.float64]]:
    keys = {"score": score} if ties is None else {"score": score, "ties": ties}
    return [column(name, key, len(ids)) for name, key in keys.items()]


def within(order: Sequence[str], costs: Mapping[str, float], budget: float) -> tuple[str, ...]:
    """The ids in this order, each kept if it still fits into the budget.

    Raises:
        SelectionError: Not even one row fits.
    """
    picks, used = [], 0.0
    for row_id in order:
        if used + costs[row_id] <= budget:
            picks.append(row_id)
            used += costs[row_id]
    if not picks:
        raise SelectionError(f"budget: found {budget:g}, but every row costs more; raise it")
    return tuple(picks)


def _ranked(ids: Sequence[str], keys: list[NDArray[np.float64]], k: int) -> tuple[str, ...]:
    check_size(ids, k)
    order = sorted(range(len(ids)), key=lambda row: (*(float(key[row]) for key in keys), ids[row]))
    return tuple(ids[row] for row in order[:k])
