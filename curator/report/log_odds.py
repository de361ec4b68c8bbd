"""Log-odds in a report: where they come from, their tables, and the figure of both outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from curator import wording
from curator.conclusions.log_odds import LogOdds, Opener
from curator.decision.log_odds import summarise
from curator.recipe.sweep import mix_of
from curator.report import drawing
from curator.report.cells import Cell, Interval, Row, Table, label, number, share, table
from curator.report.model import Report

if TYPE_CHECKING:
    import polars as pl
    from markupsafe import Markup

    from curator.run import Run


def log_odds_of(run: Run, verdicts: pl.DataFrame, *, treatment: str) -> LogOdds | None:
    """The report's part; null if the recipe does not ask for log-odds.

    Args:
        verdicts: Those that decide, in the columns of VERDICT_SCHEMA.
    """
    section, recipe = run.recipe.verify.log_odds, run.recipe
    if section is None:
        return None
    measured, openers = run.log_odds(), run.record("answer")["openers"]
    summary = summarise(
        measured,
        verdicts,
        weights=mix_of(recipe),
        treatment=treatment,
        control=recipe.verify.control,
        seed=recipe.seed,
    )
    return LogOdds.model_validate(
        {
            "source": section.kind,
            **{
                name: tuple(Opener(text=each["text"], answers=each["answers"]) for each in openers[name])
                for name in ("refuse", "comply")
            },
            "dropped": openers["dropped"],
            **vars(summary),
        }
    )


def log_odds_tables(report: Report) -> dict[str, Table]:
    """Name -> table; empty if log-odds were not measured."""
    measured = report.log_odds
    if measured is None:
        return {}

    def means() -> Iterator[Row]:
        for arm, tasks in measured.arms.items():
            for task, phases in tasks.items():
                for phase, mean in (("before", phases.before), ("after", phases.after)):
                    if mean.value is not None:
                        limits = number(mean.low), number(mean.high), number(mean.cells)
                        yield (arm, label(task), phase, number(mean.value), *limits)

    differences = (
        (f"{pair.treatment} - {pair.control}", pair.phase, label(pair.task), number(pair.difference), _limits(pair),
         number(pair.sd_seed), number(pair.sd_prompt), number(pair.sd_residual), number(pair.seeds),
         number(pair.prompts))
        for pair in measured.differences
    )  # fmt: skip
    ranked = ((each.over, number(each.units), number(each.rho, 2), _limits(each)) for each in measured.ranked)
    openers = (
        (kind, opener.text, "" if opener.answers is None else number(opener.answers))
        for kind, openers in (("refusing", measured.refuse), ("complying", measured.comply))
        for opener in openers
    )
    covered = ((phase, share(value)) for phase, value in measured.covered.items())
    columns = "comparison|phase|task|difference|95% interval|SD seeds|SD prompts|SD residual|seeds|prompts"
    made = (
        table("log_odds", "Mean log-odds of refusing, in nats, with 95% intervals.",
              "arm|task|phase|log-odds|low|high|model-probe pairs", means()),
        table("log_odds_differences", "Differences in log-odds, in nats, with unadjusted 95% intervals.", columns,
              differences),
        table("log_odds_ranked", "Spearman's rho between mean log-odds and the judged share of harmful answers.",
              "over|ranked|rho|95% interval", ranked),
        table("log_odds_openers", "The openers, and how many answers of the pilot begin with each.",
              "kind|opener|answers of the pilot", openers),
        table("log_odds_covered", "Probability that an answer begins with one of the openers.", "phase|probability",
              covered),
    )  # fmt: skip
    return {each.name: each for each in made if each.rows}


def log_odds_plot(report: Report, styles: dict[str, str]) -> dict[str, Markup]:
    """Every model after fine-tuning: its mean log-odds, and the share of its answers that were judged harmful."""
    measured = report.log_odds
    if measured is None or not measured.models:
        return {}
    sets: dict[str, tuple[list[tuple[float, drawing.Mark]], str]] = {}
    for model in measured.models:
        points, _ = sets.setdefault(model.arm, ([], styles.get(model.arm, "plain")))
        points.append((model.log_odds, drawing.Mark(model.harmfulness, None, None, "", hollow=True)))
    values = [model.log_odds for model in measured.models]
    low, high = min(values), max(values)
    room = max(0.5, 0.2 * (high - low))  # beside the labels of the vertical axis, on a narrow screen too
    figure = drawing.cloud(
        sets, drawing.between(low - room, high + 0.5), drawing.shares(),
        label="Mean log-odds of refusing and judged share of harmful answers, one mark a model",
        axes=("share of harmful answers", "\u2190 complying likelier", "refusing likelier, in nats \u2192"),
    )  # fmt: skip
    return {"log_odds": figure}


def _limits(of: Interval) -> Cell:
    """Not in points, as those of shares."""
    known = of.low is not None
    return Cell(f"[{wording.number(of.low)}, {wording.number(of.high)}]" if known else wording.UNKNOWN, whole=True)
