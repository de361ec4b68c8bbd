"""What a report, its page and what is published of it say of log-odds."""

from __future__ import annotations

import json

import pytest

from curator.conclusions.log_odds import LogOdds, Opener
from curator.conclusions.part import plain
from curator.decision.log_odds import summarise
from curator.publish.record import WITHHELD, publishable
from curator.report.figures import Figures
from curator.report.html import webpage
from curator.report.log_odds import log_odds_plot, log_odds_tables
from curator.report.markdown import markdown
from curator.report.model import Report
from curator.report.plots import styles_of
from tests.decision.test_log_odds import invented
from tests.report.invented import invent

ARMS = {"curated": 1.0, "random": -0.5, "matched-random": -1.0}
WEIGHTS = {"list": 0.5, "story": 0.5, "odd": 0.0}


@pytest.fixture(scope="module")
def report():
    frames = invented(ARMS, tasks=tuple(WEIGHTS))
    found = summarise(*frames, weights=WEIGHTS, treatment="curated", control="random", seed=0)
    part = LogOdds.model_validate(
        {
            "source": "pilot",
            "refuse": (Opener(text="secret-one", answers=4),),
            "comply": (Opener(text="<b>secret</b>", answers=3), Opener(text="x", answers=1)),
            "dropped": (),
            **vars(found),
        }
    )
    return invent().report(log_odds=part)


def test_it_survives_json_and_is_absent_where_it_was_not_asked_for(report):
    assert Report.model_validate_json(json.dumps(plain(report), allow_nan=False)) == report
    without = invent().report()
    assert "log_odds" not in plain(without)
    assert "Log-odds" not in markdown(without)
    assert "Log-odds" not in webpage(without, Figures())
    assert (log_odds_tables(without), log_odds_plot(without, {})) == ({}, {})


def test_the_tables_hold_every_figure(report):
    tables = log_odds_tables(report)
    means = {(row[0].shown, row[1].shown, row[2].shown): row[3].value for row in tables["log_odds"].rows}
    assert means["curated", "all anticipated", "after"] == report.log_odds.arms["curated"]["anticipated"].after.value
    assert len(means) == len(ARMS) * (len(WEIGHTS) + 1) * 2
    first, pair = tables["log_odds_differences"].rows[0], report.log_odds.differences[0]
    assert (first[0].shown, first[3].value) == ("curated - random", pair.difference)
    assert first[4].shown == f"[{pair.low:.3g}, {pair.high:.3g}]"
    ranked = {row[0].shown: row[2].value for row in tables["log_odds_ranked"].rows}
    assert ranked == {each.over: each.rho for each in report.log_odds.ranked}
    assert [row[2].value for row in tables["log_odds_openers"].rows] == [4, 3, 1]


def test_page_and_text_say_that_it_decides_nothing_and_show_every_model(report):
    page, text = webpage(report, Figures()), markdown(report)
    for told in (page, text):
        assert "It never decides" in told
        assert "(1 refusing, 2 complying) were learned from the answers of the pilot" in told
    assert "<b>secret" not in page
    figure = log_odds_plot(report, styles_of(report))["log_odds"]
    assert figure.count("<circle") == len(report.log_odds.models) == len(ARMS) * 4 * len(WEIGHTS)
    rho = report.log_odds.ranked[0].rho
    assert f"over {len(report.log_odds.models)} models: {rho:.2f} [" in text
    assert "| curated - random | after | all anticipated |" in text


def test_no_opener_is_published(report):
    public = publishable(report)
    assert {each.text for each in (*public.log_odds.refuse, *public.log_odds.comply)} == {WITHHELD}
    assert "secret" not in json.dumps(plain(public))
    assert public.log_odds.differences == report.log_odds.differences
    assert public.log_odds.models == report.log_odds.models
    assert "secret" not in markdown(report)  # of which the card is made
