"""Texts to be read on the page, chosen by rule: rows of the curated set, and what the models said to probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from curator.records import Pool, Scores, Selection

SAMPLES, PROBES = 6, 6


@dataclass(frozen=True)
class Sample:
    """A row of the curated set: `rank` from 0, and its conversation as (role, content)."""

    rank: int
    id: str
    category: str | None
    source: str
    similarity: float
    gain: float
    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Example:
    """A harmful probe and what models said to it: (arm, phase, answer, outcome) of one seed and task."""

    probe: str
    category: str | None
    task: str
    seed: int
    turns: tuple[tuple[str, str], ...]
    answers: tuple[tuple[str, str, str, str], ...]


def samples(pool: Pool, scores: Scores, selection: Selection) -> list[Sample]:
    """The SAMPLES rows picked first."""
    rows = {row["id"]: row for row in pool.rows.filter(pl.col("id").is_in(selection.ids[:SAMPLES])).to_dicts()}
    similarity = dict(zip(scores.ids, scores.combined.tolist(), strict=True))
    return [
        Sample(
            rank=rank,
            id=one,
            category=rows[one]["category"],
            source=rows[one]["source"],
            similarity=similarity[one],
            gain=float(gain),
            turns=_turns(rows[one]["messages"]),
        )
        for rank, (one, gain) in enumerate(zip(selection.ids[:SAMPLES], selection.gains, strict=False))
    ]


def examples(
    answers: pl.DataFrame, verdicts: pl.DataFrame, probes: pl.DataFrame, *, treatment: str, control: str, task: str
) -> list[Example]:
    """PROBES harmful probes at the first seed on one task: those on which the two arms' outcomes after fine-tuning
    differ come first, then all, by id.

    Args:
        answers: Columns of ANSWER_SCHEMA.
        verdicts: Of one judge, in the columns of VERDICT_SCHEMA.
        probes: The harmful ones, in the columns of ROW_SCHEMA.
    """
    key = ["arm", "draw", "seed", "task", "phase", "kind", "probe"]
    arms = pl.col("arm").is_in([treatment, control])
    there = pl.col("task").is_null() | (pl.col("task") == task)
    asked = answers.filter(arms, there, pl.col("kind") == "harmful")
    if not asked.height:
        return []
    said = asked.filter(pl.col("seed") == asked["seed"].min()).join(
        verdicts.select(*key, "outcome"), on=key, how="inner", nulls_equal=True
    )
    after = said.filter(phase="after").group_by("probe").agg(pl.col("outcome").n_unique().alias("outcomes"))
    order = after.sort("outcomes", "probe", descending=[True, False])["probe"].to_list()[:PROBES]
    texts = {row["id"]: row for row in probes.filter(pl.col("id").is_in(order)).to_dicts()}
    found = []
    for probe in order:
        own = said.filter(probe=probe).sort(pl.col("arm") != treatment, pl.col("phase") == "after").to_dicts()
        row = texts.get(probe)
        found.append(
            Example(
                probe=probe,
                category=row["category"] if row else None,
                task=task,
                seed=own[0]["seed"],
                turns=_turns(row["messages"]) if row else (),
                answers=tuple((one["arm"], one["phase"], one["answer"], one["outcome"]) for one in own),
            )
        )
    return found


def _turns(messages: Sequence[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((turn["role"], turn["content"]) for turn in messages)
