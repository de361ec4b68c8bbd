"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from curator.wording import page

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
