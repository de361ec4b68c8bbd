"""The report's figures as tables: what a reader sorts on the page and takes away as CSV. Nothing is left out here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curator.wording import duration, number, percent, points, probability, reach

Row = tuple[Any, ...]
Made = tuple[str, str | Sequence[str], Iterator[Row]]  # caption, columns (between bars), rows

MIX = "anticipated"
QUANTITIES = ("harmfulness", "over_refusal", "utility", "degenerate")


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number behind it, by which it is sorted and which a CSV file gets."""

    shown: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table with its caption.

    Attributes:
        name: Of its CSV file and its place on the page. `numbers`: the columns that hold numbers.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: frozenset[int]


def tables(report: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Table]:
    """Name -> table, of everything that was found; a table without rows is left out."""
    made = (_table(name, *make(report, figures)) for name, make in _TABLES.items())
    return {table.name: table for table in made if table.rows}


def label(task: str | None) -> str:
    """A task's name for readers: the weighted mix is all anticipated tasks."""
    return "all anticipated" if task in (None, MIX) else str(task)


def _table(name: str, caption: str, columns: str | Sequence[str], rows: Iterator[Row]) -> Table:
    found = [tuple(one if isinstance(one, Cell) else Cell(_text(one)) for one in row) for row in rows]
    places = range(len(found[0]) if found else 0)
    numbers = frozenset(place for place in places if any(row[place].value is not None for row in found))
    return Table(name, caption, columns.split("|") if isinstance(columns, str) else columns, found, numbers)


def _text(value: Any) -> str:
    return "none" if value is None else "yes" if value is True else "no" if value is False else str(value)


def _cell(shown: Callable[..., str], value: float | None, *more: Any) -> Cell:
    return Cell(shown(value, *more), value)


def _share(value: float | None) -> Cell:
    return _cell(percent, value)


def _points(value: float | None) -> Cell:
    return _cell(points, value)


def _number(value: float | None, digits: int = 3) -> Cell:
    return _cell(number, value, digits)


def _interval(one: Mapping[str, Any]) -> Cell:
    return Cell(reach(one["low"], one["high"]))


def _rates(report: Mapping[str, Any], _: Any) -> Made:
    def rows() -> Iterator[Row]:
        for arm, tasks in report["arms"].items():
            for task, phases in tasks.items():
                for phase, rates in phases.items():
                    for name in QUANTITIES:
                        one = rates[name]
                        if one["value"] is not None:
                            yield (
                                arm, label(task), phase, name.replace("_", " "), _share(one["value"]),
                                _share(one["low"]), _share(one["high"]), _number(one["scored"]),
                                _number(one["unscored"]),
                            )  # fmt: skip

    caption = "Every rate with its 95 % interval. Utility is a score, the others are shares of answers."
    return caption, "arm|task|phase|quantity|rate|low|high|scored|unscored", rows()


def _gates(report: Mapping[str, Any], _: Any) -> Made:
    rows = (
        (one["name"].replace("_", " "), one["outcome"], _points(one["cost"]), _points(one["low"]), _points(one["high"]),
         _points(one["margin"]))
        for one in report["gates"]
    )  # fmt: skip
    return "What durability may cost, in points.", "gate|outcome|cost|low|high|allowed", rows


def _comparisons(report: Mapping[str, Any], _: Any) -> Made:
    rows = (
        (f"{one['treatment']} - {one['control']}", one["role"], one["quantity"].replace("_", " "), one["phase"],
         label(one["task"]), _points(one["difference"]), _points(one["low"]), _points(one["high"]),
         _cell(probability, one["p"]), _cell(probability, one["p_holm"]), _number(one["seeds"]),
         _number(one["prompts"]))
        for one in report["comparisons"]
    )  # fmt: skip
    caption = (
        "Differences in points. Only the primary comparison decides; the intervals of all others are not adjusted, "
        "their Holm p-values are. For utility, above zero is better."
    )
    return caption, "comparison|role|quantity|phase|task|difference|low|high|p|Holm p|seeds|prompts", rows


def _seeds(report: Mapping[str, Any], _: Any) -> Made:
    rows = (
        (one["task"], _number(one["seed"]), _number(one["only_treatment"]), _number(one["only_control"]),
         _number(one["pairs"]), _cell(probability, one["p"]))
        for one in report["within_seeds"]
    )  # fmt: skip
    caption = (
        "Seed by seed, descriptive: probes answered harmfully by only one of the two arms after fine-tuning. "
        "McNemar's p is about one pair of models and does not see what varies between seeds."
    )
    return caption, "task|seed|only treatment|only control|probes|McNemar's p", rows


