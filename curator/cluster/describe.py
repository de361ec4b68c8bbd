"""The description of a cluster: the words that distinguish its rows, whether answers are lists (by their marks and the
length of their parts, in any language), whether k-means finds it again from other seeds, and the similarity of rows to
anchors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.cluster.result import Anchored, Stability
from curator.corpus.request import source_of
from curator.errors import DataError
from curator.language import unspaced, words
from curator.pool.sources import read
from curator.records import Embed, Messages, Vectors
from curator.represent.kmeans import Labels
from curator.score.cosine import cosine
from curator.wording import these

MARKED_LINES, MARKED_SHARE = 2, 0.5
"""Lines that start like list items: at least this number, and at least this share of the non-empty lines."""

ITEMS, COMMA_ITEMS = 3, 4
"""Short items without marks: at least this number, one per line (or after a colon), or between commas."""

LINE_WORDS, LINE_CHARACTERS = 5, 60

COMMA_WORDS, COMMA_CHARACTERS = 3, 30
"""The most words and characters of such an item; in scripts without spaces only the characters count."""


# 1. 1) (1) 1: 一、 ① - * + • a) and the like; digits of any script.
_MARK = re.compile(
    r"\s*(?:[-*+•◦▪●‣·–—]\s+|\(?\d{1,3}\s*[.):、．。]\)?(?!\d)|[・①-⑳]|[一二三四五六七八九十]{1,3}\s*[、.．]|\(?[^\W\d_][.)]\s)\s*\S"
)

_NUMBER = re.compile(r"(?:^|(?<=[\s;,:、，；：]))\(?(\d{1,3})(?:\s*([.):、．])\s*|\s+)(?=[^\W\d_])")

_BETWEEN = re.compile(r"\s*(?:[,;](?=\s)|[،、；])\s*")

_INTRODUCTION = re.compile(r"^[^\n:：]{0,80}[:：]\s*(?=\S)")

_OPENER = re.compile(r"(?:(?:\S+\s+){0,2}\S*[,，:：、]\s*)?")

_SENTENCE_ENDS = re.compile(r"[.!?。！？؟।](?:\s|$)")


def top_terms(rows: Sequence[Messages], labels: NDArray[np.int64], count: int) -> list[tuple[str, ...]]:
    """For each cluster at most `count` words, the strongest first: those whose mean TF-IDF over its rows exceeds the
    mean over all other rows most. Ties go by word.

    Args:
        rows: `n` conversations; all turns count.
        labels: `(n,)` cluster of each, 0 to k - 1, none empty.
        count: At least 0.
    """
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [
        [word for word in words(" ".join(turn["content"] for turn in messages)) if any(map(str.isalnum, word))]
        for messages in rows
    ]
    sizes = np.bincount(labels)[:, None]
    if not any(texts):
        return [() for _ in sizes]
    by_words = TfidfVectorizer(analyzer=list)
    weights: Any = by_words.fit_transform(texts)  # (n, v)
    member = csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))))
    sums = (member @ weights).toarray()  # (k, v)
    others = (sums.sum(axis=0) - sums) / np.maximum(len(rows) - sizes, 1)
    apart = sums / sizes - others
    vocabulary = by_words.get_feature_names_out()  # in alphabetical order, by which a stable sort breaks ties
    return [
        tuple(str(vocabulary[column]) for column in np.argsort(-line, kind="stable")[:count] if line[column] > 0)
        for line in apart
    ]


def stability(partitions: Sequence[Labels], chosen: int | None) -> Stability:
    """How similar clusterings of the same rows are.

    Args:
        partitions: Labels `(n,)` of two or more clusterings; the first is the one that is reported.
        chosen: A label of the first: the cluster to find in the others.
    """
    from sklearn.metrics import adjusted_rand_score

    rand = tuple(float(adjusted_rand_score(first, other)) for first, other in combinations(partitions, 2))
    first, *others = partitions
    jaccard = tuple(_best_jaccard(first == chosen, labels) for labels in others) if chosen is not None else ()
    return Stability(len(partitions), rand, jaccard)


def _best_jaccard(rows: np.ndarray[tuple[int], np.dtype[np.bool_]], labels: Labels) -> float:
    # The rows shared with each cluster, and from them the rows of either: |a or b| = |a| + |b| - |a and b|.
    shared = np.bincount(labels[rows], minlength=int(labels.max()) + 1)
    together = np.bincount(labels) + int(rows.sum()) - shared
    return float((shared / together).max())


def is_list(answer: str) -> bool:
    """Whether an answer is a list: if any one of these holds; the last three ignore an introduction up to a colon.

    1. **Marked lines**: at least two lines start with a number and a full stop, bracket, colon or ideographic comma,
       with a bullet, or with a letter and a bracket or full stop; they are at least half of the lines that are
       not empty.
    2. **Counted in one line**: it starts with 1, at most three words and a comma or colon before it, and 2 follows,
       each before a word: 'sure, 1. rye flour 2. salt'. Numbers without a mark behind them need 3, too, or only single
       words behind them ('1 flour 2 salt'): '1 apple costs 2 dollars' is not a list.
    3. **Short lines**: at least three lines, each of at most five words and without the end of a sentence.
    4. **Short items**: one sentence of at least four parts (three after a colon) between commas or semicolons, each of
       at most three words: 'red, green, dark blue and black, white'. A sentence that commas divide into parts as short
       ('however, the oak, which was old, fell') counts as one.
    """
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    marked = sum(_MARK.match(line) is not None for line in lines)
    if marked >= MARKED_LINES and marked >= MARKED_SHARE * len(lines):
        return True
    bare = answer.strip()
    listed = _INTRODUCTION.sub("", bare, count=1)
    return _unmarked(bare, COMMA_ITEMS) or (listed != bare and _unmarked(listed, ITEMS))


def _unmarked(text: str, least: int) -> bool:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) >= ITEMS:
        return all(_short(line, LINE_WORDS, LINE_CHARACTERS) and not _SENTENCE_ENDS.search(line) for line in lines)
    if len(lines) != 1:
        return False
    return _counted(lines[0]) or _items(lines[0], least)


def _counted(line: str) -> bool:
    numbers = list(_NUMBER.finditer(line))
    if not numbers or int(numbers[0][1]) != 1 or not _OPENER.fullmatch(line[: numbers[0].start()]):
        return False
    sequence: list[re.Match[str]] = []  # of 1, 2, ...; numbers inside the items are skipped
    for number in numbers:
        if int(number[1]) == len(sequence) + 1:
            sequence.append(number)
    if len(sequence) >= ITEMS:
        return True
    ends = [number.start() for number in sequence[1:]] + [len(line)]
    single = all(len(line[number.end() : end].split()) == 1 for number, end in zip(sequence, ends, strict=True))
    return len(sequence) == MARKED_LINES and (single or all(number[2] for number in sequence))


def _items(line: str, least: int) -> bool:
    sentence = re.sub(r"[.!?。！？؟।]+$", "", line)
    if _SENTENCE_ENDS.search(sentence) or re.search(r"[:：]\s", sentence):
        return False
    items = [item for item in _BETWEEN.split(sentence) if item]
    return len(items) >= least and all(_short(item, COMMA_WORDS, COMMA_CHARACTERS) for item in items)


def _short(text: str, most: int, characters: int) -> bool:
    return len(words(text) if unspaced(text) else text.split()) <= most and len(text) <= characters


def anchors_of(file: str | None, option: str, nearest: int) -> pl.DataFrame | None:
    """The rows of a file of anchors, prompts with answers; null if none is named.

    Raises:
        DataError: It cannot be read, or has fewer anchors than `nearest`.
    """
    if file is None:
        return None
    rows = read(source_of(file)).rows
    if rows.height < nearest:
        raise DataError(
            f"--anchor-nearest: found {nearest:,}, but {option} {file} has "
            f"{these(rows.height, 'anchor', 'anchors')}; allowed: 1 to {rows.height:,}"
        )
    return rows


def ranked(
    ids: Sequence[str],
    matrix: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    harmful: pl.DataFrame,
    safe: pl.DataFrame | None,
    embed: Embed,
    *,
    nearest: int,
    rows: int,
) -> Anchored:
    """The `rows` rows (or all) most and least similar to the anchors; ties go by id.

    A row's score is the mean of its `nearest` largest cosines to harmful anchors, minus the mean of its `nearest`
    largest to safe ones if there are any: in [-2, 2]. He et al. 2024 (arXiv 2404.01099) use n = 1.
    """
    task = Vectors(tuple(ids), matrix, "")

    def similarity(anchors: pl.DataFrame) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        names = anchors["id"].to_list()
        vectors = Vectors(tuple(names), embed(names, anchors["messages"].to_list()), "")
        return cosine(task, {"anchors": vectors}, {"anchors": 1.0}, aggregate="top-mean", n=nearest).combined

    scores = similarity(harmful)
    if safe is not None:
        scores = scores - similarity(safe)
    names = np.array(ids)
    falling = np.lexsort((names, -scores))[:rows]
    rising = np.lexsort((names, scores))[:rows]
    top, bottom = (tuple((str(names[row]), float(scores[row])) for row in order) for order in (falling, rising))
    return Anchored(harmful.height, 0 if safe is None else safe.height, nearest, top, bottom)
