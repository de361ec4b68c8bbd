"""The parts of an audit that use vectors: similarity to the tasks, redundancy, hazards, and prompts that resemble a
probe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.corpus.model import Assigned, Confidence, Coverage, NearProbe, Redundancy, Similarity
from curator.corpus.request import Material, Request
from curator.pool.decontaminate import neighbours
from curator.pool.screen import EXAMPLES, Finding, finding
from curator.pool.screen.drops import duplicates
from curator.pool.semantic import covered, prompts_of, redundancy, semantic_duplicates
from curator.pool.taxonomy import assign, categorise, descriptions, not_harmful, unassigned
from curator.records import Conversations, Embed, Vectors
from curator.score.cosine import cosine
from curator.wording import these

TOP = 10
"""Number of nearest task rows whose mean cosine is a row's similarity to the task."""
_QUANTILES = {"min": 0.0, "p10": 0.1, "p25": 0.25, "median": 0.5, "p75": 0.75, "p90": 0.9, "max": 1.0}


@dataclass(frozen=True)
class ByVectors:
    """The parts of an audit that need vectors, under their names in audit.json; null if they were not made."""

    similarity: dict[str, Similarity] = field(default_factory=dict)
    exposure: tuple[str, ...] = ()
    redundancy: Redundancy | None = None
    near_probes: tuple[NearProbe, ...] | None = None
    coverage: dict[str, Coverage] | None = None
    unassigned: float | None = None
    assigned: Assigned | None = None


def embedded(
    request: Request, read: Material, embed: Embed, say: Callable[[str], None]
) -> tuple[ByVectors, list[Finding]]:
    """The parts of an audit that need vectors, and the findings; `say` is called with a line before each part."""
    rows, pool, findings = read.corpus.rows, read.pool, list[Finding]()
    ids = rows["id"].to_list()

    say(f"Loading {request.embedder} and embedding {these(rows.height, 'row', 'rows')}")
    corpus = vectors_of(rows, embed)
    say("Looking for semantic duplicates")
    threshold = request.clean.semantic_duplicates or request.findings.semantic
    matches = semantic_duplicates(corpus.matrix, threshold=threshold)
    findings += duplicates("semantic-duplicates", ids, matches, f"a cosine of {threshold:g} or more", request.findings)
    if read.tasks or pool is not None:
        others = [*read.tasks.values(), *([pool] if pool is not None else [])]
        say(f"Embedding {these(sum(other.rows.height for other in others), 'row', 'rows')} to compare with")
    candidates = None if pool is None else vectors_of(pool.rows, embed)
    similar = {name: _similarity(corpus, vectors_of(task.rows, embed), candidates) for name, task in read.tasks.items()}
    say("Measuring redundancy")
    numbers = redundancy(corpus.matrix)
    parts = ByVectors(
        similarity=similar,
        exposure=tuple(sorted(similar, key=lambda name: (-similar[name].median, name))),
        redundancy=Redundancy(rows=rows.height, effective=numbers.effective, vendi=numbers.vendi),
    )
    if numbers.effective < request.findings.effective and rows.height >= request.findings.fewest:
        count = these(rows.height, "row is", "rows are")
        what = f"The {count} as diverse as {numbers.effective:.1f} unrelated ones (effective number of rows)."
        advice = "Look for one request or answer in many wordings; more rows of the same kind add little."
        findings.append(finding("redundant", "warning", ids, rows.height, what=what, advice=advice))
    coverage = None if candidates is None else covered(candidates.matrix, corpus.matrix)
    if request.by_answer:
        return parts, findings
    asked = sum(probe_set.rows.height for probe_set in read.probes.values())
    prompts = these(rows.height, "prompt", "prompts")
    say(f"Embedding {prompts}" + (f" and {these(asked, 'probe', 'probes')}" if asked else ""))
    parts, more = _by_prompt(parts, request, read, embed, coverage)
    return parts, findings + more


