"""What each model of the grid trains on, and for how many steps: what the arms differ in, and what is equal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from curator.records import Task
from curator.run.files import POOL
from curator.train.sft import steps_of
from curator.verify.plan import NONE, Cell
from curator.verify.rows import Rows

if TYPE_CHECKING:
    from curator.verify.experiment import Experiment


def alignment_rows(experiment: Experiment, cell: Cell) -> tuple[Rows, ...]:
    """The arm's rows and the benign keep rows, which are the same in every arm."""
    keep = Rows(str(experiment.data_folder / "keep.parquet"))
    return (_arm_rows(experiment, cell, experiment.arms[cell.arm, cell.seed]), keep)


def alignment_steps(experiment: Experiment, cell: Cell) -> int:
    """Optimiser steps of an arm's alignment.

    By `steps`, those of the curated arm in every arm; by `tokens`, so many that the arm sees as many tokens as the
    curated one, to half a step (rows are taken to be as long as they are on average); by `epochs`, those that the
    arm's own rows make.
    """
    section, keep, first = experiment.align, experiment.data.keep.height, experiment.reference
    reference = experiment.arms[first.arm, first.seed]
    if experiment.exposure == "epochs":
        return steps_of(section, len(experiment.arms[cell.arm, cell.seed]) + keep)
    steps = steps_of(section, len(reference) + keep)
    if experiment.exposure == "steps" or cell.arm == first.arm:
        return steps
    ratio = _mean_tokens(experiment, first) / _mean_tokens(experiment, cell)
    return max(1, round(steps * ratio))


def finetuning_rows(experiment: Experiment, cell: Cell, *, rehearsal: bool) -> tuple[Rows, ...]:
    """The task's rows, the attack's and the defence's, and, where arms are rehearsed, the arm's own share of them."""
    assert cell.task is not None
    task = experiment.task(cell.task)
    parts = [("train", task.train), ("regime", task.regime), ("defence", task.defence)]
    folder = experiment.data_folder / "tasks"
    rows = [Rows(str(folder / f"{task.name}-{part}.parquet")) for part, frame in parts if frame.height]
    if rehearsal and cell.arm != NONE:
        rows.append(_arm_rows(experiment, cell, _rehearsed(experiment, cell, task)))
    return tuple(rows)


def finetuning_steps(experiment: Experiment, task: str, *, rehearsal: bool) -> int:
    """Optimiser steps of a fine-tuning, the same in every arm; rows that arms rehearse count, in the arm `none` too."""
    rows = experiment.task(task).trained_on
    return steps_of(experiment.finetune, rows + (rehearsed_rows(rows, experiment.rehearsal_share) if rehearsal else 0))


def rehearsed_rows(rows: int, share: float) -> int:
    """How many rows of an arm are added to `rows` rows of a task so that they are `share` of all, at least 1."""
    return max(1, round(rows * share / (1.0 - share)))


def _rehearsed(experiment: Experiment, cell: Cell, task: Task) -> tuple[str, ...]:
    """The first rows of the arm in the order in which they were chosen; all of them again where there are too few."""
    own = experiment.arms[cell.arm, cell.seed]
    wanted = rehearsed_rows(task.trained_on, experiment.rehearsal_share)
    return (own * math.ceil(wanted / len(own)))[:wanted]


def _arm_rows(experiment: Experiment, cell: Cell, ids: tuple[str, ...]) -> Rows:
    own = cell.arm in experiment.data.arms
    return Rows(str(experiment.data_folder / (f"arms/{cell.arm}.parquet" if own else POOL)), ids)


def _mean_tokens(experiment: Experiment, cell: Cell) -> float:
    """Mean tokens of a row of an arm's alignment that is short enough to be trained on."""
    frame = experiment.data.arms.get(cell.arm, experiment.data.pool.rows)
    ids = pl.DataFrame({"id": experiment.arms[cell.arm, cell.seed]}, schema={"id": pl.String})
    own = ids.join(frame, on="id", how="left")["tokens"]
    tokens = pl.concat([own, experiment.data.keep["tokens"]])
    return float(tokens.filter(tokens <= experiment.align.max_tokens).mean() or 1.0)  # type: ignore[arg-type]
