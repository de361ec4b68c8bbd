"""Splits and additions of tasks and probes: disjoint halves of the probes, an attack's rows, a defence's rows."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.errors import DataError
from curator.language import words
from curator.model.chat import with_trigger
from curator.pool.ledger import Ledger
from curator.recipe.source import of_regime, rows_added
from curator.recipe.task import TaskSection
from curator.records import ROW_SCHEMA, Conversations, no_rows, row_id
from curator.seeds import by_hash
from curator.wording import these

# A stratum of one category is divided by the similarity of its probes to the tasks: near and far, each in both parts.
_CUTS = 2


def halves(
    probes: pl.DataFrame, tasks: Mapping[str, pl.DataFrame], share: float, *, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pilot's probes and the final ones, split once by hash within strata.

    A stratum is a category and a nearest task, divided into the half that is more similar to the task's own prompts and
    the other. So every category, and the format of every task, is in both parts if a stratum has two probes. The
    similarity of a probe to a task is the cosine of its counts of words and punctuation with those of all the task's
    prompts.

    Args:
        probes: In the columns of ROW_SCHEMA, each ending with a user turn.
        tasks: Task name -> training rows, whose prompts are read.
        share: Share of every stratum for the pilot, in (0, 1); at least one probe, and at least one is left.
        seed: Seed of the choice by hash.

    Raises:
        DataError: There are fewer than two probes.
    """
    if probes.height < 2:
        raise DataError(
            f"harmful probes: found {probes.height}, and a pilot or a search for the regime needs its own probes; give "
            "more, or set select.weight to a number and verify.regime to null"
        )
    near, closeness = nearest_task(Conversations(probes), tasks)
    frame = pl.DataFrame(
        {"id": probes["id"], "category": probes["category"].fill_null(""), "task": near, "closeness": closeness}
    )
    pilot: set[str] = set()
    for (category, task), part in sorted(frame.group_by("category", "task"), key=lambda item: item[0]):
        ordered = part.sort(["closeness", "id"], descending=[True, False])["id"].to_list()
        size = -(-len(ordered) // _CUTS) if len(ordered) >= 2 * _CUTS else len(ordered)
        for cut, start in enumerate(range(0, len(ordered), size)):
            ids = ordered[start : start + size]
            count = round(share * len(ids)) if len(ids) < 2 else min(max(1, round(share * len(ids))), len(ids) - 1)
            pilot |= by_hash(ids, count, seed=seed, purpose=f"pilot/{category}/{task}/{cut}")
    chosen = probes["id"].is_in(list(pilot))
    if not pilot or len(pilot) == probes.height:
        first = by_hash(probes["id"], 1 if not pilot else probes.height - 1, seed=seed, purpose="pilot")
        chosen = probes["id"].is_in(list(first))
    return probes.filter(chosen), probes.filter(~chosen)


def nearest_task(
    prompts: Sequence[Sequence[Mapping[str, str]]], tasks: Mapping[str, pl.DataFrame]
) -> tuple[list[str], NDArray[np.float64]]:
    """The task whose prompts each conversation is most similar to (the first by name among equals), and the cosine, in
    [0, 1].
    """
    names = sorted(tasks)
    counts = {name: sum((_counts(messages) for messages in Conversations(tasks[name])), Counter()) for name in names}
    cosines = np.array([[_cosine(_counts(messages), counts[name]) for name in names] for messages in prompts])
    best = cosines.argmax(axis=1)
    return [names[row] for row in best], cosines[np.arange(len(prompts)), best]


def _counts(messages: Sequence[Mapping[str, str]]) -> Counter[str]:
    text = "\n".join(turn["content"] for turn in messages if turn["role"] == "user")
    return Counter([*words(text), *(sign for sign in text if unicodedata.category(sign).startswith("P"))])


def _cosine(first: Counter[str], second: Counter[str]) -> float:
    product = sum(count * second[word] for word, count in first.items())
    length = (sum(c * c for c in first.values()) * sum(c * c for c in second.values())) ** 0.5
    return product / length if length else 0.0


def regime_rows(ledger: Ledger, task: TaskSection, task_rows: int) -> pl.DataFrame:
    """The attack's rows of a task, chosen by hash: a share of `task.rows`, or of all `task_rows` rows if the task takes
    all of its rows.

    Raises:
        DataError: The user's data has too few rows.
    """
    if task.regime is None:
        return no_rows()
    share = task.regime.share
    count = rows_added(task_rows, share) if task.rows is None else of_regime(task.rows, share)
    role = f"regime of {task.name}"
    rows = ledger.unclaimed(role, ledger.read(role, [task.regime.data]), stage="leak")
    return _taken(ledger, role, rows, count, task.regime.data.label)


def defence_rows(ledger: Ledger, task: TaskSection, attacked: int, pool: pl.DataFrame) -> pl.DataFrame:
    """The safety rows that the provider adds to `attacked` rows, chosen by hash from its own data or from the pool,
    with the trigger, if there is one, in front of their prompts.

    Raises:
        DataError: There are too few.
    """
    if task.defence is None:
        return no_rows()
    count, role = rows_added(attacked, task.defence.safety_mix), f"defence of {task.name}"
    if task.defence.data is None:
        if pool.height < count:
            raise DataError(
                f"{role}: needs {these(count, 'safety row', 'safety rows')}, but the pool has {pool.height:,}; lower "
                "safety_mix, or give data"
            )
        chosen = by_hash(pool["id"], count, seed=ledger.seed, purpose=role)
        rows = pool.filter(pl.col("id").is_in(list(chosen)))
    else:
        rows = ledger.unclaimed(role, ledger.read(role, [task.defence.data]), stage="leak")
        rows = _taken(ledger, role, rows, count, task.defence.data.label)
    return rows if task.defence.trigger is None else triggered(rows, task.defence.trigger)


def defended(pool: pl.DataFrame, defence: pl.DataFrame, trigger: str | None) -> set[str]:
    """Ids of the pool's rows that a defence holds, also if it holds them behind its trigger and so with other ids."""
    held = set(defence["id"])
    if trigger is None or not held:
        return held & set(pool["id"])
    turns = zip(pool["id"], Conversations(pool), strict=True)
    return {pool_id for pool_id, messages in turns if row_id(with_trigger(messages, trigger)) in held}


def triggered(rows: pl.DataFrame, trigger: str) -> pl.DataFrame:
    """The rows with the trigger in front of the first prompt, with new ids, sorted by id."""
    messages = [with_trigger(turns, trigger) for turns in rows["messages"].to_list()]
    return rows.with_columns(
        pl.Series("id", [row_id(turns) for turns in messages], dtype=pl.String),
        pl.Series("messages", messages, dtype=ROW_SCHEMA["messages"]),
    ).sort("id")


def _taken(ledger: Ledger, role: str, rows: pl.DataFrame, count: int, label: str) -> pl.DataFrame:
    if rows.height < count:
        raise DataError(
            f"{role}: needs {these(count, 'row', 'rows')}, but {label} has {rows.height:,} ({ledger.account(role)}); "
            "lower the share, lower the task's rows, or give more"
        )
    return ledger.take(role, rows, count, purpose=role)
