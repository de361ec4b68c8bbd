"""Findings about unusable rows: unreadable and empty records, copies, and rows that contain a probe."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import polars as pl

from curator.pool.decontaminate import Leak
from curator.pool.near import Match
from curator.pool.screen import DEFAULT, Finding, finding
from curator.recipe.pool import Findings
from curator.wording import in_lines, these

UNUSABLE = {
    "broken-records": ("that cannot be read", "Fix them."),
    "empty": ("with an empty prompt, answer or turn", "Drop them, or fill them in."),
    "too-long": ("longer than the limit", "Raise the limit, or leave them out."),
    "wrong-roles": (
        "whose turns do not alternate between user and assistant, or do not end with the answer",
        "Fix the roles.",
    ),
    "no-conversation": (
        "without a conversation in a known format",
        "Map the columns, or write turns with role and content.",
    ),
    "not-text": ("with a turn that is not plain text", "Leave them out, or write the turn as text."),
    "half-characters": ("with half of a surrogate pair in a text", "Write the whole character, or remove the half."),
    "unwritten": (
        "that the model's chat template cannot format",
        "Leave them out, or name another template in model.chat_template.",
    ),
    "wrong-category": ("whose category is not a name", "Write a name, a list of names, or a mapping to true or false."),
    "wrong-label": ("whose label is neither true nor false", "Write true or false, or map `label` to another column."),
    "rejected-answers": (
        "with the label false, which marks an answer that must not be taught",
        "They are left out. If false has another meaning here, name the column in `where`.",
    ),
    "two-answers": (
        "whose conversation ends with another answer than the preferred one",
        "Name the column to take in `columns`: {messages: COLUMN} or {chosen: COLUMN}.",
    ),
    "exact-duplicates": ("with the same text as an earlier row", "Keep one of each: copies count twice in training."),
}
"""Kind of drop -> the problem with its records, and advice. Other kinds are caused by the recipe or by roles."""


def unusable(dropped: pl.DataFrame, total: int, limits: Findings = DEFAULT) -> list[Finding]:
    """Records that gave no row, by kind; they have no id, so the sentence names their lines, or, where
    records are not lines, their positions.

    Args:
        dropped: In the columns of DROPPED_SCHEMA.
        total: Number of records read.
    """
    findings = []
    for kind, (what, advice) in UNUSABLE.items():
        rows = dropped.filter(kind=kind)
        if rows.height:
            lines = ", ".join(f"{line:,}" for line in rows["line"][:10])
            more = " ..." if rows.height > 10 else ""
            where = "line" if all(in_lines(label.partition("#")[0]) for label in rows["source"].unique()) else "record"
            copies = kind == "exact-duplicates"
            severity = "info" if copies and rows.height < limits.few * total else "warning"
            ids = rows["match"].drop_nulls() if copies else ()
            reason = "" if copies else f": {rows['reason'][0]}"
            first = f"; first, {where} {rows['line'][0]:,}" if reason and rows.height > 1 else ""
            where += "s" * (rows.height > 1)
            sentence = f"{these(rows.height, 'record', 'records')} {what}; {where} {lines}{more}{first}{reason}."
            findings.append(finding(kind, severity, ids, total, what=sentence, advice=advice, count=rows.height))
    return findings


def left_out(unused: Sequence[str], rows: int) -> list[Finding]:
    """Columns that may matter but were not used; the finding concerns every row."""
    if not unused:
        return []
    columns = "The column" if len(unused) == 1 else "The columns"
    was = "was" if len(unused) == 1 else "were"
    what = f"{columns} {', '.join(unused)} {was} not used."
    advice = (
        "Check that nothing is lost, or map the columns with `columns` or `template` in a recipe. A column that says "
        "which answers are safe belongs in `where`."
    )
    return [finding("unused-columns", "info", (), rows, what=what, advice=advice, count=rows)]


def duplicates(
    kind: str, ids: Sequence[str], matches: Sequence[Match], measure: str, limits: Findings = DEFAULT
) -> list[Finding]:
    """Rows that are near or semantic duplicates of a kept row."""
    if not matches:
        return []
    share = len(matches) / len(ids)
    copies = these(len(matches), "row is a duplicate", "rows are duplicates")
    severity = "warning" if share >= limits.few else "info"
    what = f"{copies} of a kept row, by {measure}."
    advice = "Drop them: they teach nothing new, and they give more weight to what they repeat."
    return [finding(kind, severity, [ids[match.row] for match in matches], len(ids), what=what, advice=advice)]


def leaks(
    ids: Sequence[str], leaks_by_set: Mapping[str, Sequence[Leak | None]], who: str, severity: str
) -> list[Finding]:
    """Rows that contain a probe, one finding for each probe set.

    Args:
        ids: `n` row ids.
        leaks_by_set: Probe set -> the probe that each row contains, or null.
        who: Owner of the rows in words, e.g. `the corpus`.
        severity: Severity of the finding.
    """
    findings = []
    for name, leaks_of_set in leaks_by_set.items():
        leaking = [row for row, leak in zip(ids, leaks_of_set, strict=True) if leak is not None]
        if leaking:
            probes = len({leak.probe for leak in leaks_of_set if leak is not None})
            contain = "contains" if len(leaking) == 1 else "contain"
            which = these(probes, "probe", "probes")
            what = f"{these(len(leaking), 'row', 'rows')} of {who} {contain} {which} of {name}."
            advice = "Drop these rows before training, or evaluate with other probes: a model could memorise these."
            findings.append(finding("probe-leak", severity, leaking, len(ids), what=what, advice=advice))
    return findings


def near_leaks(
    rows: int, near: Mapping[str, Sequence[tuple[str, str, float]]], leaking: Collection[str]
) -> list[Finding]:
    """Rows whose prompt paraphrases a probe, one finding for each probe set.

    Args:
        rows: Number of rows examined.
        near: Probe set -> id of a row, id of the probe nearest to its prompt, and their cosine.
        leaking: Ids of rows that contain a probe, which `leaks` reports.
    """
    findings = []
    for name, matches in near.items():
        others = [match for match in matches if match[0] not in leaking]
        if others:
            cosines, probes = [cosine for *_, cosine in others], len({probe for _, probe, _ in others})
            prompts = these(len(others), "prompt is a near-copy", "prompts are near-copies")
            what = (
                f"{prompts} of {probes:,} of the probes of {name}, in other words "
                f"(cosine {min(cosines):.2f} to {max(cosines):.2f} by the embedder)."
            )
            advice = "Compare them with their probes in audit.json: a test on a probe that is trained on shows nothing."
            findings.append(
                finding("near-probe", "warning", [row for row, *_ in others], rows, what=what, advice=advice)
            )
    return findings


_SHARE_ALIKE = re.compile(r"^(cc-by-sa|cc-by-nc-sa|gpl|agpl|lgpl|odbl|gfdl)")


def plain_name(licence: str) -> str:
    """A licence in the Hub's spelling: lower case, dashes, no version: `CC BY-NC 4.0` -> `cc-by-nc`."""
    name = re.sub(r"[^a-z0-9.]+", "-", licence.strip().lower()).strip("-")
    name = re.sub(r"^creative-commons-", "cc-", name)
    return re.sub(r"-?v?\d+(\.\d+)*(-(only|or-later|international|unported|generic))?$", "", name) or name


