"""One training, or all answers of one model, as a job small enough to be sent to another process.

A job names files and folders and holds no rows or weights, and what it makes is made once under its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from curator.experiment.answers import Prompts, Rows, Weights, answer_prompts, prompt_of, texts_of
from curator.keys import instruction_key
from curator.model.load import load_tokenizer
from curator.recipe.training import Generate, Training
from curator.records import ANSWER_SCHEMA, Trained
from curator.run.files import load_frame, relative, save_frame, trained_from, trained_record
from curator.run.folder import make
from curator.run.names import ANSWERS
from curator.run.ran import computed_with, require_alike
from curator.seeds import derive
from curator.train.sft import train

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every job names: the piece that it makes, and the model that it works on.

    Attributes:
        root: The run folder. `folder`: of the piece, below it. `key`: of the piece.
        weights: Of the model before the job.
        tokenizer, tokenizer_revision, chat_template: As `model.load_tokenizer` takes them.
        shelf: Where run folders that share pieces tell each other of them; null for none.
        beside: Folder of a finished piece of the same grid -> what it was computed with, where this one is to be
            computed alike.
    """

    root: Path
    folder: str
    key: str
    weights: Weights
    tokenizer: str
    tokenizer_revision: str | None
    chat_template: str | None
    shelf: Path | None = None
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def require_alike(self) -> None:
        """Refuses to begin where this process computes in another way than the grid's finished pieces were; see `ran`.

        Raises:
            RunError: It does.
        """
        import torch  # noqa: F401 - without it the process cannot say where it computes

        require_alike(self.beside, computed_with())

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer; see `model.load_tokenizer`."""
        return load_tokenizer(self.tokenizer, revision=self.tokenizer_revision, chat_template=self.chat_template)


@dataclass(frozen=True, kw_only=True)
class TrainJob(Job):
    """One training; `names` is the recipe's key that errors name."""

    rows: tuple[Rows, ...]
    section: Training
    steps: int
    seed: int
    names: str


@dataclass(frozen=True, kw_only=True)
class AnswerJob(Job):
    """Every prompt of one model: kind, task and rows of each set, and the trigger in front of what the user says."""

    questions: tuple[tuple[str, str | None, Rows], ...]
    trigger: str | None
    section: Generate


def run_train(job: TrainJob) -> tuple[str, Trained]:
    """Trains one model, unless its folder already holds it; gives back the folder and what was trained."""

    def work(folder: Path) -> Mapping[str, Any]:
        job.require_alike()
        trained = train(
            [messages for rows in job.rows for messages in rows.messages()],
            base=job.weights.base,
            revision=job.weights.revision,
            adapters=job.weights.adapters,
            dtype=job.weights.dtype,
            quantise=job.weights.quantise,
            tokenizer=job.load_tokenizer(),
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
        job.require_alike()
        tokenizer = job.load_tokenizer()
        frames = [load_frame(Path(rows.file)) for _, _, rows in job.questions]
        prompts = [
            Prompts(tuple(frame["id"]), [prompt_of(messages, job.trigger) for messages in frame["messages"].to_list()])
            for frame in frames
        ]
        answers, record = answer_prompts(prompts, job.weights, tokenizer=tokenizer, section=job.section, scratch=folder)
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


def _shelf(job: Job) -> Path | None:
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
    dtype: str,
    quantise: str | None = None,
) -> dict[str, Any]:
    """The tuned model's weights and training, for the base stage's record.

    Args:
        rows: Parquet file of instruction rows, all of which are used; the model goes beside it.
        root: The run folder, which paths are written relative to.
        path, revision, chat_template: The model to tune.
        section: How; the recipe's alignment settings.
        seed: The recipe's. `dtype`, `quantise`: as `model.load_model` takes them.
    """
    source = Rows(str(rows))
    texts = texts_of(source)
    job = TrainJob(
        root=root,
        folder=str((rows.parent / "instruction").relative_to(root)),
        key=instruction_key(path, revision, chat_template, section, texts, seed, quantise, dtype),
        weights=Weights(path, revision, (), "", quantise, dtype),
        chat_template=chat_template,
        tokenizer=path,
        tokenizer_revision=revision,
        rows=(source,),
        section=section,
        steps=section.steps_over(len(texts)),
        seed=derive(seed, "instruction"),
        names="model.instruction (verify.align)",
    )
    _, trained = run_train(job)
    tuned = job.weights.after(trained, job.key)
    adapters = [relative(adapter, root) for adapter in tuned.adapters]
    weights = {"base": relative(tuned.base, root), "revision": tuned.revision, "adapters": adapters}
    return {"weights": weights, "trained": trained_record(trained, root)}
