"""A clustering as lines for a terminal. The terms are words of the task; nothing else of its text is told."""

from __future__ import annotations

from curator.cluster.result import Clustering
from curator.wording import percent

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
