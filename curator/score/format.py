"""How a row is laid out and worded on its surface, as numbers: about two dozen plain features of prompt and answer.

The prompt is the last user turn, the answer the last turn. Two things are not features: whether an answer opens with a
refusal, and whether it opens in the first person. Both describe the kind of answer, which has its own column (`refusal`
of `pool.traits`); in a pool of refusals they would dominate the others. How a prompt opens, its politeness and its
words for a format are recognised in English only, and are 0 in other languages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import log, log1p
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curator.language import words
from curator.pool.words import last
from curator.records import Messages, Vectors
from curator.represent.encoder import Texts, unit
from curator.score.content import FORMAT_WORDS, POLITE

FARTHEST = 3.0
"""Standard deviations at which a feature is clipped, so that one odd row is not far from everything."""

_WH = re.compile(r"(?:what|who|whom|whose|when|where|why|which|how)\b", re.IGNORECASE)
_ASKS = re.compile(
    r"(?:give|write|list|tell|explain|describe|make|create|name|show|help|provide|find|suggest|generate|summari[sz]e"
    r"|translate|rewrite|compare|identify|classify|let|plan|sum|design|convert|calculate|draft|compose|outline"
    r"|discuss|define|propose|pick|choose|add|edit|answer|imagine|pretend|act|teach|guide)\b",
    re.IGNORECASE,
)
_BULLET = re.compile(r"^\s*[-*\u2022\u2013]\s+\S", re.MULTILINE)
_NUMBERED = re.compile(r"^\s*\(?\d{1,3}[.)]\s+\S", re.MULTILINE)
_MARKED = re.compile(r"\*\*|^#{1,6}\s|^\s*\|.*\|", re.MULTILINE)
_SENTENCE = re.compile(r"[.!?\u3002\uff01\uff1f]+(?:\s|$)")
_PARAGRAPH = re.compile(r"\n\s*\n")
_QUOTE = re.compile(r"[\"\u201c\u201d\u00ab\u00bb]")
_PERSON = {"i", "me", "my", "mine", "myself"}

Space = tuple[Vectors, Mapping[str, Vectors]]
"""Vectors of the pool and of every task's rows."""


class Text(NamedTuple):
    """A text and its words."""

    text: str
    words: Sequence[str]

    @property
    def size(self) -> int:
        """How many words it has, at least 1."""
        return max(1, len(self.words))

    @property
    def signs(self) -> int:
        """How many characters it has, at least 1."""
        return max(1, len(self.text))

    def opens(self, pattern: re.Pattern[str]) -> float:
        """1 if the text begins with the pattern, ignoring polite phrases, else 0."""
        return float(pattern.match(POLITE.sub("", self.text).lstrip(" ,.!\n")) is not None)

    def count(self, pattern: re.Pattern[str]) -> int:
        """How often the pattern occurs in the text."""
        return sum(1 for _ in pattern.finditer(self.text))


PROMPT: Mapping[str, Callable[[Text], float]] = {
    "words": lambda prompt: log1p(len(prompt.words)),
    "lines": lambda prompt: log1p(prompt.text.strip().count("\n")),
    "question mark": lambda prompt: float("?" in prompt.text or "\uff1f" in prompt.text),
    "wh-word opening": lambda prompt: prompt.opens(_WH),
    "imperative opening": lambda prompt: prompt.opens(_ASKS),
    "politeness": lambda prompt: float(POLITE.search(prompt.text) is not None),
    "format words": lambda prompt: prompt.count(FORMAT_WORDS) / prompt.size,
}
"""Features of a prompt: logarithms of counts, shares of its words, or 0 and 1."""

