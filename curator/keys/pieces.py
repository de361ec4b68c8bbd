"""Keys of pieces: results below a stage with their own key, such as one training or one model's answers.

`rows` identifies the rows by content, or, in a plan that is made before rows are read, by whatever decides them; equal
pieces have equal keys either way. Imports nothing heavy.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from curator.provenance import folder_identity
from curator.recipe.judge import REASONING, Judge, Marks
from curator.recipe.openers import LogOdds
from curator.recipe.package import path_of
from curator.recipe.training import Training
from curator.run.folder import key_of

PIECE_VERSIONS = {"train": 4, "answer": 2, "losses": 2, "judge": 4}
"""Raised when the code of a piece gives another result from equal settings: one training, one model's answers and
losses, and one judge's verdicts."""


def instruction_key(  # noqa: PLR0917 - in the order in which they are hashed
    path: str,
    revision: str | None,
    chat_template: str | None,
    section: Training,
    rows: object,
    seed: int,
    quantise: str | None,
    dtype: str,
) -> str:
    """The key of a base model tuned on instructions."""
    later = [*([quantise] if quantise else []), *dtype_part(dtype)]  # added after the stage
    return key_of("instruction", path, revision, chat_template, section.model_dump(), rows, seed, *later)


def training_key(  # noqa: PLR0917 - in the order in which they are hashed
    start: str,
    section: Training,
    steps: object,
    seed: object,
    chat_template: str | None,
    rows: object,
    checkpoints: Sequence[int] = (),
) -> str:
    """The key of an aligned or fine-tuned model; `start` is the key of the weights that it starts from."""
    settings = section.model_dump(), steps, seed, chat_template
    return key_of("train", PIECE_VERSIONS["train"], start, settings, rows, *([checkpoints] if checkpoints else []))


def answers_key(weights: str, chat_template: str | None, questions: object, *decoding: object) -> str:
    """The key of one model's answers; `weights` is the key of its weights."""
    return key_of("answer", PIECE_VERSIONS["answer"], weights, chat_template, questions, *decoding)


def openers_key(section: LogOdds, base: str, select: str) -> str:
    """The key of the openers of a run in its model's tokens; `base` and `select` are the keys of these stages. The
    second counts if openers are learned from the pilot's answers.
    """
    return key_of("openers", base, section.model_dump(), *([select] if section.kind == "pilot" else []))


def losses_key(weights: str, chat_template: str | None, rows: object, batch_tokens: int) -> str:
    """The key of one model's losses of rows; `weights` is the key of its weights."""
    return key_of("losses", PIECE_VERSIONS["losses"], weights, chat_template, rows, batch_tokens)


def measures_key(
    measure: str, weights: Sequence[str], chat_template: str | None, rows: object, batch_tokens: int
) -> str:
    """The key of a measure of rows by models; `weights` are the keys of their weights."""
    return key_of("measure", PIECE_VERSIONS["losses"], measure, list(weights), chat_template, rows, batch_tokens)


def verdicts_key(judge: Judge) -> str:
    """The key of a judge's verdicts, each on an answer identified by its content."""
    return key_of("judge", PIECE_VERSIONS["judge"], *judge_settings(judge))


def added_key(judge: Judge, answers: str, marks: Marks = REASONING) -> str:
    """The key of the verdicts of a judge that was added to a run; `answers` is the key of the run's stage `answer`."""
    return key_of("added", PIECE_VERSIONS["judge"], *judge_settings(judge), answers, *reasoning_part(marks))


def judge_settings(judge: Judge) -> tuple[object, ...]:
    """Everything that decides a judge's verdicts: its settings, the files of its folder, and those of the embedder's
    folder for a fitted head.
    """
    embedder = embedder_of(judge.embedding)
    read = folder_identity(embedder) if embedder else None
    return judge.deciding(), folder_identity(judge.folder) if judge.folder else None, *([read] if read else [])


def embedder_of(head: str | None) -> str | None:
    """The embedder that a fitted head names; null without a head, or if it cannot be read, which its judge reports."""
    if head is None:
        return None
    try:
        named = json.loads((Path(path_of(head)) / "head.json").read_text(encoding="utf-8"))["embedder"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return named if isinstance(named, str) else None


def dtype_part(name: str) -> list[str]:
    """A part of a key: empty for fp32, which was the only dtype on a CPU before there was a choice."""
    return [] if name == "fp32" else [name]


def reasoning_part(marks: Marks) -> list[Marks]:
    """A part of a key: the marks of reasoning if they differ from the defaults."""
    return [] if [*map(tuple, marks)] == [*REASONING] else [marks]
