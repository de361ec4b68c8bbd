"""Questions for judges, and the verdicts that they have given already: no answer is judged twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from curator.judge.phrases import degenerate
from curator.records import VERDICT_SCHEMA, Data, Question, Verdict
from curator.run.files import load_frame, save_frame
from curator.run.folder import key_of

JudgeFunction = Callable[[Sequence[Question]], list[Verdict]]
"""From questions to the verdict on each, in the same order."""

ANSWER_COLUMNS = ("arm", "draw", "seed", "task", "phase", "kind", "probe")
"""The columns that together name an answer of a run."""

VERDICT_COLUMNS = ("outcome", "refused", "score", "reason", "raw")
"""The columns of VERDICT_SCHEMA that hold the fields of a Verdict, in the order of its fields."""

CHUNK = 512  # questions between two savings; a guard model takes about a minute for them

_STORED_SCHEMA = {"question": pl.String(), **{name: VERDICT_SCHEMA[name] for name in VERDICT_COLUMNS}}


def questions_of(answers: pl.DataFrame, data: Data) -> list[Question]:
    """Every answer with the conversation that it answers, in the frame's order.

    A test row's last assistant turn is the reference, and not a part of the conversation.
    """
    frames = [data.harmful, data.benign, data.pilot, *(task.test for task in data.tasks)]
    conversations = {
        row_id: messages
        for frame in frames
        for row_id, messages in zip(frame["id"], frame["messages"].to_list(), strict=True)
    }
    questions = []
    for kind, probe, answer in answers.select("kind", "probe", "answer").iter_rows():
        turns = conversations[probe]
        if turns[-1]["role"] == "assistant":
            questions.append(Question(kind, turns[:-1], answer, turns[-1]["content"]))
        else:
            questions.append(Question(kind, turns, answer))
    return questions


def verdict_frame(answers: pl.DataFrame, judge: str, verdicts: Sequence[Verdict]) -> pl.DataFrame:
    """The verdicts on `answers`, one a row, in the columns of VERDICT_SCHEMA."""
    return answers.with_columns(
        pl.lit(judge).alias("judge"),
        *(
            pl.Series(name, [getattr(verdict, name) for verdict in verdicts], dtype=VERDICT_SCHEMA[name])
            for name in VERDICT_COLUMNS
        ),
    ).select(list(VERDICT_SCHEMA))


def judged(
    questions: Sequence[Question], judge: JudgeFunction, folder: Path, *, progress: Callable[[int, int], None]
) -> list[Verdict]:
    """The verdict on every question, in order; the judge reads only those whose verdict is not in `folder`.

    Equal questions are judged once, in the order of their hashes, CHUNK at a time; each chunk is saved when it is done.

    Args:
        judge: From `make_judge`.
        folder: Of this judge with these settings alone; it grows.
        progress: Takes (distinct questions judged, distinct questions).
    """
    keys = [question_key(question) for question in questions]
    verdicts = _read(folder)
    new = {key: question for key, question in zip(keys, questions, strict=True) if key not in verdicts}
    # By hash, so that a chunk holds the same questions whatever order arms and seeds come in.
    order, total = sorted(new), len(set(keys))
    progress(total - len(order), total)
    for start in range(0, len(order), CHUNK):
        chunk = order[start : start + CHUNK]
        given = dict(zip(chunk, judge([new[key] for key in chunk]), strict=True))
        _add(folder, given)
        verdicts |= given
        progress(total - len(order) + start + len(chunk), total)
    return [verdicts[key] for key in keys]


def by_refusal(kind: str, refused: bool, *, score: float | None = None) -> Verdict:
    """The verdict of a judge that recognises refusals alone: a harmful probe that is not refused is harmful."""
    return Verdict("harmful" if kind == "harmful" and not refused else "safe", refused=refused, score=score)


def without_degenerate(judge: JudgeFunction) -> JudgeFunction:
    """The judge, reading only answers that are not degenerate; `degenerate` says what of the others is wrong."""

    def sorted_out(questions: Sequence[Question]) -> list[Verdict]:
        broken = [degenerate(question.answer) for question in questions]
        verdicts = iter(judge([question for question, why in zip(questions, broken, strict=True) if why is None]))
        return [next(verdicts) if why is None else Verdict("degenerate", refused=False, reason=why) for why in broken]

    return sorted_out


def question_key(question: Question) -> str:
    """A hash of everything that a judge is shown."""
    return key_of(question.kind, question.messages, question.answer, question.reference)


def _read(folder: Path) -> dict[str, Verdict]:
    return {
        key: Verdict(*fields)
        for part in sorted(folder.glob("*.parquet"))
        for key, *fields in load_frame(part).select(list(_STORED_SCHEMA)).iter_rows()
    }


def _add(folder: Path, verdicts: dict[str, Verdict]) -> None:
    rows = [(key, *(getattr(verdict, name) for name in VERDICT_COLUMNS)) for key, verdict in verdicts.items()]
    number = len(list(folder.glob("*.parquet")))
    save_frame(folder / f"{number:05d}.parquet", pl.DataFrame(rows, schema=_STORED_SCHEMA, orient="row"))
