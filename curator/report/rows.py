"""What the rows are: pool and drops, and how the arms' sets differ in similarity, overlap and categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.records import Pool, Scores

Arms = Mapping[tuple[str, int], Sequence[str]]
_QUANTILES = {"min": 0.0, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}


def pool_facts(pool: Pool) -> dict[str, Any]:
    """Rows read, kept and dropped, by source and by reason, largest first."""
    reasons = (
        # A row's own length stands in its reason; here rows that are too long are one kind.
        pool.dropped.with_columns(
            pl.col("reason").str.replace(r"^the row has [\d,]+ tokens, more", "the row has more tokens")
        )
        .group_by("stage", "reason")
        .len("rows")
        .sort("rows", "stage", "reason", descending=[True, False, False])
    )
    kept, dropped = Counter(pool.rows["source"]), Counter(pool.dropped["source"])
    return {
        "read": pool.rows.height + pool.dropped.height,
        "kept": pool.rows.height,
        "dropped": pool.dropped.height,
        "reasons": reasons.to_dicts(),
        "sources": [
            {
                "source": source,
                "read": kept[source] + dropped[source],
                "kept": kept[source],
                "dropped": dropped[source],
                "licences": sorted(_licences(pool.rows.filter(source=source)), key=lambda one: (one is None, one)),
            }
            for source in sorted(kept | dropped)
        ],
        "tokens": quantiles(pool.rows["tokens"].drop_nulls().to_numpy()),
    }


def _licences(rows: pl.DataFrame) -> list[str | None]:
    return rows["licence"].unique().to_list()


def quantiles(values: NDArray[Any]) -> dict[str, float] | None:
    """Mean and quantiles (linear between rows), null of nothing."""
    if not len(values):
        return None
    cuts = np.quantile(values.astype(np.float64), list(_QUANTILES.values()))
    return {"mean": float(values.mean()), **dict(zip(_QUANTILES, cuts.tolist(), strict=True))}


def draws_of(arms: Arms) -> dict[str, list[tuple[str, ...]]]:
    """Arm -> its distinct sets, in the order of seeds; an arm that is the same for every seed has one."""
    found: dict[str, dict[tuple[str, ...], None]] = {}
    for arm, seed in sorted(arms, key=lambda cell: (cell[0], cell[1])):
        found.setdefault(arm, {})[tuple(sorted(arms[arm, seed]))] = None
    return {arm: list(sets) for arm, sets in found.items()}


def similarity(scores: Scores, arms: Arms) -> dict[str, Any]:
    """Distribution of the score over the pool and over each arm's sets: `combined`, and `tasks` by name.

    Each maps `pool` or an arm's name to mean and quantiles; an arm drawn several times is all its draws together. Null
    for an arm of the user's with rows that are not the pool's: those were not scored.
    """
    place = {one: row for row, one in enumerate(scores.ids)}
    rows = {
        arm: [place[one] for ids in sets for one in ids] if all(one in place for ids in sets for one in ids) else None
        for arm, sets in draws_of(arms).items()
    }

    def spread(values: NDArray[np.float64]) -> dict[str, Any]:
        return {"pool": quantiles(values), **{arm: own and quantiles(values[own]) for arm, own in rows.items()}}

    return {"combined": spread(scores.combined), "tasks": {name: spread(v) for name, v in scores.tasks.items()}}


def overlap(chosen: Sequence[str], arms: Arms, *, rows: int, treatment: str) -> list[dict[str, Any]]:
    """Rows that each other arm's sets share with the chosen one: mean, least and most over draws, and by chance."""
    wanted, found = set(chosen), []
    for arm, sets in draws_of(arms).items():
        if arm == treatment:
            continue
        shared = [len(wanted & set(ids)) for ids in sets]
        size = float(np.mean([len(ids) for ids in sets]))
        found.append(
            {
                "arm": arm,
                "draws": len(sets),
                "rows": size,
                "shared": float(np.mean(shared)),
                "least": min(shared),
                "most": max(shared),
                "by_chance": size * len(wanted) / rows,
            }
        )
    return found


def categories(pool: Pool, arms: Arms, own: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """Rows of each category (null: none named) in the pool and, as a mean over draws, in each arm; largest first.

    `own` holds the rows of the user's arms, which need not be the pool's.
    """
    label = {one: name for rows in own.values() for one, name in rows.select("id", "category").iter_rows()}
    label |= dict(zip(pool.rows["id"], pool.rows["category"], strict=True))
    counts = Counter(pool.rows["category"])
    counts.update(dict.fromkeys(label.values(), 0))  # categories that only an arm has stand at 0
    by_arm = {
        arm: {name: total / len(sets) for name, total in Counter(label[one] for ids in sets for one in ids).items()}
        for arm, sets in draws_of(arms).items()
    }
    order = sorted(counts, key=lambda name: (-counts[name], name is None, name or ""))
    return [
        {
            "category": name,
            "pool": counts[name],
            "arms": {arm: mean.get(name, 0.0) for arm, mean in by_arm.items()},
        }
        for name in order
    ]