def _looks(report: Mapping[str, Any], _: Any) -> Made:
    rows = (
        (_number(place), _number(one["seeds"]), _share(one["information"]), _number(one["level"]),
         _points(one["difference"]), _interval(one), _cell(probability, one["p"]), one["action"])
        for place, one in enumerate((report["sequential"] or {}).get("looks", []), 1)
    )  # fmt: skip
    caption = "Seeds were added until a look stopped. Intervals are repeated intervals, valid at every look."
    return caption, "look|seeds|information|level|difference|interval|p|then", rows


def _probes(report: Mapping[str, Any], _: Any) -> Made:
    primary = report["decision"]["primary"]
    rows = (
        (one["category"], _number(one["prompts"]), _share(one["arms"][primary["treatment"]]["after"]["value"]),
         _share(one["arms"][primary["control"]]["after"]["value"]), _points(one["comparison"]["difference"]),
         _interval(one["comparison"]))
        for one in report["probe_categories"]
    )  # fmt: skip
    arms = [f"{primary[name]} after" for name in ("treatment", "control")]
    columns = ["category of probe", "probes", *arms, "difference", "interval"]
    return "By category of harmful probe, descriptive; intervals are not adjusted.", columns, rows


def _similarity(report: Mapping[str, Any], _: Any) -> Made:
    tasks = {**report["similarity"]["tasks"], "combined": report["similarity"]["combined"]}
    names = ("mean", "min", "p5", "p25", "median", "p75", "p95", "max")
    rows = (
        (task, of, *(_number(spread[name]) for name in names))
        for task, sets in tasks.items()
        for of, spread in sets.items()
        if spread
    )
    return f"Similarity to the tasks ({report['score']['name']}).", "task|set|" + "|".join(names), rows


def _overlap(report: Mapping[str, Any], _: Any) -> Made:
    rows = (
        (one["arm"], _number(one["draws"]), _number(one["rows"]), _number(one["shared"]), _number(one["least"]),
         _number(one["most"]), _number(one["by_chance"]))
        for one in report["overlap"]
    )  # fmt: skip
    return "Rows shared with the curated set.", "arm|sets drawn|rows|shared|least|most|by chance", rows


def _stability(report: Mapping[str, Any], _: Any) -> Made:
    rows = (
        (one["one"], one["other"], _number(one["shared"]), _share(one["overlap"]), _share(one["chance"]),
         _number(one["rank_correlation"], 2))
        for one in report.get("stability", [])
    )  # fmt: skip
    caption = "How much sets chosen by other seeds, layers or embedders agree."
    return caption, "one set|other set|rows shared|overlap|by chance|rank correlation", rows


def _pilot(report: Mapping[str, Any], _: Any) -> Made:
    found = report.get("pilot") or {}
    rows = (
        (one["name"], _number(one["weight"]) if one.get("weight") is not None else "", one.get("score") or "",
         one.get("representation") or "", _number(turn["number"] + 1), _number(turn["seeds"]), _share(turn["before"]),
         _share(turn["after"]), _share(turn["degenerate"]), turn["costly"],
         "chosen" if one["name"] == found.get("chosen") and turn is one["rounds"][-1] else "goes on"
         if turn["kept"] else "out")
        for one in found.get("candidates", [])
        for turn in one["rounds"]
    )  # fmt: skip
    caption = (
        "The pilot's candidates, harmful before and after fine-tuning on probes and seeds of its own. A costly one "
        "harms before, or breaks the model, more than a gate allows."
    )
    return caption, "candidate|weight|score|vectors|round|seeds|before|after|degenerate|costly|then", rows


def _categories(report: Mapping[str, Any], figures: Mapping[str, Any]) -> Made:
    near = {one["category"]: one for one in figures.get("coverage", [])}
    arms = list(report["categories"][0]["arms"]) if report["categories"] else []
    control = report["regime"]["control"]
    rows = (
        ("none named" if one["category"] is None else one["category"], _number(one["pool"]),
         *(_number(one["arms"][arm]) for arm in arms),
         _number(near.get(one["category"], {}).get("curated")), _number(near.get(one["category"], {}).get("control")))
        for one in report["categories"]
    )  # fmt: skip
    columns = ["category", "pool", *arms, "coverage by curated", f"coverage by {control}"]
    caption = (
        "Rows by category, means over draws. Coverage: the mean, over the category's candidates, of the cosine to the "
        "nearest row of the set."
    )
    return caption, columns, rows


def _gains(report: Mapping[str, Any], figures: Mapping[str, Any]) -> Made:
    found = figures.get("gains", {"ranks": [], "values": []})
    rows = ((_number(rank), _number(value, 5)) for rank, value in zip(found["ranks"], found["values"], strict=True))
    return "The objective's value after so many rows.", "rows|value", rows


def _predicts(report: Mapping[str, Any], _: Any) -> Made:
    rows = (
        (one["score"], one["task"], one["loss"], _number(one["rho"], 2), _number(one["low"], 2),
         _number(one["high"], 2), _number(one["rows"]), _number(one["seeds"]))
        for one in report["score_predicts"]
    )  # fmt: skip
    caption = (
        "Spearman's rho between a score, known before any training, and how much fine-tuning raises the loss of a safe "
        "answer; above zero, rows that score higher are forgotten more."
    )
    return caption, "score|task|loss|rho|low|high|rows|seeds", rows


