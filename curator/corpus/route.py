"""Ranks alignment corpora by similarity to the fine-tuning data, to choose the one to start from (the proposal of
Hsiung et al., arXiv 2506.05346).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from curator.conclusions.part import MIX, Count, Many, Number, Part
from curator.corpus.request import named
from curator.corpus.vectors import similarity, vectors_of
from curator.errors import DataError
from curator.pool.sources import mapping, read
from curator.recipe.inputs import fingerprint, locate
from curator.recipe.source import Source
from curator.records import Embed, Vectors
from curator.report.model import read_report
from curator.run import require
from curator.run.readers import report_file
from curator.wording import rate, these


class Limits(Part):
    """A rate with its 95% interval."""

    value: Number
    low: Number
    high: Number


class Verified(Part):
    """The result of a run that verified a corpus: the harmfulness of models aligned on it."""

    run: str
    tasks: Many[str]
    """The anticipated tasks that it fine-tuned on, which may be others than those that corpora are ranked by."""
    before: Limits
    after: Limits


class Ranked(Part):
    """A corpus by its similarity to the tasks."""

    corpus: str
    rows: Count
    similarity: float
    """Mean over its rows and the tasks of the mean cosine to the ten nearest task rows."""
    tasks: dict[str, float]
    """Name of a task -> the same for this task."""
    measured: Verified | None
    """Null if no run verified it."""


def ranked(
    corpora: Sequence[str],
    tasks: Sequence[str],
    embed: Embed,
    *,
    runs: Sequence[Path] = (),
    say: Callable[[str], None] = lambda line: None,
) -> list[Ranked]:
    """The corpora, the least similar to the tasks first; ties go by name.

    Args:
        corpora, tasks: Files, or `hub:ID`.
        embed: `n` ids and conversations -> `(n, d)` unit vectors.
        runs: Run folders that verified one of the corpora (`curator audit --measure`, `curator verify`).
        say: Called with a line before each source is read and embedded.

    Raises:
        DataError: A file cannot be read, or a run verified none of the corpora.
        RunError: A run is not finished.
    """
    sources = named(corpora)
    measured = _measured(runs, sources)

    wanted = named(tasks)
    for source in (*wanted.values(), *sources.values()):  # all of them, before the first is embedded
        if source.file is not None:
            locate(source.file)

    def embedded(source: Source) -> Vectors:
        if columns := mapping(source):
            say(columns)
        say(f"Reading {source.label}")
        rows = read(source).rows
        say(f"Embedding its {these(rows.height, 'row', 'rows')}")
        return vectors_of(rows, embed)

    of_tasks = {name: embedded(source) for name, source in wanted.items()}
    ranking = []
    for name, source in sources.items():
        corpus_vectors = embedded(source)
        by_task = {task: float(similarity(corpus_vectors, vectors).mean()) for task, vectors in of_tasks.items()}
        mean = float(np.mean(list(by_task.values())))
        ranking.append(
            Ranked(
                corpus=name, rows=len(corpus_vectors.ids), similarity=mean, tasks=by_task, measured=measured.get(name)
            )
        )
    return sorted(ranking, key=lambda corpus: (corpus.similarity, corpus.corpus))


def _measured(runs: Sequence[Path], sources: Mapping[str, Source]) -> dict[str, Verified]:
    identities = {name: fingerprint(source) for name, source in sources.items()} if runs else {}
    verified_runs: dict[str, Verified] = {}
    for run in runs:
        require(run, "report")
        report = read_report(report_file(run))
        given = _given(report.provenance.sources)
        name = next((name for name, identity in identities.items() if _same(identity, given)), None)
        if name is None:
            verified = next((given[kind] for kind in ("file", "hub", "sandbox") if kind in given), None)
            known = ", ".join(source.label for source in sources.values())
            raise DataError(
                f"{run} verified {verified or 'a set that it chose itself'}; allowed: a run of {known}, with the "
                "content that the file has now"
            )
        if name in verified_runs:
            raise DataError(f"{run} and {verified_runs[name].run} both verified {name}; give one of them")
        phases = report.arms["curated"][MIX]
        before, after = (Limits.model_validate(rates.harmfulness) for rates in (phases.before, phases.after))
        fine_tuned = tuple(task.name for task in report.tasks if task.anticipated)
        verified_runs[name] = Verified(run=str(run), tasks=fine_tuned, before=before, after=after)
    return verified_runs


def _given(sources: object) -> Mapping[str, object]:
    """What a run read as the set that it was given; empty for a set that it chose."""
    read = cast("Mapping[str, Mapping[str, list[Mapping[str, object]]]]", sources or {})
    return (read.get("given", {}).get("sources") or [{}])[0]


_PARTS = {"config": None, "split": "train"}
"""Part of a data set on the Hub -> its default."""


def _same(corpus: Mapping[str, object], given: Mapping[str, object]) -> bool:
    """Whether a run read what a corpus names: a file of equal content, or the same data set of the Hub or sandbox."""
    what = next(kind for kind in ("sha256", "hub", "sandbox") if kind in corpus)
    revisions = (None, given.get("revision"), given.get("commit"))
    # A run's record leaves out the split that is the default.
    parts = all((corpus.get(part) or default) == (given.get(part) or default) for part, default in _PARTS.items())
    return given.get(what) == corpus[what] and corpus.get("revision") in revisions and parts


def lines(ranking: Sequence[Ranked]) -> list[tuple[str, str]]:
    """Label and text of each corpus, for a terminal."""
    rows = []
    for position, corpus in enumerate(ranking, 1):
        text = f"similarity {corpus.similarity:.3f} over {these(corpus.rows, 'row', 'rows')}"
        if corpus.measured is None:
            text += "; not verified: similarity alone may not predict what lasts, and other work found the opposite"
        else:
            before, after = (rate(of.value, of.low, of.high) for of in (corpus.measured.before, corpus.measured.after))
            tasks_of = " and ".join(f"'{task}'" for task in corpus.measured.tasks)
            text += f"; measured: {before} harmful before fine-tuning on {tasks_of}, {after} after "
            text += f"({corpus.measured.run})"
        rows.append((f"#{position} {corpus.corpus}", text))
    return rows
