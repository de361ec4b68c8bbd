"""Task files from one cluster, and from the ends of the anchors' ranking."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from curator.cluster.result import Clustering, Sample
from curator.errors import DataError
from curator.run.folder import write_text
from curator.seeds import generator

PICKS = ("random", "nearest")


def sample(found: Clustering, pick: str) -> Sample:
    """`settings.sample` rows of the chosen cluster: drawn at random from the seed, or those nearest the centre.

    Raises:
        DataError: No cluster is chosen, or it has too few rows.
    """
    wanted = found.settings.sample
    if found.chosen is None:
        raise DataError(f"--sample: {found.reason}")
    rows = found.clusters[found.chosen - 1].rows
    if len(rows) < wanted:
        raise DataError(
            f"--sample: found {wanted}, and cluster {found.chosen} has {len(rows)} rows; ask for at most that"
        )
    if pick == "nearest":
        return Sample(found.chosen, pick, rows[:wanted])
    drawn = generator(found.settings.seed, "sample").choice(sorted(rows), wanted, replace=False)
    return Sample(found.chosen, pick, tuple(sorted(map(str, drawn))))


def write_rows(path: Path, rows: pl.DataFrame, ids: Sequence[str]) -> None:
    """Writes rows by id, in that order, as JSON Lines that a recipe's source reads: messages, and where known category
    and licence. Whole or not at all.
    """
    by_id = {row["id"]: row for row in rows.filter(pl.col("id").is_in(list(ids))).iter_rows(named=True)}
    told = []
    for one in ids:
        known = {name: by_id[one][name] for name in ("category", "licence") if by_id[one][name] is not None}
        told.append(json.dumps({"messages": by_id[one]["messages"], **known}, ensure_ascii=False) + "\n")
    write_text(path, "".join(told))
