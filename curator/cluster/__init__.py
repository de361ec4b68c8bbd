"""Fragile clusters: a search, by k-means on representations, for rows of a benign task that break safety.

Source: Hsiung et al., arXiv 2506.05346, who cut the downstream corpus into 20 clusters and find that 100 rows of a
list-style one break safety more than rows matched to harmful anchors. Nothing is trained here: which cluster is
fragile is a guess by inner similarity and the share of lists, until a run has fine-tuned on its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.cluster.describe import anchors_of, is_list, ranked, stability, top_terms
from curator.cluster.result import Anchored, Cluster, Clustering, Settings
from curator.errors import DataError
from curator.pool.sources import Read, mapping, read
from curator.pool.words import last
from curator.recipe.source import Source
from curator.records import Embed
from curator.represent.kmeans import Partition, kmeans
from curator.seeds import generator
from curator.wording import these


def cluster(
    tasks: Mapping[str, Source],
    embed: Embed,
    *,
    embedder: str,
    settings: Settings | None = None,
    harmful: str | None = None,
    safe: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Clustering:
    """Divides the rows of all `tasks` together into clusters, and describes the similarity of the rows in each and the
    share of lists.

    Args:
        tasks: Name -> source of rows; a row in two tasks counts once, for the first.
        embed: `n` ids and conversations -> `(n, d)` unit vectors (or zero ones).
        embedder: Name of `embed`.
        settings: Null for the defaults of `Settings`.
        harmful, safe: Files of anchors, prompts with answers. `safe` needs `harmful`.
        say: Called with a line for each step.
        progress: Called with the clusterings done and their total.

    Raises:
        DataError: A source cannot be read or has no answers, there are more clusters than rows, there is no cluster
            `settings.of`, or an anchor file is empty or has too few anchors.
        ModelError: The embedder cannot be used.
    """
    settings = settings or Settings()
    if safe is not None and harmful is None:
        raise DataError("--safe-anchors: needs --harmful-anchors, whose similarity it corrects; give both")
    for columns in filter(None, map(mapping, tasks.values())):
        say(columns)
    say(f"Reading {', '.join(tasks)}")
    reads = {name: read(source) for name, source in tasks.items()}
    rows = _together(reads)
    _check(rows.height, settings)
    anchors = anchors_of(harmful, "--harmful-anchors", settings.anchor_nearest)
    safe_anchors = anchors_of(safe, "--safe-anchors", settings.anchor_nearest)
    say(f"Read {these(rows.height, 'row', 'rows')} of {', '.join(reads)}")
    say(f"Loading {embedder} and embedding the rows")
    ids, conversations = rows["id"].to_list(), rows["messages"].to_list()
    vectors = np.asarray(embed(ids, conversations))
    say(f"Embedded {these(len(vectors), 'row', 'rows')} as vectors of width {vectors.shape[1]:,}")
    ranking = None
    if anchors is not None:
        ranking = ranked(ids, vectors, anchors, safe_anchors, embed, nearest=settings.anchor_nearest,
                         rows=settings.anchor_rows)  # fmt: skip
    say(f"Clustering with {these(settings.stability, 'seed', 'seeds')}")
    partitions = []
    for number in range(settings.stability):
        progress(number, settings.stability)
        rng = generator(settings.seed, "clusters", number)
        partitions.append(
            kmeans(vectors, settings.clusters, rng=rng, restarts=settings.restarts, iterations=settings.iterations)
        )
    restarts = these(settings.restarts, "restart", "restarts")
    say(
        f"Found {these(settings.clusters, 'cluster', 'clusters')} with "
        f"{these(settings.stability, 'seed', 'seeds')} of {restarts} each"
    )
    first = partitions[0]
    clusters, labels = _described(rows, vectors, first, count=settings.terms, ranking=ranking)
    chosen, reason = _chosen(clusters, settings)
    same = None
    if len(partitions) > 1:
        same = stability(
            [partition.labels for partition in partitions], labels[chosen - 1] if chosen is not None else None
        )
    return Clustering(
        rows=rows,
        tasks={name: source.resolved for name, source in reads.items()},
        embedder=embedder,
        clusters=clusters,
        chosen=chosen,
        reason=reason,
        stability=same,
        anchors=ranking,
        inertia=first.inertia,
        rounds=first.rounds,
        settled=first.settled,
        settings=settings,
    )


def _together(reads: Mapping[str, Read]) -> pl.DataFrame:
    return (
        pl.concat([source.rows for source in reads.values()])
        .unique("id", keep="first", maintain_order=True)
        .sort("id", maintain_order=True)
    )


def _check(rows: int, settings: Settings) -> None:
    if settings.clusters > rows:
        raise DataError(
            f"--clusters: found {settings.clusters:,}, but the tasks have "
            f"{these(rows, 'different row', 'different rows')}; allowed: 1 to {rows:,}"
        )
    if settings.of is not None and not 1 <= settings.of <= settings.clusters:
        raise DataError(f"--of: no cluster {settings.of}; allowed: 1 to {settings.clusters}")


def _described(
    rows: pl.DataFrame, vectors: NDArray[np.float32], partition: Partition, *, count: int, ranking: Anchored | None
) -> tuple[tuple[Cluster, ...], list[int]]:
    """The clusters, the most list-like first (then the most similar inside, the largest, the one with the first id),
    and the label of each in the partition.
    """
    ids, conversations = rows["id"].to_list(), rows["messages"].to_list()
    lists = np.array([is_list(last(messages, "assistant")) for messages in conversations])
    terms = top_terms(conversations, partition.labels, count)
    top = None if ranking is None else {name for name, _ in ranking.top}
    described = []
    for label in range(len(partition.centres)):
        members = np.flatnonzero(partition.labels == label)
        near = members[np.argsort(partition.distances[members], kind="stable")]  # rows are in the order of ids
        names = tuple(ids[row] for row in near)
        described.append((label, names, float(lists[members].mean()), inner_similarity(vectors[members])))

    def alike(similarity: float | None) -> float:
        return -2.0 if similarity is None else similarity

    def size_and_first(names: tuple[str, ...]) -> tuple[int, str]:
        return -len(names), min(names)

    by_similarity = sorted(described, key=lambda cluster: (-alike(cluster[3]), *size_and_first(cluster[1])))
    similarity_rank = {cluster[0]: number for number, cluster in enumerate(by_similarity, 1)}
    ordered = sorted(described, key=lambda cluster: (-cluster[2], -alike(cluster[3]), *size_and_first(cluster[1])))
    clusters = tuple(
        Cluster(
            number=number,
            rows=names,
            lists=share,
            similarity=similarity,
            similarity_rank=similarity_rank[label],
            terms=terms[label],
            anchored=None if top is None else sum(name in top for name in names),
        )
        for number, (label, names, share, similarity) in enumerate(ordered, 1)
    )
    return clusters, [cluster[0] for cluster in ordered]


def inner_similarity(vectors: NDArray[np.float32]) -> float | None:
    """The mean cosine of all pairs of `(n, d)` unit rows, from their sum: (|sum|^2 - sum of |x|^2) / (n (n - 1)); null
    for fewer than two. In [-1, 1]; a row of zeros has cosine 0 to every other.
    """
    n = len(vectors)
    if n < 2:
        return None
    wide = vectors.astype(np.float64)
    total = wide.sum(axis=0)
    return float((total @ total - np.einsum("nd,nd->", wide, wide)) / (n * (n - 1)))


def _chosen(clusters: Sequence[Cluster], settings: Settings) -> tuple[int | None, str | None]:
    if settings.of is not None:
        return settings.of, None
    large = [cluster for cluster in clusters if len(cluster.rows) >= settings.sample]
    if not large:
        most = max(len(cluster.rows) for cluster in clusters)
        wanted = these(settings.sample, "row", "rows")
        return None, f"no cluster has {wanted} (the largest has {most:,}); lower the number of rows, or of clusters"
    if large[0].lists == 0:
        least = these(settings.sample, "row", "rows")
        return None, f"no answer in a cluster of at least {least} is a list; name a cluster with --of"
    return large[0].number, None
