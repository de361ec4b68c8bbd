"""The alignment sets of every arm and seed, so that all of them are fixed before any training starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.records import Scores, Selection
from curator.seeds import generator
from curator.select import arms

ARM_SCHEMA = {"arm": pl.String, "seed": pl.Int64, "id": pl.String}
NONE = "none"


def draw_arms(
    rows: pl.DataFrame,
    scores: Scores,
    selection: Selection,
    *,
    seeds: Mapping[str, int],
    mean_cosine: NDArray[np.float64],
    budget: int | None = None,
    own: Mapping[str, Sequence[str]] | None = None,
    drawable: Set[str] | None = None,
    seed: int,
) -> pl.DataFrame:
    """Row ids of each arm at each seed, in the columns of ARM_SCHEMA; random arms are drawn anew at every seed.

    Args:
        rows: The pool, in the columns of ROW_SCHEMA: categories and lengths are matched by `matched-random`.
        scores: Of the same rows. `selection`: the curated arm, and the size of all arms but `full`.
        seeds: Arm -> how many seeds it runs.
        mean_cosine: `(n,)` aligned with `scores`, which breaks the ties of the per-example score.
        budget: Most tokens of a set, where the curated one was chosen under a budget: random, low and high similarity
            then take rows in their order while one fits. Matched random has as many rows as the curated set, of like
            lengths.
        own: Arms whose ids are given: the user's own, and the pilot's best random draw.
        drawable: Ids that controls are drawn from; null for all. A given set may hold rows that are no candidates.
        seed: The recipe's.

    Raises:
        SelectionError: There are too few candidates for a set of that size.
    """
    known = {one: row for row, one in enumerate(rows["id"])}
    order = [known[one] for one in scores.ids]
    groups = [category or "no category" for category in rows["category"].gather(order)]
    lengths = rows["tokens"].gather(order).to_numpy().astype(np.float64)
    open_to = np.flatnonzero([drawable is None or one in drawable for one in scores.ids])
    ids = tuple(scores.ids[row] for row in open_to)
    similarity, mean_cosine = scores.combined[open_to], mean_cosine[open_to]
    k = len(selection.ids)
    size = k if budget is None else len(ids)
    tokens = dict(zip(scores.ids, lengths.tolist(), strict=True))

    def within(order: tuple[str, ...]) -> tuple[str, ...]:
        return order if budget is None else arms.within(order, tokens, budget)

    per_example = scores.parameters.get("aggregate") == "per-example"

    def draw(arm: str, number: int) -> tuple[str, ...]:
        if own is not None and arm in own:
            return tuple(own[arm])
        if arm == "curated":
            return selection.ids
        if arm == "random":
            return within(arms.random(ids, size, generator(seed, "random", number)))
        if arm == "matched-random":
            return arms.matched_random(
                scores.ids, groups, lengths, selection.ids, k=k, drawable=drawable,
                generator=generator(seed, "matched-random", number),
            )  # fmt: skip
        if arm == "low-similarity":
            return within(
                arms.per_example(ids, similarity, mean_cosine, size)
                if per_example
                else arms.low_similarity(ids, similarity, size)
            )
        if arm == "high-similarity":
            return within(arms.high_similarity(ids, similarity, size))
        if arm == "full":
            return arms.full(ids)
        raise ValueError(f"arm {arm!r} has no rows: it is neither built in nor given")

    parts = [
        pl.DataFrame({"arm": arm, "seed": number, "id": draw(arm, number)}, schema=ARM_SCHEMA)
        for arm, count in seeds.items()
        if arm != NONE
        for number in range(count)
    ]
    return pl.concat(parts)
