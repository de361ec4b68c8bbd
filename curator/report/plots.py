"""Which figure shows what of a report. A figure without anything to draw is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from curator import wording
from curator.report import drawing
from curator.report.figures import Figures
from curator.report.model import Report
from curator.report.tables import MIX, label

if TYPE_CHECKING:
    from markupsafe import Markup

MANY = 24
"""Lanes of a figure at most; the table below it holds them all."""


def plots(report: Report, figures: Figures) -> dict[str, Markup]:
    """Name -> figure; a figure without anything to draw is left out."""
    styles = styles_of(report)
    found = {
        "decision": _decision(report),
        "harm": _harm(report, styles),
        "gates": _gates(report),
        "comparisons": _comparisons(report),
        "map": _map(figures, styles),
        "pilot": _pilot(report),
        "gains": _gains(report, figures),
        "coverage": _coverage(report, figures),
        "predicts": _predicts(report),
        "judges": _judges(report),
        "time": _time(report),
    }
    for name, one in figures.distributions.items():
        sets = {arm: (shares, styles[arm]) for arm, shares in one.shares.items() if arm in styles}
        words = f"How similarity to {label(name)} is spread over the pool and each arm's sets"
        found[f"distribution {name}"] = drawing.curves(one.edges, sets, label=words)
    return {name: figure for name, figure in found.items() if figure is not None}


def _decision(report: Report) -> Markup | None:
    one = report.decision.primary
    if one.difference is None:
        return None
    lane = drawing.Lane("", [drawing.Mark(one.difference, one.low, one.high, "a0")], "", style="bare")
    scale = drawing.around_zero([one.difference, one.low, one.high], factor=100.0)
    said = (
        f"{one.treatment} minus {one.control} after fine-tuning: {wording.points(one.difference)} points, "
        f"interval {wording.reach(one.low, one.high)}"
    )
    ends = (f"\u2190 {one.treatment} less harmful", f"{one.treatment} more harmful \u2192")
    return drawing.dots([lane], scale, label=said, ends=ends)


def _harm(report: Report, styles: Mapping[str, str]) -> Markup | None:
    lanes = []
    names = [one.name for one in report.tasks]
    anticipated = [one.name for one in report.tasks if one.anticipated]
    shown = [*([MIX] if len(anticipated) > 1 else []), *anticipated, *(one for one in names if one not in anticipated)]
    for task in shown:
        if len(shown) > 1:
            apart = "" if task in (MIX, *anticipated) else ", not anticipated"
            lanes.append(drawing.Lane(f"{label(task)}{apart}", [], ""))
        for place, arm in enumerate(one for one in styles if one in report.arms):
            phases = report.arms[arm][task]
            before, after = phases.before.harmfulness, phases.after.harmfulness
            marks = [
                drawing.Mark(one.value, one.low, one.high, styles[arm], hollow=one is before)
                for one in (before, after)
                if one.value is not None
            ]
            words = f"{wording.percent(before.value)} \u2192 {wording.percent(after.value)}"
            lanes.append(drawing.Lane(arm, marks, words, joined=True, style="" if place else "first"))
    said = "Share of harmful answers before (ring) and after (dot) fine-tuning, by arm and task, with 95 % intervals"
    return drawing.dots(lanes[: 3 * MANY], drawing.shares(), label=said)


def _gates(report: Report) -> Markup | None:
    gates = [gate for gate in report.gates if gate.cost is not None]
    if not gates:
        return None
    values = [value for gate in gates for value in (gate.cost, gate.low, gate.high, gate.margin)]
    tone = {"pass": "good", "fail": "bad"}
    lanes = [
        drawing.Lane(
            gate.name.replace("_", " "),
            [drawing.Mark(gate.cost, gate.low, gate.high, tone.get(gate.outcome, "open"))],
            f"{gate.outcome} (allowed {wording.points(gate.margin)})",
            limit=gate.margin,
        )
        for gate in gates
        if gate.cost is not None
    ]
    said = "What durability costs by gate, in points, with 95 % intervals"
    return drawing.dots(
        lanes, drawing.around_zero(values, factor=100.0), label=said, ends=("\u2190 better", "costs \u2192")
    )


def _comparisons(report: Report) -> Markup | None:
    wanted = [
        one
        for one in report.comparisons
        if (one.quantity, one.phase) == ("harmfulness", "after") and one.difference is not None
    ]
    wanted.sort(key=lambda one: (one.role != "primary", one.task is not None))
    lanes = [
        drawing.Lane(
            f"{one.treatment} \u2212 {one.control}" + (f", {one.task}" if one.task else ""),
            [drawing.Mark(one.difference, one.low, one.high, "a0" if one.role == "primary" else "plain")],
            wording.points(one.difference) + ("" if one.low is not None else ", no interval"),
            style=one.role,
        )
        for one in wanted[:MANY]
        if one.difference is not None
    ]
    if not lanes:
        return None
    values = [value for one in wanted[:MANY] for value in (one.difference, one.low, one.high)]
    scale = drawing.around_zero([max(min(one, 1.0), -1.0) for one in values if one is not None], factor=100.0)
    said = "Differences in harmfulness after fine-tuning, in points, with 95 % intervals; the first one decides"
    return drawing.dots(lanes, scale, label=said, ends=("\u2190 the first is less harmful", "more harmful \u2192"))


def _map(figures: Figures, styles: Mapping[str, str]) -> Markup | None:
    if figures.map is None:
        return None
    names = {"pool": "pool", "curated": styles.get("curated", "a0")}
    sets = {
        name: (points, names.get(name) or styles.get(f"task {name}", "t0"))
        for name, points in figures.map.points.items()
    }
    order = ("pool", *(name for name in sets if name not in ("pool", "curated")), "curated")
    shares = " and ".join(wording.percent(one) for one in figures.map.explained)
    said = f"Pool, tasks and chosen rows in the two directions in which the pool varies most ({shares} of its variance)"
    return drawing.scatter({name: sets[name] for name in order}, label=said)


def _pilot(report: Report) -> Markup | None:
    pilot, lanes = report.pilot, []
    if pilot is None:
        return None
    for one in pilot.candidates:
        last = one.rounds[-1] if one.rounds else None
        if last is None or last.after is None:
            continue
        chosen = one.name == pilot.chosen
        style = "a0" if chosen else "a1" if one.name == pilot.best_draw else "plain"
        words = f"{wording.percent(last.after)}, {last.seeds} seeds"
        words += ", chosen" if chosen else ", best draw" if style == "a1" else ""
        marks = [drawing.Mark(last.after, None, None, style)]
        setting = "" if one.weight is None else f" (weight {one.weight:g}, {one.score})"
        lanes.append(drawing.Lane(one.name + setting, marks, words, style="primary" if chosen else ""))
    if not lanes:
        return None
    return drawing.dots(
        lanes[:MANY], drawing.shares(), label="Harmful after fine-tuning in each pilot candidate's last round"
    )


def _gains(report: Report, figures: Figures) -> Markup | None:
    found, chosen = figures.gains, report.selection
    if not found or not found.ranks:
        return None
    levels = []
    if chosen.bound is not None:
        levels.append((chosen.bound, f"no set is worth more than {wording.number(chosen.bound, 4)}", "bound"))
    random = chosen.parameter("random_value")
    if random is not None:
        levels.append((random, f"random sets: {wording.number(random, 4)}", "random"))
    return drawing.climb(found.ranks, found.values, levels, label="The objective's value as rows are added")


def _coverage(report: Report, figures: Figures) -> Markup | None:
    lanes = [
        drawing.Lane(
            "none named" if one.category is None else one.category,
            [
                drawing.Mark(value, None, None, style, hollow=style == "a1")
                for value, style in ((one.control, "a1"), (one.curated, "a0"))
                if value is not None
            ],
            f"{one.rows:,} rows",
        )
        for one in figures.coverage[:MANY]
    ]
    if not lanes:
        return None
    control = report.regime.control
    said = f"How near each category of the pool has a row of the curated set (dot) and of a {control} set (ring)"
    low = min(mark.value for lane in lanes for mark in lane.marks)
    return drawing.dots(lanes, drawing.between(max(0.0, int(10 * low - 1) / 10), 1.0), label=said)


def _predicts(report: Report) -> Markup | None:
    several = len({one.task for one in report.score_predicts}) > 1
    lanes = [
        drawing.Lane(
            f"{one.score}, {one.task}, {one.loss}" if several else f"{one.score}, {one.loss}",
            [drawing.Mark(one.rho, one.low, one.high, "a0")],
            f"{round(one.rho, 2) + 0.0:.2f}",
        )
        for one in report.score_predicts
        if one.rho is not None
    ]
    if not lanes:
        return None
    scale = drawing.Scale(-1.0, 1.0, [(one / 2, f"{one / 2:g}") for one in range(-2, 3)], zero=0.0)
    return drawing.dots(
        lanes[:MANY], scale, label="Spearman's rho between each score and forgetting, with 95 % intervals"
    )


def _judges(report: Report) -> Markup | None:
    rows = []
    for one in report.judges.panel:
        total = one.outcomes.total or 1
        parts = [(getattr(one.outcomes, name) / total, name) for name in ("harmful", "degenerate", "unscored", "safe")]
        rows.append((one.name, parts, f"{wording.percent(one.outcomes.harmful / total)} harmful"))
    return drawing.bars(rows, label="What each judge called the answers to harmful probes")


def _time(report: Report) -> Markup | None:
    stages = {name: one for name, one in report.timing.stages.items() if one is not None}
    longest = max(stages.values(), default=0.0)
    if not longest:
        return None
    rows = [(name, [(seconds / longest, "plain")], wording.duration(seconds)) for name, seconds in stages.items()]
    return drawing.bars(rows, label="Time by stage")


def styles_of(report: Report) -> dict[str, str]:
    """CSS class of each arm, set and task, the same in every figure."""
    primary = report.decision.primary
    first = [primary.treatment, primary.control]
    arms = [*first, *(arm for arm in report.arms if arm not in first)]
    found = {"pool": "pool", **{arm: f"a{place % 8}" for place, arm in enumerate(arms)}}
    return {**found, **{f"task {task.name}": f"t{place % 4}" for place, task in enumerate(report.tasks)}}
