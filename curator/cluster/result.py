"""The results of clustering a task's rows: records, cluster.json, lines for a terminal, and task files of its rows.

Terms are words of the task. No other text of a row is shown, or written except to requested task files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import JsonValue

from curator.cluster import model
from curator.corpus.model import Source
from curator.errors import DataError
from curator.run.folder import write_text
from curator.seeds import generator
from curator.wording import percent, these

SHOWN = 5
"""Number of rows nearest a cluster's centre that are named first in cluster.json and in the terminal."""


@dataclass(frozen=True)
class Settings:
    """Settings that decide the result.

    Attributes:
        clusters, seed, restarts, iterations: Parameters of k-means.
        stability: Number of clusterings compared, each from a separate seed; the first one is reported.
        of: The cluster to choose; null for the most list-like one of at least `sample` rows.
        sample: Number of rows in a task file made from it.
        terms: Number of words that describe a cluster.
        anchor_nearest: Number of nearest anchors whose mean cosine counts (n). `anchor_rows`: number of rows at either
            end of that ranking.
    """

    clusters: int = 20
    seed: int = 0
    restarts: int = 10
    iterations: int = 100
    stability: int = 5
    of: int | None = None
    sample: int = 100
    terms: int = 8
    anchor_nearest: int = 1
    anchor_rows: int = 100


@dataclass(frozen=True)
class Cluster:
    """Rows that k-means put together.

    Attributes:
        number: Rank by the share of lists, from 1.
        rows: Ids of the rows, the nearest to the centre first.
        lists: Share of the rows whose answer is a list.
        similarity: Mean cosine of all pairs of its rows, in [-1, 1]; null for a single row.
        similarity_rank: Rank by similarity, from 1.
        terms: Words that distinguish its rows, the strongest first.
        anchored: Number of its rows among those that the anchors rank first; null without anchors.
    """

    number: int
    rows: tuple[str, ...]
    lists: float
    similarity: float | None
    similarity_rank: int
    terms: tuple[str, ...]
    anchored: int | None = None


@dataclass(frozen=True)
class Stability:
    """Whether other seeds find the same clusters.

    Attributes:
        seeds: Number of clusterings compared, including the reported one.
        rand: Adjusted Rand index of every pair of them, at most 1; about 0 for unrelated ones.
        jaccard: For each other clustering, the largest Jaccard similarity of one of its clusters to the chosen one;
            empty if none is chosen.
    """

    seeds: int
    rand: tuple[float, ...]
    jaccard: tuple[float, ...]

    @property
    def found(self) -> int:
        """Number of other clusterings with a cluster whose Jaccard similarity to the chosen one is above one half; each
        has at most one such cluster.
        """
        return sum(value > 0.5 for value in self.jaccard)


@dataclass(frozen=True)
class Anchored:
    """The rows in the order of their similarity to given anchors (He et al. 2024, arXiv 2404.01099).

    Attributes:
        harmful, safe: Number of anchors; `safe` may be 0.
        nearest: Number of nearest anchors of each kind that count.
        top, bottom: Ids and scores of the rows most and least similar to the harmful ones, the most extreme first.
    """

    harmful: int
    safe: int
    nearest: int
    top: tuple[tuple[str, float], ...]
    bottom: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Clustering:
    """The clustering of a task's rows.

    Attributes:
        rows: The rows, sorted by id. Their text is written only to requested samples.
        tasks: Name -> what was read.
        embedder: Name of the embedder.
        clusters: The most list-like first.
        chosen: The number of the fragile cluster, or null with a `reason`.
        stability: Null with one seed. `anchors`: null without anchors.
        inertia, rounds, settled: Results of the reported k-means.
    """

    rows: pl.DataFrame
    tasks: Mapping[str, Mapping[str, JsonValue]]
    embedder: str
    clusters: tuple[Cluster, ...]
    chosen: int | None
    reason: str | None
    stability: Stability | None
    anchors: Anchored | None
    inertia: float
    rounds: int
    settled: bool
    settings: Settings


def record(clustering: Clustering, sample: model.SampledRows | None = None) -> model.Clusters:
    """The content of cluster.json for a clustering and the rows drawn from it."""
    anchors = clustering.anchors
    return model.Clusters(
        version=model.VERSION,
        tasks={name: Source.model_validate(task) for name, task in clustering.tasks.items()},
        rows=clustering.rows.height,
        embedder=clustering.embedder,
        settings=model.Settings.model_validate(clustering.settings),
        inertia=clustering.inertia,
        rounds=clustering.rounds,
        settled=clustering.settled,
        clusters=tuple(map(_cluster, clustering.clusters)),
        chosen=model.Chosen(number=clustering.chosen, reason=clustering.reason),
        stability=None if clustering.stability is None else _stability(clustering.stability),
        anchors=None
        if anchors is None
        else model.Anchors(
            harmful=anchors.harmful,
            safe=anchors.safe,
            nearest=anchors.nearest,
            top=_scored(anchors.top),
            bottom=_scored(anchors.bottom),
        ),
        sample=sample,
    )


