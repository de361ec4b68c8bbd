"""Runs side by side: their rates and decisions, where the same judge read answers to the same questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from curator.errors import RunError
from curator.run import FOLDERS, STAGES
from curator.run.folder import finished, read_json
from curator.wording import points, rate, reach

MIX = "anticipated"


def compare(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """What each run found, in the order given.

    Returns:
        For each run: `run` (its folder), `name`, `outcome`, `reason`, `model` (id, revision), `tasks` (name -> weight),
        `objective`, `weight`, `k`, `score`; `treatment` and `control`, each with `arm`, `before` and `after` (value,
        low, high, scored, unscored), over the anticipated tasks; `difference`, `low`, `high`, `level`, `seeds`.

    Raises:
        RunError: Fewer than two runs, one without a report of its present recipe, or runs that asked other questions or
            were judged otherwise; every difference is named.
    """
    if len(runs) < 2:
        raise RunError("compare: needs two run folders or more, for example outputs/one outputs/two")
    reports = [report_of(run) for run in runs]
    asked = [_asked(run, report) for run, report in zip(runs, reports, strict=True)]
    problems = [
        problem
        for run, other in zip(runs[1:], asked[1:], strict=True)
        for problem in _differences(runs[0], asked[0], run, other)
    ]
    if problems:
        raise RunError(
            "these runs cannot stand in one table:\n  "
            + "\n  ".join(problems)
            + "\nGive runs of recipes that agree in this, or build them again with equal settings"
        )
    return [_row(run, report) for run, report in zip(runs, reports, strict=True)]


def table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The rows in words, a column a run, each line with its label first; nothing in them is markup."""
    lines: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "run": lambda row: str(row["run"]),
        "decision": lambda row: row["outcome"] + (f" ({row['reason']})" if row["reason"] else ""),
        "curated, before": lambda row: _rate(row["treatment"]["before"]),
        "curated, after": lambda row: _rate(row["treatment"]["after"]),
        "control": lambda row: str(row["control"]["arm"]),
        "control, before": lambda row: _rate(row["control"]["before"]),
        "control, after": lambda row: _rate(row["control"]["after"]),
        "difference": lambda row: f"{points(row['difference'])} points {reach(row['low'], row['high'])}",
        "interval": lambda row: f"{100 * (1 - row['level']):.3g} %, {row['seeds']} paired seeds",
        "model": lambda row: str(row["model"]["id"]),
        "chosen": lambda row: f"{row['k']:,} rows by {row['objective']}, weight {row['weight']:g}",
        "score": lambda row: str(row["score"]),
    }
    return [[label, *map(tell, rows)] for label, tell in lines.items()]


def report_of(run: Path) -> dict[str, Any]:
    """report.json of a run folder.

    Raises:
        RunError: It is no run folder, or has no report of its present recipe.
    """
    if not (run / "run.json").exists():
        raise RunError(f"{run}: is no run folder; give one that `curator build` made, for example outputs/quickstart")
    keys = read_json(run / "run.json")["stages"]
    for stage in STAGES[: STAGES.index("report") + 1]:
        done = finished(run / FOLDERS[stage])
        if done is None or done["key"] != keys[stage]:
            raise RunError(f"{run}: stage {stage} is not finished for its present recipe; run `curator build` to go on")
    report: dict[str, Any] = read_json(run / FOLDERS["report"] / "report.json")
    return report


def _asked(run: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that must agree, by what a message calls it."""
    from curator.run.files import PROBES, task_file

    generate = report["provenance"]["recipe"]["verify"]["generate"]
    pool = run / FOLDERS["pool"]
    tasks = {task["name"]: task["weight"] for task in report["tasks"]}
    return {
        **{f"{kind} probes": _ids(pool / PROBES[kind]) for kind in ("harmful", "benign")},
        "tasks and their weights": tasks,
        **{f"test rows of task {name}": _ids(pool / task_file(name, "test")) for name in sorted(tasks)},
        "headline judge": _judge(report["judges"]),
        "verify.generate": {name: value for name, value in generate.items() if name != "batch"},
    }


def _judge(judges: Mapping[str, Any]) -> dict[str, Any]:
    """Who decides, by everything that decides what it says."""
    found = [
        {"kind": one["kind"], **{name: value for name, value in one["settings"].items() if value is not None}}
        | {"revision": one["revision"]}
        for one in judges["panel"]
        if judges["rule"] != "headline" or one["name"] == judges["headline"]
    ]
    return found[0] if judges["rule"] == "headline" else {"rule": judges["rule"], "judges": found}


def _ids(file: Path) -> frozenset[str]:
    import polars as pl

    return frozenset(pl.read_parquet(file, columns=["id"])["id"])


def _differences(first: Path, ours: Mapping[str, Any], second: Path, theirs: Mapping[str, Any]) -> list[str]:
    found = []
    for name in dict.fromkeys([*ours, *theirs]):
        one, two = ours.get(name), theirs.get(name)
        if one == two or one is None or two is None:  # a task that only one has is told with the tasks
            continue
        if isinstance(one, frozenset) and isinstance(two, frozenset):
            found.append(f"{name}: {first} has {len(one)}, {second} {len(two)}, and {len(one & two)} are in both")
        else:
            found.append(f"{name}: {first} has {_told(one)}, {second} {_told(two)}")
    return found


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _row(run: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    decision, selection = report["decision"], report["selection"]
    primary = decision["primary"]

    def arm(name: str) -> dict[str, Any]:
        phases = report["arms"][name][MIX]
        return {"arm": name, **{phase: phases[phase]["harmfulness"] for phase in ("before", "after")}}

    return {
        "run": str(run),
        "name": report["name"],
        "outcome": decision["outcome"],
        "reason": decision["reason"],
        "model": {name: report["model"][name] for name in ("id", "revision")},
        "tasks": {task["name"]: task["weight"] for task in report["tasks"]},
        **{name: selection[name] for name in ("objective", "weight", "k")},
        "score": report["score"]["name"],
        "treatment": arm(primary["treatment"]),
        "control": arm(primary["control"]),
        **{name: primary[name] for name in ("difference", "low", "high", "level", "seeds")},
    }


def _rate(found: Mapping[str, Any]) -> str:
    return rate(found["value"], found["low"], found["high"])
