"""What an audit finds by vectors: likeness to the tasks, redundancy, hazards, and prompts that lie near a probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.audit.asked import Asked, Material
from curator.audit.model import Assigned, Confidence, Coverage, NearProbe, Redundancy, Similarity
from curator.pool.decontaminate import neighbours
from curator.pool.screen import EXAMPLES, Finding, finding
from curator.pool.screen.drops import duplicates
from curator.pool.semantic import covered, prompts_of, redundancy, semantic_duplicates
from curator.pool.taxonomy import assign, categorise, descriptions, not_harmful, unassigned
from curator.records import Conversations, Embed, Vectors
from curator.score.cosine import cosine
from curator.wording import these

TOP = 10
"""Task rows whose mean cosine is a row's similarity to the task."""
_QUANTILES = {"min": 0.0, "p10": 0.1, "p25": 0.25, "median": 0.5, "p75": 0.75, "p90": 0.9, "max": 1.0}


@dataclass(frozen=True)
class ByVectors:
    """The parts of an audit that need vectors, under their names in audit.json; null where they were not made."""

    similarity: dict[str, Similarity] = field(default_factory=dict)
    exposure: tuple[str, ...] = ()
    redundancy: Redundancy | None = None
    near_probes: tuple[NearProbe, ...] | None = None
    coverage: dict[str, Coverage] | None = None
    unassigned: float | None = None
    assigned: Assigned | None = None


def embedded(asked: Asked, read: Material, embed: Embed) -> tuple[ByVectors, list[Finding]]:
    """The parts of an audit that need vectors, and the findings."""
    rows, pool, findings = read.corpus.rows, read.pool, list[Finding]()
    ids = rows["id"].to_list()

    def whole(frame: pl.DataFrame) -> NDArray[np.float32]:
        return embed(frame["id"].to_list(), Conversations(frame))

    own = whole(rows)
    threshold = asked.clean.semantic_duplicates or asked.findings.semantic
    matches = semantic_duplicates(own, threshold=threshold)
    findings += duplicates("semantic-duplicates", ids, matches, f"a cosine of {threshold:g} or more", asked.findings)
    candidates = whole(pool.rows) if pool is not None else None
    of_tasks = {name: whole(one.rows) for name, one in read.tasks.items()}
    numbers = redundancy(own)
    there = vectors_of(pool.rows["id"].to_list(), candidates) if pool is not None and candidates is not None else None
    similar = {
        name: _similarity(vectors_of(ids, own), vectors_of(read.tasks[name].rows["id"].to_list(), task), there)
        for name, task in of_tasks.items()
    }
    found = ByVectors(
        similarity=similar,
        exposure=tuple(sorted(similar, key=lambda name: (-similar[name].median, name))),
        redundancy=Redundancy(rows=rows.height, effective=numbers.effective, vendi=numbers.vendi),
    )
    if numbers.effective < asked.findings.effective and rows.height >= asked.findings.fewest:
        what = f"The {rows.height:,} rows are as different as {numbers.effective:.1f} rows at right angles."
        advice = "Look for one request or one answer in many wordings; more rows of the same kind add little."
        findings.append(finding("redundant", "warning", ids, rows.height, what=what, advice=advice))
    coverage = covered(candidates, own) if candidates is not None else None
    if asked.by_answer:
        return found, findings
    found, more = _by_prompt(found, asked, read, embed, coverage)
    return found, findings + more


