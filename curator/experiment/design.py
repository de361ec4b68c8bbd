"""The design of an experiment: what its models share, and what each trains on and for how many steps. It shows what is
equal between arms and what differs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from curator.experiment.plan import NONE, Cell, Tally, rehearsed_rows, steps_by_exposure
from curator.recipe.training import Training
from curator.recipe.verify import CURATED, FULL, RECOVERY
from curator.records import Data, Task
from curator.run.names import KEEP, POOL, arm_file, task_file
from curator.run.names import PROBES as PROBE_FILES
from curator.seeds import by_hash, generator
from curator.train.job import Rows, Weights

if TYPE_CHECKING:
    from curator.model.openers import Openers
    from curator.train.tracker import Tracker

FIRST = Cell(CURATED, 0)
PROBES = tuple((kind, PROBE_FILES[kind]) for kind in ("harmful", "benign"))


@dataclass(frozen=True)
class Experiment:
    """What every job of one experiment shares.

    Attributes:
        root: The run folder. `data`: what stage 1 gathered, in `data_folder`.
        base: Weights that every arm starts from. `arms`: (arm, seed) -> row ids of its alignment set,
            each as often as a pass trains on it.
        tokenizer: The tokenizer's folder or Hub id. `tokenizer_revision`, `chat_template`: as `model.load_tokenizer`
            takes them.
        align, finetune: Settings of the trainings. `exposure`: what alignment makes equal between arms.
            `rehearsal_share`: share of a rehearsed arm's rows in a fine-tuning.
        seed: The recipe's seed, or the pilot's own. `reference`: the arm whose steps or tokens the others match.
        probes: Kind and file of the probes. `tests`: whether models answer the tasks' own test rows too.
        shelf: Folder in which run folders register pieces that they share; null for none.
        tracker: Where trainings report to; null for none.
        mix: Whether its models may be computed on different devices, in different dtypes or by different versions.
        settings: Other settings of fine-tuning, by the `setting` of a cell.
        rows: Number of rows of each part of a task to train on, by `tuned` of a cell, if not all.
        probe_at: Task -> shares of its fine-tuning at which its models answer harmful probes too.
        depths: Numbers of tokens of the `opening` that are prefilled before answers to harmful probes, beside ordinary
            answers.
        openers: Openers whose probability of beginning an answer is measured; null for none.
        openings: Row id -> tokens before its answer, without loss, in the arms of RECOVERY.
        lead: Tokens that the chat template writes before every answer, and so before an opening.
    """

    root: Path
    data: Data
    data_folder: Path
    base: Weights
    arms: Mapping[tuple[str, int], tuple[str, ...]]
    tokenizer: str
    tokenizer_revision: str | None
    chat_template: str | None
    align: Training
    finetune: Training
    seed: int
    exposure: str = "steps"
    rehearsal_share: float = 0.1
    reference: Cell = FIRST
    probes: tuple[tuple[str, str], ...] = PROBES
    tests: bool = True
    shelf: Path | None = None
    tracker: Tracker | None = None
    mix: bool = False
    settings: Mapping[str, Training] = field(default_factory=dict)
    rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    probe_at: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    depths: tuple[int, ...] = ()
    opening: str = ""
    openers: Openers | None = None
    openings: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    lead: tuple[int, ...] = ()

    def section_of(self, cell: Cell) -> Training:
        """The training section by which a cell is aligned or fine-tuned."""
        if cell.task is None:
            return self.align
        return self.finetune if cell.setting is None else self.settings[cell.setting]

    def task(self, name: str) -> Task:
        return next(task for task in self.data.tasks if task.name == name)


def alignment_rows(experiment: Experiment, cell: Cell) -> tuple[Rows, ...]:
    """The arm's rows and the benign keep rows, which are the same in every arm."""
    keep = Rows(str(experiment.data_folder / KEEP))
    return (_arm_rows(experiment, cell, experiment.arms[cell.arm, cell.seed]), keep)


def alignment_steps(experiment: Experiment, cell: Cell) -> int:
    """Optimiser steps of an arm's alignment; see `plan.steps_by_exposure`."""
    rows, reference = _tally(experiment, cell), _tally(experiment, experiment.reference)
    return steps_by_exposure(experiment.align, experiment.exposure, rows, reference)


