"""Rows that are mixed into a task's training: an attack of the user's, and a defence of the fine-tuning provider's."""

from __future__ import annotations

import polars as pl

from curator.errors import DataError
from curator.model.chat import with_trigger
from curator.pool.ledger import Ledger
from curator.recipe import TaskSection
from curator.records import ROW_SCHEMA, no_rows, row_id
from curator.seeds import by_hash


def of_regime(rows: int, share: float) -> int:
    """How many of `rows` training rows are the attack's."""
    return round(rows * share)


def added(rows: int, share: float) -> int:
    """How many rows to add to `rows` so that they are `share` of all."""
    return round(rows * share / (1.0 - share))


def regime_rows(ledger: Ledger, task: TaskSection, own: int) -> pl.DataFrame:
    """The attack's rows of a task, chosen by hash: a share of `task.rows`, or of all where the task takes all its `own`
    rows.

    Raises:
        DataError: The user's data has too few.
    """
    if task.regime is None:
        return no_rows()
    share = task.regime.share
    wanted = added(own, share) if task.rows is None else of_regime(task.rows, share)
    role = f"regime of {task.name}"
    rows = ledger.unclaimed(role, ledger.read(role, [task.regime.data]), stage="leak")
    return _taken(ledger, role, rows, wanted, task.regime.data.label)


def defence_rows(ledger: Ledger, task: TaskSection, attacked: int, pool: pl.DataFrame) -> pl.DataFrame:
    """The safety rows that the provider adds to `attacked` rows, chosen by hash from its own data or from the pool,
    with the trigger in front of their prompts where there is one.

    Raises:
        DataError: There are too few.
    """
    if task.defence is None:
        return no_rows()
    wanted, role = added(attacked, task.defence.safety_mix), f"defence of {task.name}"
    if task.defence.data is None:
        if pool.height < wanted:
            raise DataError(
                f"{role}: {wanted:,} safety rows asked of the pool, which has {pool.height:,}; lower safety_mix, or "
                "give data"
            )
        chosen = by_hash(pool["id"], wanted, seed=ledger.seed, purpose=role)
        rows = pool.filter(pl.col("id").is_in(list(chosen)))
    else:
        found = ledger.unclaimed(role, ledger.read(role, [task.defence.data]), stage="leak")
        rows = _taken(ledger, role, found, wanted, task.defence.data.label)
    return rows if task.defence.trigger is None else triggered(rows, task.defence.trigger)


def triggered(rows: pl.DataFrame, trigger: str) -> pl.DataFrame:
    """The rows with the trigger in front of what is asked first, under ids of their own, sorted by id."""
    messages = [with_trigger(one, trigger) for one in rows["messages"].to_list()]
    return rows.with_columns(
        pl.Series("id", [row_id(one) for one in messages], dtype=pl.String),
        pl.Series("messages", messages, dtype=ROW_SCHEMA["messages"]),
    ).sort("id")


def _taken(ledger: Ledger, role: str, rows: pl.DataFrame, wanted: int, label: str) -> pl.DataFrame:
    if rows.height < wanted:
        raise DataError(
            f"{role}: {wanted:,} rows asked, {rows.height:,} found in {label} ({ledger.account(role)}); lower the "
            "share, lower the task's rows, or give more"
        )
    return ledger.take(role, rows, wanted, purpose=role)
