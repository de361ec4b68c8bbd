"""An audit as files: audit.json with everything, audit.html for reading, and its lines for a terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from curator.audit.model import Audit, Measured, Similarity
from curator.pool.screen import EXAMPLES, SEVERITIES
from curator.report.part import plain
from curator.run.folder import write_json, write_text
from curator.wording import page, percent, rate


def write(folder: Path, report: Audit) -> None:
    """Writes audit.json and audit.html, each whole or not at all."""
    write_json(folder / "audit.json", plain(report))
    write_text(folder / "audit.html", html(report))


def html(report: Audit) -> str:
    """The page: one file that loads nothing, with no text of any row."""
    near = report.near_probes
    by_set = None if near is None else Counter(one.set for one in near)
    return page(
        "report",
        "audit.html.j2",
        report=report,
        counts=list(counts(report).items()),
        near=by_set,
        examples=EXAMPLES,
        retained=retained(report.measured) if report.measured else "",
    )


def counts(report: Audit) -> dict[str, int]:
    """How many findings of each severity, the worst first."""
    found: Counter[str] = Counter(one.severity for one in report.findings)
    return {severity: found[severity] for severity in reversed(SEVERITIES)}


def summary(report: Audit) -> list[tuple[str, str]]:
    """Label and text of each line of the terminal's table."""
    corpus = report.corpus
    lines = [("rows", f"{corpus.read:,} read, {corpus.kept:,} looked at, {corpus.dropped:,} dropped")]
    lines += [(f"{one.severity}: {one.kind}", f"{one.what} {one.advice}") for one in report.findings]
    lines += [(f"likeness to {name}", _similarity(report.similarity[name])) for name in report.exposure]
    if report.exposure:
        lines.append(("most exposed to", report.exposure[0]))
    if (redundancy := report.redundancy) is not None:
        effective = f"effectively {redundancy.effective:.1f}; Vendi score {redundancy.vendi:.1f}"
        lines.append(("redundancy", f"{redundancy.rows:,} rows, {effective}"))
    if report.unassigned is not None and report.coverage is not None:
        named = [f"{name} {percent(one.share)}" for name, one in list(report.coverage.items())[:6]]
        lines.append(("categories", f"{', '.join(named) or 'none'}; not assigned {percent(report.unassigned)}"))
    for name, leaks in report.overlap.items():
        told = f"{leaks.rows:,} rows ask {leaks.probes:,} of {leaks.of_probes:,} probes"
        lines.append((f"overlap with {name}", told))
    if report.measured:
        lines += _measured(report.measured)
    if report.not_made:
        lines.append(("without an embedder", f"not looked at: {'; '.join(report.not_made)}"))
    return lines


def _similarity(found: Similarity) -> str:
    above = found.above_pool_median
    told = f"median cosine {found.median:.3f}, from {found.p10:.3f} to {found.p90:.3f} in the middle 80 %"
    return told + ("" if above is None else f"; {percent(above)} of the rows are above the pool's median")


def _measured(found: Measured) -> list[tuple[str, str]]:
    lines = [("decision", found.sentence)] if found.sentence else []
    for arm, rates in found.arms.items():
        before, after = (rate(one.value, one.low, one.high) for one in (rates.before, rates.after))
        lines.append((f"{arm} harmful", f"{before} before fine-tuning, {after} after"))
    return [*lines, ("retained", retained(found))]


def retained(found: Measured) -> str:
    """How much of what the corpus protects lasts, in one sentence."""
    one = found.retained
    if one.value is None:
        return f"How much lasts cannot be said: {one.reason}."
    limits = "" if one.low is None or one.high is None else f" [{100 * one.low:.0f}, {100 * one.high:.0f}]"
    why = f" No interval: {one.reason}." if one.low is None else ""
    return (
        f"Of what this corpus takes from a model's harmfulness, {100 * one.value:.0f} %{limits} is left "
        f"after fine-tuning ({one.seeds} seeds, {one.prompts} prompts).{why}"
    )
