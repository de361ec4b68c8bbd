"""What is in a corpus that somebody else made, and what is wrong with it: the same stages, asked another question.

Nothing is changed and nothing trained here; `curator.audit.measure` asks whether the corpus's safety lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from curator.audit import model
from curator.audit.asked import Asked, Material
from curator.audit.model import VERSION, Audit
from curator.audit.vectors import ByVectors, embedded
from curator.judge.phrases import refuses
from curator.pool.decontaminate import Leak
from curator.pool.gather import probes_of
from curator.pool.near import near_duplicates
from curator.pool.screen import Finding, worst_first
from curator.pool.screen.answers import canned, harmful, refusals
from curator.pool.screen.drops import duplicates, leaks, licences, unusable
from curator.pool.screen.language import languages
from curator.pool.screen.personal import personal
from curator.pool.sources import Read, read
from curator.records import Conversations

WITHOUT = (
    "similarity to the tasks, and which of them the corpus is exposed to",
    "semantic duplicates",
    "redundancy (effective number of rows, Vendi score) and coverage of the pool",
)
BY_PROMPT = (
    "prompts that lie near a probe without sharing its words",
    "categories by hazard, and prompts that are not harmful at all",
)


def audit(asked: Asked, *, base: Path = Path("."), tell: Callable[[str], None] = lambda line: None) -> Audit:
    """Everything found in a corpus.

    Args:
        asked: What to look at, and with what.
        base: Folder that relative paths start from.
        tell: Called with a line for each part.

    Raises:
        DataError: A source cannot be read, or is empty.
    """
    settings = asked.clean
    corpus = read(asked.corpus, base=base, count_tokens=asked.count_tokens, max_tokens=_most(asked))
    rows, ids = corpus.rows, corpus.rows["id"].to_list()
    tell(f"{asked.corpus.label}: {corpus.resolved['read']:,} read, {rows.height:,} rows")
    tasks = {name: read(source, base=base) for name, source in asked.tasks.items()}
    probes = {name: read(source, base=base, prompts_only=True) for name, source in asked.probes.items()}
    pool = read(asked.pool, base=base) if asked.pool is not None else None

    overlap, findings = _overlap(asked, rows, tasks, probes)
    findings += unusable(corpus.dropped, corpus.resolved["read"], asked.findings)
    if settings.near_duplicates is not None:
        near = settings.near_duplicates
        matches = near_duplicates(
            Conversations(rows),
            threshold=near.jaccard,
            shingle=near.shingle,
            permutations=near.permutations,
        )
        measure = f"a Jaccard similarity of {near.jaccard:g} or more"
        findings += duplicates("near-duplicates", ids, matches, measure, asked.findings)
    tell("duplicates and probes: done")
    refusing, shares = refusals(rows, refuses, asked.findings)
    speaking, spoken = languages(rows, asked.findings)
    licensed, licence = licences(rows)
    findings += [*canned(rows, asked.findings), *refusing, *speaking, *licensed, *personal(rows, asked.find)]
    if asked.judge is not None:
        findings += harmful(rows, asked.judge[1], asked.judge[0])
    tell("screening: done")
    by_vectors = ByVectors()
    if asked.embed is not None:
        by_vectors, found = embedded(asked, Material(corpus, tasks, probes, pool), asked.embed)
        findings += found
        tell("vectors: done")
    return Audit(
        version=VERSION,
        corpus=_source(corpus),
        tasks={name: _source(task) for name, task in tasks.items()},
        probes={name: _source(probe_set) for name, probe_set in probes.items()},
        pool=_source(pool) if pool is not None else None,
        refusals=shares["refusals"],
        languages=spoken,
        licences=licence,
        overlap=overlap,
        similarity=by_vectors.similarity,
        exposure=by_vectors.exposure,
        near_probes=by_vectors.near_probes,
        coverage=by_vectors.coverage,
        unassigned=by_vectors.unassigned,
        redundancy=by_vectors.redundancy,
        not_made=_not_made(asked),
        measured=None,
        settings=model.Settings(
            clean=settings.model_dump(mode="json"),
            categorise=asked.categorise.model_dump(mode="json"),
            findings=asked.findings.model_dump(mode="json"),
            embedder=asked.embedder,
            judge=asked.judge[0] if asked.judge else None,
        ),
        findings=tuple(map(model.Finding.model_validate, worst_first(findings))),
        # A key that only an embedder of prompts gives.
        **({} if by_vectors.assigned is None else {"assigned": by_vectors.assigned}),
    )


def _source(found: Read) -> model.Source:
    return model.Source.model_validate(found.resolved)


def _not_made(asked: Asked) -> tuple[str, ...]:
    if asked.embed is None:
        return (*WITHOUT, *BY_PROMPT)
    return BY_PROMPT if asked.by_answer else ()


def _most(asked: Asked) -> int | None:
    return asked.clean.max_tokens if asked.count_tokens is not None else None


def _overlap(
    asked: Asked, rows: pl.DataFrame, tasks: Mapping[str, Read], probes: Mapping[str, Read]
) -> tuple[dict[str, model.Overlap], list[Finding]]:
    """Which rows of the corpus and of the tasks ask a probe."""
    if asked.clean.decontaminate is None:
        return {}, []
    section = asked.clean.decontaminate
    ready = {name: probes_of([(name, one.rows)], section) for name, one in probes.items()}
    ids, conversations = rows["id"].to_list(), Conversations(rows)
    found = {name: one.leaks(conversations) for name, one in ready.items()}
    findings = leaks(ids, found, "the corpus", "error")
    for task, one in tasks.items():
        messages = Conversations(one.rows)
        asking = {name: probe.leaks(messages) for name, probe in ready.items()}
        findings += leaks(one.rows["id"].to_list(), asking, f"task {task}", "warning")
    return {name: _told(ids, found[name], probes[name].rows.height) for name in probes}, findings


def _told(ids: Sequence[str], found: Sequence[Leak | None], probes: int) -> model.Overlap:
    pairs = [(row, leak) for row, leak in zip(ids, found, strict=True) if leak is not None]
    return model.Overlap(
        rows=len(pairs),
        probes=len({leak.probe for _, leak in pairs}),
        of_probes=probes,
        matches=tuple(model.Match(id=row, probe=leak.probe, overlap=round(leak.overlap, 4)) for row, leak in pairs),
    )
