"""Trains and prompts every model of the grid, each as a piece with its own key, on the recipe's engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from curator.experiment.answers import by_vllm
from curator.experiment.design import (
    Experiment,
    alignment_rows,
    alignment_steps,
    finetuning_rows,
    finetuning_steps,
)
from curator.experiment.jobs import AnswerJob, run_answer
from curator.experiment.log_odds import of_cells
from curator.experiment.plan import BASE, Cell, Plan
from curator.keys.pieces import answers_key, training_key
from curator.recipe.training import Generate, Training, checkpoint_steps
from curator.records import Trained
from curator.run import ArmSets, Run
from curator.run.names import ANSWERS, task_file
from curator.seeds import derive
from curator.train import PRELOAD
from curator.train.job import Count, Rows, TrainJob, Weights, dropout_part, executed, run_train, start_of, texts_of
from curator.train.tracker import tracker_of

if TYPE_CHECKING:
    from curator.engine import Runner
    from curator.records import Data

Progress = Callable[[int, int], None]
"""Called with the amount of work done and the total."""


def runner_of(run: Run) -> Runner:
    """The runner that trains and prompts the models of a recipe; each worker has one GPU per process of a training."""
    from curator.engine import runner

    return runner(run.recipe.engine, preload=PRELOAD, folder=run.root, gpus=run.recipe.verify.processes)


def experiment_of(
    run: Run, data: Data, arms: ArmSets, *, seed: int, finetune: Training | None = None, **changes: Any
) -> Experiment:
    """The experiment of a recipe on these arms. If `finetune` is null the run's is used; `changes` are fields of
    Experiment that differ, as in the pilot.
    """
    model, verify = run.recipe.model, run.recipe.verify
    start = run.record("base")
    return Experiment(
        root=run.root.absolute(),
        data=data,
        data_folder=run.folder("pool").absolute(),
        base=start_of(run),
        arms=arms,
        tokenizer=start["tokenizer"],
        tokenizer_revision=start["revision"],
        chat_template=model.chat_template,
        align=verify.align,
        finetune=finetune or run.finetuning(),
        seed=seed,
        exposure=verify.exposure,
        rehearsal_share=verify.rehearsal_share,
        shelf=None if run.shelf is None else run.shelf.absolute(),
        tracker=tracker_of(run.recipe),
        mix=run.recipe.engine.mix,
        **changes,
    )


def train_grid(
    experiment: Experiment, plan: Plan, stage: Path, *, execute: Runner, progress: Progress
) -> dict[Cell, tuple[Weights, Trained]]:
    """Trains every cell of the plan: first the aligned models, each shared by all tasks, then the fine-tuned ones.

    Both arms of a pair share seeds, so they see the same keep rows in the same order. `design` defines their rows and
    steps.
    """
    count = Count(progress, len(plan.aligned) + len(plan.finetuned))
    done: dict[Cell, tuple[Weights, Trained]] = {}

    def job_of(cell: Cell, start: Weights, steps: int, rows: Sequence[Rows]) -> TrainJob:
        phase, section = "finetune" if cell.task else "align", experiment.section_of(cell)
        seed = derive(experiment.seed, phase, cell.task or "", cell.seed)
        texts = [texts_of(part) for part in rows]
        texts += (
            [["lead", *map(str, experiment.lead)]] if experiment.lead and any(part.openings for part in rows) else []
        )
        texts += dropout_part(experiment.tokenizer, experiment.tokenizer_revision)
        left = checkpoint_steps(experiment.probe_at.get(cell.task or "", ()), steps)
        return TrainJob(
            root=experiment.root,
            folder=str((stage / cell.folder).relative_to(experiment.root)),
            key=training_key(start.key, section, steps, seed, experiment.chat_template, texts, left),
            weights=start,
            chat_template=experiment.chat_template,
            tokenizer=experiment.tokenizer,
            tokenizer_revision=experiment.tokenizer_revision,
            rows=tuple(rows),
            section=section,
            steps=steps,
            seed=seed,
            names=f"verify.{phase}",
            checkpoints=left,
            shelf=experiment.shelf,
            tracker=experiment.tracker,
        )

    def finish(jobs: Sequence[tuple[Cell, TrainJob]], later: Sequence[TrainJob] = ()) -> None:
        # Jobs finish in any order; each is identified by its folder.
        by_folder = {job.folder: (cell, job) for cell, job in jobs}
        for folder, trained in executed(run_train, [job for _, job in jobs], execute, later, mix=experiment.mix):
            cell, job = by_folder[folder]
            done[cell] = (job.weights.after(trained, job.key), trained)
            count.tick(folder)

    aligned: dict[Cell, TrainJob] = {}
    for cell in plan.aligned:
        rows, steps = alignment_rows(experiment, cell), alignment_steps(experiment, cell)
        aligned[cell] = job_of(cell, experiment.base, steps, rows)
    finetuned: dict[Cell, TrainJob] = {}
    for cell in plan.finetuned:
        before = Cell(cell.arm, cell.seed)
        # The key of the aligned weights is known before the weights exist.
        start = experiment.base if before in plan.unaligned else replace(experiment.base, key=aligned[before].key)
        rows = finetuning_rows(experiment, cell, rehearsal=plan.rehearsal)
        steps = finetuning_steps(experiment, cell, rehearsal=plan.rehearsal)
        finetuned[cell] = job_of(cell, start, steps, rows)
    count.begin([*aligned.values(), *finetuned.values()])
    finish(list(aligned.items()), later=list(finetuned.values()))
    for cell, job in finetuned.items():
        before = Cell(cell.arm, cell.seed)
        finetuned[cell] = job if before in plan.unaligned else replace(job, weights=done[before][0])
    finish(list(finetuned.items()))
    return done


def answer_grid(
    experiment: Experiment,
    plan: Plan,
    weights: Mapping[Cell, Weights],
    stage: Path,
    *,
    section: Generate,
    execute: Runner,
    progress: Progress,
) -> pl.DataFrame:
    """Answers of every model to every probe, in the columns of ANSWER_SCHEMA, sorted.

    An aligned model answers harmful and benign probes and every task's test rows; a fine-tuned one the probes and its
    own task's test rows, each behind the task's trigger if it has one; a checkpoint, if `weights` has it, the harmful
    probes alone. The base model's answers are used for every cell that is not aligned.
    """
    folder = experiment.data_folder
    probes = [(kind, Rows(str(folder / file))) for kind, file in experiment.probes]
    tests = {
        task.name: Rows(str(folder / task_file(task.name, "test")))
        for task in experiment.data.tasks
        if experiment.tests
    }
    texts = {rows.file: texts_of(rows) for rows in (*tests.values(), *(rows for _, rows in probes))}
    # Only what changes answers: another interpreter, share of memory, or an engine that is not installed does not.
    vllm = by_vllm(section)
    decoding = (section.max_new_tokens, section.batch, *(("vllm",) if vllm else ()))
    jobs, openers = {}, experiment.openers
    for cell in (*plan.asked, *(cell for cell in weights if cell.at is not None)):
        questions = tuple((kind, cell.task, rows) for kind, rows in probes if texts[rows.file])
        questions += tuple(("utility", task, rows) for task, rows in tests.items() if cell.task in (None, task))
        if cell.at is not None:
            questions = tuple(question for question in questions if question[0] == "harmful")
        trigger = experiment.task(cell.task).trigger if cell.task else None
        facts: list[Any] = [(kind, task, texts[rows.file]) for kind, task, rows in questions]
        facts += [trigger] if trigger else []
        depths = experiment.depths if cell.at is None else ()
        facts += [("opening", experiment.opening, *depths)] if depths else []
        facts += [("lead", *experiment.lead)] if depths and experiment.lead else []
        seed = derive(experiment.seed, "answers", cell.arm, cell.seed, cell.tuned or "", str(cell.done))
        facts += [(section.drawn, seed)] if section.drawn else []
        facts += [("openers", openers.refuse, openers.comply)] if openers else []
        jobs[cell] = AnswerJob(
            root=experiment.root,
            folder=str((stage / cell.folder).relative_to(experiment.root)),
            key=answers_key(weights[cell].key, experiment.chat_template, facts, *decoding),
            weights=weights[cell],
            chat_template=experiment.chat_template,
            tokenizer=experiment.tokenizer,
            tokenizer_revision=experiment.tokenizer_revision,
            questions=questions,
            trigger=trigger,
            section=section,
            depths=depths,
            opening=experiment.opening,
            seed=seed,
            openers=openers,
            vllm=vllm,
            shelf=experiment.shelf,
        )
    count = Count(progress, len(jobs))
    count.begin(jobs.values())
    for finished in executed(run_answer, list(jobs.values()), execute, mix=experiment.mix):
        count.tick(finished)
    frame = of_cells(stage, list(jobs), plan.unaligned, ANSWERS)
    return frame.sort(["arm", "seed", "phase", "at", "task", "kind", "probe", "prefill", "sample"])


def answers_of(
    run: Run,
    experiment: Experiment,
    plan: Plan,
    weights: Mapping[Cell, Weights],
    *,
    folder: Path,
    execute: Runner,
    stage: str = "answer",
) -> pl.DataFrame:
    """Answers of every model of the plan; existing pieces in the folder are kept. Progress is reported under
    `stage`.
    """
    return answer_grid(
        experiment,
        plan,
        {BASE: experiment.base, **weights},
        folder.absolute(),
        section=run.recipe.verify.generate,
        execute=execute,
        progress=run.progress_of(stage),
    )
