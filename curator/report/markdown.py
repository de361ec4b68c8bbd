"""The report as Markdown, and in a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from curator.wording import at_least, duration, page, percent, points, rate, reach, visible

MIX = "anticipated"
"""The task name under which the weighted mix of the anticipated tasks stands in `arms`."""


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report.md of a report dict."""
    return page("report", "report.md.j2", **_values(report))


def evidence(report: Mapping[str, Any]) -> str:
    """What of it goes with the data set wherever it goes, for which `timing` is not needed."""
    return page("report", "evidence.md.j2", **_values(report))


def _values(report: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        anticipated: [t["name"] for t in report["tasks"] if t["anticipated"] is anticipated]
        for anticipated in (True, False)
    }
    # One anticipated task is the whole mix, so that a row of its own would say the same twice.
    shown = names[True] if len(names[True]) == 1 else [MIX, *names[True]]
    primary = report["decision"]["primary"]
    first = [primary["treatment"], primary["control"]]
    return {
        "r": report,
        "primary": primary,
        "arms": [*first, *(arm for arm in report["arms"] if arm not in first)],
        "shown": shown,
        "mix": MIX,
        "apart": names[False],
        "spreads": {**report["similarity"]["tasks"], "combined": report["similarity"]["combined"]},
        "provenance": list(_flat({key: item for key, item in report["provenance"].items() if key != "recipe"})),
        "stages": report.get("timing", {}).get("stages", {}),
    }


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _flat(item, f"{name}.{place}")
    else:
        yield name, "none" if value is None else str(value)


def summary(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of label and plain text, the most important first; nothing in them is markup."""
    primary, arms = report["decision"]["primary"], report["arms"]
    treatment, control = primary["treatment"], primary["control"]
    rows = [
        ("decision", report["decision"]["sentence"]),
        ("difference", f"{points(primary['difference'])} points {reach(primary['low'], primary['high'])}"),
    ]
    rows += [(f"{arm} harmful", _before_after(arms[arm], "harmfulness")) for arm in (treatment, control)]
    rows += [
        (
            name.replace("_", "-"),
            f"{treatment} {_before_after(arms[treatment], name)}; {control} {_before_after(arms[control], name)}",
        )
        for name in ("over_refusal", "utility")
    ]
    rows.append(
        (
            "gates",
            ", ".join(f"{gate['name'].replace('_', ' ')}: {gate['outcome']}" for gate in report["gates"]) or "none",
        )
    )
    rows.append(("selection", _selection(report)))
    pool = report["pool"]
    rows.append(("pool", f"{pool['read']:,} rows read, {pool['kept']:,} kept, {pool['dropped']:,} dropped"))
    rows += [("caution", warning) for warning in report["warnings"]]
    stages = report["timing"].get("stages", {})
    if stages:
        longest = max(stages, key=lambda name: stages[name])
        rows.append(
            ("time", f"{duration(sum(stages.values()))}, most of it in {longest} ({duration(stages[longest])})")
        )
    return [(visible(label), visible(text)) for label, text in rows]


def _before_after(tasks: Mapping[str, Any], quantity: str) -> str:
    before, after = (tasks["anticipated"][phase][quantity] for phase in ("before", "after"))
    return f"{percent(before['value'])} before, {rate(after['value'], after['low'], after['high'])} after"


def _selection(report: Mapping[str, Any]) -> str:
    found = report["selection"]
    told = f"{found['k']:,} of {report['pool']['kept']:,} rows"
    if found["relative_gap"] is None:
        told += ", no certificate"
    else:
        told += f", at least {at_least(1 - found['relative_gap'])} of what can be gained over random"
    recall = found["parameters"].get("recall", 1.0)
    return told if recall == 1.0 else f"{told}; neighbours found with recall {at_least(recall)}"