def _cluster(cluster: Cluster) -> model.Cluster:
    size = len(cluster.rows)
    return model.Cluster(
        number=cluster.number,
        size=size,
        lists=cluster.lists,
        similarity=cluster.similarity,
        similarity_rank=cluster.similarity_rank,
        terms=cluster.terms,
        nearest=cluster.rows[:SHOWN],
        anchored=None
        if cluster.anchored is None
        else model.AnchoredShare(rows=cluster.anchored, share=cluster.anchored / size),
        rows=cluster.rows,
    )


def _scored(rows: tuple[tuple[str, float], ...]) -> tuple[model.ScoredRow, ...]:
    return tuple(model.ScoredRow(id=name, score=score) for name, score in rows)


def _stability(stability: Stability) -> model.Stability:
    rand, jaccard = stability.rand, stability.jaccard
    return model.Stability(
        seeds=stability.seeds,
        adjusted_rand=model.Spread(mean=sum(rand) / len(rand), min=min(rand), max=max(rand)),
        chosen=model.FoundAgain(
            found=stability.found, of=len(jaccard), jaccard=jaccard, mean=sum(jaccard) / len(jaccard)
        )
        if jaccard
        else None,
    )


def table(clustering: Clustering, shown: int = 2) -> tuple[list[str], list[list[str]]]:
    """Column heads and lines, one line per cluster."""
    heads = ["", "rows", "lists", "inner similarity", "terms", "nearest rows"]
    if clustering.anchors is not None:
        heads.insert(4, "anchored")
    lines = []
    for cluster in clustering.clusters:
        alike = "-" if cluster.similarity is None else f"{cluster.similarity:.3f} (#{cluster.similarity_rank})"
        mark = f"> {cluster.number}" if cluster.number == clustering.chosen else str(cluster.number)
        line = [
            mark,
            f"{len(cluster.rows):,}",
            percent(cluster.lists),
            alike,
            " ".join(cluster.terms),
            " ".join(cluster.rows[:shown]),
        ]
        if cluster.anchored is not None:
            line.insert(4, percent(cluster.anchored / len(cluster.rows)))
        lines.append(line)
    return heads, lines


def summary(clustering: Clustering) -> list[str]:
    """The lines below the table."""
    lines = []
    if clustering.chosen is None:
        lines.append(f"No cluster was chosen: {clustering.reason}.")
    else:
        chosen = "named by --of" if clustering.settings.of is not None else "with the largest share of lists"
        lines.append(
            f"> Chosen: cluster {clustering.chosen}, {chosen}. Only fine-tuning on its rows shows whether it erodes "
            "safety."
        )
    if (same := clustering.stability) is not None:
        mean = sum(same.rand) / len(same.rand)
        line = f"Over {these(same.seeds, 'seed', 'seeds')}, the adjusted Rand index is {mean:.2f} "
        line += f"({min(same.rand):.2f} to {max(same.rand):.2f})"
        if same.jaccard:
            others = these(len(same.jaccard), "other seed", "other seeds")
            line += f"; {same.found} of {others} found cluster {clustering.chosen} again"
            line += f" (Jaccard {min(same.jaccard):.2f} to {max(same.jaccard):.2f})"
        lines.append(line + ".")
    if not clustering.settled:
        rounds = these(clustering.rounds, "iteration", "iterations")
        lines.append(f"k-means did not converge in {rounds}; raise --iterations.")
    if (anchors := clustering.anchors) is not None:
        harmful = these(anchors.harmful, "harmful anchor", "harmful anchors")
        less = f" minus similarity to {these(anchors.safe, 'safe one', 'safe ones')}" if anchors.safe else ""
        lines.append(
            f"Anchored: share of rows among the {len(anchors.top):,} with the highest similarity to {harmful}{less} "
            f"(mean of the {anchors.nearest:,} largest cosines)."
        )
    return lines


def sample(clustering: Clustering, pick: str) -> model.SampledRows:
    """`settings.sample` rows of the chosen cluster: drawn at random from the seed, or those nearest the centre.

    Raises:
        DataError: No cluster is chosen, or it has too few rows.
    """
    size = clustering.settings.sample
    if clustering.chosen is None:
        raise DataError(f"--sample: {clustering.reason}")
    rows = clustering.clusters[clustering.chosen - 1].rows
    if len(rows) < size:
        raise DataError(
            f"--sample: found {size:,}, but cluster {clustering.chosen} has {these(len(rows), 'row', 'rows')}; "
            f"allowed: 1 to {len(rows):,}"
        )
    picked = rows[:size]
    if pick == "random":
        drawn = generator(clustering.settings.seed, "sample").choice(sorted(rows), size, replace=False)
        picked = tuple(sorted(map(str, drawn)))
    return model.SampledRows(cluster=clustering.chosen, pick=pick, rows=picked)


def write_rows(path: Path, rows: pl.DataFrame, ids: Sequence[str]) -> None:
    """Writes rows by id, in that order, as JSON Lines that a recipe's source reads: messages, and category and licence
    if known. The file is written atomically.
    """
    by_id = {row["id"]: row for row in rows.filter(pl.col("id").is_in(list(ids))).iter_rows(named=True)}
    lines = []
    for row in (by_id[row_id] for row_id in ids):
        known = {name: row[name] for name in ("category", "licence") if row[name] is not None}
        lines.append(json.dumps({"messages": row["messages"], **known}, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))
