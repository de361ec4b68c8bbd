"""Figures as SVG files: each stands alone, is well-formed whatever it names, and is shown by the card beside it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from curator.report import drawing
from curator.report import pictures as pictures_module
from curator.report.bank import Bank
from curator.report.drawn import drawings
from curator.report.frontier import frontier_of
from curator.report.pictures import PICTURES, WIDTH, pictures
from curator.selection.floor import frontier_frame
from curator.selection.solve import select
from tests.report.invented import invent
from tests.selection.selection_twins import unit_rows

HTML, SVG = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/2000/svg}"
ATTACK = "</style></svg><script>1</script><image href='x'/>\"&amp;<\u202e\x00\ud800\ufffe"


def bank(*features):
    """A bank with these features, of which the first is beyond chance."""
    beside = (f"{outcome}_{figure}" for outcome in ("before", "log_odds") for figure in ("rho", "low", "high"))
    each = {"low": 0.1, "high": 0.8, "p": 0.01, **dict.fromkeys(beside)}
    predictors = [
        {**each, "feature": name, "rho": 0.5, "n": 60, "p_holm": 0.4 if number else 0.02}
        for number, name in enumerate(features)
    ]
    counts = {"subsets": 60, "draws": 20, "left_out": 0, "costly": 0, "seeds": 1}
    unknown = dict.fromkeys(("source", "one", "low", "high", "mean", "ceiling"))
    return Bank.model_validate(
        {
            **counts,
            "tasks": ["list"],
            "harm": None,
            "before": None,
            "reliability": {**unknown, "subsets": 60, "repeats": 1},
            "predictors": predictors,
            "mixtures": {},
        }
    )


@pytest.fixture(scope="module")
def report():
    x, score = unit_rows(4, 60, d=8), np.random.default_rng(4).standard_normal(60)
    found = select(x, score, 10, coverage=0.7, prefer="dissimilar", neighbours=12)
    return invent().report(frontier=frontier_of(found, frontier_frame(found.frontier)), bank=bank(ATTACK, "words"))


@pytest.fixture(scope="module")
def drawn(report):
    return {name: ElementTree.fromstring(document) for name, document in pictures(report).items()}


def test_there_is_one_for_each_figure_that_has_anything_to_draw(report, drawn):
    assert tuple(drawn) == PICTURES
    assert "bank" not in pictures(invent().report())
    assert set(PICTURES) <= set(drawings(report, {}))  # as a notebook shows them


def test_it_draws_what_the_page_draws(report, drawn):
    marks = {name: len(list(root.iter(f"{SVG}circle"))) for name, root in drawn.items()}
    tasks = len(report.tuned) + (len([weight for weight in report.tuned.values() if weight]) > 1)
    assert marks == {"harm": 2 * len(report.arms) * tasks, "frontier": len(report.frontier.points), "bank": 2}
    words = "".join(drawn["harm"].itertext())
    assert all(arm in words for arm in report.arms)


def test_it_loads_nothing_and_runs_nothing_whatever_it_names(drawn):
    allowed = {
        *(SVG + tag for tag in ("svg", "title", "style", "switch", "foreignObject", "text", "line", "circle", "g")),
        *(HTML + tag for tag in ("body", "div", "span")),
    }
    for root in drawn.values():
        assert {element.tag for element in root.iter()} <= allowed
        assert not [name for element in root.iter() for name in element.attrib if "href" in name or name[:2] == "on"]
        style = root.find(f"{SVG}style").text
        assert "--a0" in style
        assert not re.search(r"url\(|@import|</", style)
    assert "<script>1</script>" in "".join(drawn["bank"].itertext())  # as text
    assert "\u202e" not in "".join(drawn["bank"].itertext())


def test_it_says_what_it_shows_to_who_cannot_see_it(drawn):
    for root in drawn.values():
        described = root.attrib["aria-label"]
        assert len(described) > 40
        assert described == root.find(f"{SVG}title").text == root.find(f"{SVG}switch/{SVG}text").text


def test_it_is_as_tall_as_its_lanes(drawn):
    heights = {name: int(root.attrib["height"]) for name, root in drawn.items()}
    short, long = (
        ElementTree.fromstring(pictures(invent().report(bank=bank(*names)))["bank"])
        for names in (["a", "b"], ["a", "a feature of a set with a name of more than one line"])
    )
    assert int(short.attrib["height"]) < int(long.attrib["height"])
    assert {root.attrib["viewBox"] for root in drawn.values()} == {f"0 0 {WIDTH} {high}" for high in heights.values()}


def test_a_picture_of_many_lanes_has_a_height_that_a_browser_reads():
    named = [
        f"feature {number} of a set that has a name much longer than one line of a picture" for number in range(12)
    ]
    root = ElementTree.fromstring(pictures(invent().report(bank=bank(*named)))["bank"])
    assert int(root.attrib["height"]) > 12 * 50
    assert root.find(f"{SVG}switch/{SVG}foreignObject").attrib["height"] == root.attrib["height"]
    tall = pictures_module._document(
        drawing.dots([drawing.Lane("arm", [], "words")] * 40, drawing.shares(), label="x" * 41, axis=["y"])
    )
    assert int(ElementTree.fromstring(tall).attrib["height"]) == 40 * 30 + 64
