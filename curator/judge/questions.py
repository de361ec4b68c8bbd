"""Questions for judges, and stored verdicts, so that each answer is judged once.

Guards, classifiers, fitted heads and rubrics read a prefilled answer with its opening, as a user would. Judges that
depend on how an answer begins or ends (refusal phrases, degenerate answers) read only what the model wrote, because all
of these answers begin with the same opening.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from curator.errors import JudgeError
from curator.judge.phrases import degenerate
from curator.recipe.judge import REASONING, Marks
from curator.records import PREFILLED, VERDICT_SCHEMA, Data, Messages, Question, Verdict
from curator.run.files import load_frame, save_frame
from curator.run.folder import key_of

JudgeFunction = Callable[[Sequence[Question]], list[Verdict]]
"""A function from questions to the verdict on each, in the same order.

Raises:
    UnfinishedError: Some questions have no verdict yet.
"""

VERDICT_COLUMNS = ("outcome", "refused", "score", "reason", "raw")
"""The columns of VERDICT_SCHEMA that hold the fields of a Verdict, in the order of its fields."""

CHUNK = 512  # questions between two saves; a guard model takes about a minute for them

NO_ANSWER = "reasoning without an answer"

_STORED_SCHEMA = {"question": pl.String(), **{name: VERDICT_SCHEMA[name] for name in VERDICT_COLUMNS}}


@dataclass(frozen=True)
class Open:
    """Why a question has no verdict yet.

    Attributes:
        passing: Whether another try may give one. If not, the answer is unscored as soon as the judge has worked on
            others: then the fault lies with this answer, and not with the settings of all requests.
    """

    reason: str
    passing: bool = True


class UnfinishedError(JudgeError):
    """Some questions have no verdict, because of failures that may not recur.

    Attributes:
        results: A verdict, or why there is none, for each question in order.
        stops: Whether further requests are useless.
    """

    def __init__(self, message: str, results: Sequence[Verdict | Open], *, stops: bool) -> None:
        super().__init__(message)
        self.results, self.stops = results, stops


def question_of(
    kind: str,
    messages: Messages,
    answer: str,
    marks: Marks = REASONING,
    reference: str | None = None,
    *,
    opening: str = "",
) -> Question:
    """The answer as judges read it, without its reasoning: an `opening`, and the `answer` that continues it."""
    whole = opening + answer
    end = reasoning_end(whole, marks)
    # An opening within the reasoning does not begin the answer.
    return Question(kind, messages, whole[end:], reference, whole[:end] or None, opening[end:])


def continuation(question: Question) -> str:
    """The part of the answer that the model wrote."""
    return question.answer[len(question.opening) :]


def reasoning_end(answer: str, marks: Marks = REASONING) -> int:
    """The position at which the reasoning at the start of an answer ends, 0 if there is none.

    Reasoning is one or more blocks between a pair of marks, in any case; the last block extends to the end of the
    answer if its closing mark is missing. The opening mark may be missing if it was part of the prompt, as for
    DeepSeek-R1: then the reasoning ends at the first closing mark without an opening one before it.
    """
    lower = answer.lower()
    if not any(mark and mark.lower() in lower for pair in marks for mark in pair):
        return 0
    match = _reasoning(tuple((first, second) for first, second in marks)).match(answer)
    return match.end() if match else 0


@cache
def _reasoning(marks: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    pairs = [(re.escape(first), re.escape(second)) for first, second in marks]
    blocks = "|".join(rf"{first}.*?(?:{second}|\Z)" for first, second in pairs if first)
    headless = "|".join(rf"(?:(?!{first}).)*?{second}" if first else rf".*?{second}" for first, second in pairs)
    whole = rf"(?:\s*(?:{blocks}))+|{headless}" if blocks else headless
    return re.compile(rf"(?:{whole})\s*", re.DOTALL | re.IGNORECASE)


def questions_of(answers: pl.DataFrame, data: Data, marks: Marks = REASONING) -> list[Question]:
    """Every answer with the conversation that it answers, in the frame's order; its reasoning is separated.

    A test row's last assistant turn is the reference, and not part of the conversation. A prefilled answer is an answer
    to a harmful probe, and is read as such.
    """
    frames = [data.harmful, data.benign, data.pilot, *(task.test for task in data.tasks)]
    conversations = {
        row_id: messages
        for frame in frames
        for row_id, messages in zip(frame["id"], frame["messages"].to_list(), strict=True)
    }
    questions = []
    for named, probe, opening, answer in answers.select("kind", "probe", "opening", "answer").iter_rows():
        turns, kind = conversations[probe], "harmful" if named == PREFILLED else named
        reference = turns[-1]["content"] if turns[-1]["role"] == "assistant" else None
        asked = turns if reference is None else turns[:-1]
        questions.append(question_of(kind, asked, answer, marks, reference, opening=opening or ""))
    return questions


def verdict_frame(answers: pl.DataFrame, judge: str, verdicts: Sequence[Verdict]) -> pl.DataFrame:
    """The verdicts on `answers`, one per row, in the columns of VERDICT_SCHEMA."""
    return answers.with_columns(
        pl.lit(judge).alias("judge"),
        *(
            pl.Series(name, [getattr(verdict, name) for verdict in verdicts], dtype=VERDICT_SCHEMA[name])
            for name in VERDICT_COLUMNS
        ),
    ).select(list(VERDICT_SCHEMA))


def judged(
    questions: Sequence[Question],
    judge: JudgeFunction,
    folder: Path,
    *,
    progress: Callable[[int, int], None],
    chunk: int | None = None,
    unanswered: str = "stop",
) -> list[Verdict]:
    """The verdict on every question, in order; the judge reads only those whose verdict is not in `folder`.

    Equal questions are judged once, in the order of their hashes, chunk by chunk; each chunk is saved when it is done.
    A question without a reply is never saved: the next call tries it again.

    Args:
        judge: From `make_judge`.
        folder: A folder for this judge with these settings only; verdicts are added to it.
        progress: Called with (distinct questions judged, distinct questions).
        chunk: Questions between two saves; null for CHUNK.
        unanswered: `stop` raises if questions are left without a verdict; `unscored` gives them one, which is not
            saved.

    Raises:
        JudgeError: Questions are left without a verdict; all other verdicts are saved.
    """
    keys = [question_key(question) for question in questions]
    verdicts = _read(folder)
    new = {key: question for key, question in zip(keys, questions, strict=True) if key not in verdicts}
    # By hash, so that a chunk holds the same questions whatever the order of arms and seeds.
    order, total = sorted(new), len(set(keys))
    size = chunk or CHUNK
    left: dict[str, Open] = {}
    failure: UnfinishedError | None = None
    progress(total - len(order), total)
    for start in range(0, len(order), size):
        part = order[start : start + size]
        try:
            results: Sequence[Verdict | Open] = judge([new[key] for key in part])
        except UnfinishedError as error:
            results, failure = error.results, error
        for key, result in zip(part, results, strict=True):
            if isinstance(result, Open):
                left[key] = result
            else:
                verdicts[key] = result
        _add(folder, {key: verdicts[key] for key in part if key in verdicts})
        if failure is not None and isinstance(failure.__cause__, KeyboardInterrupt):
            raise failure.__cause__  # now that what was paid for is saved
        if failure is not None and failure.stops:
            break
        progress(total - len(order) + start + len(part), total)
    if failure is None:
        return [verdicts[key] for key in keys]
    if not failure.stops and any(verdict.outcome in {"harmful", "safe"} for verdict in verdicts.values()):
        settled = {key: unanswered_verdict(why) for key, why in left.items() if not why.passing}
        _add(folder, settled)
        verdicts |= settled
    missing = {key for key in keys if key not in verdicts}
    if missing and (failure.stops or unanswered == "stop"):
        without = "" if failure.stops else ", or set `unanswered: unscored` to finish without them"
        raise JudgeError(
            f"{failure} Saved verdicts: {total - len(missing):,} of {total:,}; run the same command again to judge the "
            f"other answers{without}."
        )
    return [verdicts[key] if key in verdicts else unanswered_verdict(left[key]) for key in keys]


def unanswered_verdict(why: Open) -> Verdict:
    """The verdict on an answer that the judge gave none for."""
    return Verdict("unscored", refused=None, reason=why.reason)


def by_refusal(kind: str, refused: bool, *, score: float | None = None) -> Verdict:
    """The verdict of a judge that only recognises refusals: an answer to a harmful probe that does not refuse is
    harmful.
    """
    return Verdict("harmful" if kind == "harmful" and not refused else "safe", refused=refused, score=score)


def without_degenerate(judge: JudgeFunction) -> JudgeFunction:
    """The judge, limited to answers that are not degenerate; `degenerate` describes the others, by the text that the
    model itself wrote.
    """

    def sorted_out(questions: Sequence[Question]) -> list[Verdict]:
        broken = [
            NO_ANSWER if _only_reasoning(question) else degenerate(continuation(question)) for question in questions
        ]
        sound = [question for question, why in zip(questions, broken, strict=True) if why is None]

        def merged(results: Sequence[Any]) -> list[Any]:
            left = iter(results)
            return [next(left) if why is None else Verdict("degenerate", refused=False, reason=why) for why in broken]

        try:
            return merged(judge(sound))
        except UnfinishedError as error:
            raise UnfinishedError(str(error), merged(error.results), stops=error.stops) from (error.__cause__ or error)

    return sorted_out


def question_key(question: Question) -> str:
    """A hash of everything that a judge is shown."""
    aside = [NO_ANSWER] if _only_reasoning(question) else []
    opening = [("opening", question.opening)] if question.opening else []
    return key_of(question.kind, question.messages, question.answer, question.reference, *aside, *opening)


def _only_reasoning(question: Question) -> bool:
    return question.reasoning is not None and not question.answer.strip()


def _read(folder: Path) -> dict[str, Verdict]:
    return {
        key: Verdict(*fields)
        for part in sorted(folder.glob("*.parquet"))
        for key, *fields in load_frame(part).select(list(_STORED_SCHEMA)).iter_rows()
    }


def _add(folder: Path, verdicts: dict[str, Verdict]) -> None:
    if not verdicts:
        return
    rows = [(key, *(getattr(verdict, name) for name in VERDICT_COLUMNS)) for key, verdict in verdicts.items()]
    number = len(list(folder.glob("*.parquet")))
    save_frame(folder / f"{number:05d}.parquet", pl.DataFrame(rows, schema=_STORED_SCHEMA, orient="row"))
