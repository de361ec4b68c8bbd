"""Findings about what cannot be used as it is: unreadable and empty records, copies, and rows that ask a probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from curator.pool.decontaminate import Leak
from curator.pool.near import Match
from curator.pool.screen import Finding, finding
from curator.recipe.pool import Findings
from curator.wording import these

DEFAULT = Findings()


def unusable(dropped: pl.DataFrame, total: int, limits: Findings = DEFAULT) -> list[Finding]:
    """Records that gave no row, by why; they have no id, so lines stand for them in the sentence.

    Args:
        dropped: In the columns of DROPPED_SCHEMA.
        total: Records read.
    """
    kinds = {
        "broken-records": ("source", pl.lit(value=True), "that cannot be read", "Mend these lines."),
        "empty": (
            "clean",
            pl.col("reason").str.contains("empty"),
            "with an empty prompt, answer or turn",
            "Drop them, or fill them in.",
        ),
        "too-long": (
            "clean",
            pl.col("reason").str.contains("tokens"),
            "longer than the limit",
            "Raise the limit, or leave them out.",
        ),
        "wrong-roles": (
            "clean",
            ~pl.col("reason").str.contains("empty|tokens"),
            "without a conversation of user and assistant in turn",
            "Mend the roles, or map the columns.",
        ),
        "exact-duplicates": (
            "duplicate",
            pl.lit(value=True),
            "with the same text as an earlier row",
            "Keep one of each: copies count twice in training.",
        ),
    }
    found = []
    for kind, (stage, which, what, advice) in kinds.items():
        rows = dropped.filter((pl.col("stage") == stage) & which)
        if rows.height:
            lines = ", ".join(f"{line:,}" for line in rows["line"][:10])
            more = " ..." if rows.height > 10 else ""
            where = "line" if rows.height == 1 else "lines"
            severity = "info" if kind == "exact-duplicates" and rows.height < limits.few * total else "warning"
            found.append(
                finding(
                    kind,
                    severity,
                    rows["match"].drop_nulls() if stage == "duplicate" else (),
                    total,
                    what=f"{these(rows.height, 'record', 'records')} {what}; {where} {lines}{more}.",
                    advice=advice,
                    count=rows.height,
                )
            )
    return found


def duplicates(
    kind: str, ids: Sequence[str], matches: Sequence[Match], measure: str, limits: Findings = DEFAULT
) -> list[Finding]:
    """Rows that are near or semantic duplicates of a row that stays."""
    if not matches:
        return []
    share = len(matches) / len(ids)
    told = these(len(matches), "row is a duplicate", "rows are duplicates")
    return [
        finding(
            kind,
            "warning" if share >= limits.few else "info",
            [ids[match.row] for match in matches],
            len(ids),
            what=f"{told} of a row that stays, by {measure}.",
            advice="Drop them: they teach nothing new and weigh on what they repeat.",
        )
    ]


def leaks(ids: Sequence[str], found: Mapping[str, Sequence[Leak | None]], who: str, severity: str) -> list[Finding]:
    """Rows that ask a probe, a finding a probe set.

    Args:
        ids: `n` row ids.
        found: Probe set -> what each row asks of it.
        who: Whose rows they are, e.g. `the corpus`.
        severity: Of the finding.
    """
    told = []
    for name, asked in found.items():
        rows = [one for one, leak in zip(ids, asked, strict=True) if leak is not None]
        if rows:
            probes = len({leak.probe for leak in asked if leak is not None})
            asks = "asks" if len(rows) == 1 else "ask"
            told.append(
                finding(
                    "probe-leak",
                    severity,
                    rows,
                    len(ids),
                    what=f"{these(len(rows), 'row', 'rows')} of {who} {asks} {probes:,} of the probes of {name}.",
                    advice="Drop these rows before training, or measure with other probes: these are known by heart.",
                )
            )
    return told
