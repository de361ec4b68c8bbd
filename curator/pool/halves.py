"""Harmful probes in two parts that share no probe: the pilot's and the final verification's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.errors import DataError
from curator.records import Conversations
from curator.seeds import by_hash

# A stratum of one category is cut once by how much its probes read like the tasks: near and far, each in both parts.
_CUTS = 2
_WORD = re.compile(r"\w+|[^\w\s]")


def halves(
    probes: pl.DataFrame, tasks: Mapping[str, pl.DataFrame], share: float, *, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pilot's probes and the final ones, split once by hash within strata.

    A stratum is a category and a nearest task, the half of it that reads more like the task's own prompts apart from
    the other: so every category, and the format of every task, is in both parts wherever a stratum has two probes. How
    much a probe reads like a task is the cosine of its counts of words and marks with those of all the task's prompts.

    Args:
        probes: In the columns of ROW_SCHEMA, each ending with a user turn.
        tasks: Task name -> training rows, whose prompts are read.
        share: Of every stratum, for the pilot, in (0, 1); at least one, and at least one is left.
        seed: Of the choice by hash.

    Raises:
        DataError: There are fewer than two probes.
    """
    if probes.height < 2:
        raise DataError(
            f"harmful probes: found {probes.height}, and a pilot needs some of its own; give more, or set "
            "select.weight to a number"
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
            wanted = round(share * len(ids)) if len(ids) < 2 else min(max(1, round(share * len(ids))), len(ids) - 1)
            pilot |= by_hash(ids, wanted, seed=seed, purpose=f"pilot/{category}/{task}/{cut}")
    chosen = probes["id"].is_in(list(pilot))
    if not pilot or len(pilot) == probes.height:
        first = by_hash(probes["id"], 1 if not pilot else probes.height - 1, seed=seed, purpose="pilot")
        chosen = probes["id"].is_in(list(first))
    return probes.filter(chosen), probes.filter(~chosen)


def nearest_task(
    prompts: Sequence[Sequence[Mapping[str, str]]], tasks: Mapping[str, pl.DataFrame]
) -> tuple[list[str], NDArray[np.float64]]:
    """The task whose prompts each conversation reads most like (the first by name among equals), and the cosine."""
    names = sorted(tasks)
    counts = {name: sum((_counts(one) for one in Conversations(tasks[name])), Counter()) for name in names}
    cosines = np.array([[_cosine(_counts(one), counts[name]) for name in names] for one in prompts])
    best = cosines.argmax(axis=1)
    return [names[row] for row in best], cosines[np.arange(len(prompts)), best]


def _counts(messages: Sequence[Mapping[str, str]]) -> Counter[str]:
    users = [turn["content"] for turn in messages if turn["role"] == "user"]
    return Counter(word for text in users for word in _WORD.findall(text.lower()))


def _cosine(first: Counter[str], second: Counter[str]) -> float:
    product = sum(count * second[word] for word, count in first.items())
    length = (sum(c * c for c in first.values()) * sum(c * c for c in second.values())) ** 0.5
    return product / length if length else 0.0
