"""Rows that lie near a probe, and categories by the nearest hazard, both by the pool's sentence embedder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from curator.recipe.pool import PoolSection
from curator.represent.embedder import embedder

if TYPE_CHECKING:
    import polars as pl

    from curator.records import Data, Messages


def near_probes(data: Data, pool: PoolSection, cache: Path | None = None) -> pl.DataFrame | None:
    """Rows whose prompt the embedder finds near a probe: role, id, probe, cosine, the nearest first; null where the
    recipe does not ask for it. None of them is dropped. `cache` as in `embedder`.
    """
    clean = pool.clean.decontaminate
    if clean is None or clean.neighbours is None:
        return None
    import polars as pl

    from curator.pool.decontaminate import neighbours

    embed = embedder(pool.embedder, cache)
    probes = pl.concat([data.harmful, data.benign])
    vectors = embed(probes["id"].to_list(), prompts_of(probes))
    roles = {"pool": data.pool.rows, **{f"task {task.name}": task.train for task in data.tasks}, "keep": data.keep}
    found = []
    for role, rows in roles.items():
        own = embed(rows["id"].to_list(), prompts_of(rows))
        listed = neighbours(rows["id"].to_list(), own, probes["id"].to_list(), vectors, least=clean.neighbours)
        found += [(role, *one) for one in listed]
    schema = {"role": pl.String, "id": pl.String, "probe": pl.String, "cosine": pl.Float64}
    return pl.DataFrame(found, schema=schema, orient="row").sort("cosine", "id", descending=[True, False])


def categorised(data: Data, pool: PoolSection, cache: Path | None = None) -> tuple[Data, pl.DataFrame | None]:
    """The data with the pool's missing categories filled in by the nearest hazard, and how sure each is (id, category,
    assigned, cosine, confidence); the data as it is, and null, where the recipe does not ask for it. `cache` as in
    `embedder`.
    """
    if pool.categorise is None:
        return data, None
    from dataclasses import replace

    from curator.pool.taxonomy import assign, categorise, descriptions

    embed, said, rows = embedder(pool.embedder, cache), descriptions(), data.pool.rows
    described = embed(
        [str(number) for number in range(len(said))], [[{"role": "user", "content": one}] for one in said]
    )
    found = categorise(
        rows, assign(embed(rows["id"].to_list(), prompts_of(rows)), described), least=pool.categorise.least
    )
    with_categories = rows.with_columns(found["category"])
    return replace(data, pool=replace(data.pool, rows=with_categories)), found


def prompts_of(rows: pl.DataFrame) -> Sequence[Messages]:
    """The last user turn of each row, as a conversation of its own."""
    from curator.pool.words import last
    from curator.records import Conversations

    return Conversations(rows, lambda messages: [{"role": "user", "content": last(messages, "user")}])