def licences(rows: pl.DataFrame) -> tuple[list[Finding], dict[str, int]]:
    """What the licences of the rows forbid or require, and the number of rows of each (including `unknown`)."""
    ids: dict[str, list[str]] = defaultdict(list)
    spelled: dict[str, int] = defaultdict(int)
    for row, licence in rows.select("id", "licence").iter_rows():
        ids[plain_name(licence) if licence else "unknown"].append(row)
        spelled[licence or "unknown"] += 1
    findings = list[Finding]()

    def note(kind: str, severity: str, names: list[str], what: tuple[str, str], advice: str) -> None:
        if names:
            rows_of = [row for name in names for row in ids[name]]
            sentence = f"{these(len(rows_of), *what)}: {', '.join(names)}."
            findings.append(finding(kind, severity, rows_of, rows.height, what=sentence, advice=advice))

    names = sorted(ids)
    if unknown := ids.pop("unknown", []):
        what = f"{these(len(unknown), 'row does', 'rows do')} not state a licence."
        advice = "Find out the licence before publishing, and state it as `licence` of the source in a recipe."
        findings.append(finding("licence-unknown", "warning", unknown, rows.height, what=what, advice=advice))
    note(
        "licence-no-derivatives", "error", [name for name in names if re.search(r"(^|-)nd(-|$)", name)],
        ("row may not be changed or combined with others", "rows may not be changed or combined with others"),
        "Do not publish these rows.",
    )  # fmt: skip
    note(
        "licence-non-commercial", "warning", [name for name in names if re.search(r"(^|-)nc(-|$)", name)],
        ("row is for non-commercial use only", "rows are for non-commercial use only"),
        "Publish under a licence that keeps this restriction, and do not train a product on these rows.",
    )  # fmt: skip
    alike = [name for name in names if _SHARE_ALIKE.match(name)]
    if len(alike) > 1:
        note(
            "licence-conflict", "error", alike,
            ("row has a licence of several that exclude each other", "rows have licences that exclude each other"),
            "Each requires that the whole data set has this licence. Publish separate data sets, or keep one licence.",
        )  # fmt: skip
    elif alike and len(names) > 1:
        note(
            "licence-share-alike", "info", alike,
            ("row requires that derived data has its licence", "rows require that derived data has their licence"),
            "Publish the whole data set under this licence, or publish these rows separately.",
        )  # fmt: skip
    return findings, dict(sorted(spelled.items(), key=lambda item: (-item[1], item[0])))
