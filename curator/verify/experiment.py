"""Trains and asks every model of the grid, each as a piece with its own key, on whatever engine the recipe names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from curator.model import load_model, load_tokenizer
from curator.recipe_verify import Training
from curator.records import ANSWER_SCHEMA, Data, Trained
from curator.run import key_of, make
from curator.seeds import derive
from curator.store import load_frame, save_frame, trained_from, trained_record
from curator.train.generate import generate
from curator.train.sft import steps_of, train
from curator.verify.plan import NONE, Cell, Plan

TRAIN_VERSION = 1
ANSWER_VERSION = 1

# Runs jobs somewhere and yields each result as it comes.
Run = Callable[[Callable[[Any], Any], Sequence[Any]], Any]


Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Weights:
    """Where a model's weights are: a folder or Hub id, and the LoRA folders to merge in order. Paths may be relative
    to the run folder, so that the folder can be moved; `key` is a hash of everything that made them.
    """

    base: str
    revision: str | None
    adapters: tuple[str, ...]
    key: str

    def after(self, trained: Trained, key: str) -> Weights:
        """The weights that a training which started here has left."""
        if trained.method == "full":
            return Weights(trained.path, None, (), key)
        return Weights(self.base, self.revision, (*self.adapters, trained.path), key)


@dataclass(frozen=True)
class Rows:
    """Rows of a Parquet file by id, in this order; `ids` null takes all."""

    file: str
    ids: tuple[str, ...] | None = None

    def messages(self) -> list[list[dict[str, str]]]:
        frame = load_frame(Path(self.file))
        if self.ids is not None:
            order = pl.DataFrame({"id": self.ids}, schema={"id": pl.String})
            frame = order.join(frame, on="id", how="left", maintain_order="left")
        return frame["messages"].to_list()


@dataclass(frozen=True)
class TrainJob:
    """One training, small enough to be sent to another process."""

    root: Path
    folder: str
    key: str
    start: Weights
    chat_template: str | None
    tokenizer: str
    tokenizer_revision: str | None
    rows: tuple[Rows, ...]
    section: Training
    steps: int
    seed: int
    names: str


@dataclass(frozen=True)
class AnswerJob:
    """Every question to one model, small enough to be sent to another process."""

    root: Path
    folder: str
    key: str
    weights: Weights
    chat_template: str | None
    tokenizer: str
    tokenizer_revision: str | None
    questions: tuple[tuple[str, str | None, Rows], ...]  # kind, task, prompts
    max_new_tokens: int
    batch: int


def run_train(job: TrainJob) -> tuple[str, Trained]:
    """Trains one model, unless its folder already holds it; gives back the folder and what was trained."""

    def work(folder: Path) -> Mapping[str, Any]:
        trained = train(
            [messages for rows in job.rows for messages in rows.messages()],
            base=job.start.base,
            revision=job.start.revision,
            adapters=job.start.adapters,
            tokenizer=load_tokenizer(job.tokenizer, revision=job.tokenizer_revision, chat_template=job.chat_template),
            section=job.section,
            steps=job.steps,
            seed=job.seed,
            folder=folder,
            key=job.names,
        )
        return trained_record(trained, job.root)

    made = make(job.root / job.folder, job.key, work)
    return job.folder, trained_from(made.record, job.root)


def run_answer(job: AnswerJob) -> str:
    """Asks one model every question put to it, unless its folder already holds the answers."""

    def work(folder: Path) -> Mapping[str, Any]:
        tokenizer = load_tokenizer(job.tokenizer, revision=job.tokenizer_revision, chat_template=job.chat_template)
        model = load_model(job.weights.base, revision=job.weights.revision, adapters=job.weights.adapters)
        parts = []
        for kind, task, rows in job.questions:
            frame = load_frame(Path(rows.file))
            found = generate(
                [prompt_of(messages) for messages in frame["messages"].to_list()],
                frame["id"].to_list(),
                model=model,
                tokenizer=tokenizer,
                max_new_tokens=job.max_new_tokens,
                batch=job.batch,
            )
            parts.append(
                pl.DataFrame(
                    {
                        "task": [task] * frame.height,
                        "kind": [kind] * frame.height,
                        "probe": frame["id"],
                        "answer": [answer for answer, _ in found],
                        "stop": [stop for _, stop in found],
                    },
                    schema={name: ANSWER_SCHEMA[name] for name in ("task", "kind", "probe", "answer", "stop")},
                )
            )
        answers = pl.concat(parts)
        save_frame(folder / "answers.parquet", answers)
        return {"answers": answers.height}

    make(job.root / job.folder, job.key, work)
    return job.folder


def prompt_of(messages: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The turns up to where the answer starts: without the last assistant turn, where there is one."""
    return list(messages[:-1] if messages[-1]["role"] == "assistant" else messages)