def finetuning_rows(experiment: Experiment, cell: Cell, *, rehearsal: bool) -> tuple[Rows, ...]:
    """The rows of the task, its attack and its defence, and, if arms are rehearsed, the arm's share.

    If a setting takes fewer rows, they are those that a recipe with fewer rows would draw: the first by the same hash.
    The exception is a defence's rows behind a trigger, whose ids are those of the triggered text.
    """
    assert cell.task is not None
    task, folder = experiment.task(cell.task), experiment.data_folder
    rows = [Rows(str(folder / task_file(task.name, part)), ids) for part, ids in _parts(experiment, cell, task)]
    if rehearsal and cell.arm != NONE:
        rows.append(_arm_rows(experiment, cell, _rehearsed(experiment, cell, task)))
    return tuple(rows)


def finetuning_steps(experiment: Experiment, cell: Cell, *, rehearsal: bool) -> int:
    """Optimiser steps of a fine-tuning, the same in every arm; rehearsed rows count, in the arm `none` too."""
    assert cell.task is not None
    rows = _trained_on(experiment, cell, experiment.task(cell.task))
    rehearsed = rehearsed_rows(rows, experiment.rehearsal_share) if rehearsal else 0
    return experiment.section_of(cell).steps_over(rows + rehearsed)


def _parts(experiment: Experiment, cell: Cell, task: Task) -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """Each part of a task's rows that the cell trains on, with their ids; null for all of them."""
    counts = experiment.rows.get(cell.tuned or "")
    for part, purpose in (("train", "train"), *((part, f"{part} of {task.name}") for part in ("regime", "defence"))):
        ids = getattr(task, part)["id"]
        if counts is None and len(ids):
            yield part, None
        elif counts is not None and counts[part]:
            chosen = by_hash(ids, counts[part], seed=experiment.seed, purpose=purpose)
            yield part, tuple(row for row in ids if row in chosen)


def _trained_on(experiment: Experiment, cell: Cell, task: Task) -> int:
    """Number of rows of a fine-tuning, without those of a rehearsed arm."""
    counts = experiment.rows.get(cell.tuned or "")
    return task.trained_on if counts is None else sum(counts.values())


def _rehearsed(experiment: Experiment, cell: Cell, task: Task) -> tuple[str, ...]:
    """The first distinct rows of the arm in the order in which they were chosen, repeated from the start if there are
    too few. The whole pool has no such order, so each seed draws one.
    """
    ids = tuple(dict.fromkeys(experiment.arms[cell.arm, cell.seed]))
    if cell.arm == FULL:
        random = generator(experiment.seed, "rehearsed", cell.seed)
        ids = tuple(ids[row] for row in random.permutation(len(ids)))
    count = rehearsed_rows(_trained_on(experiment, cell, task), experiment.rehearsal_share)
    return (ids * math.ceil(count / len(ids)))[:count]


def _arm_rows(experiment: Experiment, cell: Cell, ids: tuple[str, ...]) -> Rows:
    file = arm_file(cell.arm) if cell.arm in experiment.data.arms else POOL
    openings = _openings(experiment, cell, ids)
    return Rows(str(experiment.data_folder / file), ids, openings if any(openings) else ())


def _openings(experiment: Experiment, cell: Cell, ids: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """The tokens behind which the answer of each of these rows is trained in this cell's arm."""
    known = experiment.openings if cell.arm in RECOVERY else {}
    return tuple(known.get(row_id, ()) for row_id in ids)


def _tally(experiment: Experiment, cell: Cell) -> Tally:
    """The rows of an arm's alignment."""
    ids, keep, section = experiment.arms[cell.arm, cell.seed], experiment.data.keep, experiment.align
    if experiment.exposure != "tokens":  # only this case needs tokens, which take a while to find in a large pool
        return Tally.at_most(len(ids) + keep.height, section)
    frame = experiment.data.arms.get(cell.arm, experiment.data.pool.rows)
    drawn = pl.DataFrame({"id": ids}, schema={"id": pl.String}).join(frame, on="id", how="left", maintain_order="left")
    tally = Tally.of(pl.concat([drawn["tokens"], keep["tokens"]]), section)
    short = drawn["tokens"] <= section.max_tokens  # longer rows are not trained on
    opened = sum(map(len, compress(_openings(experiment, cell, ids), short)))
    return replace(tally, tokens=tally.tokens + opened)
