"""What kind of answer each row has: a refusal or not, how it opens, how long it is, how it is laid out.

Similarity to a task is first of all similarity of such kinds, so sets can be compared, matched and limited by them.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from curator.language import unspaced, words
from curator.pool.refusals import refusals
from curator.pool.words import last
from curator.recipe.limits import openers_of
from curator.records import Conversations

if TYPE_CHECKING:
    from curator.recipe.judge import Judge

OPENER_WORDS = 3
"""How many words of an answer are its opener."""
LENGTHS = ("short", "medium", "long")
"""Thirds of the pool by words of the answer."""
FORMATS = ("code", "list", "paragraphs", "prose")
"""A fenced block; at least two lines that begin with a bullet or a number; text with an empty line in it; the rest."""

TRAITS_SCHEMA: dict[str, type[pl.DataType]] = {
    "id": pl.String,
    "refusal": pl.String,
    "opener": pl.String,
    "answer": pl.String,
    "words": pl.Int64,
    "length": pl.String,
    "format": pl.String,
}
"""`refusal`: `refusal` or `other` by the judge of `pool.refusals`, null where it cannot tell; `opener`: the first
OPENER_WORDS words, case and punctuation apart; `answer`: a hash of all words, equal for answers that are the same word
for word; `words` >= 0; `length` of LENGTHS; `format` of FORMATS."""

_ITEM = re.compile(r"^\s*(?:[-*\u2022\u2013]|\(?(?:\d{1,3}|[A-Za-z])[.)])\s+\S", re.MULTILINE)


def traits(rows: pl.DataFrame, judge: Judge | None = None) -> pl.DataFrame:
    """What kind of answer each row has, in the columns of TRAITS_SCHEMA and the order of the rows.

    Args:
        rows: In the columns of ROW_SCHEMA. What is told is about the last answer of each.
        judge: What says whether it refuses; null for English phrases.

    Raises:
        JudgeError, ModelError: As `refusals`.
    """
    answers = [last(messages, "assistant") for messages in Conversations(rows)]
    spoken = [words(answer) for answer in answers]
    counts = [len(each) for each in spoken]
    labels = {True: "refusal", False: "other", None: None}
    return pl.DataFrame(
        {
            "id": rows["id"],
            "refusal": [labels[refuses] for refuses in refusals(rows, judge)],
            "opener": [opener(answer) for answer in answers],
            "answer": [hashlib.sha256(" ".join(each).encode()).hexdigest()[:16] for each in spoken],
            "words": counts,
            "length": thirds(counts),
            "format": [form(answer) for answer in answers],
        },
        schema=TRAITS_SCHEMA,
    )


def by_opener(rows: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Opener -> answer -> how many of the rows have it, as `recipe.limits.Answers.left` takes them.

    Args:
        rows: In the columns of ROW_SCHEMA.
    """
    kinds = traits(rows).select("opener", "answer").rows()
    openers, counts = openers_of(kinds), dict[str, dict[str, int]]()
    for answer, count in Counter(answer for _, answer in kinds).items():
        counts.setdefault(openers[answer], {})[answer] = count
    return counts


def opener(answer: str) -> str:
    """The first OPENER_WORDS words of an answer, what an apostrophe joins being one; empty for an answer of none."""
    first: list[str] = []
    for chunk in answer.split():
        parts = [part for part in words(chunk) if part.isalnum()]  # no bullets and other signs
        first += parts if unspaced(chunk) else ["".join(parts)] * bool(parts)
        if len(first) >= OPENER_WORDS:
            break
    return " ".join(first[:OPENER_WORDS])


def thirds(counts: Sequence[int]) -> list[str]:
    """Of each count the third of all counts that it lies in, equal counts in the same one."""
    if not counts:
        return []
    ordered = sorted(counts)
    lower, upper = (ordered[(len(ordered) - 1) * part // 3] for part in (1, 2))
    short, medium, long = LENGTHS
    return [short if count <= lower else medium if count <= upper else long for count in counts]


def form(answer: str) -> str:
    """How an answer is laid out: the first of FORMATS that fits."""
    if "```" in answer:
        return "code"
    if len(_ITEM.findall(answer)) >= 2:
        return "list"
    return "paragraphs" if re.search(r"\S\s*\n\s*\n\s*\S", answer) else "prose"
