"""Rows by their similarity to given anchors: what the fragile clusters are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from curator.audit.request import source_of
from curator.cluster.result import Anchored
from curator.errors import DataError
from curator.pool.sources import read
from curator.records import Embed, Vectors
from curator.score.cosine import cosine


def anchors_of(file: str | None, option: str, nearest: int, base: Path) -> pl.DataFrame | None:
    """The rows of a file of anchors, prompts with answers; null where none is named.

    Raises:
        DataError: It cannot be read, or holds fewer anchors than `nearest`.
    """
    if file is None:
        return None
    rows = read(source_of(file), base=base).rows
    if rows.height < nearest:
        raise DataError(
            f"--anchor-nearest: found {nearest}, and {option} {file} holds {rows.height} anchors; "
            f"allowed: 1 to {rows.height}"
        )
    return rows


def ranked(
    ids: Sequence[str],
    matrix: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    harmful: pl.DataFrame,
    safe: pl.DataFrame | None,
    embed: Embed,
    *,
    nearest: int,
    rows: int,
) -> Anchored:
    """The `rows` rows (or all) most and least similar to the anchors; ties go by id.

    A row's score is the mean of its `nearest` largest cosines to harmful anchors, less the mean of its `nearest`
    largest to safe ones where there are any: in [-2, 2], He et al. 2024 with n = 1.
    """
    task = Vectors(tuple(ids), matrix, "")

    def similarity(anchors: pl.DataFrame) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        names = anchors["id"].to_list()
        vectors = Vectors(tuple(names), embed(names, anchors["messages"].to_list()), "")
        return cosine(task, {"anchors": vectors}, {"anchors": 1.0}, aggregate="top-mean", n=nearest).combined

    scores = similarity(harmful)
    if safe is not None:
        scores = scores - similarity(safe)
    names = np.array(ids)
    falling = np.lexsort((names, -scores))[:rows]
    rising = np.lexsort((names, scores))[:rows]
    top, bottom = (tuple((str(names[row]), float(scores[row])) for row in order) for order in (falling, rising))
    return Anchored(harmful.height, 0 if safe is None else safe.height, nearest, top, bottom)
