"""Answers as judges want them, and verdicts as statistics want them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from curator.records import VERDICT_SCHEMA, Asked, Data, Verdict


def asked_of(answers: pl.DataFrame, data: Data) -> list[Asked]:
    """Every answer with the conversation that it answers, in the frame's order.

    A test row's last assistant turn is no part of the conversation but its reference.
    """
    frames = [data.harmful, data.benign, data.pilot, *(task.test for task in data.tasks)]
    turns = {one: said for frame in frames for one, said in zip(frame["id"], frame["messages"].to_list(), strict=True)}
    found = []
    for kind, probe, answer in answers.select("kind", "probe", "answer").iter_rows():
        said = turns[probe]
        known = said[-1]["content"] if said[-1]["role"] == "assistant" else None
        found.append(Asked(kind, said if known is None else said[:-1], answer, known))
    return found


def verdict_frame(answers: pl.DataFrame, judge: str, verdicts: Sequence[Verdict]) -> pl.DataFrame:
    """The verdicts on `answers`, one a row, in the columns of VERDICT_SCHEMA."""
    return answers.with_columns(
        pl.lit(judge).alias("judge"),
        *(
            pl.Series(name, [getattr(verdict, name) for verdict in verdicts], dtype=VERDICT_SCHEMA[name])
            for name in ("outcome", "refused", "score", "reason", "raw")
        ),
    ).select(list(VERDICT_SCHEMA))