def _by_prompt(
    parts: ByVectors, request: Request, read: Material, embed: Embed, coverage: NDArray[np.float64] | None
) -> tuple[ByVectors, list[Finding]]:
    """Adds the results from vectors of prompts: hazards, everyday prompts, and near probes."""
    rows, pool, findings = read.corpus.rows, read.pool, list[Finding]()
    ids = rows["id"].to_list()
    hazard_texts = descriptions()
    turns = [[{"role": "user", "content": text}] for text in hazard_texts]
    described = embed([str(number) for number in range(len(turns))], turns)
    prompts = embed(ids, prompts_of(rows))
    hazards = assign(prompts, described)
    sorted_rows = categorise(rows, hazards, least=request.categorise.least)
    everyday = not_harmful(hazards, margin=request.findings.everyday)
    plain = [row for row, harmless in zip(ids, everyday, strict=True) if harmless]
    if plain:
        who = these(len(plain), "prompt is", "prompts are")
        what = f"{who} closer to an everyday subject than to any hazard, according to the embedder."
        advice = "Read some. Harmless prompts with helpful answers belong in `keep`; refused ones teach over-refusal."
        severity = "warning" if len(plain) >= request.findings.many * rows.height else "info"
        findings.append(finding("not-harmful-prompts", severity, plain, rows.height, what=what, advice=advice))
    listed = []
    section = request.clean.decontaminate
    least = (section.neighbours if section else None) or request.findings.near_probe
    for name, probe_set in read.probes.items():
        vectors = vectors_of(probe_set.rows, embed)
        near = neighbours(ids, prompts, vectors.ids, vectors.matrix, least=least)
        listed += [NearProbe(id=row, set=name, probe=probe, cosine=round(value, 4)) for row, probe, value in near]
    by_category = {
        str(name): Coverage(rows=count, share=count / rows.height, pool=None if pool is None else 0.0, covered=None)
        for name, count in sorted_rows.drop_nulls("category").group_by("category").len().sort("category").iter_rows()
    }
    if pool is not None and coverage is not None:
        pool_rows = categorise(pool.rows, assign(embed(pool.rows["id"].to_list(), prompts_of(pool.rows)), described),
                           least=request.categorise.least).with_columns(pl.Series("covered", coverage))  # fmt: skip
        for labels, part in pool_rows.drop_nulls("category").group_by("category", maintain_order=True):
            of_corpus = by_category.get(str(labels[0]))
            by_category[str(labels[0])] = Coverage(
                rows=of_corpus.rows if of_corpus else 0,
                share=of_corpus.share if of_corpus else 0.0,
                pool=part.height / pool.rows.height,
                covered=part.select(pl.col("covered").mean()).item(),
            )
        missing = sorted(name for name, entry in by_category.items() if not entry.rows)
        if missing:
            what = f"The pool has categories that the corpus lacks: {', '.join(missing)}."
            advice = "Add rows of these categories, or state that the corpus does not cover them."
            findings.append(finding("missing-categories", "warning", (), len(missing), what=what, advice=advice))
    share = unassigned(sorted_rows["category"].to_list())
    assigned = sorted_rows.filter(pl.col("assigned") & pl.col("category").is_not_null())
    sure = assigned["confidence"].to_numpy()
    confidence = Confidence.model_validate(_quantiles(sure) if len(sure) else dict.fromkeys(_QUANTILES))
    whole = replace(
        parts,
        coverage=dict(sorted(by_category.items(), key=lambda entry: (-entry[1].rows, entry[0]))),
        unassigned=share,
        assigned=Assigned(rows=assigned.height, confidence=confidence),
        near_probes=tuple(sorted(listed, key=lambda match: (-match.cosine, match.id))),
    )
    return whole, findings


def similarity(corpus: Vectors, task: Vectors) -> NDArray[np.float64]:
    """The mean cosine of each row to its TOP nearest rows of a task, `(n,)` in [-1, 1]."""
    return cosine(corpus, {"task": task}, {"task": 1.0}, aggregate="top-mean", n=min(TOP, len(task.ids))).combined


def _similarity(corpus: Vectors, task: Vectors, pool: Vectors | None) -> Similarity:
    values = similarity(corpus, task)
    order = np.lexsort((np.array(corpus.ids), -values))
    above = None if pool is None else float((values > np.median(similarity(pool, task))).mean())
    return Similarity(
        **_quantiles(values),
        mean=float(values.mean()),
        score=f"cosine/top-mean-{min(TOP, len(task.ids))}",
        most=tuple(corpus.ids[row] for row in order[:EXAMPLES]),
        least=tuple(corpus.ids[row] for row in order[::-1][:EXAMPLES]),
        above_pool_median=above,
    )


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(np.quantile(values, at)) for name, at in _QUANTILES.items()}


def vectors_of(rows: pl.DataFrame, embed: Embed) -> Vectors:
    """Vectors of whole rows, `(n, d)`, of unit length, under the rows' ids."""
    ids = rows["id"].to_list()
    return Vectors(tuple(ids), embed(ids, Conversations(rows)), "")
