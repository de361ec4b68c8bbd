"""Utility of an answer to a task's own test row, in [0, 1]."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from curator.errors import JudgeError, first_line
from curator.language import words
from curator.recipe.package import path_of
from curator.records import Question, Verdict
from curator.wording import these

# A minus after a letter or digit is a dash: "3-4 days" ends in 4. A comma counts only between groups of three.
_NUMBER = re.compile(r"(?:(?<!\w)-)?\$?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")


def rouge1(answer: str, reference: str) -> float:
    """F1 of shared words, with counts and without stemming, in [0, 1] (Lin 2004, ROUGE-1); in every script, see
    `words`.
    """
    given, expected = Counter(words(answer)), Counter(words(reference))
    shared = (given & expected).total()
    return 2 * shared / (given.total() + expected.total()) if shared else 0.0


def exact(answer: str, reference: str) -> float:
    """1 if the texts are equal except for case and white space, else 0."""
    return float(" ".join(answer.lower().split()) == " ".join(reference.lower().split()))


def final_number(answer: str, reference: str) -> float:
    """1 if the last number of the answer equals that of the reference, else 0, as for GSM8K (Cobbe et al. 2021)."""
    number = _last_number(answer)
    return float(number is not None and number == _last_number(reference))


def _last_number(text: str) -> float | None:
    numbers = _NUMBER.findall(text)
    return float(numbers[-1].replace(",", "").replace("$", "")) if numbers else None


METRICS: dict[str, Callable[[str, str], float]] = {"rouge1": rouge1, "exact": exact, "final-number": final_number}


def measure(metric: str, questions: Sequence[Question]) -> list[Verdict]:
    """The metric as verdicts: `safe` with the score, or `unscored` if a row has no reference or the metric fails.

    Args:
        metric: A name in METRICS, or `file.py:function` for a user's function from answer and reference, both texts, to
            a number in [0, 1].

    Raises:
        JudgeError: The file cannot be run, has no such function, or the function fails on every row.
    """
    score = METRICS.get(metric) or own_metric(metric)
    verdicts = [_scored(score, question) for question in questions]
    if verdicts and metric not in METRICS and all(verdict.outcome == "unscored" for verdict in verdicts):
        raise JudgeError(
            f"tasks.metric.python: {metric} scored none of {these(len(verdicts), 'answer', 'answers')} "
            f"({verdicts[0].reason}); fix the function"
        )
    return verdicts


def _scored(score: Callable[[str, str], float], question: Question) -> Verdict:
    if question.reference is None:
        return Verdict("unscored", refused=None, reason="the test row has no reference answer")
    try:
        value = float(score(question.answer, question.reference))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        return Verdict(
            "unscored", refused=None, reason=f"the metric failed: {type(error).__name__}: {first_line(error)}"
        )
    if not 0.0 <= value <= 1.0:
        return Verdict("unscored", refused=None, reason=f"the metric gave {value:g}; allowed: 0 to 1")
    return Verdict("safe", refused=None, score=value)


def own_metric(metric: str) -> Callable[[str, str], float]:
    """The function of a `file.py:function`. The file is run.

    Raises:
        JudgeError: It cannot be run, or has no such function.
    """
    path, _, name = metric.rpartition(":")
    file = Path(path_of(path))
    module: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    try:
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), module)
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise JudgeError(f"tasks.metric.python: cannot run {file} ({why}); fix it, or name another file") from error
    if not callable(module.get(name)):
        raise JudgeError(f"tasks.metric.python: {file} has no function {name!r}; define it, or name another")
    function: Callable[[str, str], float] = module[name]
    return function