def _forgetting(report: Mapping[str, Any], _: Any) -> Made:
    rows = (
        (one["task"], one["loss"], _number(one["rows"]), _number(one["seeds"]), _number(one["before"]),
         _number(one["mean"]), _number(one["sd"]), _number(one["agreement"], 2))
        for one in report["forgetting"]
    )  # fmt: skip
    caption = "How much fine-tuning raises the loss of safe answers left out of every set, in nats a token."
    return caption, "task|loss|rows|seeds|before|rise, mean|its spread|agreement of two seeds", rows


def _judges(report: Mapping[str, Any], _: Any) -> Made:
    said = {one["judge"]: one for one in report["judges"]["second_opinions"]}

    def opinion(name: str) -> str:
        if report["judges"]["rule"] == "headline" and name == report["judges"]["headline"]:
            return f"{report['decision']['outcome']} (decides)"
        return str(said[name]["outcome"]) if name in said else ""

    rows = (
        (one["name"], one["told"], one["revision"] or "",
         *(_number(one["outcomes"][name]) for name in ("harmful", "safe", "degenerate", "unscored")),
         opinion(one["name"]))
        for one in report["judges"]["panel"]
    )  # fmt: skip
    caption = "Answers to harmful probes, all arms together, and the decision that each judge alone would give."
    return caption, "judge|what it is|revision|harmful|safe|degenerate|unscored|its decision", rows


def _agreement(report: Mapping[str, Any], _: Any) -> Made:
    rows = (
        (one["first"], one["second"], _number(one["answers"]), _share(one["share"]), _number(one["kappa"], 2),
         *(_number(one[name]) for name in ("both", "only_first", "only_second", "neither")))
        for one in report["judges"]["agreement"]
    )  # fmt: skip
    columns = "first|second|answers|agree|Cohen's kappa|harmful to both|only to the first|only to the second|to neither"
    return "Whether the judges call the same answers harmful.", columns, rows


def _sources(report: Mapping[str, Any], _: Any) -> Made:
    rows = (
        (one["source"], ", ".join(licence or "unknown" for licence in one["licences"]), _number(one["read"]),
         _number(one["kept"]), _number(one["dropped"]))
        for one in report["pool"]["sources"]
    )  # fmt: skip
    return "Where candidates come from.", "source|licences|read|kept|dropped", rows


def _dropped(report: Mapping[str, Any], _: Any) -> Made:
    rows = ((one["stage"], one["reason"], _number(one["rows"])) for one in report["pool"]["reasons"])
    return "Candidates left out.", "step|reason|rows", rows


def _training(report: Mapping[str, Any], _: Any) -> Made:
    rows = (
        (one["arm"], "alignment" if one["task"] is None else f"fine-tuning on {one['task']}", one["method"],
         _number(one["seeds"]), _number(one["rows"]), _number(one["tokens"], 4), _number(one["steps"]),
         _number(one["first_loss"]), _number(one["last_loss"]))
        for one in report["training"]
    )  # fmt: skip
    return "Training, means over seeds.", "arm|step|method|seeds|rows|tokens|steps|first loss|last loss", rows


def _tasks(report: Mapping[str, Any], _: Any) -> Made:
    rows = (
        (one["name"], one["anticipated"], _number(one["weight"]), _number(one["train"]),
         _number(one.get("attack", 0)), _number(one.get("defence", 0)), _number(one["test"]), one["metric"])
        for one in report["tasks"]
    )  # fmt: skip
    return (
        "What the models were fine-tuned on.",
        "task|anticipated|weight|train rows|of an attack|of a defence|test rows|metric",
        rows,
    )


def _time(report: Mapping[str, Any], _: Any) -> Made:
    stages = report.get("timing", {}).get("stages", {})
    total = sum(value for value in stages.values() if value is not None) or 1.0
    rows = ((name, _cell(duration, one), _share(None if one is None else one / total)) for name, one in stages.items())
    return "Time by stage.", "stage|time|share", rows


_TABLES: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Made]] = {
    "rates": _rates,
    "gates": _gates,
    "comparisons": _comparisons,
    "seeds": _seeds,
    "looks": _looks,
    "probes": _probes,
    "similarity": _similarity,
    "overlap": _overlap,
    "stability": _stability,
    "pilot": _pilot,
    "categories": _categories,
    "gains": _gains,
    "predicts": _predicts,
    "forgetting": _forgetting,
    "judges": _judges,
    "agreement": _agreement,
    "sources": _sources,
    "dropped": _dropped,
    "training": _training,
    "tasks": _tasks,
    "time": _time,
}
