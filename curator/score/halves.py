"""Models that are aligned on one random half of the pool, so that the other half is new to them.

Every row is scored by the model of the other half, which was not aligned on it. That model has seen at most a near
duplicate of the row, and `pool.clean` drops those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from curator.errors import DataError
from curator.keys.pieces import training_key
from curator.pool.roles import triggered
from curator.recipe.halves import HALVES, Alignments
from curator.recipe.training import Training, checkpoint_steps
from curator.run.files import load_frame, save_defending
from curator.run.readers import role_files
from curator.seeds import by_hash, derive
from curator.train.job import Count, Job, Rows, TrainJob, Weights, dropout_part, executed, run_train, start_of, texts_of
from curator.train.tracker import tracker_of
from curator.wording import these

if TYPE_CHECKING:
    from curator.engine import Runner
    from curator.recipe.task import TaskSection
    from curator.run import Run

PARTS = ("train", "regime", "defence")
"""Of a task, all of which are fine-tuned on; a defence without data of its own takes rows of the pool."""


@dataclass(frozen=True, eq=False)
class Half:
    """One half of the pool at one seed.

    Attributes:
        arm: What its models are called. `seed`: number of this halving, from 0.
        aligned: Sorted ids that its model is aligned on. `scored`: ids of the other half, which its models score.
    """

    arm: str
    seed: int
    aligned: tuple[str, ...]
    scored: tuple[str, ...]


@dataclass(frozen=True)
class HalfModels:
    """The models of one half.

    Attributes:
        half: The half they belong to. `aligned`: weights of the aligned model.
        tuned: Task -> weights after fine-tuning that model on it: those at the task's checkpoints, then the last.
    """

    half: Half
    aligned: Weights
    tuned: Mapping[str, tuple[Weights, ...]] = field(default_factory=dict)


def halved(ids: Sequence[str], alignments: Alignments, *, k: int, seed: int) -> list[Half]:
    """Both halves of a pool, at every seed.

    A hash of its id decides which half a row is in and whether a model is aligned on it: the order of the rows changes
    nothing, and a larger number of rows to align on gives a superset of a smaller one.

    Args:
        ids: `n` rows, each once.
        k: Number of rows that are selected. A model is aligned on as many unless the recipe names another number, or on
            the whole half if it has fewer.
        seed: The recipe's seed.

    Raises:
        DataError: There are fewer than two rows, or the recipe asks for more rows than a half has.
    """
    if len(ids) < 2:
        raise DataError("score: the pool has 1 row, and the score needs two halves; add rows to the pool")
    halves = []
    for number in range(alignments.seeds):
        first = by_hash(ids, len(ids) // 2, seed=seed, purpose=f"halves {number}")
        parts = sorted(first), sorted(set(ids) - first)
        for half, other in zip(HALVES, reversed(HALVES), strict=True):
            if alignments.rows is not None and alignments.rows > len(parts[half]):
                raise DataError(
                    f"score.rows: found {alignments.rows:,}, but half of the pool has "
                    f"{these(len(parts[half]), 'row', 'rows')}; lower rows, or add rows to the pool"
                )
            rows = by_hash(parts[half], alignments.rows or k, seed=seed, purpose=f"half {half} of {number}")
            halves.append(Half(alignments.arm(half), number, tuple(sorted(rows)), tuple(parts[other])))
    return halves


@dataclass(frozen=True)
class Workshop:
    """Trains the models of halves, and runs other jobs on them, on the recipe's engine.

    Attributes:
        run: The run. `folder`: where pieces go. `execute`: its engine.
        count: Counts its trainings.
    """

    run: Run
    folder: Path
    execute: Runner
    count: Count

    def train(self, halves: Sequence[Half], *, tuned: bool) -> list[HalfModels]:
        """The models of every half, fine-tuned on every anticipated task where `tuned`.

        Alignment and fine-tuning follow the recipe (`verify.align`, `verify.finetune`, the keep rows of every arm, a
        task's attack and defence), with their own length and learning rate even if `verify.regime` later finds others.
        Both halves of a seed share their seeds of training. A defence that takes rows of the pool takes as many of
        those that the half does not score, or all of these if they are fewer.
        """
        recipe, keep = self.run.recipe, self.rows_of("keep")
        pool = role_files(self.run.root.absolute())["pool"]
        aligning = {
            half: self._job(
                half,
                None,
                self.common.weights,
                recipe.verify.align,
                rows=[Rows(str(pool), half.aligned), *keep],
            )
            for half in halves
        }
        tasks = [task for task in recipe.tasks if task.anticipated] if tuned else []
        # The keys of the aligned weights are known before the weights exist.
        ahead = {
            (half, task.name): self._job(
                half, task.name, replace(job.weights, key=job.key), recipe.verify.finetune,
                rows=self._task_rows(task, half),
                checkpoints=task.checkpoints,
            )
            for half, job in aligning.items()
            for task in tasks
        }  # fmt: skip
        self.count.begin([*aligning.values(), *ahead.values()])
        trained = self._trained(list(aligning.values()), later=list(ahead.values()))
        aligned = {half: trained[job.folder][-1] for half, job in aligning.items()}
        tuning = {cell: replace(job, weights=aligned[cell[0]]) for cell, job in ahead.items()}
        trained = self._trained(list(tuning.values()))
        return [
            HalfModels(half, aligned[half], {task.name: trained[tuning[half, task.name].folder] for task in tasks})
            for half in halves
        ]

    def _job(
        self,
        half: Half,
        task: str | None,
        start: Weights,
        section: Training,
        *,
        rows: Sequence[Rows],
        checkpoints: Sequence[float] = (),
    ) -> TrainJob:
        phase, common = "finetune" if task else "align", self.common
        texts = [texts_of(part) for part in rows]
        steps = section.steps_over(sum(map(len, texts)))
        seed = derive(self.run.recipe.seed, "scores", phase, task or "", half.seed)
        left = checkpoint_steps(checkpoints, steps)
        return TrainJob(
            root=common.root,
            folder=self.place(f"trained/{task}" if task else "aligned", half),
            key=training_key(
                start.key,
                section,
                steps,
                seed,
                common.chat_template,
                [*texts, *dropout_part(common.tokenizer, common.tokenizer_revision)],
                left,
            ),
            weights=start,
            tokenizer=common.tokenizer,
            tokenizer_revision=common.tokenizer_revision,
            chat_template=common.chat_template,
            shelf=common.shelf,
            rows=tuple(rows),
            section=section,
            steps=steps,
            seed=seed,
            names=f"verify.{phase}",
            checkpoints=left,
            tracker=tracker_of(self.run.recipe),
        )

    def _task_rows(self, task: TaskSection, half: Half) -> tuple[Rows, ...]:
        """All rows of a fine-tuning of a half's model."""
        if task.defence is None or task.defence.data is not None:
            return self.rows_of(*(f"{part} {task.name}" for part in PARTS))
        files, role = role_files(self.run.root.absolute()), f"defence {task.name}"
        pool, count = load_frame(files["pool"]), load_frame(files[role]).height
        new = pool.filter(~pl.col("id").is_in(half.scored))
        rows = new.filter(pl.col("id").is_in(list(by_hash(new["id"], count, seed=self.run.recipe.seed, purpose=role))))
        if task.defence.trigger is not None:
            rows = triggered(rows, task.defence.trigger)
        file = save_defending(self.common.root / self.place(f"defence/{task.name}", half), rows)
        return *self.rows_of(*(f"{part} {task.name}" for part in PARTS if part != "defence")), Rows(str(file))

    def _trained(self, jobs: Sequence[TrainJob], later: Sequence[TrainJob] = ()) -> dict[str, tuple[Weights, ...]]:
        """Folder of each training -> the weights at its checkpoints, then those at its end."""
        by_folder, weights = {job.folder: job for job in jobs}, dict[str, tuple[Weights, ...]]()
        for folder, trained in executed(run_train, jobs, self.execute, later, mix=self.run.recipe.engine.mix):
            end = by_folder[folder].weights.after(trained, by_folder[folder].key)
            weights[folder] = (*(end.on_the_way(trained, *checkpoint) for checkpoint in trained.checkpoints), end)
            self.count.tick(folder)
        return weights

    def rows_of(self, *roles: str) -> tuple[Rows, ...]:
        """All rows of the run that have one of the roles."""
        files = role_files(self.run.root.absolute())
        return tuple(Rows(str(files[role])) for role in roles if role in files)

    def place(self, what: str, half: Half | None) -> str:
        """The folder, relative to the run folder, of a piece of a half's models, or of a piece that belongs to neither
        half.
        """
        folder = self.folder / what / (f"{half.arm}-{half.seed}" if half else "")
        return str(folder.relative_to(self.common.root))

    @cached_property
    def common(self) -> Job:
        """The settings that all jobs of the run share, on the base model."""
        start, root, shelf = self.run.record("base"), self.run.root.absolute(), self.run.shelf
        return Job(
            root=root,
            folder="",
            key="",
            weights=start_of(self.run),
            tokenizer=start["tokenizer"],
            tokenizer_revision=start["revision"],
            chat_template=self.run.recipe.model.chat_template,
            shelf=None if shelf is None else shelf.absolute(),
        )
