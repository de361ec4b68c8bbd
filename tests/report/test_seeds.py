"""The decision seed by seed, on the page, in Markdown and in what is published."""

import html

import pytest

from curator.conclusions.part import plain
from curator.decision.beside import OPEN
from curator.publish.record import publishable
from curator.report.figures import Figures
from curator.report.html import webpage
from curator.report.markdown import markdown
from curator.report.plots import plots
from curator.report.seeds import words
from curator.wording import percent
from tests.report.invented import changed, invent


@pytest.fixture(scope="module")
def report():
    return invent(seeds=6).report()


def decided_by(report, seed):
    """The same report where one seed makes the comparison, and the arms vary unequally."""
    decision = plain(report.decision)
    beside = decision["beside"]
    beside["seeds"][seed]["without"] = OPEN
    beside |= {"deciding": [seed], "uneven": True, "spread_p": 0.01, "sd_treatment": 0.24, "sd_control": 0.01}
    return changed(report, decision={**decision, "outcome": OPEN, "reason": "one seed decides", "beside": beside})


def test_every_seed_has_its_dot_and_its_row(report):
    drawn = str(plots(report, Figures())["seeds"])
    beside = report.decision.beside
    assert len(beside.seeds) == 6
    assert drawn.count('class="dot a0"') == drawn.count('class="ring a1"') == 6
    lines = markdown(report).splitlines()
    for each in beside.seeds:
        assert f"{percent(each.treatment)} against {percent(each.control)}" in drawn
        assert f"| {each.seed} | {percent(each.treatment)} | {percent(each.control)} | {each.without} |" in lines


def test_what_stands_beside_the_decision_is_said_on_page_and_in_markdown(report):
    page, text = webpage(report, Figures()), markdown(report)
    assert "up to 39% of all trainings could" in words(report)[0]
    assert words(report)[1] == "Without any one of the seeds, the comparison says the same (less harmful)."
    for sentence in words(report):
        assert sentence in html.unescape(page)
        assert f"- {sentence}" in text


def test_a_seed_that_decides_and_unequal_spreads_are_named(report):
    said = words(decided_by(report, 2))
    assert "With all seeds it says 'less harmful', but 'not distinguishable' without seed 2." in said[1]
    assert "24.0 points for 'curated' and 1.0 points for 'random' (equal spreads: p 0.010)" in said[2]
    assert said[2].endswith("They differ by more than chance, so the interval allows for skewness.")
    assert "With all seeds, the comparison says 'less harmful'. Without one of" in markdown(decided_by(report, 2))


def test_all_of_it_is_published(report):
    assert publishable(report).decision.beside == report.decision.beside


def test_an_earlier_report_has_none_of_it(report):
    decision = {name: value for name, value in plain(report.decision).items() if name != "beside"}
    contents = {**plain(report), "decision": decision}
    earlier = type(report).model_validate(contents)
    assert words(earlier) == ()
    assert "seeds" not in plots(earlier, Figures())
    assert '<section id="seeds">' not in webpage(earlier, Figures())
    assert plain(earlier) == contents
