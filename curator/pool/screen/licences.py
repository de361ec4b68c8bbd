"""Licences of a corpus, and which of them stand in the way of publishing what is made from it."""

from __future__ import annotations

import re
from collections import defaultdict

import polars as pl

from curator.pool.screen import Finding, finding

_SHARE_ALIKE = re.compile(r"^(cc-by-sa|cc-by-nc-sa|gpl|agpl|lgpl|odbl|gfdl)")


def plain_name(licence: str) -> str:
    """A licence as the Hub writes it: small letters, dashes, no version: `CC BY-NC 4.0` -> `cc-by-nc`."""
    said = re.sub(r"[^a-z0-9.]+", "-", licence.strip().lower()).strip("-")
    said = re.sub(r"^creative-commons-", "cc-", said)
    return re.sub(r"-?v?\d+(\.\d+)*(-(only|or-later|international|unported|generic))?$", "", said) or said


def licences(rows: pl.DataFrame) -> tuple[list[Finding], dict[str, int]]:
    """What the licences of the rows forbid or ask for, and how many rows each has (`unknown` among them)."""
    ids: dict[str, list[str]] = defaultdict(list)
    spelled: dict[str, int] = defaultdict(int)
    for one, licence in rows.select("id", "licence").iter_rows():
        ids[plain_name(licence) if licence else "unknown"].append(one)
        spelled[licence or "unknown"] += 1
    found = []

    def note(kind: str, severity: str, names: list[str], what: str, advice: str) -> None:
        if names:
            rows_of = [one for name in names for one in ids[name]]
            told = f"{len(rows_of):,} rows {what}: {', '.join(names)}."
            found.append(finding(kind, severity, rows_of, rows.height, what=told, advice=advice))

    names = sorted(name for name in ids if name != "unknown")
    note(
        "licence-unknown", "warning", ["unknown"] if ids["unknown"] else [], "name no licence",
        "Find out the licence before publishing, and state it in the recipe (`licence`).",
    )  # fmt: skip
    note(
        "licence-no-derivatives", "error", [name for name in names if re.search(r"(^|-)nd(-|$)", name)],
        "may not be changed or mixed into another data set", "Leave these rows out of what is published.",
    )  # fmt: skip
    note(
        "licence-non-commercial", "warning", [name for name in names if re.search(r"(^|-)nc(-|$)", name)],
        "are for non-commercial use only", "Publish under a licence that keeps this, and train no product on them.",
    )  # fmt: skip
    alike = [name for name in names if _SHARE_ALIKE.match(name)]
    if len(alike) > 1:
        note(
            "licence-conflict", "error", alike,
            "are under licences that each ask that the whole be published under it alone",
            "Publish them as separate data sets, or leave all but one out.",
        )  # fmt: skip
    elif alike and len(names) > 1:
        note(
            "licence-share-alike", "info", alike, "ask that what is made from them has their licence",
            "Publish the whole under this licence, or keep these rows apart.",
        )  # fmt: skip
    return found, dict(sorted(spelled.items(), key=lambda one: (-one[1], one[0])))
