"""The figures of a report by name. A figure without anything to draw is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from curator import wording
from curator.conclusions.part import MIX
from curator.report import composition, depth, drawing, frontier, seeds
from curator.report.bank import bank_plot
from curator.report.cells import label
from curator.report.figures import Figures
from curator.report.log_odds import log_odds_plot
from curator.report.model import Report

if TYPE_CHECKING:
    from markupsafe import Markup

    from curator.report.curve import TaskCurve

HARMFUL = "share of harmful answers"
"""What most axes measure."""
MANY = 24
"""Lanes of a figure at most; the table below it holds all of them."""


def plots(report: Report, figures: Figures) -> dict[str, Markup]:
    """Name -> figure; a figure without anything to draw is left out."""
    styles = styles_of(report)
    drawn = {
        "decision": _decision(report),
        "seeds": seeds.figure(report, styles),
        "harm": _harm(report, styles),
        "gates": _gates(report),
        "comparisons": _comparisons(report),
        "depth": depth.figure(report),
        "pilot": _pilot(report),
        "frontier": frontier.figure(report),
        "composition": composition.figure(report, styles),
        "gains": _gains(report, figures),
        "coverage": _coverage(report, figures),
        "predicts": _predicts(report),
        "judges": _judges(report),
        "time": _time(report),
    }
    for name, task in report.curves.tasks.items() if report.curves else ():
        drawn[f"curve {name}"] = _curve(name, task, report.curves.level if report.curves else 1.0, styles)
    for name, spread in figures.distributions.items():
        sets = {arm: (shares, styles[arm]) for arm, shares in spread.shares.items() if arm in styles}
        words = f"Distribution of similarity to {label(name)} over the pool and the sets of each arm"
        drawn[f"distribution {name}"] = drawing.curves(
            spread.edges, sets, label=words, axes=("share of rows", "similarity")
        )
    drawn |= {**log_odds_plot(report, styles), **bank_plot(report.bank)}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _decision(report: Report) -> Markup | None:
    primary = report.decision.primary
    if primary.difference is None:
        return None
    lane = drawing.Lane("", [drawing.Mark(primary.difference, primary.low, primary.high, "a0")], "", style="bare")
    scale = drawing.around_zero([primary.difference, primary.low, primary.high], factor=100.0)
    words = (
        f"{primary.treatment} minus {primary.control} {primary.when}: {wording.points(primary.difference)} points, "
        f"interval {wording.reach(primary.low, primary.high)}"
    )
    ends = (f"\u2190 {primary.treatment} less harmful", f"{primary.treatment} more harmful \u2192")
    return drawing.dots([lane], scale, label=words, axis=ends)


def _harm(report: Report, styles: Mapping[str, str]) -> Markup | None:
    lanes = []
    anticipated = [name for name, weight in report.tuned.items() if weight]
    others = [name for name, weight in report.tuned.items() if not weight]
    shown = [*([MIX] if len(anticipated) > 1 else []), *anticipated, *others]
    for task in shown:
        if len(shown) > 1:
            apart = ", not anticipated" if task in others else ""
            lanes.append(drawing.Lane(f"{label(task)}{apart}", [], ""))
        for number, arm in enumerate(name for name in styles if name in report.arms):
            phases = report.arms[arm][task]
            before, after = phases.before.harmfulness, phases.after.harmfulness
            marks = [
                drawing.Mark(rate.value, rate.low, rate.high, styles[arm], hollow=rate is before)
                for rate in (before, after)
                if rate.value is not None
            ]
            words = f"{wording.percent(before.value)} \u2192 {wording.percent(after.value)}"
            lanes.append(drawing.Lane(arm, marks, words, joined=True, style="" if number else "first"))
    title = "Share of harmful answers before (ring) and after (dot) fine-tuning, by arm and task, with 95% intervals"
    return drawing.dots(lanes[: 3 * MANY], drawing.shares(), label=title, axis=[HARMFUL])


def _curve(name: str, task: TaskCurve, level: float, styles: Mapping[str, str]) -> Markup | None:
    shown = [arm for arm in styles if arm in task.arms]
    sets = {
        arm: (
            [
                (point.at, drawing.Mark(point.value, point.low, point.high, styles[arm], hollow=point.at == 0))
                for point in task.arms[arm].points
                if point.value is not None
            ],
            styles[arm],
        )
        for arm in shown
    }
    if not any(points for points, _ in sets.values()):
        return None
    steps = {point.at: point.step for arm in task.arms.values() for point in arm.points}
    ticks = [(at, f"{step:,}") for at, step in steps.items()]
    words = f"Share of harmful answers by steps of fine-tuning on {name}, by arm, with 95% intervals"
    return drawing.course(sets, ticks, level, label=words, axes=(HARMFUL, "steps of fine-tuning"))


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
    words = "Cost of durability by gate, in points, with 95% intervals"
    return drawing.dots(
        lanes, drawing.around_zero(values, factor=100.0), label=words, axis=("\u2190 better", "costs, in points \u2192")
    )


def _comparisons(report: Report) -> Markup | None:
    shown = [
        pair
        for pair in report.comparisons
        if (pair.quantity, pair.phase) == ("harmfulness", report.decision.primary.phase) and pair.difference is not None
    ]
    shown.sort(key=lambda pair: (pair.role != "primary", pair.task is not None))
    lanes = [
        drawing.Lane(
            f"{pair.treatment} \u2212 {pair.control}" + (f", {pair.task}" if pair.task else ""),
            [
                drawing.Mark(
                    pair.difference,
                    pair.low,
                    pair.high,
                    "a0" if pair.role == "primary" else "plain",
                )
            ],
            wording.points(pair.difference) + ("" if pair.low is not None else ", no interval"),
            style=pair.role,
        )
        for pair in shown[:MANY]
        if pair.difference is not None
    ]
    if not lanes:
        return None
    values = [value for pair in shown[:MANY] for value in (pair.difference, pair.low, pair.high)]
    scale = drawing.around_zero([max(min(value, 1.0), -1.0) for value in values if value is not None], factor=100.0)
    when = report.decision.primary.when
    words = f"Differences in harmfulness {when}, in points, with 95% intervals; the first one decides"
    return drawing.dots(
        lanes, scale, label=words, axis=("\u2190 the first arm is less harmful", "more harmful, in points \u2192")
    )


def _pilot(report: Report) -> Markup | None:
    pilot, lanes = report.pilot, []
    if pilot is None:
        return None
    for candidate in pilot.candidates:
        last = candidate.rounds[-1] if candidate.rounds else None
        if last is None or last.after is None:
            continue
        chosen = candidate.name == pilot.chosen
        style = "a0" if chosen else "a1" if candidate.name == pilot.best_draw else "plain"
        words = f"{wording.percent(last.after)}, {wording.these(last.seeds, 'seed', 'seeds')}"
        words += ", chosen" if chosen else ", best draw" if style == "a1" else ""
        marks = [drawing.Mark(last.after, None, None, style)]
        setting = "" if candidate.weight is None else f" (weight {candidate.weight:g}, {candidate.score})"
        setting = f" ({candidate.what})" if candidate.what and not candidate.drawn else setting
        lanes.append(drawing.Lane(candidate.name + setting, marks, words, style="primary" if chosen else ""))
    if not lanes:
        return None
    return drawing.dots(
        lanes[:MANY],
        drawing.shares(),
        label="Share of harmful answers after fine-tuning in the last round of each pilot candidate",
        axis=[HARMFUL],
    )


def _gains(report: Report, figures: Figures) -> Markup | None:
    gains, chosen = figures.gains, report.selection
    if not gains or not gains.ranks:
        return None
    levels = []
    if chosen.bound is not None:
        levels.append((chosen.bound, f"upper bound: {wording.number(chosen.bound, 4)}", "bound"))
    random = chosen.parameter("random_value")
    if random is not None:
        levels.append((random, f"random sets: {wording.number(random, 4)}", "random"))
    words = "The objective's value as rows are added"
    return drawing.climb(gains.ranks, gains.values, levels, label=words, axes=("value of the objective", "rows chosen"))


def _coverage(report: Report, figures: Figures) -> Markup | None:
    lanes = [
        drawing.Lane(
            "no category" if category.category is None else category.category,
            [
                drawing.Mark(value, None, None, style, hollow=style == "a1")
                for value, style in ((category.control, "a1"), (category.curated, "a0"))
                if value is not None
            ],
            wording.these(category.rows, "row", "rows"),
        )
        for category in figures.coverage[:MANY]
    ]
    if not lanes:
        return None
    control = report.regime.control
    words = f"Mean cosine of each category of the pool to the curated set (dot) and to a {control} set (ring)"
    low = min(mark.value for lane in lanes for mark in lane.marks)
    return drawing.dots(
        lanes,
        drawing.between(max(0.0, int(10 * low - 1) / 10), 1.0),
        label=words,
        axis=["mean cosine to the nearest row"],
    )


def _predicts(report: Report) -> Markup | None:
    several = len({pair.task for pair in report.score_predicts}) > 1
    lanes = [
        drawing.Lane(
            f"{pair.score}, {pair.task}, {pair.loss}" if several else f"{pair.score}, {pair.loss}",
            [drawing.Mark(pair.rho, pair.low, pair.high, "a0")],
            f"{round(pair.rho, 2) + 0.0:.2f}",
        )
        for pair in report.score_predicts
        if pair.rho is not None
    ]
    if not lanes:
        return None
    scale = drawing.Scale(-1.0, 1.0, [(half / 2, f"{half / 2:g}") for half in range(-2, 3)], zero=0.0)
    return drawing.dots(
        lanes[:MANY],
        scale,
        label="Spearman's rho between each score and forgetting, with 95% intervals",
        axis=("\u2190 rows that score higher are kept", "rows that score higher are forgotten \u2192"),
    )


def _judges(report: Report) -> Markup | None:
    rows = []
    for judge in report.judges.panel:
        total = judge.outcomes.total or 1
        parts = [
            (getattr(judge.outcomes, name) / total, name) for name in ("harmful", "degenerate", "unscored", "safe")
        ]
        rows.append((judge.name, parts, f"{wording.percent(judge.outcomes.harmful / total)} harmful"))
    words = "Verdicts of each judge on the answers to harmful probes"
    return drawing.bars(rows, label=words, scale=drawing.shares(), axis=["share of answers to harmful probes"])


def _time(report: Report) -> Markup | None:
    stages = {name: seconds for name, seconds in report.timing.stages.items() if seconds is not None}
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
    styles = {"pool": "pool", **{arm: f"a{number % 8}" for number, arm in enumerate(arms)}}
    return {**styles, **{f"task {task.name}": f"t{number % 4}" for number, task in enumerate(report.tasks)}}
