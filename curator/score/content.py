"""What a prompt is about, whatever form of answer it asks for: its embedding without its format words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from curator.pool.words import last
from curator.records import Embed, Messages, Vectors
from curator.represent.encoder import Texts

if TYPE_CHECKING:
    from curator.score.format import Space

POLITE = re.compile(
    r"\b(?:please|kindly|thanks|thank you|(?:can|could|would|will) you(?: please)?|i(?:'d| would) like(?: you)?(?: to)?"
    r"|good (?:day|morning|evening)|hello|hi|dear|kind friend)\b",
    re.IGNORECASE,
)
"""Polite phrases, in English."""

_PHRASES = (
    "step[- ]by[- ]step", "bullet(?:ed)?(?: points?)?", "key points?", "in (?:short|brief|detail|full)",
    "in (?:one|a single|a few) (?:line|sentence|word)s?", "sum up", "make it short", "the gist of", "write down",
    "(?:give|tell|show|help) me", "as an? (?=list|table|story|poem|letter|essay)",
)  # fmt: skip
_WORDS = """
    lists? listing tables? columns? steps? guides? tutorials? instructions? outlines? summar(?:y|ies|i[sz]e[sd]?)
    essays? poems? stor(?:y|ies) tales? letters? e-?mails? dialogues? conversations? talks? speech(?:es)? articles?
    paragraphs? sentences? words items? examples? points json csv xml html yaml markdown numbered ordered format(?:ted)?
    short brief briefly concise(?:ly)? detailed long longer shorter simple simply give tell write draft compose describe
    explain name provide create generate suggest
"""
FORMAT_WORDS = re.compile(rf"\b(?:{'|'.join([*_PHRASES, *_WORDS.split()])})\b", re.IGNORECASE)
"""English words and phrases that ask for an answer, or for a form of answer."""

_OPENING = re.compile(
    r"^(?:\W*\b(?:what|which|who|when|where|why|how|is|are|was|were|do|does|did|can|could|should|would|much|many"
    r"|i|you|we|need|want|to|about|on|for|that|says?)\b)+",
    re.IGNORECASE,
)
_MARKS = re.compile(r"^\s*(?:[-*\u2022\u2013#>]+|\(?\d{1,3}[.)])\s+|[*_`#|]+", re.MULTILINE)
_NUMBERS = re.compile(r"\b(?:\d{1,2}|one|two|three|four|five|six|seven|eight|nine|ten)\b", re.IGNORECASE)
_ARTICLES = re.compile(r"\b(?:a|an|the|some|of|all|my|your|our)\b", re.IGNORECASE)


def about(prompt: str) -> str:
    """A prompt without its format words.

    Removes polite phrases (POLITE), words for a form of answer (FORMAT_WORDS), list and Markdown marks, numbers of one
    or two digits or up to ten in words (counts of requested items), articles and the like, words that open a question
    or a request, and the punctuation and space that is left over. A prompt that holds nothing else is returned
    unchanged.
    """
    text = _MARKS.sub(" ", prompt)
    for pattern in (POLITE, FORMAT_WORDS, _NUMBERS, _ARTICLES, _OPENING):
        text = pattern.sub(" ", text)
    text = re.sub(r"\s+([,.;:!?])", r"\1", " ".join(text.split()))
    text = re.sub(r"([,.;:!?])[,.;:!?]+", r"\1", text).strip(" ,.;:!?-\"'")
    return text or prompt


def contents(pool: Texts, tasks: Mapping[str, Texts], embed: Embed, name: str) -> Space:
    """Unit vectors of what each row's last prompt is about.

    Args:
        pool: `n` candidates.
        tasks: Task name -> `m` rows.
        embed: Ids and conversations -> `(n, d)` unit vectors.
        name: Name of the embedder.

    Returns:
        Vectors that are not centred, because sentence embedders are trained for plain cosines. Their cosines are in
        [-1, 1].

    Raises:
        ModelError: The embedder cannot be loaded, or memory runs out.
    """

    def vectors(texts: Texts) -> Vectors:
        return Vectors(tuple(texts.ids), embed(texts.ids, [_asked(messages) for messages in texts.rows]), name)

    return vectors(pool), {task: vectors(texts) for task, texts in tasks.items()}


def _asked(messages: Messages) -> Messages:
    return [{"role": "user", "content": about(last(messages, "user"))}]