def _by_prompt(
    found: ByVectors, asked: Asked, read: Material, embed: Embed, coverage: NDArray[np.float64] | None
) -> tuple[ByVectors, list[Finding]]:
    """With what the vectors of prompts alone tell: hazards, everyday prompts, and probes that lie near."""
    rows, pool, findings = read.corpus.rows, read.pool, list[Finding]()
    ids = rows["id"].to_list()
    said = descriptions()
    described = embed([str(number) for number in range(len(said))], [[_user(one)] for one in said])
    prompts = embed(ids, prompts_of(rows))
    hazards = assign(prompts, described)
    sorted_rows = categorise(rows, hazards, least=asked.categorise.least)
    everyday = not_harmful(hazards, margin=asked.findings.everyday)
    plain = [one for one, harmless in zip(ids, everyday, strict=True) if harmless]
    if plain:
        who = these(len(plain), "prompt lies", "prompts lie")
        what = f"{who} nearer an everyday subject than any hazard, says the embedder."
        advice = "Read some: harmless prompts with helpful answers belong into `keep`, refused ones teach over-refusal."
        severity = "warning" if len(plain) >= asked.findings.many * rows.height else "info"
        findings.append(finding("not-harmful-prompts", severity, plain, rows.height, what=what, advice=advice))
    listed = []
    least = (asked.clean.decontaminate.neighbours if asked.clean.decontaminate else None) or asked.findings.near_probe
    for name, one in read.probes.items():
        vectors = embed(one.rows["id"].to_list(), Conversations(one.rows))
        near = neighbours(ids, prompts, one.rows["id"].to_list(), vectors, least=least)
        listed += [NearProbe(id=row, set=name, probe=probe, cosine=round(value, 4)) for row, probe, value in near]
    by_category = {
        str(name): Coverage(rows=count, share=count / rows.height, pool=None, covered=None)
        for name, count in sorted_rows.drop_nulls("category").group_by("category").len().sort("category").iter_rows()
    }
    if pool is not None and coverage is not None:
        there = categorise(pool.rows, assign(embed(pool.rows["id"].to_list(), prompts_of(pool.rows)), described),
                           least=asked.categorise.least).with_columns(pl.Series("covered", coverage))  # fmt: skip
        for labels, part in there.drop_nulls("category").group_by("category", maintain_order=True):
            own = by_category.get(str(labels[0]))
            by_category[str(labels[0])] = Coverage(
                rows=own.rows if own else 0,
                share=own.share if own else 0.0,
                pool=part.height / pool.rows.height,
                covered=part.select(pl.col("covered").mean()).item(),
            )
        missing = sorted(name for name, entry in by_category.items() if not entry.rows)
        if missing:
            what = f"The pool has categories that the corpus lacks: {', '.join(missing)}."
            advice = "Add rows of them, or say that the corpus does not cover them."
            findings.append(finding("missing-categories", "warning", (), len(missing), what=what, advice=advice))
    share = unassigned(sorted_rows["category"].to_list())
    assigned = sorted_rows.filter(pl.col("assigned") & pl.col("category").is_not_null())
    sure = assigned["confidence"].to_numpy()
    confidence = Confidence.model_validate(_quantiles(sure) if len(sure) else dict.fromkeys(_QUANTILES))
    whole = replace(
        found,
        coverage=dict(sorted(by_category.items(), key=lambda one: (-one[1].rows, one[0]))),
        unassigned=share,
        assigned=Assigned(rows=assigned.height, confidence=confidence),
        near_probes=tuple(sorted(listed, key=lambda one: (-one.cosine, one.id))),
    )
    return whole, findings


def similarity(own: Vectors, task: Vectors) -> NDArray[np.float64]:
    """The mean cosine of each row to its TOP nearest rows of a task, `(n,)` in [-1, 1]."""
    return cosine(own, {"task": task}, {"task": 1.0}, aggregate="top-mean", n=min(TOP, len(task.ids))).combined


def _similarity(own: Vectors, task: Vectors, there: Vectors | None) -> Similarity:
    values = similarity(own, task)
    order = np.lexsort((np.array(own.ids), -values))
    above = None if there is None else float((values > np.median(similarity(there, task))).mean())
    return Similarity(
        **_quantiles(values),
        mean=float(values.mean()),
        score=f"cosine/top-mean-{min(TOP, len(task.ids))}",
        most=tuple(own.ids[row] for row in order[:EXAMPLES]),
        least=tuple(own.ids[row] for row in order[::-1][:EXAMPLES]),
        above_pool_median=above,
    )


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(np.quantile(values, at)) for name, at in _QUANTILES.items()}


def vectors_of(ids: Sequence[str], matrix: NDArray[np.float32]) -> Vectors:
    """Unit rows and their ids, for scoring."""
    return Vectors(tuple(ids), matrix, "")


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
