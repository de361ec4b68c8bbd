"""Features in which the sets of a bank differ: the groups of their rows, every score, the kinds of their answers, and
their variety.

Letters: `n` rows of the pool, sorted by id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl

from curator.errors import DataError
from curator.recipe.bank import GROUPINGS
from curator.records import Vectors
from curator.represent.kmeans import kmeans
from curator.seeds import generator
from curator.selection.objectives import coverage_term
from curator.selection.problem import Column, Problem, Rows

MOST = 20
"""Most groups of one grouping; if there are more labels, the rarest form one group."""
CLUSTERS = 12
OTHER, NONE = "other", "none"
"""Name of the group of the rarest labels, and of rows without a label."""

_COLUMNS = {
    "category": "category",
    "opener": "opener",
    "answer-length": "length",
    "format": "format",
    "source": "source",
}
"""Grouping -> its column in the candidates or in their traits; clusters are computed from their vectors."""
VARIED = {
    "different openers": ("opener", -1),
    "commonest opener": ("opener", 1),
    "different answers": ("answer", -1),
    "commonest answer": ("answer", 1),
    "category entropy": ("category", -1),
}
"""Feature of a set -> the label whose variety it measures, and the sign of its correlation with harm if variety helps
alignment last; a set balanced over the label has the most variety."""


def groups_of(
    rows: pl.DataFrame, traits: pl.DataFrame, vectors: Vectors, groupings: Sequence[str], seed: int
) -> pl.DataFrame:
    """`id`, sorted, and the label of each candidate in every one of the groupings that divides the candidates.

    Args:
        rows: In the columns of ROW_SCHEMA.
        traits: Traits of the same rows, in the columns of TRAITS_SCHEMA.
        vectors: Vectors of the same rows, which k-means clusters by distance.
        groupings: Names in GROUPINGS.
        seed: Random seed of the clusters.

    Raises:
        DataError: None of the groupings divides the candidates.
    """
    assert set(groupings) <= set(GROUPINGS)
    known = rows.select("id", "category", "source").join(traits.drop("refusal"), on="id").sort("id")
    columns = {}
    for grouping in groupings:
        labels = (
            _clusters(vectors, known["id"].to_list(), seed)
            if grouping == "cluster"
            else pooled([label or NONE for label in known[_COLUMNS[grouping]]])
        )
        if len(set(labels)) > 1:
            columns[grouping] = labels
    if not columns:
        raise DataError(
            f"verify.pilot.bank.groupings: all candidates belong to one group by {', '.join(groupings)}; name another "
            f"grouping (allowed: {', '.join(GROUPINGS)})"
        )
    return pl.DataFrame({"id": known["id"], **columns})


def pooled(labels: Sequence[str]) -> list[str]:
    """The labels, at most MOST of them: the most frequent ones stay (ties by label), the rest becomes OTHER."""
    counts = Counter(labels)
    if len(counts) <= MOST:
        return list(labels)
    kept = set(sorted(counts, key=lambda label: (-counts[label], label))[: MOST - 1])
    return [label if label in kept else OTHER for label in labels]


def _clusters(vectors: Vectors, ids: Sequence[str], seed: int) -> list[str]:
    different = len(np.unique(vectors.matrix, axis=0))
    # One start and few rounds: clusters only serve to vary sets, so any compact ones will do.
    partition = kmeans(
        vectors.matrix,
        min(CLUSTERS, different),
        rng=generator(seed, "clusters"),
        restarts=1,
        iterations=50,
    )
    label_of = dict(zip(vectors.ids, partition.labels.tolist(), strict=True))
    return [f"cluster {label_of[row_id] + 1:02d}" for row_id in ids]


def of_rows(
    problem: Problem, traits: pl.DataFrame, scores: pl.DataFrame, weights: Mapping[str, float]
) -> dict[str, Column]:
    """Feature -> `(n,)` its value for each row, NaN if the row has none; the value of a set is the mean over its rows.

    The features are every score (weighted over tasks), refusal or not, number of words, and each length and format.

    Args:
        problem: The pool.
        traits: As in `groups_of`.
        scores: `id`, and a column `<score>:<task>` for each score and task.
        weights: Task mass by name.
    """
    order = pl.DataFrame({"id": problem.ids}).join(traits, on="id", how="left", maintain_order="left")
    table = order.select("id").join(scores, on="id", how="left", maintain_order="left")
    columns: dict[str, Column] = {}
    for name in scores.columns[1:]:
        score, _, task = name.rpartition(":")
        if weights.get(task, 0.0) > 0:
            columns[score] = columns.get(score, np.zeros(len(problem.ids))) + weights[task] * table[name].to_numpy()
    refusals = (order["refusal"] == "refusal").cast(pl.Float64)
    columns["refusals"] = refusals.fill_null(np.nan).to_numpy()
    columns["words"] = order["words"].cast(pl.Float64).to_numpy()
    for trait in ("length", "format"):
        for label in sorted(set(order[trait])):
            columns[f"{trait} {label}"] = (order[trait] == label).cast(pl.Float64).to_numpy()
    return columns


def of_sets(problem: Problem, rows: pl.DataFrame, traits: pl.DataFrame, sets: Sequence[Rows]) -> dict[str, list[float]]:
    """Feature -> its value for each set, for features that single rows do not have.

    These are the distinct openers and answers, as shares of the rows; the shares of the most common of each; the
    entropy of categories in nats; the set's facility location, in [0, 1], and its log-det (alpha 1) in nats; and the
    mean cosine of its pairs.
    """
    labels = labels_of(problem, rows, traits)
    covers, volume = (coverage_term(name, even(problem), {}) for name in ("facility-location", "log-det"))

    def value(term: str, chosen: Rows) -> float:
        running = covers if term == "coverage" else volume
        running.clear()
        running.add_all(chosen.tolist())
        return running.value()

    def counts(label: str, chosen: Rows) -> list[int]:
        return [*Counter(labels[label][row] for row in chosen.tolist()).values()]

    def similarity(chosen: Rows) -> float:
        vectors = problem.vectors[problem.copy_of[chosen]].astype(np.float64)
        pairs = len(chosen) * (len(chosen) - 1)
        return float((vectors.sum(axis=0) ** 2).sum() - (vectors**2).sum()) / pairs if pairs else 0.0

    def entropy(chosen: Rows) -> float:
        shares = np.array(counts("category", chosen)) / len(chosen)
        return float(-(shares * np.log(shares)).sum())

    measures: dict[str, Callable[[Rows], float]] = {
        "different openers": lambda chosen: len(counts("opener", chosen)) / len(chosen),
        "commonest opener": lambda chosen: max(counts("opener", chosen)) / len(chosen),
        "different answers": lambda chosen: len(counts("answer", chosen)) / len(chosen),
        "commonest answer": lambda chosen: max(counts("answer", chosen)) / len(chosen),
        "category entropy": entropy,
        "coverage": lambda chosen: value("coverage", chosen),
        "log-det": lambda chosen: value("log-det", chosen),
        "mean similarity": similarity,
    }
    return {name: [measure(chosen) for chosen in sets] for name, measure in measures.items()}


def features(subsets: Sequence[str], sets: Sequence[Rows], rows: Mapping[str, Column], whole: Mapping[str, list[float]]
             ) -> pl.DataFrame:  # fmt: skip
    """`subset`, and a column for every feature: means over the rows that have it, null if no row does, and the features
    of sets.
    """
    means = {}
    for name, column in rows.items():
        known = [column[chosen][~np.isnan(column[chosen])] for chosen in sets]
        means[name] = [float(values.mean()) if len(values) else None for values in known]
    schema = {"subset": pl.String, **dict.fromkeys([*means, *whole], pl.Float64)}
    return pl.DataFrame({"subset": subsets, **means, **whole}, schema=schema)


def labels_of(problem: Problem, rows: pl.DataFrame, traits: pl.DataFrame) -> dict[str, list[str]]:
    """`opener`, `answer` and `category` of each of the `n` rows."""
    order = pl.DataFrame({"id": problem.ids}).join(traits, on="id", how="left", maintain_order="left")
    order = order.join(rows.select("id", "category"), on="id", how="left", maintain_order="left")
    return {name: [label or NONE for label in order[name]] for name in ("opener", "answer", "category")}


def even(problem: Problem) -> Problem:
    """The pool with equal row weights, which log-det requires."""
    return problem if (problem.weight == 1.0).all() else problem.weighted(np.ones(len(problem.ids)))
