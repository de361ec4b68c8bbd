"""How deep refusal goes, and how much answers to one probe vary: tables and a figure of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from curator import wording
from curator.report import drawing
from curator.report.cells import Cell, Made, Row, interval, number, points, share
from curator.report.figures import Figures
from curator.report.model import Report

if TYPE_CHECKING:
    from markupsafe import Markup

    from curator.conclusions import Rate
    from curator.conclusions.part import Phase

PHASES: tuple[Phase, ...] = ("before", "after")


def _depth(report: Report, _: Figures) -> Made:
    def rows() -> Iterator[Row]:
        for rates in report.depth.rates if report.depth else ():
            parts = rates.harmful, rates.refused, rates.degenerate
            yield (
                rates.arm, rates.phase, number(rates.prefill),
                *(cell for part in parts for cell in (share(part.value), _reach(part))),
                number(rates.harmful.scored), number(rates.harmful.unscored),
            )  # fmt: skip

    caption = (
        "Shares of scored answers to harmful probes with their 95% intervals, by the number of tokens of the compliant "
        "opening that an answer begins with; 0 is the usual answer. Degenerate answers are not harmful."
    )
    columns = "arm|phase|tokens of the opening|harmful|interval|refused|interval|degenerate|interval|scored|unscored"
    return caption, columns, rows()


def _differences(report: Report, _: Figures) -> Made:
    rows = (
        (f"{pair.comparison.treatment} - {pair.comparison.control}", pair.comparison.phase, number(pair.prefill),
         points(pair.comparison.difference), interval(pair.comparison), number(pair.comparison.seeds),
         number(pair.comparison.prompts))
        for pair in (report.depth.differences if report.depth else ())
    )  # fmt: skip
    caption = (
        "Differences in harmfulness, in points. These comparisons are secondary: they never decide, they are not part "
        "of the Holm family, and their 95% intervals are not adjusted."
    )
    return caption, "comparison|phase|tokens of the opening|difference|interval|seeds|prompts", rows


def _flips(report: Report, _: Figures) -> Made:
    rows = (
        (flips.arm, flips.phase, share(flips.share.value), _reach(flips.share), number(flips.share.scored),
         number(flips.share.unscored))
        for flips in report.flips or ()
    )  # fmt: skip
    caption = (
        "Share of the harmful probes with two or more scored answers to which some answers of a model are harmful and "
        "some are not."
    )
    return caption, "arm|phase|probes that flip|interval|probes, all seeds|with fewer scored answers", rows


TABLES: dict[str, Callable[[Report, Figures], Made]] = {
    "depth": _depth,
    "depth-differences": _differences,
    "flips": _flips,
}


def figure(report: Report) -> Markup | None:
    """Harmfulness of treatment and control by the length of the opening, before and after fine-tuning."""
    if report.depth is None:
        return None
    primary, lanes = report.decision.primary, []
    for phase in PHASES:
        lanes.append(drawing.Lane(f"{phase} fine-tuning", [], ""))
        for tokens in report.depth.tokens:
            treated, control = (
                report.depth.of(arm, phase, tokens).harmful for arm in (primary.treatment, primary.control)
            )
            marks = [
                drawing.Mark(rate.value, rate.low, rate.high, style, hollow=style == "a1")
                for rate, style in ((control, "a1"), (treated, "a0"))
                if rate.value is not None
            ]
            words = f"{_percent(treated)} against {_percent(control)}"
            lanes.append(drawing.Lane(wording.these(tokens, "token", "tokens"), marks, words))
    label = (
        f"Share of harmful answers of {primary.treatment} (dot) and {primary.control} (ring) by the number of tokens "
        "of the opening that answers begin with, with 95% intervals"
    )
    return drawing.dots(lanes, drawing.shares(), label=label, axis=["share of harmful answers"])


def _reach(rate: Rate) -> Cell:
    """The limits of a share's interval."""
    if rate.low is None:
        return Cell(wording.percent(None), whole=True)
    return Cell(f"{wording.percent(rate.low)} to {wording.percent(rate.high)}", whole=True)


def _percent(rate: Rate) -> str:
    return wording.percent(rate.value)