ANSWER: Mapping[str, Callable[[Text], float]] = {
    "words": lambda answer: log1p(len(answer.words)),
    "letters a word": lambda answer: sum(map(len, answer.words)) / answer.size,
    "words a sentence": lambda answer: log1p(answer.size / max(1, answer.count(_SENTENCE))),
    "lines": lambda answer: log1p(answer.text.strip().count("\n")),
    "paragraphs": lambda answer: log1p(len(_PARAGRAPH.findall(answer.text.strip()))),
    "bullets": lambda answer: log1p(answer.count(_BULLET)),
    "numbered items": lambda answer: log1p(answer.count(_NUMBERED)),
    "code": lambda answer: float("```" in answer.text),
    "marks": lambda answer: log1p(answer.count(_MARKED)),
    "quotes": lambda answer: answer.count(_QUOTE) / answer.size,
    "commas": lambda answer: answer.text.count(",") / answer.size,
    "colons": lambda answer: answer.text.count(":") / answer.size,
    "question marks": lambda answer: log1p(answer.text.count("?")),
    "exclamation marks": lambda answer: log1p(answer.text.count("!")),
    "digits": lambda answer: sum(map(str.isdigit, answer.text)) / answer.signs,
    "capitals": lambda answer: sum(map(str.isupper, answer.text)) / answer.signs,
    "different words": lambda answer: len(set(answer.words)) / answer.size,
    "first person": lambda answer: sum(word in _PERSON for word in answer.words) / answer.size,
}
"""Features of an answer, likewise; `letters a word` is a mean."""

FEATURES = (*(f"prompt: {name}" for name in PROMPT), *(f"answer: {name}" for name in ANSWER), "answer to prompt")
"""What `features` gives, in its order; the last is the logarithm of the answer's words over the prompt's."""


def features(messages: Messages) -> list[float]:
    """The features of a conversation that ends with an answer, finite numbers in the order of FEATURES."""
    prompt, answer = (Text(text, words(text)) for text in (last(messages, "user"), messages[-1]["content"]))
    return [
        *(feature(prompt) for feature in PROMPT.values()),
        *(feature(answer) for feature in ANSWER.values()),
        log(answer.size / prompt.size),
    ]


def formats(pool: Texts, tasks: Mapping[str, Texts], weights: Mapping[str, float]) -> Space:
    """Unit vectors of the features; their cosines, in [-1, 1], say how similar the layouts of two rows are.

    Each feature is standardised and clipped at FARTHEST. Its mean and spread are those of a mixture, one half pool and
    one half tasks by their weight, so that neither a large pool nor a task of weight 0 decides. A feature that never
    differs is 0. A last entry, 1 for all rows, makes rows of average format similar to each other; without it their
    direction would be random.

    Args:
        pool: `n` candidates.
        tasks: Task name -> `m` rows, at least one.
        weights: Task name -> task mass, summing to 1.

    Returns:
        Vectors of width `len(FEATURES) + 1`. The order of rows changes none of them.
    """
    tables = {name: _table(texts) for name, texts in tasks.items()}
    rows = _table(pool)
    shares = [(rows, 0.5), *((table, weights[name] / 2) for name, table in tables.items())]
    # Sorted, so that sums run in the same order whatever the order of the rows.
    mean = sum(share * np.sort(table, axis=0).mean(axis=0) for table, share in shares)
    square = sum(share * np.sort((table - mean) ** 2, axis=0).mean(axis=0) for table, share in shares)
    spread = np.sqrt(square)

    def vectors(texts: Texts, table: NDArray[np.float64]) -> Vectors:
        scaled = np.divide(table - mean, spread, out=np.zeros_like(table), where=spread > 1e-9)
        whole = np.hstack([np.clip(scaled, -FARTHEST, FARTHEST), np.ones((len(table), 1))])
        return Vectors(tuple(texts.ids), unit(whole), "format")

    return vectors(pool, rows), {name: vectors(tasks[name], table) for name, table in tables.items()}


def _table(texts: Texts) -> NDArray[np.float64]:
    return np.array([features(messages) for messages in texts.rows], dtype=np.float64).reshape(-1, len(FEATURES))
