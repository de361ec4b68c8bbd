"""Audits of a corpus of safety examples: its content and its problems, found by the code of a build's stages.

Nothing is changed or trained here; `curator.corpus.measure` measures whether the corpus's safety lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from curator.corpus import model
from curator.corpus.model import VERSION, Audit
from curator.corpus.request import Material, Request, name_of
from curator.corpus.vectors import ByVectors, embedded
from curator.judge.phrases import refused
from curator.judge.questions import reasoning_end
from curator.pool.decontaminate import Leak
from curator.pool.gather import probes_of
from curator.pool.near import near_duplicates
from curator.pool.screen import Finding, worst_first
from curator.pool.screen.answers import alike, canned, harmful, refusals
from curator.pool.screen.drops import duplicates, leaks, left_out, licences, near_leaks, unusable
from curator.pool.screen.language import languages
from curator.pool.screen.markup import markup
from curator.pool.screen.personal import personal
from curator.pool.sources import Read, mapping, read, remarks
from curator.recipe.source import Source
from curator.records import Conversations
from curator.run.ran import computed_with, noting
from curator.wording import these

WITHOUT = (
    "similarity to the tasks, and which task the corpus is most exposed to",
    "semantic duplicates",
    "redundancy (effective number of rows, Vendi score) and coverage of the pool",
)
BY_PROMPT = (
    "prompts that resemble a probe without sharing its words",
    "categories of hazard, and prompts that are not harmful",
)


def audit(request: Request, *, say: Callable[[str], None] = lambda line: None) -> Audit:
    """The audit of a corpus.

    Args:
        request: The sources and settings of the audit.
        say: Called with a line before each slow part.

    Raises:
        DataError: A source cannot be read, or is empty.
    """
    with noting():
        return _audit(request, say)


def _audit(request: Request, say: Callable[[str], None]) -> Audit:
    settings = request.clean
    longest = settings.max_tokens if request.count_tokens is not None else None
    for source in filter(None, (request.corpus, *request.tasks.values(), request.pool)):
        if columns := mapping(source):
            say(columns)
    say(f"Reading the corpus {request.corpus.label}")
    corpus = read(request.corpus, count_tokens=request.count_tokens, max_tokens=longest)
    rows, ids = corpus.rows, corpus.rows["id"].to_list()
    say(f"Read {these(corpus.resolved['read'], 'record', 'records')}, kept {these(rows.height, 'row', 'rows')}")
    others = [*request.tasks, *request.probes, *(["the pool"] if request.pool is not None else [])]
    if others:
        say(f"Reading {', '.join(others)}")
    tasks = {name: read(source) for name, source in request.tasks.items()}
    probes = {name: read(source, prompts_only=True) for name, source in request.probes.items()}
    pool = read(request.pool) if request.pool is not None else None
    for other in [*tasks.values(), *probes.values(), *([pool] if pool is not None else [])]:
        for remark in remarks(other.resolved):
            say(remark)

    asked = sum(probe_set.rows.height for probe_set in probes.values())
    if asked:
        say(f"Comparing {these(rows.height, 'row', 'rows')} with {these(asked, 'probe', 'probes')}")
    overlap, findings, of_tasks = _overlap(request, rows, tasks, probes)
    findings += unusable(corpus.dropped, corpus.resolved["read"], request.findings)
    findings += left_out(corpus.resolved["unused"], rows.height)
    if settings.near_duplicates is not None:
        near = settings.near_duplicates
        say(f"Looking for near duplicates among {these(rows.height, 'row', 'rows')}")
        matches = near_duplicates(
            Conversations(rows),
            threshold=near.jaccard,
            shingle=near.shingle,
            permutations=near.permutations,
        )
        measure = f"a Jaccard similarity of {near.jaccard:g} or more"
        findings += duplicates("near-duplicates", ids, matches, measure, request.findings)
    say(f"Screening {these(rows.height, 'row', 'rows')}")
    refusing, shares = refusals(rows, _refused, request.findings)
    speaking, spoken = languages(rows, request.findings)
    licensed, licence = licences(rows)
    marked, control = markup(rows)
    findings += [*canned(rows, request.findings), *alike(rows, request.findings), *refusing, *speaking, *licensed]
    findings += [*personal(rows, request.find), *marked]
    if request.judge is not None:
        findings += harmful(rows, request.judge[1], request.judge[0])
    by_vectors = ByVectors()
    if request.embed is not None:
        by_vectors, more = embedded(request, Material(corpus, tasks, probes, pool), request.embed, say)
        findings += more
        leaking = {match.id for each in overlap.values() for match in each.matches}
        findings += near_leaks(rows.height, _by_set(by_vectors.near_probes or ()), leaking)
    dtype = computed_with().get("dtype")
    return Audit(
        version=VERSION,
        corpus=_source(corpus, request.corpus),
        tasks={name: _source(task) for name, task in tasks.items()},
        probes={name: _source(probe_set) for name, probe_set in probes.items()},
        pool=_source(pool) if pool is not None else None,
        refusals=shares["refusals"],
        languages=spoken,
        licences=licence,
        control_tokens=control,
        overlap=overlap,
        similarity=by_vectors.similarity,
        exposure=by_vectors.exposure,
        near_probes=by_vectors.near_probes,
        coverage=by_vectors.coverage,
        unassigned=by_vectors.unassigned,
        redundancy=by_vectors.redundancy,
        not_made=_not_made(request),
        measured=None,
        settings=model.Settings(
            clean=settings.model_dump(mode="json"),
            categorise=request.categorise.model_dump(mode="json"),
            findings=request.findings.model_dump(mode="json"),
            embedder=request.embedder,
            dtype=str(dtype) if dtype is not None else None,
            judge=request.judge[0] if request.judge else None,
        ),
        findings=_placed([*((finding, corpus) for finding in findings), *of_tasks]),
        # Only an embedder of prompts gives this key.
        **({} if by_vectors.assigned is None else {"assigned": by_vectors.assigned}),
    )


def _placed(findings: Sequence[tuple[Finding, Read]]) -> tuple[model.Finding, ...]:
    """The findings, the worst first, each with the source of its rows and their lines there."""
    read_of = {id(finding): source for finding, source in findings}
    placed = []
    for finding in worst_first(finding for finding, _ in findings):
        source = read_of[id(finding)]
        line_of: dict[str, int | None] = dict(source.rows.select("id", "line").iter_rows())
        lines = tuple(line_of.get(row) for row in finding.ids)
        placed.append(model.Finding(**vars(finding), lines=lines, source=str(source.resolved["label"])))
    return tuple(placed)


def _by_set(near: Sequence[model.NearProbe]) -> dict[str, list[tuple[str, str, float]]]:
    """Probe set -> id, probe and cosine of the prompts near one of its probes."""
    matches: dict[str, list[tuple[str, str, float]]] = {}
    for match in near:
        matches.setdefault(match.set, []).append((match.id, match.probe, match.cosine))
    return matches


def _refused(answer: str) -> bool | None:
    return refused(answer[reasoning_end(answer) :])


def _source(source: Read, named: Source | None = None) -> model.Source:
    """What is written down of a source, and of the corpus, which is `named`, also its name and its mapped columns."""
    mapped = {"mapped": named.columns} if named is not None and named.columns else {}
    name = {"named": name_of(named)} if named is not None else {}
    return model.Source.model_validate({**source.resolved, **name, **mapped})


def _not_made(request: Request) -> tuple[str, ...]:
    if request.embed is None:
        return (*WITHOUT, *BY_PROMPT)
    return BY_PROMPT if request.by_answer else ()


def _overlap(
    request: Request, rows: pl.DataFrame, tasks: Mapping[str, Read], probes: Mapping[str, Read]
) -> tuple[dict[str, model.Overlap], list[Finding], list[tuple[Finding, Read]]]:
    """The rows of the corpus and of the tasks that contain a probe, with the findings about both."""
    if request.clean.decontaminate is None:
        return {}, [], []
    section = request.clean.decontaminate
    ready = {name: probes_of([(name, probe_set.rows)], section) for name, probe_set in probes.items()}
    ids, conversations = rows["id"].to_list(), Conversations(rows)
    matched = {name: search.leaks(conversations) for name, search in ready.items()}
    findings = leaks(ids, matched, "the corpus", "error")
    of_tasks: list[tuple[Finding, Read]] = []
    for task, source in tasks.items():
        messages = Conversations(source.rows)
        asking = {name: probe.leaks(messages) for name, probe in ready.items()}
        leaking = leaks(source.rows["id"].to_list(), asking, f"task {task}", "warning")
        of_tasks += [(finding, source) for finding in leaking]
    overlap = {name: _overlap_with(ids, matched[name], probes[name].rows.height) for name in probes}
    return overlap, findings, of_tasks


def _overlap_with(ids: Sequence[str], by_row: Sequence[Leak | None], probes: int) -> model.Overlap:
    pairs = [(row, leak) for row, leak in zip(ids, by_row, strict=True) if leak is not None]
    return model.Overlap(
        rows=len(pairs),
        probes=len({leak.probe for _, leak in pairs}),
        of_probes=probes,
        matches=tuple(model.Match(id=row, probe=leak.probe, overlap=round(leak.overlap, 4)) for row, leak in pairs),
    )
