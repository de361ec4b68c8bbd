"""The report as Markdown, and in a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from pydantic import JsonValue

from curator.conclusions.part import MIX, plain
from curator.report.bank import LARGEST
from curator.report.model import Report
from curator.report.seeds import words
from curator.wording import at_least, duration, of_the_gain, page, percent, points, rate, reach, these, visible

if TYPE_CHECKING:
    from curator.conclusions.part import Quantity
    from curator.report.conclusion import Phases


SHOWN: tuple[Quantity, ...] = ("over_refusal", "utility")
"""Quantities that the summary gives for both arms beside harmfulness."""


def markdown(report: Report) -> str:
    """The whole report.md."""
    return page("report", "report.md.j2", **_filling(report))


def evidence(report: Report, pictures: Collection[str] = ()) -> str:
    """The part of the report that goes onto the card of the data set; it needs no `timing`.

    Args:
        pictures: Names of the figures that lie in `evidence/figures/` beside the card.
    """
    return page("report", "evidence.md.j2", **_filling(report, pictures))


def _filling(report: Report, pictures: Collection[str] = ()) -> dict[str, object]:
    """What the templates of the report are filled with."""
    from curator.decision.verdict import models_of, named  # imports numpy, which showing a report does without

    anticipated = [name for name, weight in report.tuned.items() if weight]
    primary, rehearsal = report.decision.primary, report.design.stage == "rehearsal"
    first = [primary.treatment, primary.control]
    ran = {name: value for name, value in plain(report.provenance).items() if name != "recipe"}
    return {
        "r": report,
        "primary": primary,
        "set_models": "models fine-tuned with rows of this set mixed in" if rehearsal else "models aligned on this set",
        "control_sets": named(primary.control),
        "control_models": models_of(primary.control, rehearsal=rehearsal),
        "arms": [*first, *(arm for arm in report.arms if arm not in first)],
        # One anticipated task is the whole mix, so that a row of its own would repeat it.
        "shown": anticipated if len(anticipated) == 1 else [MIX, *anticipated],
        "mix": MIX,
        "seeds": list(words(report)),
        "apart": [name for name, weight in report.tuned.items() if not weight],
        "spreads": {**report.similarity.tasks, "combined": report.similarity.combined},
        "provenance": list(_flat(ran)),
        "stages": report.timing.stages,
        "largest": LARGEST,
        "pictures": pictures,
    }


def _flat(value: JsonValue, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _flat(item, f"{name}.{position}")
    else:
        yield name, "none" if value is None else str(value)


def summary(report: Report) -> list[tuple[str, str]]:
    """Rows of label and plain text, the most important first; none of them holds markup."""
    primary, arms = report.decision.primary, report.arms
    treatment, control = primary.treatment, primary.control
    rows = [
        ("decision", report.decision.sentence),
        ("difference", f"{points(primary.difference)} points {reach(primary.low, primary.high)}"),
    ]
    about = report.headline
    rows += [(f"{arm} harmful", _before_after(arms[arm][about], "harmfulness")) for arm in (treatment, control)]
    rows += [
        (
            name.replace("_", "-"),
            f"{treatment} {_before_after(arms[treatment][about], name)}; {control} "
            f"{_before_after(arms[control][about], name)}",
        )
        for name in SHOWN
    ]
    rows.append(
        (
            "gates",
            ", ".join(f"{gate.name.replace('_', ' ')}: {gate.outcome}" for gate in report.gates) or "none",
        )
    )
    rows.append(("selection", _selection(report)))
    pool = report.pool
    rows.append(("pool", f"{these(pool.read, 'row', 'rows')} read, {pool.kept:,} kept, {pool.dropped:,} dropped"))
    rows += [("caution", warning) for warning in report.warnings]
    stages = {name: seconds for name, seconds in report.timing.stages.items() if seconds is not None}
    if stages:
        longest = max(stages, key=lambda name: stages[name])
        rows.append(
            ("time", f"{duration(sum(stages.values()))}, most of it in {longest} ({duration(stages[longest])})")
        )
    return [(visible(label), visible(text)) for label, text in rows]


def _before_after(phases: Phases, quantity: Quantity) -> str:
    before, after = phases.before.of(quantity), phases.after.of(quantity)
    return f"{percent(before.value)} before, {rate(after.value, after.low, after.high)} after"


def _selection(report: Report) -> str:
    chosen = report.selection
    text = f"{chosen.k:,} of {these(report.pool.kept, 'row', 'rows')}"
    if chosen.bound is None:
        text += ", no certificate"
    elif chosen.relative_gap is None:
        text += ", and no set within the limits is better than random ones"
    else:
        text += f", {of_the_gain(chosen.relative_gap)}"
    recall = chosen.parameter("recall")
    return text if recall in (None, 1.0) else f"{text}; neighbours found with recall {at_least(recall)}"
