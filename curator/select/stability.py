"""How much chosen sets agree: across seeds, layers or embedders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import polars as pl

STABILITY_SCHEMA = {
    "one": pl.String,
    "other": pl.String,
    "shared": pl.Int64,
    "overlap": pl.Float64,
    "chance": pl.Float64,
    "rank_correlation": pl.Float64,
}


def stability(sets: Mapping[str, Sequence[str]], pool_rows: int) -> pl.DataFrame:
    """One row a pair of sets.

    Args:
        sets: Name -> ids in the order picked.
        pool_rows: Rows of the pool that all were chosen from.

    Returns:
        `shared` ids; `overlap`: shared / size of the smaller set, in [0, 1]; `chance`: the overlap expected of random
        sets of these sizes; `rank_correlation`: Spearman's rho of the picking order of the shared ids, in [-1, 1], null
        for fewer than 3.
    """
    from scipy.stats import spearmanr

    rows = []
    for one, other in combinations(sorted(sets), 2):
        first, second = ({row: rank for rank, row in enumerate(sets[name])} for name in (one, other))
        shared = sorted(set(first) & set(second))
        rank = None
        if len(shared) >= 3:
            rank = float(spearmanr([first[i] for i in shared], [second[i] for i in shared]).statistic)
        smaller, larger = sorted((len(first), len(second)))
        overlap = len(shared) / smaller if smaller else 0.0
        rows.append((one, other, len(shared), overlap, larger / pool_rows, rank))
    return pl.DataFrame(rows, schema=STABILITY_SCHEMA, orient="row")
