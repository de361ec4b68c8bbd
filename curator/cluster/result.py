"""What clustering a task's rows gives, and what cluster.json says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import JsonValue

from curator.audit.model import Source
from curator.cluster import model
from curator.errors import DataError
from curator.run.folder import write_text
from curator.seeds import generator
from curator.wording import percent

SHOWN = 5
"""Rows nearest a cluster's centre that are named first in cluster.json and in the terminal."""


@dataclass(frozen=True)
class Settings:
    """What decides the result.

    Attributes:
        clusters, seed, restarts, iterations: Of k-means.
        stability: Clusterings that are compared, each from a seed of its own; the first is the one that is told.
        of: The cluster that is chosen; null for the most list-like one of at least `sample` rows.
        sample: Rows that a task file made from it has.
        terms: How many words describe a cluster.
        anchor_nearest: Anchors whose mean cosine counts (n). `anchor_rows`: rows at either end of that ranking.
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
        number: Its place by list-likeness, from 1.
        rows: Their ids, the nearest to the centre first.
        lists: Share of the rows whose answer is a list.
        similarity: Mean cosine of all pairs of its rows, in [-1, 1]; null for a row alone.
        similarity_rank: Its place by that, from 1.
        terms: Words that set its rows apart, the strongest first.
        anchored: How many of its rows are among those that the anchors rank first; null without anchors.
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
        seeds: Clusterings compared, the one that is told among them.
        rand: Adjusted Rand index of every pair of them, at most 1; about 0 for unrelated ones.
        jaccard: For each other clustering, the largest Jaccard similarity of one of its clusters to the chosen one;
            empty where none is chosen.
    """

    seeds: int
    rand: tuple[float, ...]
    jaccard: tuple[float, ...]

    @property
    def found(self) -> int:
        """Of the other clusterings, how many have a cluster that shares more than half with the chosen one: at most one
        can.
        """
        return sum(value > 0.5 for value in self.jaccard)


