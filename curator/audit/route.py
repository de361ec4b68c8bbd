"""Which of several aligned corpora to start from: the paper's proposal, by likeness to what a user fine-tunes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curator.audit.asked import named
from curator.audit.vectors import similarity, vectors_of
from curator.errors import DataError
from curator.pool.sources import read
from curator.records import Conversations, Embed
from curator.report.model import read_report
from curator.report.part import Count, Number, Part, Rate
from curator.run import report_file
from curator.wording import rate


class Limits(Part):
    """A rate with its 95 % interval."""

    value: Number
    low: Number
    high: Number


class Verified(Part):
    """What a run that verified a corpus found: how harmful models aligned on it are."""

    run: str
    before: Limits
    after: Limits


class Ranked(Part):
    """A corpus by its likeness to the tasks."""

    corpus: str
    rows: Count
    similarity: float
    """Mean over its rows and the tasks of the mean cosine to the ten nearest task rows."""
    tasks: dict[str, float]
    """Name -> the same of one."""
    measured: Verified | None
    """Null where no run verified it."""


def ranked(
    corpora: Sequence[str], tasks: Sequence[str], embed: Embed, *, runs: Sequence[Path] = (), base: Path = Path(".")
) -> list[Ranked]:
    """The corpora, the least alike to the tasks first; ties go by name.

    Args:
        corpora, tasks: Files, or `hub:ID`.
        embed: `n` ids and conversations -> `(n, d)` unit vectors.
        runs: Run folders that verified one of the corpora (`curator audit --measure`, `curator verify`).

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
        mean = float(np.mean(list(by_task.values())))
        found.append(Ranked(corpus=name, rows=rows.height, similarity=mean, tasks=by_task, measured=measured.get(name)))
    return sorted(found, key=lambda one: (one.similarity, one.corpus))


def _measured(runs: Sequence[Path], labels: dict[str, str]) -> dict[str, Verified]:
    found = {}
    for run in runs:
        if not report_file(run).exists():
            raise DataError(
                f"{run}: has no report; give a run folder that `curator verify` or `curator build` finished"
            )
        report = read_report(report_file(run))
        given = [report.provenance.setting("select", "data", kind) for kind in ("file", "hub", "sandbox")]
        verified = next((str(where) for where in given if where), None)
        label = None if verified is None else verified.replace("\\", "/").rsplit("/", 1)[-1]
        name = next((name for name, own in labels.items() if label in (own, own.rsplit("/", 1)[-1])), None)
        if name is None:
            known = ", ".join(labels.values())
            raise DataError(f"{run}: verified {verified or 'a set that it chose itself'}, which is none of {known}")
        phases = report.arms["curated"]["anticipated"]
        before, after = (_limits(rates.harmfulness) for rates in (phases.before, phases.after))
        found[name] = Verified(run=str(run), before=before, after=after)
    return found


def _limits(found: Rate) -> Limits:
    return Limits(value=found.value, low=found.low, high=found.high)


def lines(found: Sequence[Ranked]) -> list[tuple[str, str]]:
    """Label and text of each corpus, for a terminal."""
    told = []
    for position, one in enumerate(found, 1):
        text = f"likeness {one.similarity:.3f} over {one.rows:,} rows"
        if one.measured is None:
            text += "; unmeasured: likeness is a guess at what lasts, and other work found the opposite sign"
        else:
            before, after = (rate(of.value, of.low, of.high) for of in (one.measured.before, one.measured.after))
            text += f"; measured: {before} harmful before fine-tuning, {after} after ({one.measured.run})"
        told.append((f"{position}. {one.corpus}", text))
    return told
