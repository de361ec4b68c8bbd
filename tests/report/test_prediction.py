"""What a report says of forgetting, and of the scores that went with it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from test_page import sections, table

from curator.report.markdown import markdown
from curator.report.part import plain

TITLE = "Does the score predict what is forgotten?"


@dataclass
class Told:
    """One finding, with the fields that verification gives it."""

    score: str
    task: str = "list"
    loss: str = "whole"
    rho: float | None = 0.5
    low: float | None = 0.25
    high: float | None = 0.75
    rows: int = 40
    seeds: int = 2


@dataclass
class Taken:
    task: str = "list"
    loss: str = "whole"
    rows: int = 40
    seeds: int = 2
    before: float = 1.25
    mean: float = 0.5
    sd: float = 0.125
    agreement: float | None = 0.625


def told(run, forgotten, predictions):
    return run.report(forgotten=forgotten, predictions=predictions)


def test_figures_stand_in_the_report_and_in_its_tables(run):
    report = told(run, [Taken()], [Told("cosine/max"), Told("interference/sign", loss="first-token", rho=-0.4)])
    assert plain(report.forgetting[0]) == vars(Taken())
    assert plain(report.score_predicts[0]) == vars(Told("cosine/max"))
    part = sections(markdown(report))[TITLE]
    assert table(part) == [["list", "whole", "40", "2", "1.25", "0.5", "0.125", "0.62"]]
    assert table(part, after="Spearman") == [
        ["cosine/max", "list", "whole", "0.50", "[0.25, 0.75]"],
        ["interference/sign", "list", "first-token", "-0.40", "[0.25, 0.75]"],
    ]


def test_a_run_that_measured_no_forgetting_says_nothing_of_it(report):
    assert report.forgetting == report.score_predicts == ()
    assert TITLE not in markdown(report)


def test_what_could_not_be_computed_is_said(run):
    few = sections(markdown(told(run, [Taken(rows=3)], [])))[TITLE]
    assert "Too few rows were left out" in few
    alone = told(run, [Taken(seeds=1, agreement=None)], [Told("flat", rho=None, low=None, high=None)])
    part = sections(markdown(alone))[TITLE]
    assert table(part)[0][-1] == "one seed"
    assert table(part, after="Spearman") == [["flat", "list", "whole", "undefined", ""]]


@pytest.mark.parametrize("count", [40, 45])
def test_a_long_table_is_cut_and_says_so(run, count):
    part = sections(markdown(told(run, [Taken()], [Told(f"score-{number}") for number in range(count)])))[TITLE]
    assert len(table(part, after="Spearman")) == 40
    assert ("The 5 weakest are in report.json only" in part) == (count == 45)