@dataclass(frozen=True)
class Anchored:
    """The rows in the order of their likeness to given anchors (He et al. 2024, arXiv 2404.01099).

    Attributes:
        harmful, safe: How many anchors there are; `safe` may be 0.
        nearest: How many of each, the nearest, count.
        top, bottom: Ids and scores of the rows most and least like the harmful ones; each the most extreme first.
    """

    harmful: int
    safe: int
    nearest: int
    top: tuple[tuple[str, float], ...]
    bottom: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Clustering:
    """What is found in a task's rows.

    Attributes:
        rows: The rows themselves, sorted by id. Their text is in no file that is written but the samples asked for.
        tasks: Name -> what was read.
        embedder: What made the vectors.
        clusters: The most list-like first.
        chosen: The number of the fragile cluster, or null with a `reason`.
        stability: Null where one seed was asked for. `anchors`: null without anchors.
        inertia, rounds, settled: Of the k-means that is told.
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


@dataclass(frozen=True)
class Sample:
    """Rows drawn from one cluster: its number, how they were picked, and their ids."""

    cluster: int
    pick: str
    rows: tuple[str, ...]


def record(found: Clustering, sample: Sample | None = None) -> model.Clusters:
    """What cluster.json says of a clustering and of the rows drawn from it."""
    anchors = found.anchors
    return model.Clusters(
        version=model.VERSION,
        tasks={name: Source.model_validate(task) for name, task in found.tasks.items()},
        rows=found.rows.height,
        embedder=found.embedder,
        settings=model.Settings.model_validate(found.settings),
        inertia=found.inertia,
        rounds=found.rounds,
        settled=found.settled,
        clusters=tuple(map(_cluster, found.clusters)),
        chosen=model.Chosen(number=found.chosen, reason=found.reason),
        stability=None if found.stability is None else _stability(found.stability),
        anchors=None
        if anchors is None
        else model.Anchors(
            harmful=anchors.harmful,
            safe=anchors.safe,
            nearest=anchors.nearest,
            top=_scored(anchors.top),
            bottom=_scored(anchors.bottom),
        ),
        sample=None if sample is None else model.SampledRows.model_validate(sample),
    )


def _cluster(found: Cluster) -> model.Cluster:
    size = len(found.rows)
    return model.Cluster(
        number=found.number,
        size=size,
        lists=found.lists,
        similarity=found.similarity,
        similarity_rank=found.similarity_rank,
        terms=found.terms,
        nearest=found.rows[:SHOWN],
        anchored=None
        if found.anchored is None
        else model.AnchoredShare(rows=found.anchored, share=found.anchored / size),
        rows=found.rows,
    )


def _scored(rows: tuple[tuple[str, float], ...]) -> tuple[model.ScoredRow, ...]:
    return tuple(model.ScoredRow(id=name, score=score) for name, score in rows)


def _stability(found: Stability) -> model.Stability:
    rand, jaccard = found.rand, found.jaccard
    return model.Stability(
        seeds=found.seeds,
        adjusted_rand=model.Spread(mean=sum(rand) / len(rand), min=min(rand), max=max(rand)),
        chosen=model.FoundAgain(found=found.found, of=len(jaccard), jaccard=jaccard, mean=sum(jaccard) / len(jaccard))
        if jaccard
        else None,
    )


HEADS = ("", "rows", "lists", "inner similarity", "terms", "nearest rows")


def table(found: Clustering, shown: int = 2) -> tuple[list[str], list[list[str]]]:
    """Heads and lines, a cluster a line."""
    heads = [*HEADS]
    if found.anchors is not None:
        heads.insert(4, "anchored")
    lines = []
    for one in found.clusters:
        alike = "-" if one.similarity is None else f"{one.similarity:.3f} ({one.similarity_rank}.)"
        mark = f"> {one.number}" if one.number == found.chosen else str(one.number)
        line = [mark, f"{len(one.rows):,}", percent(one.lists), alike, " ".join(one.terms), " ".join(one.rows[:shown])]
        if one.anchored is not None:
            line.insert(4, percent(one.anchored / len(one.rows)))
        lines.append(line)
    return heads, lines


def summary(found: Clustering) -> list[str]:
    """What stands below the table."""
    told = []
    if found.chosen is None:
        told.append(f"No cluster is chosen: {found.reason}.")
    else:
        chosen = "as asked" if found.settings.of is not None else "by list-likeness"
        told.append(
            f"> Cluster {found.chosen}, chosen {chosen}. Only fine-tuning on its rows tells whether it is fragile."
        )
    if (same := found.stability) is not None:
        mean = sum(same.rand) / len(same.rand)
        line = f"Over {same.seeds} seeds: adjusted Rand index {mean:.2f}, from {min(same.rand):.2f} to "
        line += f"{max(same.rand):.2f}"
        if same.jaccard:
            line += f"; cluster {found.chosen} is found again by {same.found} of {len(same.jaccard)} other seeds"
            line += f" (Jaccard {min(same.jaccard):.2f} to {max(same.jaccard):.2f})"
        told.append(line + ".")
    if not found.settled:
        told.append(f"k-means was still moving rows after {found.rounds} rounds: raise --iterations.")
    if (anchors := found.anchors) is not None:
        less = f" less that to {anchors.safe} safe ones" if anchors.safe else ""
        told.append(
            f"Anchored: rows among the {len(anchors.top)} most like {anchors.harmful} harmful anchors{less} "
            f"(mean of the {anchors.nearest} largest cosines)."
        )
    return told


PICKS = ("random", "nearest")


def sample(found: Clustering, pick: str) -> Sample:
    """`settings.sample` rows of the chosen cluster: drawn at random from the seed, or those nearest the centre.

    Raises:
        DataError: No cluster is chosen, or it has too few rows.
    """
    wanted = found.settings.sample
    if found.chosen is None:
        raise DataError(f"--sample: {found.reason}")
    rows = found.clusters[found.chosen - 1].rows
    if len(rows) < wanted:
        raise DataError(
            f"--sample: found {wanted}, and cluster {found.chosen} has {len(rows)} rows; ask for at most that"
        )
    if pick == "nearest":
        return Sample(found.chosen, pick, rows[:wanted])
    drawn = generator(found.settings.seed, "sample").choice(sorted(rows), wanted, replace=False)
    return Sample(found.chosen, pick, tuple(sorted(map(str, drawn))))


def write_rows(path: Path, rows: pl.DataFrame, ids: Sequence[str]) -> None:
    """Writes rows by id, in that order, as JSON Lines that a recipe's source reads: messages, and where known category
    and licence. Whole or not at all.
    """
    by_id = {row["id"]: row for row in rows.filter(pl.col("id").is_in(list(ids))).iter_rows(named=True)}
    told = []
    for one in ids:
        known = {name: by_id[one][name] for name in ("category", "licence") if by_id[one][name] is not None}
        told.append(json.dumps({"messages": by_id[one]["messages"], **known}, ensure_ascii=False) + "\n")
    write_text(path, "".join(told))
