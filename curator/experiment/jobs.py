"""One training, or all answers of one model, as a job small enough to be sent to another process.

A job names files and folders and holds no rows or weights, and what it makes is made once under its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curator.experiment.answers import Prompts, Rows, Weights, answered, prompt_of, texts_of
from curator.model.load import load_tokenizer
from curator.recipe.verify import Generate, Training
from curator.records import ANSWER_SCHEMA, Trained
from curator.run.files import load_frame, relative, save_frame, trained_from, trained_record
from curator.run.folder import key_of, make
from curator.run.names import ANSWERS
from curator.seeds import derive
from curator.train.sft import train


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
    shelf: Path | None = None


@dataclass(frozen=True)
class AnswerJob:
    """Every prompt of one model, small enough to be sent to another process."""

    root: Path
    folder: str
    key: str
    weights: Weights
    chat_template: str | None
    tokenizer: str
    tokenizer_revision: str | None
    questions: tuple[tuple[str, str | None, Rows], ...]  # kind, task, prompts
    trigger: str | None
    section: Generate
    shelf: Path | None = None


def run_train(job: TrainJob) -> tuple[str, Trained]:
    """Trains one model, unless its folder already holds it; gives back the folder and what was trained."""

    def work(folder: Path) -> Mapping[str, Any]:
        trained = train(
            [messages for rows in job.rows for messages in rows.messages()],
            base=job.start.base,
            revision=job.start.revision,
            adapters=job.start.adapters,
            quantise=job.start.quantise,
            tokenizer=load_tokenizer(job.tokenizer, revision=job.tokenizer_revision, chat_template=job.chat_template),
            section=job.section,
            steps=job.steps,
            seed=job.seed,
            folder=folder,
            key=job.names,
        )
        return trained_record(trained, job.root)

    made = make(job.root / job.folder, job.key, work, shelf=_shelf(job))
    return job.folder, trained_from(made.record, job.root)


def run_answer(job: AnswerJob) -> str:
    """Has one model answer all of its prompts, unless its folder already holds the answers."""

    def work(folder: Path) -> Mapping[str, Any]:
        tokenizer = load_tokenizer(job.tokenizer, revision=job.tokenizer_revision, chat_template=job.chat_template)
        frames = [load_frame(Path(rows.file)) for _, _, rows in job.questions]
        prompts = [
            Prompts(tuple(frame["id"]), [prompt_of(messages, job.trigger) for messages in frame["messages"].to_list()])
            for frame in frames
        ]
        answers, record = answered(prompts, job.weights, tokenizer=tokenizer, section=job.section, scratch=folder)
        parts = []
        for (kind, task, _), frame, given in zip(job.questions, frames, answers, strict=True):
            parts.append(
                pl.DataFrame(
                    {
                        "task": [task] * frame.height,
                        "kind": [kind] * frame.height,
                        "probe": frame["id"],
                        "answer": [answer for answer, _ in given],
                        "stop": [stop for _, stop in given],
                    },
                    schema={name: ANSWER_SCHEMA[name] for name in ("task", "kind", "probe", "answer", "stop")},
                )
            )
        frame = pl.concat(parts)
        save_frame(folder / ANSWERS, frame)
        return {"answers": frame.height, **record}

    make(job.root / job.folder, job.key, work, shelf=_shelf(job))
    return job.folder


def _shelf(job: TrainJob | AnswerJob) -> Path | None:
    """Where pieces with this path in a run folder are shelved: the paths in a piece's record hold only there."""
    return None if job.shelf is None else job.shelf / job.folder


def tune(
    rows: Path,
    *,
    root: Path,
    path: str,
    revision: str | None,
    chat_template: str | None,
    section: Training,
    seed: int,
    quantise: str | None = None,
) -> dict[str, Any]:
    """The tuned model's weights and training, for the base stage's record.

    Args:
        rows: Parquet file of instruction rows, all of which are used; the model goes beside it.
        root: The run folder, which paths are written relative to.
        path, revision, chat_template: The model to tune.
        section: How; the recipe's alignment settings.
        seed: The recipe's. `quantise`: as `model.load_model` takes it.
    """
    source = Rows(str(rows))
    texts = texts_of(source)
    steps = section.steps_over(len(texts))
    job = TrainJob(
        root=root,
        folder=str((rows.parent / "instruction").relative_to(root)),
        key=key_of(
            "instruction",
            path,
            revision,
            chat_template,
            section.model_dump(),
            texts,
            seed,
            *([quantise] if quantise else []),
        ),
        start=Weights(path, revision, (), "", quantise),
        chat_template=chat_template,
        tokenizer=path,
        tokenizer_revision=revision,
        rows=(source,),
        section=section,
        steps=steps,
        seed=derive(seed, "instruction"),
        names="model.instruction (verify.align)",
    )
    _, trained = run_train(job)
    tuned = job.start.after(trained, job.key)
    adapters = [relative(adapter, root) for adapter in tuned.adapters]
    weights = {"base": relative(tuned.base, root), "revision": tuned.revision, "adapters": adapters}
    return {"weights": weights, "trained": trained_record(trained, root)}
