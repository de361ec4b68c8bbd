"""The tables of a report: what a reader sees in each cell, and the number behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from curator import wording
from curator.report.figures import Coverage, Figures
from curator.report.model import Report
from curator.report.part import Quantity
from curator.wording import duration, probability

Row = tuple[object, ...]  # cells, and words

Made = tuple[str, str | Sequence[str], Iterable[Row]]  # caption, columns (between bars), rows

MIX = "anticipated"

QUANTITIES: tuple[Quantity, ...] = ("harmfulness", "over_refusal", "utility", "degenerate")


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


def tables(report: Report, figures: Figures) -> dict[str, Table]:
    """Name -> table, of everything that was found; a table without rows is left out."""
    made = (_table(name, *make(report, figures)) for name, make in _TABLES.items())
    return {table.name: table for table in made if table.rows}


def label(task: str | None) -> str:
    """A task's name for readers: the weighted mix is all anticipated tasks."""
    return "all anticipated" if task in (None, MIX) else str(task)


def _table(name: str, caption: str, columns: str | Sequence[str], rows: Iterable[Row]) -> Table:
    found = [tuple(one if isinstance(one, Cell) else Cell(_text(one)) for one in row) for row in rows]
    places = range(len(found[0]) if found else 0)
    numbers = frozenset(place for place in places if any(row[place].value is not None for row in found))
    return Table(name, caption, columns.split("|") if isinstance(columns, str) else columns, found, numbers)


def _text(value: object) -> str:
    return "none" if value is None else "yes" if value is True else "no" if value is False else str(value)


def _rates(report: Report, _: Figures) -> Made:
    def rows() -> Iterator[Row]:
        for arm, tasks in report.arms.items():
            for task, phases in tasks.items():
                for phase, rates in (("before", phases.before), ("after", phases.after)):
                    for name in QUANTITIES:
                        one = rates.of(name)
                        if one.value is not None:
                            yield (
                                arm, label(task), phase, name.replace("_", " "), share(one.value),
                                share(one.low), share(one.high), number(one.scored),
                                number(one.unscored),
                            )  # fmt: skip

    caption = "Every rate with its 95 % interval. Utility is a score, the others are shares of answers."
    return caption, "arm|task|phase|quantity|rate|low|high|scored|unscored", rows()


def _gates(report: Report, _: Figures) -> Made:
    rows = (
        (one.name.replace("_", " "), one.outcome, points(one.cost), points(one.low), points(one.high),
         points(one.margin))
        for one in report.gates
    )  # fmt: skip
    return "What durability may cost, in points.", "gate|outcome|cost|low|high|allowed", rows


def _comparisons(report: Report, _: Figures) -> Made:
    rows = (
        (f"{one.treatment} - {one.control}", one.role, one.quantity.replace("_", " "), one.phase,
         label(one.task), points(one.difference), points(one.low), points(one.high),
         cell(probability, one.p), cell(probability, one.p_holm), number(one.seeds),
         number(one.prompts))
        for one in report.comparisons
    )  # fmt: skip
    caption = (
        "Differences in points. Only the primary comparison decides; the intervals of all others are not adjusted, "
        "their Holm p-values are. For utility, above zero is better."
    )
    return caption, "comparison|role|quantity|phase|task|difference|low|high|p|Holm p|seeds|prompts", rows


def _seeds(report: Report, _: Figures) -> Made:
    rows = (
        (one.task, number(one.seed), number(one.only_treatment), number(one.only_control),
         number(one.pairs), cell(probability, one.p))
        for one in report.within_seeds
    )  # fmt: skip
    caption = (
        "Seed by seed, descriptive: probes answered harmfully by only one of the two arms after fine-tuning. "
        "McNemar's p is about one pair of models and does not see what varies between seeds."
    )
    return caption, "task|seed|only treatment|only control|probes|McNemar's p", rows


def _looks(report: Report, _: Figures) -> Made:
    rows = (
        (number(place), number(one.seeds), share(one.information), number(one.level),
         points(one.difference), interval(one), cell(probability, one.p), one.action)
        for place, one in enumerate(report.sequential.looks if report.sequential else (), 1)
    )  # fmt: skip
    caption = "Seeds were added until a look stopped. Intervals are repeated intervals, valid at every look."
    return caption, "look|seeds|information|level|difference|interval|p|then", rows


