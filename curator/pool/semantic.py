"""Checks by the sentence embedder: semantic duplicates, rows near a probe, hazards, and redundancy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.pool.decontaminate import neighbours
from curator.pool.near import Match
from curator.pool.taxonomy import assign, categorise, descriptions
from curator.pool.words import last
from curator.recipe.pool import PoolSection
from curator.records import Conversations, Data, Messages
from curator.represent.vectors import embedder

_BLOCK = 1024


def near_probes(
    data: Data, pool: PoolSection, cache: Path | None = None, *, dtype: str = "fp32"
) -> pl.DataFrame | None:
    """Rows whose prompt is near a probe by the embedder: role, id, probe, cosine, the nearest first; null if the recipe
    does not ask for it. These rows are not dropped. `cache` and `dtype` are as in `embedder`.
    """
    clean = pool.clean.decontaminate
    if clean is None or clean.neighbours is None:
        return None
    embed = embedder(pool.embedder, cache, dtype=dtype)
    probes = pl.concat([data.harmful, data.benign, data.pilot])
    probe_vectors = embed(probes["id"].to_list(), prompts_of(probes))
    roles = {"pool": data.pool.rows, **{f"task {task.name}": task.train for task in data.tasks}, "keep": data.keep}
    roles |= {f"regime of {task.name}": task.regime for task in data.tasks if not task.regime.is_empty()}
    roles |= {f"defence of {task.name}": task.defence for task in data.tasks if not task.defence.is_empty()}
    roles |= {f"arm {name}": rows for name, rows in data.arms.items()}
    near = []
    for role, rows in roles.items():
        prompts = embed(rows["id"].to_list(), prompts_of(rows))
        matches = neighbours(
            rows["id"].to_list(), prompts, probes["id"].to_list(), probe_vectors, least=clean.neighbours
        )
        near += [(role, *match) for match in matches]
    schema = {"role": pl.String, "id": pl.String, "probe": pl.String, "cosine": pl.Float64}
    return pl.DataFrame(near, schema=schema, orient="row").sort("cosine", "id", descending=[True, False])


def categorised(
    data: Data, pool: PoolSection, cache: Path | None = None, *, dtype: str = "fp32"
) -> tuple[Data, pl.DataFrame | None]:
    """The data with the pool's missing categories filled in by the nearest hazard, and the confidence of each (id,
    category, assigned, cosine, confidence); the unchanged data and null if the recipe does not ask for it. `cache` and
    `dtype` are as in `embedder`.
    """
    if pool.categorise is None:
        return data, None
    embed, sentences, rows = embedder(pool.embedder, cache, dtype=dtype), descriptions(), data.pool.rows
    described = embed(
        [str(number) for number in range(len(sentences))],
        [[{"role": "user", "content": sentence}] for sentence in sentences],
    )
    hazards = categorise(
        rows, assign(embed(rows["id"].to_list(), prompts_of(rows)), described), least=pool.categorise.least
    )
    with_categories = rows.with_columns(hazards["category"])
    return replace(data, pool=replace(data.pool, rows=with_categories)), hazards


def prompts_of(rows: pl.DataFrame) -> Sequence[Messages]:
    """The last user turn of each row, as a separate conversation."""
    return Conversations(rows, lambda messages: [{"role": "user", "content": last(messages, "user")}])


def semantic_duplicates(vectors: NDArray[np.float32], *, threshold: float) -> list[Match]:
    """The dropped rows, in order: each has a cosine of at least `threshold` to an earlier row that stays.

    If several kept rows are similar, the most similar one is named, the earliest among equals. A chain of similar rows
    is not dropped as a whole.

    Args:
        vectors: `(n, d)` unit rows, those to keep first; a row of zeros is similar to none.
        threshold: A cosine in (0, 1].

    Cost: one product of n x n / 2; memory beyond the vectors and the kept ones is a block of 1,024 x n.
    """
    matches: list[Match] = []
    kept_vectors = np.empty_like(vectors)
    kept_rows: list[int] = []
    # The cosines of a block are two products; which of its rows stay is decided row by row.
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        kept_before = len(kept_rows)
        before_block = block @ kept_vectors[:kept_before].T
        within = block @ block.T
        staying: list[int] = []
        for position in range(len(block)):
            similarities = np.concatenate([before_block[position], within[position, staying]])
            best = int(similarities.argmax()) if len(similarities) else -1
            if best >= 0 and similarities[best] >= threshold:
                kept_row = kept_rows[best] if best < kept_before else start + staying[best - kept_before]
                matches.append(Match(start + position, kept_row, min(float(similarities[best]), 1.0)))
                continue
            kept_vectors[kept_before + len(staying)] = block[position]
            staying.append(position)
        kept_rows += [start + position for position in staying]
    return matches


def covered(pool: NDArray[np.float32], corpus: NDArray[np.float32]) -> NDArray[np.float64]:
    """For each pool row the largest cosine to a corpus row, clipped at 0: how well the corpus covers it, `(n,)` in [0,
    1].
    """
    best = np.zeros(len(pool))
    for start in range(0, len(pool), 4096):
        best[start : start + 4096] = (pool[start : start + 4096] @ corpus.T).max(axis=1, initial=0.0)
    return best


class Redundancy(NamedTuple):
    """Two measures from 1 to the number of rows n: n for orthogonal rows, and 1 if all rows are equal.

    Attributes:
        effective: 1 over the sum of squared cosines of all pairs, over n squared: a row with a copy counts as half.
        vendi: The exponential of the entropy of the eigenvalues of the cosine matrix over n (Friedman and Dieng 2023,
            arXiv 2210.02410); it gives rare kinds more weight.
    """

    effective: float
    vendi: float


def redundancy(vectors: NDArray[np.float32]) -> Redundancy:
    """The effective number of rows and the Vendi score of `(n, d)` unit rows.

    Both come from the d x d matrix X'X / n, whose eigenvalues other than 0 are those of XX' / n; cost n d^2 + d^3.
    """
    if not len(vectors):
        return Redundancy(0.0, 0.0)
    wide = vectors.astype(np.float64)
    # In float64: eigenvalues that float32 rounds below 0 have no logarithm.
    values = np.linalg.eigvalsh(wide.T @ wide / len(wide))
    values = values[values > 1e-12]
    values /= values.sum()
    return Redundancy(float(1.0 / np.sum(values**2)), float(np.exp(-np.sum(values * np.log(values)))))
