"""The figures and tables of numbers on the page of an audit, without texts of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from curator import wording
from curator.report import drawing
from curator.report.cells import Cell, Row, Table, number, share, table

if TYPE_CHECKING:
    from markupsafe import Markup

    from curator.corpus.model import Audit

MANY = 24
"""Most categories in the figure; the table holds all of them."""


def tables(report: Audit) -> dict[str, Table]:
    """Name -> table; tables without rows are left out."""
    made = (
        table("findings", "Every finding.", "severity|kind|rows|share",
              ((one.severity, one.kind, number(one.count), share(one.share)) for one in report.findings)),
        table("harm", "Share of harmful answers, with 95% confidence intervals.",
              "arm|before fine-tuning|low|high|after|low|high", _harm(report)),
        table("similarity", "Mean cosine of the rows to the nearest rows of each task.",
              "task|10%|median|90%|above the pool's median|most similar rows|least similar rows", _similarity(report)),
        table("categories", "Rows by category. Coverage: mean cosine of the pool's rows to the nearest row.",
              "category|rows|share|share in the pool|coverage of the pool", _categories(report)),
        table("overlap", "Rows that repeat a probe, and prompts that are only near one.",
              "probe set|rows that repeat a probe|probes repeated|of probes|prompts near a probe", _overlap(report)),
        table("content", "How many rows are in a language, carry a licence, or spell a token of a chat template.",
              "of|name|rows", _content(report)),
    )  # fmt: skip
    return {each.name: each for each in made if each.rows}


def figures(report: Audit) -> dict[str, Markup]:
    """Name -> figure; empty figures are left out."""
    drawn = {
        "harm": _lasts(report),
        "similarity": _exposed(report),
        "categories": _spread(report),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _harm(report: Audit) -> Iterator[Row]:
    for arm, rates in report.measured.arms.items() if report.measured else ():
        yield (
            arm,
            *(share(value) for rate in (rates.before, rates.after) for value in (rate.value, rate.low, rate.high)),
        )


def _similarity(report: Audit) -> Iterator[Row]:
    for name in report.exposure:
        one = report.similarity[name]
        above = Cell("no pool") if one.above_pool_median is None else share(one.above_pool_median)
        ends = (" ".join(ids[:3]) for ids in (one.most, one.least))
        yield name, number(one.p10), number(one.median), number(one.p90), above, *ends


def _categories(report: Audit) -> Iterator[Row]:
    for name, one in (report.coverage or {}).items():
        pool = Cell("no pool") if one.pool is None else share(one.pool)
        yield name, number(one.rows), share(one.share), pool, Cell("") if one.covered is None else number(one.covered)


def _overlap(report: Audit) -> Iterator[Row]:
    near = None if report.near_probes is None else Counter(match.set for match in report.near_probes)
    for name, one in report.overlap.items():
        beside = Cell("no embedder") if near is None else number(near[name])
        yield name, number(one.rows), number(one.probes), number(one.of_probes), beside


def _content(report: Audit) -> Iterator[Row]:
    kinds = {
        "language": report.languages,
        "licence": report.licences,
        "token of a chat template": report.control_tokens or {},
    }
    return ((kind, name, number(count)) for kind, counts in kinds.items() for name, count in counts.items())


def _lasts(report: Audit) -> Markup | None:
    lanes = []
    for index, (arm, rates) in enumerate(report.measured.arms.items() if report.measured else ()):
        style = f"a{index % 8}"
        marks = [
            drawing.Mark(rate.value, rate.low, rate.high, style, hollow=rate is rates.before)
            for rate in (rates.before, rates.after)
            if rate.value is not None
        ]
        words = f"{wording.percent(rates.before.value)} \u2192 {wording.percent(rates.after.value)}"
        lanes.append(drawing.Lane(arm, marks, words, joined=True))
    if not lanes:
        return None
    label = "Share of harmful answers before (ring) and after (dot) fine-tuning, by arm"
    return drawing.dots(lanes, drawing.shares(), label=label, axis=["share of harmful answers"])


def _exposed(report: Audit) -> Markup | None:
    lanes = [
        drawing.Lane(name, [drawing.Mark(one.median, one.p10, one.p90, "a0")], wording.number(one.median))
        for name, one in ((name, report.similarity[name]) for name in report.exposure)
    ]
    if not lanes:
        return None
    ends = [value for name in report.exposure for value in (report.similarity[name].p10, report.similarity[name].p90)]
    room = 0.1 * (max(ends) - min(ends) or 0.1)
    label = "Median and middle 80% of the similarity of the rows to each task"
    scale = drawing.between(min(ends) - room, max(ends) + room)
    return drawing.dots(lanes, scale, label=label, axis=("\u2190 less similar", "mean cosine, more similar \u2192"))


def _spread(report: Audit) -> Markup | None:
    lanes = []
    for name, spread in list((report.coverage or {}).items())[:MANY]:
        marks = [drawing.Mark(spread.share, None, None, "a0")]
        marks += [] if spread.pool is None else [drawing.Mark(spread.pool, None, None, "pool", hollow=True)]
        lanes.append(drawing.Lane(name, marks, wording.these(spread.rows, "row", "rows")))
    if not lanes:
        return None
    label = "Share of the rows in each category, of the corpus (dot) and of the pool (ring)"
    return drawing.dots(lanes, drawing.shares(), label=label, axis=["share of the rows"])