def _probes(report: Report, _: Figures) -> Made:
    primary = report.decision.primary
    rows = (
        (one.category, number(one.prompts), share(one.arms[primary.treatment].after.value),
         share(one.arms[primary.control].after.value), points(one.comparison.difference),
         interval(one.comparison))
        for one in report.probe_categories
    )  # fmt: skip
    arms = [f"{arm} after" for arm in (primary.treatment, primary.control)]
    columns = ["category of probe", "probes", *arms, "difference", "interval"]
    return "By category of harmful probe, descriptive; intervals are not adjusted.", columns, rows


def _similarity(report: Report, _: Figures) -> Made:
    tasks = {**report.similarity.tasks, "combined": report.similarity.combined}
    names = ("mean", "min", "p5", "p25", "median", "p75", "p95", "max")
    rows = (
        (task, of, *(number(getattr(spread, name)) for name in names))
        for task, sets in tasks.items()
        for of, spread in sets.items()
        if spread
    )
    return f"Similarity to the tasks ({report.score.name}).", "task|set|" + "|".join(names), rows


def _overlap(report: Report, _: Figures) -> Made:
    rows = (
        (one.arm, number(one.draws), number(one.rows), number(one.shared), number(one.least),
         number(one.most), number(one.by_chance))
        for one in report.overlap
    )  # fmt: skip
    return "Rows shared with the curated set.", "arm|sets drawn|rows|shared|least|most|by chance", rows


def _stability(report: Report, _: Figures) -> Made:
    rows = (
        (one.one, one.other, number(one.shared), share(one.overlap), share(one.chance),
         number(one.rank_correlation, 2))
        for one in report.stability
    )  # fmt: skip
    caption = "How much sets chosen by other seeds, layers or embedders agree."
    return caption, "one set|other set|rows shared|overlap|by chance|rank correlation", rows


def _pilot(report: Report, _: Figures) -> Made:
    rows = (
        (one.name, "" if one.weight is None else number(one.weight), one.score or "", one.representation or "",
         number(turn.number + 1), number(turn.seeds), share(turn.before), share(turn.after), share(turn.degenerate),
         turn.costly, "chosen" if one.name == report.pilot.chosen and turn is one.rounds[-1] else "goes on"
         if turn.kept else "out")
        for one in report.pilot.candidates
        for turn in one.rounds
    ) if report.pilot else ()  # fmt: skip
    caption = (
        "The pilot's candidates, harmful before and after fine-tuning on probes and seeds of its own. A costly one "
        "harms before, or breaks the model, more than a gate allows."
    )
    return caption, "candidate|weight|score|vectors|round|seeds|before|after|degenerate|costly|then", rows


def _categories(report: Report, figures: Figures) -> Made:
    near = {one.category: one for one in figures.coverage}
    unknown = Coverage(None, 0, None, None)
    arms = list(report.categories[0].arms) if report.categories else []
    control = report.regime.control
    rows = (
        ("none named" if one.category is None else one.category, number(one.pool),
         *(number(one.arms[arm]) for arm in arms),
         number(near.get(one.category, unknown).curated), number(near.get(one.category, unknown).control))
        for one in report.categories
    )  # fmt: skip
    columns = ["category", "pool", *arms, "coverage by curated", f"coverage by {control}"]
    caption = (
        "Rows by category, means over draws. Coverage: the mean, over the category's candidates, of the cosine to the "
        "nearest row of the set."
    )
    return caption, columns, rows


def _gains(report: Report, figures: Figures) -> Made:
    curve = zip(figures.gains.ranks, figures.gains.values, strict=True) if figures.gains else ()
    rows = ((number(rank), number(value, 5)) for rank, value in curve)
    return "The objective's value after so many rows.", "rows|value", rows


def _predicts(report: Report, _: Figures) -> Made:
    rows = (
        (one.score, one.task, one.loss, number(one.rho, 2), number(one.low, 2),
         number(one.high, 2), number(one.rows), number(one.seeds))
        for one in report.score_predicts
    )  # fmt: skip
    caption = (
        "Spearman's rho between a score, known before any training, and how much fine-tuning raises the loss of a safe "
        "answer; above zero, rows that score higher are forgotten more."
    )
    return caption, "score|task|loss|rho|low|high|rows|seeds", rows


def _forgetting(report: Report, _: Figures) -> Made:
    rows = (
        (one.task, one.loss, number(one.rows), number(one.seeds), number(one.before),
         number(one.mean), number(one.sd), number(one.agreement, 2))
        for one in report.forgetting
    )  # fmt: skip
    caption = "How much fine-tuning raises the loss of safe answers left out of every set, in nats a token."
    return caption, "task|loss|rows|seeds|before|rise, mean|its spread|agreement of two seeds", rows


