"""An audit as files: audit.json with everything, audit.html for reading, and its lines for a terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pydantic import ValidationError

from curator.conclusions.part import plain, unreadable
from curator.corpus.figures import figures, tables
from curator.corpus.model import Audit, Measured, Similarity
from curator.errors import DataError
from curator.pool.screen import EXAMPLES, SEVERITIES
from curator.pool.sources import read
from curator.recipe.source import Source
from curator.records import Conversations, Messages
from curator.run.folder import read_json, write_json, write_text
from curator.wording import percent, rate, these

AUDIT = "audit.json"
TONES = {"error": "bad", "warning": "mixed", "info": "open"}
_KINDS = {"error": ("error", "errors"), "warning": ("warning", "warnings"), "info": ("note", "notes")}
NAMED = ("file", "hub", "sandbox", "revision")
"""Keys in the record of a source that say where it was read."""


def load(folder: Path) -> Audit:
    """The audit that a folder holds.

    Raises:
        RunError: It is damaged, or another version of curator wrote it.
    """
    try:
        return Audit.model_validate(read_json(folder / AUDIT, "run `curator audit` again"))
    except ValidationError as error:
        raise unreadable(folder / AUDIT, error) from None


def corpus_of(report: Audit) -> dict[str, Messages]:
    """The conversations of an audited corpus by id, read again from its source.

    Raises:
        DataError: The source was removed, or its content has changed.
    """
    given = {name: getattr(report.corpus, name) for name in NAMED if hasattr(report.corpus, name)}
    source = Source(**given, columns=getattr(report.corpus, "mapped", {}))
    corpus = read(source)
    if any(corpus.resolved.get(name) != getattr(report.corpus, name, None) for name in ("sha256", "revision")):
        raise DataError(f"{report.corpus.label}: has changed since it was audited; run `curator audit` again")
    return dict(zip(corpus.rows["id"], Conversations(corpus.rows), strict=True))


def write(folder: Path, report: Audit) -> None:
    """Writes audit.json and audit.html, each atomically."""
    write_json(folder / AUDIT, plain(report))
    write_text(folder / "audit.html", html(report))


def html(report: Audit) -> str:
    """The page: a single file that loads nothing, without texts of rows."""
    from curator.report.html import fill

    return fill(
        "audit.html.j2",
        report=report,
        run_name=report.corpus.label,
        tone=TONES.get(report.findings[0].severity, "open") if report.findings else "good",
        tones=TONES,
        lead=_lead(report),
        counts=list(counts(report).items()),
        severities={severity: these(count, *_KINDS[severity]) for severity, count in counts(report).items()},
        sizes=[f"{these(one.count, 'row', 'rows')}, {percent(one.share)}" for one in report.findings],
        tables=tables(report),
        drawn=figures(report),
        pooled=report.pool is not None,
        examples=EXAMPLES,
        retained=retained(report.measured) if report.measured else "",
    )


def _lead(report: Audit) -> str:
    """The worst finding, in its own words."""
    if not report.findings:
        return "The audit found no problems."
    return report.findings[0].what


def counts(report: Audit) -> dict[str, int]:
    """Number of findings of each severity, the worst first."""
    by_severity: Counter[str] = Counter(finding.severity for finding in report.findings)
    return {severity: by_severity[severity] for severity in reversed(SEVERITIES)}


def summary(report: Audit) -> list[tuple[str, str]]:
    """Label and text of each line of the terminal's table."""
    corpus = report.corpus
    lines = [("rows", f"{corpus.read:,} read, {corpus.kept:,} audited, {corpus.dropped:,} dropped")]
    lines += [
        (f"{finding.severity}: {finding.kind}", f"{finding.what} {finding.advice}") for finding in report.findings
    ]
    lines += [(f"similarity to {name}", _similarity(report.similarity[name])) for name in report.exposure]
    if report.exposure:
        lines.append(("most exposed to", report.exposure[0]))
    if not report.tasks:
        lines.append(("similarity to tasks", "not measured; --task names rows that users fine-tune on"))
    if (redundancy := report.redundancy) is not None:
        effective = f"effectively {redundancy.effective:.1f}; Vendi score {redundancy.vendi:.1f}"
        lines.append(("redundancy", f"{these(redundancy.rows, 'row', 'rows')}, {effective}"))
    if report.unassigned is not None and report.coverage is not None:
        named = [f"{name} {percent(category.share)}" for name, category in list(report.coverage.items())[:6]]
        lines.append(("categories", f"{', '.join(named) or 'none'}; not assigned {percent(report.unassigned)}"))
    for name, leaks in report.overlap.items():
        probes = f"{leaks.probes:,} of {these(leaks.of_probes, 'probe', 'probes')}"
        text = f"{these(leaks.rows, 'row repeats', 'rows repeat')} {probes}"
        lines.append((f"overlap with {name}", text))
    if report.measured:
        lines += _measured(report.measured)
    if report.not_made:
        lines.append(("without an embedder", f"not checked: {'; '.join(report.not_made)}"))
    return lines


def _similarity(similarity: Similarity) -> str:
    above = similarity.above_pool_median
    middle = f"from {similarity.p10:.3f} to {similarity.p90:.3f} in the middle 80%"
    return f"median cosine {similarity.median:.3f}, {middle}" + (
        "" if above is None else f"; {percent(above)} of the rows are above the pool's median"
    )


def _measured(measured: Measured) -> list[tuple[str, str]]:
    lines = [("decision", measured.sentence)] if measured.sentence else []
    for arm, rates in measured.arms.items():
        before, after = (rate(harm.value, harm.low, harm.high) for harm in (rates.before, rates.after))
        lines.append((f"{arm} harmful", f"{before} before fine-tuning, {after} after"))
    return [*lines, ("retained", retained(measured))]


def retained(measured: Measured) -> str:
    """The share of the corpus's protection that lasts, in one sentence."""
    left = measured.retained
    if left.value is None:
        return f"How much lasts cannot be said: {left.reason}."
    limits = "" if left.low is None or left.high is None else f" [{100 * left.low:.0f}, {100 * left.high:.0f}]"
    why = f" No interval: {left.reason}." if left.low is None else ""
    return (
        f"Of what this corpus takes from a model's harmfulness, {100 * left.value:.0f}%{limits} is left "
        f"after fine-tuning ({these(left.seeds, 'seed', 'seeds')}, {these(left.prompts, 'prompt', 'prompts')}).{why}"
    )
