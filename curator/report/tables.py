"""The figures of a report as tables, complete; a reader can sort them on the page and download them as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from curator import wording
from curator.conclusions.part import Quantity
from curator.report.cells import Made, Row, Table, cell, interval, label, number, points, share, table
from curator.report.composition import TABLES as COMPOSITION
from curator.report.depth import TABLES as DEPTH
from curator.report.figures import Coverage, Figures
from curator.report.frontier import TABLES as FRONTIER
from curator.report.model import Report
from curator.report.pilot import PilotCandidate
from curator.wording import duration, probability

if TYPE_CHECKING:
    from curator.report.curve import Curves

QUANTITIES: tuple[Quantity, ...] = ("harmfulness", "over_refusal", "utility", "degenerate")


def tables(report: Report, figures: Figures) -> dict[str, Table]:
    """Name -> table, for all results; a table without rows is left out."""
    every = (table(name, *make(report, figures)) for name, make in (_TABLES | DEPTH | FRONTIER | COMPOSITION).items())
    return {made.name: made for made in every if made.rows}


def _rates(report: Report, _: Figures) -> Made:
    def rows() -> Iterator[Row]:
        for arm, tasks in report.arms.items():
            for task, phases in tasks.items():
                for phase, rates in (("before", phases.before), ("after", phases.after)):
                    for name in QUANTITIES:
                        rate = rates.of(name)
                        if rate.value is not None:
                            yield (
                                arm, label(task), phase, name.replace("_", " "), share(rate.value),
                                share(rate.low), share(rate.high), number(rate.scored),
                                number(rate.unscored),
                            )  # fmt: skip

    caption = "Every rate with its 95% confidence interval. Utility is a score; the others are shares of answers."
    return caption, "arm|task|phase|quantity|rate|low|high|scored|unscored", rows()


def _gates(report: Report, _: Figures) -> Made:
    rows = (
        (gate.name.replace("_", " ") + (f" at {gate.task}" if gate.task else ""), gate.outcome, points(gate.cost),
         points(gate.low), points(gate.high), points(gate.margin))
        for gate in report.gates
    )  # fmt: skip
    return "What durability may cost, in points.", "gate|outcome|cost|low|high|allowed", rows


def _worst(report: Report, _: Figures) -> Made:
    rows = (
        (case.task, share(case.comparison.treatment_rate), share(case.comparison.control_rate),
         points(case.comparison.difference), points(case.comparison.low), points(case.comparison.high),
         case.outcome + (f" ({case.reason})" if case.reason else ""),
         "yes" if case.lost is None else f"no: loses {wording.points(case.lost).lstrip('+')} points of utility")
        for case in (report.decision.worst.cases if report.decision.worst else ())
    )  # fmt: skip
    primary = report.decision.primary
    arms = [f"{arm} after" for arm in (primary.treatment, primary.control)]
    caption = (
        "Differences by setting, in points. The decision is about the worst of the settings that count. Lower limits "
        "are adjusted for the number of settings. Upper limits need no adjustment, because a durable set is below zero "
        "in every setting."
    )
    return caption, ["setting", *arms, "difference", "low", "high", "alone", "counts"], rows


def _comparisons(report: Report, _: Figures) -> Made:
    rows = (
        (f"{pair.treatment} - {pair.control}", pair.role, pair.quantity.replace("_", " "), pair.phase,
         label(pair.task), points(pair.difference), points(pair.low), points(pair.high),
         cell(probability, pair.p), cell(probability, pair.p_holm), number(pair.seeds),
         number(pair.prompts))
        for pair in report.comparisons
    )  # fmt: skip
    caption = (
        "Differences in points. Only the primary comparison decides. The intervals of the others are not adjusted; "
        "their Holm p-values are adjusted. For utility, above zero is better."
    )
    return caption, "comparison|role|quantity|phase|task|difference|low|high|p|Holm p|seeds|prompts", rows


def _seeds(report: Report, _: Figures) -> Made:
    rows = (
        (counts.task, number(counts.seed), number(counts.only_treatment), number(counts.only_control),
         number(counts.pairs), cell(probability, counts.p))
        for counts in report.within_seeds
    )  # fmt: skip
    of_one = "probes that only one of the two arms answered harmfully after fine-tuning"
    of_several = "probes that one of the two arms answered harmfully more often than the other after fine-tuning"
    caption = (
        f"Descriptive counts by seed of {of_several if report.flips else of_one}. "
        "McNemar's p is about one pair of models and ignores the variation between seeds."
    )
    return caption, "task|seed|only treatment|only control|probes|McNemar's p", rows


def _looks(report: Report, _: Figures) -> Made:
    rows = (
        (number(position), number(look.seeds), share(look.information), number(look.level),
         points(look.difference), interval(look), cell(probability, look.p), look.action)
        for position, look in enumerate(report.sequential.looks if report.sequential else (), 1)
    )  # fmt: skip
    caption = "Seeds were added until a look stopped. Intervals are repeated intervals, valid at every look."
    return caption, "look|seeds|information|level|difference|interval|p|result", rows


def _by_seed(report: Report, _: Figures) -> Made:
    primary, beside = report.decision.primary, report.decision.beside
    rows = (
        (number(each.seed), share(each.treatment), share(each.control),
         points(None if each.treatment is None or each.control is None else each.treatment - each.control),
         each.without)
        for each in (beside.seeds if beside else ())
    )  # fmt: skip
    caption = f"Share of harmful answers {primary.when} by seed, and what the comparison says without that seed."
    return caption, ["seed", primary.treatment, primary.control, "difference", "comparison without it"], rows


def _probes(report: Report, _: Figures) -> Made:
    primary = report.decision.primary
    rows = (
        (probes.category, number(probes.prompts), share(probes.arms[primary.treatment].after.value),
         share(probes.arms[primary.control].after.value), points(probes.comparison.difference),
         interval(probes.comparison))
        for probes in report.probe_categories
    )  # fmt: skip
    arms = [f"{arm} after" for arm in (primary.treatment, primary.control)]
    columns = ["category of probe", "probes", *arms, "difference", "interval"]
    return "Descriptive rates by category of harmful probe. The intervals are not adjusted.", columns, rows


def _areas(report: Report, _: Figures) -> Made:
    def rows(curves: Curves) -> Iterator[Row]:
        primary = report.decision.primary
        for task, curve in curves.tasks.items():
            for arm in sorted(curve.arms, key=lambda arm: (arm != primary.treatment, arm != primary.control)):
                of_arm = curve.arms[arm]
                area = of_arm.area
                against = curve.comparison if arm == primary.treatment else None
                steps = f"not within {curve.steps:,}" if of_arm.median_step is None else number(of_arm.median_step)
                yield (
                    task, arm, share(area.value), share(area.low), share(area.high),
                    *((points(against.difference), interval(against)) if against else ("", "")),
                    f"{of_arm.passed} of {of_arm.seeds}", steps,
                )  # fmt: skip

    caption = (
        "The area under the curve is the mean share of harmful answers over the whole of fine-tuning. A seed reaches "
        "the level at the first checkpoint with that share of harmful answers. A seed that never reaches it counts as "
        "taking longer than the training."
    )
    level = wording.percent(report.curves.level) if report.curves else ""
    control = report.decision.primary.control
    columns = ["task", "arm", "area", "low", "high", f"minus {control}", "interval",
               f"reach {level}", f"median steps until {level}"]  # fmt: skip
    return caption, columns, rows(report.curves) if report.curves else ()


def _curves(report: Report, _: Figures) -> Made:
    rows = (
        (task, arm, number(point.step), share(point.at), share(point.value), share(point.low), share(point.high),
         number(point.scored), number(point.unscored))
        for task, curve in (report.curves.tasks.items() if report.curves else ())
        for arm, of_arm in curve.arms.items()
        for point in of_arm.points
    )  # fmt: skip
    columns = "task|arm|steps|of fine-tuning|harmful|low|high|scored|unscored"
    return "Share of harmful answers at each checkpoint of fine-tuning.", columns, rows


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
        (sets.arm, number(sets.draws), number(sets.rows), number(sets.shared), number(sets.least),
         number(sets.most), number(sets.by_chance))
        for sets in report.overlap
    )  # fmt: skip
    return "Rows shared with the curated set.", "arm|sets drawn|rows|shared|least|most|by chance", rows


def _stability(report: Report, _: Figures) -> Made:
    rows = (
        (pair.one, pair.other, number(pair.shared), share(pair.overlap), share(pair.chance),
         number(pair.rank_correlation, 2))
        for pair in report.stability
    )  # fmt: skip
    caption = "Agreement of sets that were chosen with other seeds, layers or embedders."
    return caption, "one set|other set|rows shared|overlap|by chance|rank correlation", rows


def _pilot(report: Report, _: Figures) -> Made:
    banked = report.pilot is not None and report.pilot.banked

    def setting(candidate: PilotCandidate) -> Row:
        if banked:
            return candidate.kind or "", candidate.what or ""
        weight = "" if candidate.weight is None else number(candidate.weight)
        return weight, candidate.score or "", candidate.representation or ""

    rows = (
        (candidate.name, *setting(candidate),
         number(turn.number + 1), number(turn.seeds), share(turn.before), share(turn.after), share(turn.degenerate),
         turn.costly, "chosen" if candidate.name == report.pilot.chosen and turn is candidate.rounds[-1]
         else "continued" if turn.kept else "dropped")
        for candidate in report.pilot.candidates
        for turn in candidate.rounds
    ) if report.pilot else ()  # fmt: skip
    caption = (
        "Shares of harmful answers before and after fine-tuning, for every candidate and round of the pilot. The pilot "
        "uses its own probes and seeds. A candidate is costly if it is more harmful before fine-tuning, or gives more "
        "degenerate answers, than a gate allows."
    )
    which = "kind|which" if banked else "weight|score|vectors"
    return caption, f"candidate|{which}|round|seeds|before|after|degenerate|costly|result", rows


def _categories(report: Report, figures: Figures) -> Made:
    near = {row.category: row for row in figures.coverage}
    unknown = Coverage(None, 0, None, None)
    arms = list(report.categories[0].arms) if report.categories else []
    control = report.regime.control
    rows = (
        ("no category" if row.category is None else row.category, number(row.pool),
         *(number(row.arms[arm]) for arm in arms),
         number(near.get(row.category, unknown).curated), number(near.get(row.category, unknown).control))
        for row in report.categories
    )  # fmt: skip
    columns = ["category", "pool", *arms, "coverage by curated", f"coverage by {control}"]
    caption = (
        "Rows by category, as means over draws. Coverage is the mean, over the candidates of the category, of the "
        "cosine to the nearest row of the set."
    )
    return caption, columns, rows


def _gains(report: Report, figures: Figures) -> Made:
    curve = zip(figures.gains.ranks, figures.gains.values, strict=True) if figures.gains else ()
    rows = ((number(rank), number(value, 5)) for rank, value in curve)
    return "The value of the objective by the number of rows chosen.", "rows|value", rows


def _predicts(report: Report, _: Figures) -> Made:
    rows = (
        (prediction.score, prediction.task, prediction.loss, number(prediction.rho, 2), number(prediction.low, 2),
         number(prediction.high, 2), number(prediction.rows), number(prediction.seeds))
        for prediction in report.score_predicts
    )  # fmt: skip
    caption = (
        "Spearman's rho between a score that is known before any training and how much fine-tuning raises the loss of "
        "a safe answer. Above zero, rows that score higher are forgotten more."
    )
    return caption, "score|task|loss|rho|low|high|rows|seeds", rows


def _forgetting(report: Report, _: Figures) -> Made:
    rows = (
        (rise.task, rise.loss, number(rise.rows), number(rise.seeds), number(rise.before),
         number(rise.mean), number(rise.sd), number(rise.agreement, 2))
        for rise in report.forgetting
    )  # fmt: skip
    caption = "How much fine-tuning raises the loss of safe answers that no set holds, in nats per token."
    return caption, "task|loss|rows|seeds|before|mean rise|SD over rows|agreement of two seeds", rows


def _judges(report: Report, _: Figures) -> Made:
    opinions = {opinion.judge: opinion for opinion in report.judges.second_opinions}

    def opinion(name: str) -> str:
        if report.judges.rule == "headline" and name == report.judges.headline:
            return f"{report.decision.outcome} (decides)"
        return str(opinions[name].outcome) if name in opinions else ""

    rows = (
        (judge.name, judge.told, judge.revision or "",
         *(number(getattr(judge.outcomes, name)) for name in ("harmful", "safe", "degenerate", "unscored")),
         opinion(judge.name))
        for judge in report.judges.panel
    )  # fmt: skip
    caption = "Answers to harmful probes, all arms together, and the decision by each judge alone."
    return caption, "judge|kind|revision|harmful|safe|degenerate|unscored|its decision", rows


def _agreement(report: Report, _: Figures) -> Made:
    rows = (
        (pair.first, pair.second, number(pair.answers), share(pair.share), number(pair.kappa, 2),
         *(number(getattr(pair, name)) for name in ("both", "only_first", "only_second", "neither")))
        for pair in report.judges.agreement
    )  # fmt: skip
    columns = "first|second|answers|agree|Cohen's kappa|harmful to both|only to the first|only to the second|to neither"
    return "Agreement of the judges on which answers are harmful.", columns, rows


def _sources(report: Report, _: Figures) -> Made:
    rows = (
        (source.source, ", ".join(licence or "unknown" for licence in source.licences), number(source.read),
         number(source.kept), number(source.dropped))
        for source in report.pool.sources
    )  # fmt: skip
    return "Sources of the candidates.", "source|licences|read|kept|dropped", rows


def _dropped(report: Report, _: Figures) -> Made:
    rows = ((dropped.stage, dropped.reason, number(dropped.rows)) for dropped in report.pool.reasons)
    return "Candidates that were left out, by reason.", "step|reason|rows", rows


def _training(report: Report, _: Figures) -> Made:
    rows = (
        (training.arm, "alignment" if training.task is None else f"fine-tuning on {training.task}", training.method,
         number(training.seeds), number(training.rows), number(training.tokens, 4), number(training.steps),
         number(training.first_loss), number(training.last_loss))
        for training in report.training
    )  # fmt: skip
    caption = "Training of each arm, as means over seeds."
    return caption, "arm|step|method|seeds|rows|tokens|steps|first loss|last loss", rows


def _tasks(report: Report, _: Figures) -> Made:
    rows = (
        (task.name, task.anticipated, number(task.weight), number(task.train),
         number(task.attack), number(task.defence), number(task.test), task.metric)
        for task in report.tasks
    )  # fmt: skip
    return (
        "The tasks that the models were fine-tuned on.",
        "task|anticipated|weight|training rows|attack rows|defence rows|test rows|metric",
        rows,
    )


def _settings(report: Report, _: Figures) -> Made:
    rows = (
        (setting.name, setting.task, number(setting.weight), number(setting.learning_rate), setting.method,
         number(setting.rows), number(setting.steps))
        for setting in report.design.settings or ()
    )  # fmt: skip
    caption = "The settings of fine-tuning. Equal settings of a task share its weight in the mean."
    return caption, "setting|task|weight|learning rate|method|rows|steps", rows


def _time(report: Report, _: Figures) -> Made:
    stages = report.timing.stages
    total = sum(value for value in stages.values() if value is not None) or 1.0
    rows = (
        (name, cell(duration, seconds), share(None if seconds is None else seconds / total))
        for name, seconds in stages.items()
    )
    return "Time by stage.", "stage|time|share", rows


def _where(report: Report, _: Figures) -> Made:
    nodes = report.timing.engine.nodes if report.timing.engine else ()
    rows = (
        (node.engine, node.host, (node.node or "")[:8], ", ".join(node.gpus), number(node.processes),
         number(node.pieces), cell(duration, node.seconds))
        for node in nodes
    )  # fmt: skip
    return "Machines that trained and evaluated the models.", "engine|host|node|GPUs|processes|pieces|time", rows


_TABLES: dict[str, Callable[[Report, Figures], Made]] = {
    "rates": _rates,
    "gates": _gates,
    "worst": _worst,
    "comparisons": _comparisons,
    "by seed": _by_seed,
    "seeds": _seeds,
    "looks": _looks,
    "probes": _probes,
    "areas": _areas,
    "curves": _curves,
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
    "settings": _settings,
    "time": _time,
    "where": _where,
}
