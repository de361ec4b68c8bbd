"""The values that the figures of the page draw, without any text of a row: `figures.json` beside `report.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.neighbours import nearest
from curator.records import Pool, Scores, Selection, Vectors
from curator.report.facts import Arms, draws_of

BINS = 32
"""Number of bins of a distribution."""
MEASURED = 5000
"""Coverage is measured on at most so many rows, evenly spaced by id."""
STEPS = 400
"""The curve of gains has at most so many points."""


@dataclass(frozen=True)
class Distribution:
    """A score over several sets: `edges` (BINS + 1), and set -> BINS shares that sum to 1."""

    edges: Sequence[float]
    shares: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Gains:
    """The objective's `values` after so many rows, `ranks`."""

    ranks: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Coverage:
    """How well each set covers a category of the pool: the mean of the largest cosine, clipped at 0.

    Attributes:
        category: Null for rows without a category. `rows`: rows of the pool that were measured.
        curated, control: In [0, 1]; `control` is its draw of the first seed. Null if there is no set.
    """

    category: str | None
    rows: int
    curated: float | None
    control: float | None


@dataclass(frozen=True)
class Figures:
    """The values of every figure that cannot be drawn from report.json alone; empty if they are not known.

    Attributes:
        distributions: For `combined` and each task.
        coverage: By category, the largest first.
    """

    distributions: Mapping[str, Distribution] = field(default_factory=dict)
    gains: Gains | None = None
    coverage: Sequence[Coverage] = ()


def figures(
    *,
    pool: Pool,
    vectors: Vectors,
    scores: Scores,
    selection: Selection,
    arms: Arms,
    control: str,
) -> Figures:
    """The values that the figures of a run draw.

    Args:
        vectors: Vectors of the pool.
        arms: (arm, seed) -> ids of its set.
        control: The arm that the curated one is compared with.
    """
    return Figures(
        distributions={
            name: _distribution(values, scores.ids, arms)
            for name, values in {"combined": scores.combined, **scores.tasks}.items()
        },
        gains=_gains(selection),
        coverage=covered(pool, vectors, selection.ids, arms, control=control),
    )


def covered(pool: Pool, vectors: Vectors, chosen: Sequence[str], arms: Arms, *, control: str) -> list[Coverage]:
    """How well the chosen set and the control's cover each category of the pool, the largest category first."""
    category = dict(zip(pool.rows["id"], pool.rows["category"], strict=True))
    order = np.argsort(vectors.ids, kind="stable")
    measured = order[spaced(len(order), MEASURED)]
    queries = np.ascontiguousarray(vectors.matrix[measured])
    at = {name: row for row, name in enumerate(vectors.ids)}
    sets = {"curated": list(chosen), "control": list(next(iter(draws_of(arms).get(control, [])), ()))}
    frame = pl.DataFrame({"category": [category[vectors.ids[row]] for row in measured.tolist()]})
    for name, ids in sets.items():
        rows = [at[name] for name in ids if name in at]
        if not rows:
            frame = frame.with_columns(pl.lit(None, pl.Float64).alias(name))
            continue
        cosine, _ = nearest(queries, np.ascontiguousarray(vectors.matrix[rows]), 1)
        frame = frame.with_columns(pl.Series(name, np.clip(cosine[:, 0], 0.0, 1.0).astype(np.float64)))
    means = frame.group_by("category").agg(pl.len().alias("rows"), pl.col("curated").mean(), pl.col("control").mean())
    ordered = means.sort("rows", "category", descending=[True, False], nulls_last=True)
    return [Coverage(**row) for row in ordered.iter_rows(named=True)]


def spaced(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of `count` positions, evenly spaced, the first and the last among them."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def _distribution(values: NDArray[np.float64], ids: Sequence[str], arms: Arms) -> Distribution:
    low, high = float(values.min()), float(values.max())
    # Equal scores have no width, so that their axis gets one.
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    at = {name: row for row, name in enumerate(ids)}
    sets = {"pool": np.arange(len(ids))}
    for arm, draws in draws_of(arms).items():
        drawn = [name for ids_ in draws for name in ids_]
        if all(name in at for name in drawn):  # a user's arm may have rows that were not scored
            sets[arm] = np.array([at[name] for name in drawn], dtype=np.int64)
    counts = {name: np.histogram(values[rows], edges)[0] for name, rows in sets.items() if len(rows)}
    return Distribution(
        edges=edges.round(6).tolist(),
        shares={name: (count / count.sum()).round(6).tolist() for name, count in counts.items()},
    )


def _gains(selection: Selection) -> Gains:
    values = np.cumsum(selection.gains)
    shown = spaced(len(values), STEPS)
    return Gains(ranks=(shown + 1).tolist(), values=values[shown].round(9).tolist())
