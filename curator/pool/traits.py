"""The kind of each row's answer: refusal or not, opener, length and format.

Similarity to a task is first of all similarity in these traits, so sets can be compared, matched and limited by them.
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
"""Number of words in an opener."""
LENGTHS = ("short", "medium", "long")
"""Thirds of the pool by number of words in the answer."""
FORMATS = ("code", "list", "paragraphs", "prose")
"""A fenced block; at least two lines that begin with a bullet or a number; text with an empty line; anything else."""

TRAITS_SCHEMA: dict[str, type[pl.DataType]] = {
    "id": pl.String,
    "refusal": pl.String,
    "opener": pl.String,
    "answer": pl.String,
    "words": pl.Int64,
    "length": pl.String,
    "format": pl.String,
}
"""`refusal`: `refusal` or `other` by the judge of `pool.refusals`, null if it cannot tell; `opener`: the first
OPENER_WORDS words, ignoring case and punctuation; `answer`: a hash of all words, equal for answers with the same words;
`words` >= 0; `length` of LENGTHS; `format` of FORMATS."""

_ITEM = re.compile(r"^\s*(?:[-*\u2022\u2013]|\(?(?:\d{1,3}|[A-Za-z])[.)])\s+\S", re.MULTILINE)


def traits(rows: pl.DataFrame, judge: Judge | None = None) -> pl.DataFrame:
    """The traits of each row's last answer, in the columns of TRAITS_SCHEMA and the order of the rows.

    Args:
        rows: In the columns of ROW_SCHEMA.
        judge: The judge of refusals; null for English phrases.

    Raises:
        JudgeError, ModelError: See `refusals`.
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
    """Opener -> answer -> number of rows with it, for `recipe.limits.Answers.left`.

    Args:
        rows: In the columns of ROW_SCHEMA.
    """
    kinds = traits(rows).select("opener", "answer").rows()
    openers, counts = openers_of(kinds), dict[str, dict[str, int]]()
    for answer, count in Counter(answer for _, answer in kinds).items():
        counts.setdefault(openers[answer], {})[answer] = count
    return counts


def opener(answer: str) -> str:
    """The first OPENER_WORDS words of an answer; words joined by an apostrophe count as one. Empty if it has no
    words.
    """
    first: list[str] = []
    for chunk in answer.split():
        # Without bullets and other symbols. Alone the vowel signs of many scripts do not count as letters.
        parts = [part for part in words(chunk) if any(sign.isalnum() for sign in part)]
        first += parts if unspaced(chunk) else ["".join(parts)] * bool(parts)
        if len(first) >= OPENER_WORDS:
            break
    return " ".join(first[:OPENER_WORDS])


def thirds(counts: Sequence[int]) -> list[str]:
    """For each count the third of all counts that it lies in; equal counts are in the same third."""
    if not counts:
        return []
    ordered = sorted(counts)
    lower, upper = (ordered[(len(ordered) - 1) * part // 3] for part in (1, 2))
    short, medium, long = LENGTHS
    return [short if count <= lower else medium if count <= upper else long for count in counts]


def form(answer: str) -> str:
    """The format of an answer: the first of FORMATS that fits."""
    if "```" in answer:
        return "code"
    if len(_ITEM.findall(answer)) >= 2:
        return "list"
    return "paragraphs" if re.search(r"\S\s*\n\s*\n\s*\S", answer) else "prose"
