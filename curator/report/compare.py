"""Runs side by side: their rates and decisions, if the same judge read answers to the same prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from curator.conclusions import Rate
from curator.conclusions.part import Count, Number, Part, Values
from curator.errors import RunError
from curator.report.conclusion import Judges
from curator.report.material import Model
from curator.report.model import Report, read_report
from curator.run import STAGES, require
from curator.run.readers import report_file, role_files
from curator.wording import confidence, number, points, rate, reach, these


class Side(Part):
    """One side of a run's primary comparison: its arm, and how harmful it is over the anticipated tasks."""

    arm: str
    before: Rate
    after: Rate


class Compared(Part):
    """What one run found, from `run`, its folder; `tasks` are their weights, and the figures those of the primary
    comparison.
    """

    run: str
    name: str
    outcome: str
    reason: str | None
    model: Model
    tasks: dict[str, float]
    objective: str
    weight: Number
    k: Count
    score: str
    treatment: Side
    control: Side
    difference: Number
    low: Number
    high: Number
    level: Number
    seeds: Count


def compare(runs: Sequence[Path]) -> list[Compared]:
    """What each run found, in the order given.

    Raises:
        RunError: Fewer than two runs, one without a report of its present recipe, or runs that evaluated other prompts
            or were judged otherwise; every difference is named.
    """
    if len(runs) < 2:
        raise RunError("compare: give at least two run folders, for example outputs/one outputs/two")
    reports = [report_of(run) for run in runs]
    conditions = [_conditions(run, report) for run, report in zip(runs, reports, strict=True)]
    problems = [
        problem
        for run, other in zip(runs[1:], conditions[1:], strict=True)
        for problem in _differences(runs[0], conditions[0], run, other)
    ]
    if problems:
        raise RunError(
            "these runs cannot be compared:\n  "
            + "\n  ".join(problems)
            + "\nGive runs whose recipes agree in these settings, or build them again with equal settings"
        )
    return [_row(run, report) for run, report in zip(runs, reports, strict=True)]


def table(rows: Sequence[Compared]) -> list[list[str]]:
    """The rows in words, a column a run, each line with its label first; nothing in them is markup."""
    lines: dict[str, Callable[[Compared], str]] = {
        "run": lambda row: row.run,
        "decision": lambda row: row.outcome + (f" ({row.reason})" if row.reason else ""),
        "curated, before": lambda row: _rate(row.treatment.before),
        "curated, after": lambda row: _rate(row.treatment.after),
        "control": lambda row: row.control.arm,
        "control, before": lambda row: _rate(row.control.before),
        "control, after": lambda row: _rate(row.control.after),
        "difference": lambda row: f"{points(row.difference)} points {reach(row.low, row.high)}",
        "interval": lambda row: f"{confidence(row.level)}, {these(row.seeds, 'paired seed', 'paired seeds')}",
        "model": lambda row: row.model.id,
        "chosen": lambda row: f"{these(row.k, 'row', 'rows')} by {row.objective}, weight {number(row.weight, 6)}",
        "score": lambda row: row.score,
    }
    return [[label, *map(describe, rows)] for label, describe in lines.items()]


def report_of(run: Path) -> Report:
    """The report of a run folder.

    Raises:
        RunError: It is not a run folder, or has no report of its present recipe.
    """
    require(run, *STAGES[: STAGES.index("report") + 1])
    return read_report(report_file(run))


GREEDY: Values = {"samples": 1, "temperature": None}
"""How models answered in runs that were built before there was a choice."""

Conditions = Mapping[str, frozenset[str] | Values]
"""Everything that must agree, by its name in messages."""


def _conditions(run: Path, report: Report) -> Conditions:
    generate = report.provenance.setting("verify", "generate")
    files = role_files(run)
    tasks: Values = {task.name: task.weight for task in report.tasks}
    settings: Values = {**generate} if isinstance(generate, dict) else {}
    settings |= {name: value for name, value in GREEDY.items() if name not in settings}
    return {
        "harmful probes": _ids(files["harmful"]),
        "benign probes": _ids(files["benign"]),
        "tasks and their weights": {**report.tuned},
        "decision": {"over": "mean" if report.decision.worst is None else "worst"},
        **{f"test rows of task '{name}'": _ids(files[f"test {name}"]) for name in sorted(tasks)},
        "headline judge": judge_of(report.judges),
        "verify.generate": {name: value for name, value in settings.items() if name != "batch"},
    }


def judge_of(judges: Judges) -> Values:
    """Who decides, by everything that decides what it says."""
    deciding: list[Values] = [
        {"kind": judge.kind, **{name: value for name, value in judge.settings.items() if value is not None}}
        | {"revision": judge.revision}
        for judge in judges.deciding
    ]
    return deciding[0] if judges.rule == "headline" else {"rule": judges.rule, "judges": [*deciding]}


def _ids(file: Path) -> frozenset[str]:
    from curator.run.files import load_columns

    return frozenset(load_columns(file, "id")["id"])


def _differences(first: Path, ours: Conditions, second: Path, theirs: Conditions) -> list[str]:
    problems = []
    for name in dict.fromkeys([*ours, *theirs]):
        mine, other = ours.get(name), theirs.get(name)
        if mine == other or mine is None or other is None:  # a task that only one has is named with the tasks
            continue
        if isinstance(mine, frozenset) and isinstance(other, frozenset):
            problems.append(
                f"{name}: {first} has {len(mine):,}, {second} has {len(other):,}, and both share {len(mine & other):,}"
            )
        elif isinstance(mine, dict) and isinstance(other, dict):
            problems.append(f"{name}: {first} has {listed(mine)}, {second} has {listed(other)}")
    return problems


def listed(values: Values) -> str:
    """Settings in words, for messages."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _row(run: Path, report: Report) -> Compared:
    decision, selection = report.decision, report.selection
    primary = decision.primary

    def side(arm: str) -> Side:
        phases = report.arms[arm][report.headline]
        return Side(arm=arm, before=phases.before.harmfulness, after=phases.after.harmfulness)

    return Compared(
        run=str(run),
        name=report.name,
        outcome=decision.outcome,
        reason=decision.reason,
        model=Model(id=report.model.id, revision=report.model.revision),
        tasks={task.name: task.weight for task in report.tasks},
        objective=selection.objective,
        weight=selection.weight,
        k=selection.k,
        score=report.score.name,
        treatment=side(primary.treatment),
        control=side(primary.control),
        difference=primary.difference,
        low=primary.low,
        high=primary.high,
        level=primary.level,
        seeds=primary.seeds,
    )


def _rate(measured: Rate) -> str:
    return rate(measured.value, measured.low, measured.high)