@dataclass(frozen=True)
class Experiment:
    """What every job of one experiment shares.

    Attributes:
        root: The run folder. `data`: what stage 1 gathered, in `data_folder`.
        base: Weights that every arm starts from. `arms`: (arm, seed) -> row ids of its alignment set.
        tokenizer: Its folder or Hub id. `tokenizer_revision`, `chat_template`: as `model.load_tokenizer` takes them.
        align, finetune: How. `seed`: the recipe's.
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


def train_grid(
    experiment: Experiment, plan: Plan, stage: Path, *, run: Run, progress: Progress
) -> dict[Cell, tuple[Weights, Trained]]:
    """Trains every cell of the plan: first the aligned models, each shared by all tasks, then the fine-tuned ones.

    Both arms of a pair share seeds, so they see the same keep rows in the same order of steps; alignment takes as many
    steps in every arm as the curated one.
    """
    curated = len(experiment.arms["curated", 0]) + experiment.data.keep.height
    align_steps = steps_of(experiment.align, curated)
    total = len(plan.aligned) + len(plan.finetuned)
    done: dict[Cell, tuple[Weights, Trained]] = {}

    def job(cell: Cell, start: Weights, section: Training, steps: int, rows: Sequence[Rows]) -> TrainJob:
        phase = "finetune" if cell.task else "align"
        seed = derive(experiment.seed, phase, cell.task or "", cell.seed)
        texts = [texts_of(part) for part in rows]
        settings = (section.model_dump(), steps, seed, experiment.chat_template)
        return TrainJob(
            root=experiment.root,
            folder=str((stage / cell.folder).relative_to(experiment.root)),
            key=key_of("train", TRAIN_VERSION, start.key, settings, texts),
            start=start,
            chat_template=experiment.chat_template,
            tokenizer=experiment.tokenizer,
            tokenizer_revision=experiment.tokenizer_revision,
            rows=tuple(rows),
            section=section,
            steps=steps,
            seed=seed,
            names=f"verify.{phase}",
        )

    def finish(cells: Mapping[str, tuple[Cell, TrainJob]]) -> None:
        for folder, trained in run(run_train, [job for _, job in cells.values()]):
            cell, made = cells[folder]
            done[cell] = (made.start.after(trained, made.key), trained)
            progress(len(done), total)

    pool = str(experiment.data_folder / "pool.parquet")
    keep = Rows(str(experiment.data_folder / "keep.parquet"))
    jobs = []
    for cell in plan.aligned:
        rows = [Rows(pool, experiment.arms[cell.arm, cell.seed]), keep]
        jobs.append((cell, job(cell, experiment.base, experiment.align, align_steps, rows)))
    progress(0, total)
    finish({made.folder: (cell, made) for cell, made in jobs})
    tasks = {task.name: task for task in experiment.data.tasks}
    jobs = []
    for cell in plan.finetuned:
        start = experiment.base if cell.arm == NONE else done[Cell(cell.arm, cell.seed)][0]
        assert cell.task is not None
        rows = [Rows(str(experiment.data_folder / "tasks" / f"{cell.task}-train.parquet"))]
        steps = steps_of(experiment.finetune, tasks[cell.task].train.height)
        jobs.append((cell, job(cell, start, experiment.finetune, steps, rows)))
    finish({made.folder: (cell, made) for cell, made in jobs})
    return done


def texts_of(rows: Rows) -> list[str]:
    """What a key needs to know of rows: hashes of their exact text, in order. An id looks past white space."""
    known = _known(rows.file, Path(rows.file).stat().st_mtime_ns)
    return [known[one] for one in (known if rows.ids is None else rows.ids)]


@lru_cache(maxsize=32)
def _known(file: str, _changed: int) -> dict[str, str]:
    frame = load_frame(Path(file))
    return {one: key_of(messages) for one, messages in zip(frame["id"], frame["messages"].to_list(), strict=True)}


def answer_grid(
    experiment: Experiment,
    plan: Plan,
    weights: Mapping[Cell, Weights],
    stage: Path,
    *,
    max_new_tokens: int,
    batch: int,
    run: Run,
    progress: Progress,
) -> pl.DataFrame:
    """Answers of every model to every probe, in the columns of ANSWER_SCHEMA, sorted.

    An aligned model answers harmful and benign probes and every task's test rows; a fine-tuned one the probes and its
    own task's test rows. The base's answers stand for every seed of the arm `none`.
    """
    folder = experiment.data_folder
    probes = (
        ("harmful", Rows(str(folder / "probes-harmful.parquet"))),
        ("benign", Rows(str(folder / "probes-benign.parquet"))),
    )
    tests = {task.name: Rows(str(folder / "tasks" / f"{task.name}-test.parquet")) for task in experiment.data.tasks}
    texts = {rows.file: texts_of(rows) for rows in (*tests.values(), *(rows for _, rows in probes))}
    jobs = {}
    for cell in plan.asked:
        asked = tests if cell.task is None else {cell.task: tests[cell.task]}
        questions = tuple((kind, cell.task, rows) for kind, rows in probes if texts[rows.file])
        questions += tuple(("utility", task, rows) for task, rows in asked.items())
        facts = [(kind, task, texts[rows.file]) for kind, task, rows in questions]
        own = weights[cell]
        jobs[cell] = AnswerJob(
            root=experiment.root,
            folder=str((stage / cell.folder).relative_to(experiment.root)),
            key=key_of("answer", ANSWER_VERSION, own.key, experiment.chat_template, facts, max_new_tokens, batch),
            weights=own,
            chat_template=experiment.chat_template,
            tokenizer=experiment.tokenizer,
            tokenizer_revision=experiment.tokenizer_revision,
            questions=questions,
            max_new_tokens=max_new_tokens,
            batch=batch,
        )
    progress(0, len(jobs))
    for done, _ in enumerate(run(run_answer, list(jobs.values())), start=1):
        progress(done, len(jobs))
    none_seeds = sorted({cell.seed for cell in plan.finetuned if cell.arm == NONE})
    parts = []
    for cell, job in jobs.items():
        frame = load_frame(experiment.root / job.folder / "answers.parquet")
        for seed in none_seeds if cell == Cell(NONE, 0) else [cell.seed]:
            parts.append(
                frame.with_columns(
                    arm=pl.lit(cell.arm),
                    seed=pl.lit(seed, dtype=pl.Int64),
                    draw=pl.lit(seed, dtype=pl.Int64),
                    phase=pl.lit("after" if cell.task else "before"),
                ).select(list(ANSWER_SCHEMA))
            )
    return pl.concat(parts).sort(["arm", "seed", "phase", "task", "kind", "probe"])
