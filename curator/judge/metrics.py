"""Utility of an answer to a task's own test row, in [0, 1]."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from curator.records import Asked, Verdict

_WORD = re.compile(r"\w+", re.UNICODE)
# A minus behind a letter or digit is a dash: "3-4 days" ends in 4. A comma counts only between groups of three.
_NUMBER = re.compile(r"(?:(?<!\w)-)?\$?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")


def rouge1(answer: str, reference: str) -> float:
    """F1 of the words shared, as counts, without stemming (Lin 2004, ROUGE-1)."""
    said, wanted = Counter(_WORD.findall(answer.lower())), Counter(_WORD.findall(reference.lower()))
    shared = (said & wanted).total()
    return 2 * shared / (said.total() + wanted.total()) if shared else 0.0


def exact(answer: str, reference: str) -> float:
    """1 when the texts are equal but for case and white space."""
    return float(" ".join(answer.lower().split()) == " ".join(reference.lower().split()))


def final_number(answer: str, reference: str) -> float:
    """1 when the last number of the answer equals that of the reference, as for GSM8K (Cobbe et al. 2021)."""
    said, wanted = _last_number(answer), _last_number(reference)
    return float(said is not None and said == wanted)


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "").replace("$", "")) if found else None


METRICS: dict[str, Callable[[str, str], float]] = {"rouge1": rouge1, "exact": exact, "final-number": final_number}


def measure(metric: str, asked: Sequence[Asked]) -> list[Verdict]:
    """The metric as verdicts: `safe` with the score, or `unscored` where a row has no reference."""
    score = METRICS[metric]
    return [
        Verdict("unscored", refused=None, reason="the test row has no reference answer")
        if one.reference is None
        else Verdict("safe", refused=None, score=score(one.answer, one.reference))
        for one in asked
    ]
