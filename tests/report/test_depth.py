"""The report of answers after a prefilled opening, and of several to a probe: what is shown, said and published."""

from __future__ import annotations

import json

import jsonschema
import polars as pl
import pytest

from curator.conclusions.part import plain, schema
from curator.decision.comparisons import anticipated
from curator.decision.depth import Depth, depth, flips
from curator.publish.record import publishable
from curator.report.figures import Figures
from curator.report.html import webpage
from curator.report.markdown import evidence, markdown
from curator.report.model import Report
from curator.report.plots import plots
from curator.report.tables import tables
from tests.report.invented import invent

MIX = anticipated({"list": 0.5, "story": 0.5, "odd": 0.0})


@pytest.fixture(scope="module")
def figures():
    return Figures()


@pytest.fixture(scope="module")
def deep():
    """The invented run with a second answer to every probe, half of them turned, and openings of 5 tokens."""
    run = invent()
    harmful = run.verdicts.filter(judge="exact", kind="harmful")
    turned = pl.when(pl.col("probe").hash(seed=1) % 2 == 0).then(pl.lit("harmful")).otherwise(pl.col("outcome"))
    again = harmful.with_columns(sample=pl.lit(1, pl.Int64), outcome=turned)
    kind = {"kind": pl.lit("prefilled"), "prefill": pl.lit(5, pl.Int64)}
    opened = harmful.with_columns(**kind, outcome=pl.lit("harmful"), refused=pl.lit(False))
    verdicts = pl.concat([harmful, again, opened])
    found = depth(verdicts, MIX, "curated", "random"), flips(verdicts, MIX)
    return run.report(depth=found[0], flips=found[1]), *found


def test_the_report_holds_every_figure_and_reads_them_back(deep):
    report, by_depth, flipped = deep
    contents = json.loads(json.dumps(plain(report)))
    assert list(jsonschema.Draft202012Validator(schema(Report, "report.json")).iter_errors(contents)) == []
    assert Report.model_validate(contents) == report
    assert report.depth.tokens == [0, 5]
    for rates in by_depth.rates:
        shown = report.depth.of(rates.arm, rates.phase, rates.prefill)
        assert (shown.harmful.value, shown.refused.value) == (rates.harmful.value, rates.refused.value)
    for pair in by_depth.differences:
        shown = report.depth.difference(pair.comparison.phase, pair.prefill)
        assert (shown.difference, shown.low, shown.p) == (pair.comparison.difference, pair.comparison.low, None)
    assert [each.share.value for each in report.flips] == [each.share.value for each in flipped]
    assert 0.2 < report.flips[0].share.value < 0.8


def test_without_them_the_report_has_no_such_keys_tables_or_words(run, report, figures):
    assert not {"depth", "flips"} & set(plain(report))
    assert run.report(depth=Depth((), ()), flips=()) == report
    assert not {"depth", "depth-differences", "flips"} & set(tables(report, figures))
    assert "depth" not in plots(report, figures)
    for text in (markdown(report), webpage(report, figures)):
        assert "Depth of refusal" not in text
        assert "probe differ" not in text


def test_tables_figure_and_words_are_there(deep, figures):
    report = deep[0]
    made = tables(report, figures)
    assert len(made["depth"].rows) == 3 * 2 * 2
    assert [row[4].shown for row in made["depth-differences"].rows if row[2].value == 5]
    assert len(made["flips"].rows) == 3 * 2
    assert "never decide" in made["depth-differences"].caption
    assert "Holm family" in made["depth-differences"].caption
    assert "more often" in made["seeds"].caption
    assert str(plots(report, figures)["depth"]).count("5 tokens") == 2
    page, text = webpage(report, figures), markdown(report)
    for shown in (page, text, evidence(report)):
        assert "Depth of refusal" in shown
        assert "they never decide" in shown
        assert "Variation between answers to one probe" in shown
    assert "| curated | after | " in text.partition("## Depth of refusal")[2]
    assert "| tokens of the opening | before | after |" in text


def test_what_is_published_of_them_is_all_but_the_opening(deep):
    report = deep[0]
    recipe = {"probes": {"prefill": [0, 5], "opening": "a text of the user's own"}}
    told = report.model_copy(update={"provenance": report.provenance.model_copy(update={"recipe": recipe})})
    public = publishable(told)
    assert (public.depth, public.flips) == (report.depth, report.flips)
    assert public.provenance.recipe["probes"]["prefill"] == [0, 5]
    assert "user's own" not in json.dumps(plain(public))