def _judges(report: Report, _: Figures) -> Made:
    said = {one.judge: one for one in report.judges.second_opinions}

    def opinion(name: str) -> str:
        if report.judges.rule == "headline" and name == report.judges.headline:
            return f"{report.decision.outcome} (decides)"
        return str(said[name].outcome) if name in said else ""

    rows = (
        (one.name, one.told, one.revision or "",
         *(number(getattr(one.outcomes, name)) for name in ("harmful", "safe", "degenerate", "unscored")),
         opinion(one.name))
        for one in report.judges.panel
    )  # fmt: skip
    caption = "Answers to harmful probes, all arms together, and the decision that each judge alone would give."
    return caption, "judge|what it is|revision|harmful|safe|degenerate|unscored|its decision", rows


def _agreement(report: Report, _: Figures) -> Made:
    rows = (
        (one.first, one.second, number(one.answers), share(one.share), number(one.kappa, 2),
         *(number(getattr(one, name)) for name in ("both", "only_first", "only_second", "neither")))
        for one in report.judges.agreement
    )  # fmt: skip
    columns = "first|second|answers|agree|Cohen's kappa|harmful to both|only to the first|only to the second|to neither"
    return "Whether the judges call the same answers harmful.", columns, rows


def _sources(report: Report, _: Figures) -> Made:
    rows = (
        (one.source, ", ".join(licence or "unknown" for licence in one.licences), number(one.read),
         number(one.kept), number(one.dropped))
        for one in report.pool.sources
    )  # fmt: skip
    return "Where candidates come from.", "source|licences|read|kept|dropped", rows


def _dropped(report: Report, _: Figures) -> Made:
    rows = ((one.stage, one.reason, number(one.rows)) for one in report.pool.reasons)
    return "Candidates left out.", "step|reason|rows", rows


def _training(report: Report, _: Figures) -> Made:
    rows = (
        (one.arm, "alignment" if one.task is None else f"fine-tuning on {one.task}", one.method,
         number(one.seeds), number(one.rows), number(one.tokens, 4), number(one.steps),
         number(one.first_loss), number(one.last_loss))
        for one in report.training
    )  # fmt: skip
    return "Training, means over seeds.", "arm|step|method|seeds|rows|tokens|steps|first loss|last loss", rows


def _tasks(report: Report, _: Figures) -> Made:
    rows = (
        (one.name, one.anticipated, number(one.weight), number(one.train),
         number(one.attack), number(one.defence), number(one.test), one.metric)
        for one in report.tasks
    )  # fmt: skip
    return (
        "What the models were fine-tuned on.",
        "task|anticipated|weight|train rows|of an attack|of a defence|test rows|metric",
        rows,
    )


def _time(report: Report, _: Figures) -> Made:
    stages = report.timing.stages
    total = sum(value for value in stages.values() if value is not None) or 1.0
    rows = ((name, cell(duration, one), share(None if one is None else one / total)) for name, one in stages.items())
    return "Time by stage.", "stage|time|share", rows


def _where(report: Report, _: Figures) -> Made:
    nodes = report.timing.engine.nodes if report.timing.engine else ()
    rows = (
        (one.engine, one.host, (one.node or "")[:8], ", ".join(one.gpus), number(one.processes),
         number(one.pieces), cell(duration, one.seconds))
        for one in nodes
    )  # fmt: skip
    return "What trained and asked the models.", "engine|host|node|GPUs|processes|pieces|time", rows


_TABLES: dict[str, Callable[[Report, Figures], Made]] = {
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
    "where": _where,
}


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number behind it, by which it is sorted and which a CSV file gets."""

    shown: str
    value: float | None = None


class Interval(Protocol):
    """Whatever has the limits of an interval."""

    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def cell(shown: Callable[[float | None], str], value: float | None) -> Cell:
    """A number as `shown` tells it."""
    return Cell(shown(value), value)


def share(value: float | None) -> Cell:
    """A share in [0, 1], in percent."""
    return cell(wording.percent, value)


def points(value: float | None) -> Cell:
    """A difference in [-1, 1], in points."""
    return cell(wording.points, value)


def number(value: float | None, digits: int = 3) -> Cell:
    """Any number."""
    return Cell(wording.number(value, digits), value)


def interval(found: Interval) -> Cell:
    """The limits of an interval."""
    return Cell(wording.reach(found.low, found.high))
