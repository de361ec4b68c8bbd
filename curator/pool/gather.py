"""Reads everything a run needs, and keeps the roles apart: no probe and no test row is ever trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curator.errors import DataError
from curator.pool.choose import by_hash
from curator.pool.ledger import Ledger
from curator.pool.sources import CountTokens, with_tokens
from curator.recipe import PoolSection, Probes, TaskSection
from curator.recipe_source import Source
from curator.recipe_verify import Keep
from curator.records import ROW_SCHEMA, Data, Pool, Task


class Gathered(NamedTuple):
    """All data of a run, and what became of the rest.

    Attributes:
        data: The pool, tasks, keep rows and probes, every frame sorted by id.
        dropped: Every record read that is in none of them, in the columns of `ledger.SCHEMA`: `role` is `pool`, `keep`,
            `task NAME`, `test of NAME`, `harmful probes` or `benign probes`. Stages are those of `sources.read`, then
            `duplicate` (across sources), `split` (its prompt is a test row's), `leak` (its prompt stands in a role that
            comes before its own; `match` is the row there) and `rows` (not among those taken).
        resolved: Role -> `sources`, each as it was read, and `read`, `kept`, `dropped`, where read = kept + dropped
            (`task NAME` counts its train rows and the test rows split off from the same source as kept).
    """

    data: Data
    dropped: pl.DataFrame
    resolved: dict[str, Any]


def gather(
    *,
    pool: PoolSection,
    tasks: Sequence[TaskSection],
    weights: Mapping[str, float],
    probes: Probes,
    keep: Keep | None,
    count_tokens: CountTokens,
    base: Path = Path("."),
    seed: int = 0,
    tell: Callable[[str], None] | None = None,
) -> Gathered:
    """Everything a run reads, each row in one role.

    Test rows are chosen first, by hash; then no task trains on a prompt of any task's test rows; training rows are
    chosen by hash. Where a prompt stands in several roles, the first of these keeps it: tasks, pool, keep rows, harmful
    probes, benign probes. Prompts are the same when they are equal after Unicode NFC and folded white space; a prompt
    also counts as asked where it is an earlier turn of a longer conversation.

    Args:
        pool, tasks, probes, keep: Sections of the recipe.
        weights: Task mass by name.
        count_tokens: `n` conversations -> `n` counts of the whole templated conversation in the model's tokens.
        base: Folder that relative paths start from.
        seed: Of every choice by hash.
        tell: Called with one line a source.

    Raises:
        DataError: A source cannot be read; a task, the keep rows or probes have fewer rows than asked; no pool rows or
            no probes are left.
    """
    ledger = Ledger(base, seed, tell)
    candidates = ledger.read("pool", pool.sources, count_tokens=count_tokens, max_tokens=pool.clean.max_tokens)
    everything = {task.name: ledger.read(f"task {task.name}", [task.train]) for task in tasks}
    tests = {task.name: _test_rows(ledger, task, everything[task.name]) for task in tasks}
    for name, rows in tests.items():
        ledger.claim(f"test of {name}", rows)
    trains = {task.name: _train_rows(ledger, task, everything[task.name], tests[task.name]) for task in tasks}
    for name, rows in trains.items():
        ledger.claim(f"task {name}", rows)
    candidates = ledger.unclaimed("pool", candidates, stage="leak")
    if candidates.is_empty():
        raise DataError(f"pool: no rows left: {ledger.account('pool')}; add sources, or remove what is in the tasks")
    ledger.claim("pool", candidates)
    kept = _keep_rows(ledger, keep)
    ledger.claim("keep", kept)
    harmful = _probe_rows(ledger, "harmful probes", probes.harmful)
    ledger.claim("harmful probes", harmful)
    benign = _probe_rows(ledger, "benign probes", probes.benign)

    def counted(rows: pl.DataFrame) -> pl.DataFrame:
        return with_tokens(rows, count_tokens) if rows.height else rows

    data = Data(
        pool=Pool(candidates, ledger.drops(["pool"]).drop("role")),
        tasks=tuple(
            Task(
                task.name,
                counted(trains[task.name]),
                counted(tests[task.name]),
                weights[task.name],
                task.metric if isinstance(task.metric, str) else task.metric.python,
            )
            for task in tasks
        ),
        harmful=harmful,
        benign=benign,
        keep=counted(kept),
    )
    resolved = {role: {"sources": ledger.sources[role], **ledger.counts(role)} for role in ledger.sources}
    return Gathered(data, ledger.drops(), resolved)


def _test_rows(ledger: Ledger, task: TaskSection, everything: pl.DataFrame) -> pl.DataFrame:
    wanted, role = task.test.rows, f"task {task.name}"
    if task.test.split is None:
        if everything.height <= wanted:
            raise DataError(
                f"{role}: {wanted:,} test rows asked, which leaves none of {everything.height:,} rows of "
                f"{task.train.label} to train on ({ledger.account(role)}); set test.rows lower, or give more rows"
            )
        taken = by_hash(everything["id"], wanted, seed=ledger.seed, purpose="test")
        return everything.filter(pl.col("id").is_in(list(taken)))
    role = f"test of {task.name}"
    rows = ledger.read(role, [task.train.model_copy(update={"split": task.test.split, "rows": None})])
    if rows.height < wanted:
        raise DataError(
            f"{role}: {wanted:,} rows asked, {rows.height:,} found in split {task.test.split} "
            f"({ledger.account(role)}); set test.rows to at most {rows.height:,}"
        )
    return ledger.take(role, rows, wanted, purpose="test")


def _train_rows(ledger: Ledger, task: TaskSection, everything: pl.DataFrame, test: pl.DataFrame) -> pl.DataFrame:
    role = f"task {task.name}"
    rows = everything.join(test, on="id", how="anti") if task.test.split is None else everything
    rows = ledger.unclaimed(role, rows, stage="split")
    wanted = rows.height if task.rows is None else task.rows
    if rows.height < max(wanted, 1):
        aside = test.height if task.test.split is None else 0
        raise DataError(
            f"{role}: {max(wanted, 1):,} training rows asked, {rows.height:,} left of {task.train.label} "
            f"({ledger.account(role)}; {aside:,} set aside for test); ask for at most {rows.height:,}"
        )
    return ledger.take(role, rows, wanted, purpose="train")


def _keep_rows(ledger: Ledger, keep: Keep | None) -> pl.DataFrame:
    if keep is None:
        return pl.DataFrame(schema=ROW_SCHEMA)
    rows = ledger.unclaimed("keep", ledger.read("keep", [keep.data]), stage="leak")
    if rows.height < keep.rows:
        raise DataError(
            f"keep: {keep.rows:,} rows asked, {rows.height:,} left of {keep.data.label} ({ledger.account('keep')}); "
            f"ask for at most {rows.height:,}, or give more rows"
        )
    return ledger.take("keep", rows, keep.rows, purpose="keep")


def _probe_rows(ledger: Ledger, role: str, sources: Sequence[Source]) -> pl.DataFrame:
    if not sources:
        return pl.DataFrame(schema=ROW_SCHEMA)
    rows = ledger.read(role, sources, prompts_only=True)
    for source, found in zip(sources, ledger.sources[role], strict=True):
        if source.rows is not None and found["kept"] < source.rows:
            raise DataError(
                f"{role}: {source.rows:,} rows asked of {found['label']}, {found['kept']:,} found; "
                f"ask for at most {found['kept']:,}"
            )
    rows = ledger.unclaimed(role, rows, stage="leak")
    if rows.is_empty():
        raise DataError(
            f"{role}: no probes left: {ledger.account(role)}; name probes that the training data does not hold"
        )
    return rows
