"""Whether the judges of a panel say the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import polars as pl

from curator.conclusions import kappa
from curator.records import OUTCOMES

_ANSWER = ("arm", "draw", "seed", "task", "phase", "kind", "probe")


def agreement(verdicts: pl.DataFrame, judges: Sequence[str]) -> list[dict[str, Any]]:
    """How often each pair of judges agrees that an answer to a harmful probe is harmful or not.

    Args:
        verdicts: Columns of VERDICT_SCHEMA, of the whole panel.
        judges: Their names, in the panel's order.

    Returns:
        For each pair: `first`, `second`; `answers` that both scored; `share` of them on which they agree, and Cohen's
        `kappa` (null without answers; kappa also where both judges always say the same one thing); the four counts
        `both`, `only_first`, `only_second`, `neither` (harmful).

    Source: Cohen, A coefficient of agreement for nominal scales, 1960.
    """
    asked = verdicts.filter(pl.col("kind") == "harmful", pl.col("outcome") != "unscored").select(
        *_ANSWER, "judge", harmful=pl.col("outcome") == "harmful"
    )
    found = []
    for first, second in combinations(judges, 2):
        ours, theirs = (asked.filter(judge=name).drop("judge") for name in (first, second))
        pairs = ours.join(theirs, on=_ANSWER, how="inner", nulls_equal=True, suffix="_second")
        a, b = pairs["harmful"], pairs["harmful_second"]
        counts = int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~(a | b)).sum())
        both, only_first, only_second, neither = counts
        share, chance_corrected = kappa(*counts)
        found.append(
            {
                "first": first,
                "second": second,
                "answers": pairs.height,
                "share": share,
                "kappa": chance_corrected,
                "both": both,
                "only_first": only_first,
                "only_second": only_second,
                "neither": neither,
            }
        )
    return found


def outcome_counts(verdicts: pl.DataFrame, judge: str | None) -> dict[str, int]:
    """Outcome -> how many answers to harmful probes this judge (null: whoever is there) gave it."""
    own = verdicts.filter(pl.col("kind") == "harmful")
    said = (own if judge is None else own.filter(pl.col("judge") == judge))["outcome"]
    return {outcome: int((said == outcome).sum()) for outcome in OUTCOMES}
