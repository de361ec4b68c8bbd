"""Which of several aligned corpora to start from: the paper's proposal, by likeness to what a user fine-tunes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curator.audit.asked import named
from curator.audit.vectors import similarity, vectors_of
from curator.errors import DataError
from curator.pool.sources import read
from curator.records import Conversations, Embed
from curator.run.folder import read_json
from curator.wording import rate

REPORT = Path("8-report") / "report.json"


def ranked(
    corpora: Sequence[str], tasks: Sequence[str], embed: Embed, *, runs: Sequence[Path] = (), base: Path = Path(".")
) -> list[dict[str, Any]]:
    """The corpora, the least alike to the tasks first; ties go by name.

    Args:
        corpora, tasks: Files, or `hub:ID`.
        embed: `n` ids and conversations -> `(n, d)` unit vectors.
        runs: Run folders that verified one of the corpora (`curator audit --measure`, `curator verify`).

    Returns:
        For each: `corpus`, `rows`, `similarity` (mean over its rows and the tasks of the mean cosine to the ten nearest
        task rows), `tasks` (name -> the same of one), `measured`: null, or what a run found: `run`, `before` and
        `after`, each value, low, high.

    Raises:
        DataError: A file cannot be read, or a run folder has no report or is of none of the corpora.
    """
    sources = named(corpora)
    measured = _measured(runs, {name: source.label for name, source in sources.items()})
    of_tasks = {}
    for name, source in named(tasks).items():
        rows = read(source, base=base).rows
        ids = rows["id"].to_list()
        of_tasks[name] = vectors_of(ids, embed(ids, Conversations(rows)))
    found = []
    for name, source in sources.items():
        rows = read(source, base=base).rows
        ids = rows["id"].to_list()
        own = vectors_of(ids, embed(ids, Conversations(rows)))
        by_task = {task: float(similarity(own, vectors).mean()) for task, vectors in of_tasks.items()}
        found.append(
            {
                "corpus": name,
                "rows": rows.height,
                "similarity": float(np.mean(list(by_task.values()))),
                "tasks": by_task,
                "measured": measured.get(name),
            }
        )
    return sorted(found, key=lambda one: (one["similarity"], one["corpus"]))


def _measured(runs: Sequence[Path], labels: dict[str, str]) -> dict[str, Any]:
    found = {}
    for run in runs:
        if not (run / REPORT).exists():
            raise DataError(
                f"{run}: has no report; give a run folder that `curator verify` or `curator build` finished"
            )
        report = read_json(run / REPORT)
        given = report["provenance"]["recipe"]["select"]["data"] or {}
        verified = next((given[kind] for kind in ("file", "hub", "sandbox") if given.get(kind)), None)
        label = None if verified is None else str(verified).replace("\\", "/").rsplit("/", 1)[-1]
        name = next((name for name, own in labels.items() if label in (own, own.rsplit("/", 1)[-1])), None)
        if name is None:
            known = ", ".join(labels.values())
            raise DataError(f"{run}: verified {verified or 'a set that it chose itself'}, which is none of {known}")
        rates = report["arms"]["curated"]["anticipated"]
        phases = {phase: rates[phase]["harmfulness"] for phase in ("before", "after")}
        limits = {phase: {key: one[key] for key in ("value", "low", "high")} for phase, one in phases.items()}
        found[name] = {"run": str(run), **limits}
    return found


def lines(found: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Label and text of each corpus, for a terminal."""
    told = []
    for place, one in enumerate(found, 1):
        text = f"likeness {one['similarity']:.3f} over {one['rows']:,} rows"
        if one["measured"] is None:
            text += "; unmeasured: likeness is a guess at what lasts, and other work found the opposite sign"
        else:
            before, after = (rate(*one["measured"][phase].values()) for phase in ("before", "after"))
            text += f"; measured: {before} harmful before fine-tuning, {after} after ({one['measured']['run']})"
        told.append((f"{place}. {one['corpus']}", text))
    return told
