"""What a cluster is about: its typical terms, and how stable it is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curator.cluster.kmeans import Labels
from curator.cluster.result import Stability
from curator.pool.words import words
from curator.records import Messages


def top_terms(rows: Sequence[Messages], labels: NDArray[np.int64], count: int) -> list[tuple[str, ...]]:
    """For each cluster at most `count` words, the strongest first: those whose mean TF-IDF over its rows exceeds the
    mean over all others by most. Ties go by the word.

    Args:
        rows: `n` conversations, all of whose turns count.
        labels: `(n,)` cluster of each, 0 to k - 1, none empty.
        count: At least 0.
    """
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [words(" ".join(turn["content"] for turn in messages)) for messages in rows]
    sizes = np.bincount(labels)[:, None]
    if not any(texts):
        return [() for _ in sizes]
    by_words = TfidfVectorizer(analyzer=list)
    weights: Any = by_words.fit_transform(texts)  # (n, v)
    member = csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))))
    sums = (member @ weights).toarray()  # (k, v)
    others = (sums.sum(axis=0) - sums) / np.maximum(len(rows) - sizes, 1)
    apart = sums / sizes - others
    vocabulary = by_words.get_feature_names_out()  # in alphabetical order, so that a stable sort breaks ties by it
    return [
        tuple(str(vocabulary[place]) for place in np.argsort(-line, kind="stable")[:count] if line[place] > 0)
        for line in apart
    ]


def stability(partitions: Sequence[Labels], chosen: int | None) -> Stability:
    """How alike clusterings of the same rows are.

    Args:
        partitions: Labels `(n,)` of two or more clusterings; the first is the one that is told.
        chosen: A label of the first: the cluster looked for in the others.
    """
    from sklearn.metrics import adjusted_rand_score

    rand = tuple(float(adjusted_rand_score(one, other)) for one, other in combinations(partitions, 2))
    first, *others = partitions
    found = tuple(_best_jaccard(first == chosen, labels) for labels in others) if chosen is not None else ()
    return Stability(len(partitions), rand, found)


def _best_jaccard(rows: np.ndarray[tuple[int], np.dtype[np.bool_]], labels: Labels) -> float:
    shared = np.bincount(labels[rows], minlength=int(labels.max()) + 1)
    together = np.bincount(labels) + int(rows.sum()) - shared
    return float((shared / together).max())
