"""report.html: one self-contained page for a reader who has a minute. It loads nothing from the network.

Foreign content is shown as text: autoescape is on, marks that change the direction of writing are shown as U+FFFD, and
a content policy lets no script run but the one of the page, which is known by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from curator import wording
from curator.conclusions.part import MIX
from curator.records import ANSWER_COLUMNS, PHASES, Pool, Scores, Selection
from curator.report import seeds
from curator.report.bank import bank_tables
from curator.report.cells import label
from curator.report.figures import Figures
from curator.report.log_odds import log_odds_tables
from curator.report.model import Report
from curator.report.plots import plots, styles_of
from curator.report.tables import tables

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup


LONGEST_TEXT = 2000
"""Characters of a prompt or an answer that are shown."""
SAMPLES, PROBES = 6, 6
"""Rows of the curated set and harmful probes that the page shows in full."""


REASONS = {
    "interval": "the interval contains zero",
    "undecided gate": "a gate is undecided",
    "floor": "the control is almost never harmful",
    "ceiling": "the control is almost always harmful",
    "unscored": "answers could not be scored",
    "one seed decides": "a single seed decides",
    "utility": "no setting keeps its utility",
}
"""Why nothing is decided, for readers who do not know the rule."""


@dataclass(frozen=True)
class Sample:
    """A row of the curated set: `rank` from 0, and its conversation as (role, content)."""

    rank: int
    id: str
    category: str | None
    source: str
    similarity: float
    gain: float
    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Example:
    """A harmful probe and how models answered it: (arm, phase, answer, outcome) of one seed and task."""

    probe: str
    category: str | None
    task: str
    seed: int
    turns: tuple[tuple[str, str], ...]
    answers: tuple[tuple[str, str, str, str], ...]


def webpage(
    report: Report,
    figures: Figures,
    *,
    chosen: Sequence[Sample] = (),
    answers: Sequence[Example] = (),
) -> str:
    """The whole page.

    Args:
        figures: A figure whose values are missing is left out.
        chosen: Rows of the curated set, and `answers`: probes with the models' answers. Both are shown only when the
            reader opens them.

    Raises:
        jinja2.TemplateError: The template names a value that it was not given, which is a bug in curator.
    """
    styles = styles_of(report)
    return fill(
        "report.html.j2",
        r=report,
        primary=report.decision.primary,
        styles=styles,
        tables={**tables(report, figures), **log_odds_tables(report), **bank_tables(report.bank)},
        drawn=plots(report, figures),
        seeds=seeds.words(report),
        chosen=chosen,
        answers=answers,
        mix=MIX,
        label=label,
        run_name=report.name,
        reason=REASONS.get(report.decision.reason or "", report.decision.reason),
        tone={"durable": "good", "worse": "bad", "trade-off": "mixed"}.get(report.decision.outcome, "open"),
        recipe=_indented(json.dumps(report.provenance.recipe, indent=1, ensure_ascii=True)),
    )


def _indented(text: str) -> Markup:
    """Every line of JSON, whose strings are foreign, with its indentation."""
    from markupsafe import escape

    lines = text.splitlines()
    return escape("\n".join(" " * (len(line) - len(line.lstrip())) + wording.visible(line) for line in lines))


def fill(template: str, **values: object) -> str:
    """A page: the template with these values, the style sheets, the script, and the policy that lets the script run.

    Raises:
        jinja2.TemplateError: The template names a value that it was not given, which is a bug in curator.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("curator", "report"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = (
        "percent",
        "points",
        "reach",
        "probability",
        "at_least",
        "confidence",
        "number",
        "duration",
        "gibibytes",
        "rate",
    )
    environment.filters.update({name: getattr(wording, name) for name in names}, prose=prose, coded=coded)
    environment.globals.update({name: getattr(wording, name) for name in ("these", "record_of")})
    script = _asset(environment, "report.js")
    # Of the script as it stands on the page: a browser refuses it where one byte differs.
    policy = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shell = {
        "figure_style": _asset(environment, "figure.css"),
        "style": _asset(environment, "report.css"),
        "script": script,
        "policy": policy,
    }
    return environment.get_template(template).render(**values, **shell)


def _asset(environment: jinja2.Environment, name: str) -> Markup:
    """A file of this package that goes into the page as it is."""
    from markupsafe import Markup

    assert environment.loader is not None
    text, _, _ = environment.loader.get_source(environment, name)
    return Markup(text.strip())


def _shown(value: object) -> str:
    from markupsafe import Markup

    if isinstance(value, Markup):
        return value
    if isinstance(value, float) or value is None:
        return wording.number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return wording.visible(str(value))


def coded(text: str) -> Markup:
    """Text with what stands between backticks as code."""
    from markupsafe import Markup, escape

    parts = [escape(part) for part in wording.visible(text).split("`")]
    if len(parts) % 2 == 0:  # a backtick is left over
        return escape(wording.visible(text))
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def prose(text: str) -> Markup:
    """Text that keeps its lines, its control and direction marks shown as U+FFFD, cut at LONGEST_TEXT characters."""
    from markupsafe import escape

    cut = text[:LONGEST_TEXT]
    lines = "\n".join(wording.visible(line) for line in cut.splitlines())
    return escape(lines + ("\u2026" if len(text) > len(cut) else ""))


def samples(pool: Pool, scores: Scores, selection: Selection) -> list[Sample]:
    """The SAMPLES rows picked first."""
    rows = {row_id["id"]: row_id for row_id in pool.rows.filter(pl.col("id").is_in(selection.ids[:SAMPLES])).to_dicts()}
    similarity = dict(zip(scores.ids, scores.combined.tolist(), strict=True))
    return [
        Sample(
            rank=rank,
            id=row,
            category=rows[row]["category"],
            source=rows[row]["source"],
            similarity=similarity[row],
            gain=float(gain),
            turns=_turns(rows[row]["messages"]),
        )
        for rank, (row, gain) in enumerate(zip(selection.ids[:SAMPLES], selection.gains, strict=False))
    ]


def examples(
    answers: pl.DataFrame, verdicts: pl.DataFrame, probes: pl.DataFrame, *, treatment: str, control: str, task: str
) -> list[Example]:
    """PROBES harmful probes at the first seed on one task. Those on which the outcomes of the two arms after
    fine-tuning differ come first; then all, by id.

    Args:
        answers: Columns of ANSWER_SCHEMA.
        verdicts: Of one judge, in the columns of VERDICT_SCHEMA.
        probes: The harmful ones, in the columns of ROW_SCHEMA.
    """
    arms = pl.col("arm").is_in([treatment, control])
    there = pl.col("task").is_null() | (pl.col("task") == task)
    usual = pl.col("phase").is_in(PHASES) & (pl.col("sample") == 0)
    harmful = answers.filter(arms, there, pl.col("kind") == "harmful", usual)
    if not harmful.height:
        return []
    judged = harmful.filter(pl.col("seed") == harmful["seed"].min()).join(
        verdicts.select(*ANSWER_COLUMNS, "outcome"), on=ANSWER_COLUMNS, how="inner", nulls_equal=True
    )
    after = judged.filter(phase="after").group_by("probe").agg(pl.col("outcome").n_unique().alias("outcomes"))
    order = after.sort("outcomes", "probe", descending=[True, False])["probe"].to_list()[:PROBES]
    texts = {row["id"]: row for row in probes.filter(pl.col("id").is_in(order)).to_dicts()}
    probes_shown = []
    for probe in order:
        cells = judged.filter(probe=probe).sort(pl.col("arm") != treatment, pl.col("phase") == "after").to_dicts()
        row = texts.get(probe)
        probes_shown.append(
            Example(
                probe=probe,
                category=row["category"] if row else None,
                task=task,
                seed=cells[0]["seed"],
                turns=_turns(row["messages"]) if row else (),
                answers=tuple((cell["arm"], cell["phase"], cell["answer"], cell["outcome"]) for cell in cells),
            )
        )
    return probes_shown


def _turns(messages: Sequence[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((turn["role"], turn["content"]) for turn in messages)
