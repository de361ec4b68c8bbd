"""The alignment sets of every arm and seed, so that all of them are fixed before any training starts."""

from __future__ import annotations

from collections.abc import Mapping

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
        seed: The recipe's.
    """
    known = {one: row for row, one in enumerate(rows["id"])}
    order = [known[one] for one in scores.ids]
    groups = [category or "no category" for category in rows["category"].gather(order)]
    lengths = rows["tokens"].gather(order).to_numpy().astype(np.float64)
    k, ids = len(selection.ids), scores.ids
    size = k if budget is None else len(ids)
    tokens = dict(zip(ids, lengths.tolist(), strict=True))

    def within(order: tuple[str, ...]) -> tuple[str, ...]:
        return order if budget is None else arms.within(order, tokens, budget)

    per_example = scores.parameters.get("aggregate") == "per-example"

    def draw(arm: str, number: int) -> tuple[str, ...]:
        if arm == "curated":
            return selection.ids
        if arm == "random":
            return within(arms.random(ids, size, generator(seed, "random", number)))
        if arm == "matched-random":
            own = generator(seed, "matched-random", number)
            return arms.matched_random(ids, groups, lengths, selection.ids, k=k, generator=own)
        if arm == "low-similarity":
            return within(
                arms.per_example(ids, scores.combined, mean_cosine, size)
                if per_example
                else arms.low_similarity(ids, scores.combined, size)
            )
        if arm == "high-similarity":
            return within(arms.high_similarity(ids, scores.combined, size))
        return arms.full(ids)

    parts = [
        pl.DataFrame({"arm": arm, "seed": number, "id": draw(arm, number)}, schema=ARM_SCHEMA)
        for arm, count in seeds.items()
        if arm != NONE
        for number in range(count)
    ]
    return pl.concat(parts)
