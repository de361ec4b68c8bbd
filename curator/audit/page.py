"""An audit as files: audit.json with everything, audit.html for reading, and its lines for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curator.pool.screen import EXAMPLES, SEVERITIES
from curator.run.files import plain
from curator.run.folder import write_json, write_text
from curator.wording import page, percent, rate


def write(folder: Path, report: Mapping[str, Any]) -> None:
    """Writes audit.json and audit.html, each whole or not at all."""
    write_json(folder / "audit.json", plain(report))
    write_text(folder / "audit.html", html(report))


def html(report: Mapping[str, Any]) -> str:
    """The page: one file that loads nothing, with no text of any row."""
    near = report["near_probes"]
    by_set = None if near is None else Counter(one["set"] for one in near)
    return page(
        "report",
        "audit.html.j2",
        report=report,
        counts=list(counts(report).items()),
        near=by_set,
        examples=EXAMPLES,
        retained=retained(report["measured"]) if report["measured"] else "",
    )


def counts(report: Mapping[str, Any]) -> dict[str, int]:
    """How many findings of each severity, the worst first."""
    found = Counter(one["severity"] for one in report["findings"])
    return {severity: found[severity] for severity in reversed(SEVERITIES)}


def summary(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and text of each line of the terminal's table."""
    corpus = report["corpus"]
    lines = [("rows", f"{corpus['read']:,} read, {corpus['kept']:,} looked at, {corpus['dropped']:,} dropped")]
    for one in report["findings"]:
        lines.append((f"{one['severity']}: {one['kind']}", f"{one['what']} {one['advice']}"))
    for name in report["exposure"]:
        found = report["similarity"][name]
        above = found["above_pool_median"]
        told = f"median cosine {found['median']:.3f}, from {found['p10']:.3f} to {found['p90']:.3f} in the middle 80 %"
        told += "" if above is None else f"; {percent(above)} of the rows are above the pool's median"
        lines.append((f"likeness to {name}", told))
    if report["exposure"]:
        lines.append(("most exposed to", report["exposure"][0]))
    if report["redundancy"]:
        found = report["redundancy"]
        lines.append(
            (
                "redundancy",
                f"{found['rows']:,} rows, effectively {found['effective']:.1f}; Vendi score {found['vendi']:.1f}",
            )
        )
    if report["unassigned"] is not None:
        named = [f"{name} {percent(one['share'])}" for name, one in list(report["coverage"].items())[:6]]
        lines.append(("categories", f"{', '.join(named) or 'none'}; not assigned {percent(report['unassigned'])}"))
    for name, one in report["overlap"].items():
        told = f"{one['rows']:,} rows ask {one['probes']:,} of {one['of_probes']:,} probes"
        lines.append((f"overlap with {name}", told))
    if report["measured"]:
        lines += _measured(report["measured"])
    if report["not_made"]:
        lines.append(("without an embedder", f"not looked at: {'; '.join(report['not_made'])}"))
    return lines


def _measured(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [("decision", found["sentence"])] if found["sentence"] else []
    for arm, rates in found["arms"].items():
        before, after = (
            rate(*(rates[phase][name] for name in ("value", "low", "high"))) for phase in ("before", "after")
        )
        lines.append((f"{arm} harmful", f"{before} before fine-tuning, {after} after"))
    return [*lines, ("retained", retained(found))]


def retained(found: Mapping[str, Any]) -> str:
    """How much of what the corpus protects lasts, in one sentence."""
    one = found["retained"]
    if one["value"] is None:
        return f"How much lasts cannot be said: {one['reason']}."
    limits = "" if one["low"] is None else f" [{100 * one['low']:.0f}, {100 * one['high']:.0f}]"
    why = f" No interval: {one['reason']}." if one["low"] is None else ""
    return (
        f"Of what this corpus takes from a model's harmfulness, {100 * one['value']:.0f} %{limits} is left "
        f"after fine-tuning ({one['seeds']} seeds, {one['prompts']} prompts).{why}"
    )
