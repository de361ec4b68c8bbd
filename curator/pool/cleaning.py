"""What of the recipe's `pool.clean` asks for: duplicates that leave the pool, and probes that no row may ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.errors import DataError
from curator.pool.decontaminate import Probes
from curator.pool.ledger import Hit, Ledger
from curator.pool.near import Match, near_duplicates
from curator.pool.semantic import semantic_duplicates
from curator.recipe.pool import Decontaminate, PoolSection
from curator.records import Conversations, Messages

Embed = Callable[[Sequence[str], Sequence[Messages]], NDArray[np.float32]]
"""`n` ids and conversations -> `(n, d)` unit vectors."""


def probes_of(roles: Sequence[tuple[str, pl.DataFrame]], section: Decontaminate) -> Probes:
    """Probes ready to be looked for, as the recipe asks for it."""
    return Probes(roles, ngram=section.ngram, overlap=section.overlap, shortest=section.shortest)


def without_duplicates(ledger: Ledger, rows: pl.DataFrame, pool: PoolSection, embed: Embed | None) -> pl.DataFrame:
    """The pool without near and semantic duplicates; of a pair the row of the earlier source stays, then the lower id.

    Raises:
        DataError: Semantic duplicates are asked for, and there is no embedder.
    """
    clean = pool.clean
    if clean.near_duplicates is not None:
        near = clean.near_duplicates
        ordered = _first_to_stay(ledger, rows)
        matches = near_duplicates(
            Conversations(ordered),
            threshold=near.jaccard,
            shingle=near.shingle,
            permutations=near.permutations,
            scratch=ledger.scratch,
        )
        rows = _leave(ledger, ordered, matches, "near", "a near duplicate of a kept row (Jaccard {:.3f})")
    if clean.semantic_duplicates is not None:
        if embed is None:
            raise DataError("pool.clean.semantic_duplicates: needs an embedder; name one in pool.embedder")
        ordered = _first_to_stay(ledger, rows)
        vectors = embed(ordered["id"].to_list(), Conversations(ordered))
        matches = semantic_duplicates(vectors, threshold=clean.semantic_duplicates)
        rows = _leave(ledger, ordered, matches, "semantic", "a semantic duplicate of a kept row (cosine {:.3f})")
    return rows


def _first_to_stay(ledger: Ledger, rows: pl.DataFrame) -> pl.DataFrame:
    order = {source["label"]: place for place, source in enumerate(ledger.sources["pool"])}
    return rows.sort(pl.col("source").replace_strict(order, return_dtype=pl.Int64), pl.col("id"))


def _leave(ledger: Ledger, rows: pl.DataFrame, matches: Sequence[Match], stage: str, reason: str) -> pl.DataFrame:
    hits: list[Hit | None] = [None] * rows.height
    ids = rows["id"].to_list()
    for match in matches:
        hits[match.row] = (reason.format(match.similarity), ids[match.kept])
    return ledger.leave("pool", rows, hits, stage=stage)
