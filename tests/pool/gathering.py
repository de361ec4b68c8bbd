"""Gathers small made-up data, for tests; every role can be replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from curator.pool.gather import Gathered, gather
from curator.recipe import Probes
from curator.recipe.pool import Clean, PoolSection
from curator.recipe.source import Source
from curator.recipe.task import TaskSection
from curator.recipe.task import Test as HeldOut
from curator.recipe.verify import Keep
from curator.records import Embed

Rows = list[dict[str, Any]]


def pairs(what: str, count: int) -> Rows:
    return [{"prompt": f"{what} {n}", "response": f"answer {what} {n}"} for n in range(count)]


def gatherer(lines: Callable[..., Source], count_words: Callable[..., list[int]]) -> Callable[..., Gathered]:
    """Gathers small data; every role can be replaced."""

    def run(
        *,
        pool: Rows | None = None,
        task: Rows | None = None,
        keep: Rows | None = None,
        harmful: Rows | None = None,
        benign: Rows | None = None,
        seed: int = 0,
        clean: Clean | None = None,
        embed: Embed | None = None,
        **task_options: Any,
    ) -> Gathered:
        options = {"rows": 20, "test": HeldOut(rows=10), **task_options}
        source = lines(task or pairs("task", 40), "task.jsonl")
        return gather(
            pool=PoolSection(sources=[lines(pool or pairs("pool", 30), "pool.jsonl")], clean=clean or Clean()),
            tasks=[TaskSection(name="first", train=source, metric="exact", **options)],
            weights={"first": 1.0},
            probes=Probes(
                harmful=[lines(harmful or pairs("probe", 8), "harmful.jsonl")],
                benign=[lines(benign or pairs("benign", 8), "benign.jsonl")],
            ),
            keep=Keep(data=lines(keep or pairs("keep", 12), "keep.jsonl"), rows=10),
            count_tokens=count_words,
            embed=embed,
            seed=seed,
        )

    return run
