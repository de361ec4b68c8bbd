"""What a floor under coverage kept, in report.json, report.md, the card's evidence and report.html."""

from __future__ import annotations

import json

import numpy as np
import pytest

from curator.conclusions.part import plain
from curator.report.figures import Figures
from curator.report.frontier import TABLES, figure, frontier_of
from curator.report.html import webpage
from curator.report.markdown import evidence, markdown
from curator.report.model import read_report
from curator.run.folder import write_json
from curator.selection.floor import frontier_frame
from curator.selection.frontier import frontier
from curator.selection.limits import limits
from curator.selection.problem import prepare
from curator.selection.solve import select, solve
from tests.report.invented import invent
from tests.report.test_html import Seen
from tests.selection.selection_twins import unit_rows


@pytest.fixture(scope="module")
def report():
    x, score = unit_rows(4, 60, d=8), np.random.default_rng(4).standard_normal(60)
    found = select(x, score, 10, coverage=0.7, prefer="dissimilar", neighbours=12)
    return invent().report(frontier=frontier_of(found, frontier_frame(found.frontier)))


def test_the_report_says_what_is_kept_and_lists_every_set_that_was_tried(report, tmp_path):
    frontier = report.frontier
    assert frontier.share >= 0.7
    text = markdown(report)
    assert (
        "The recipe asks for the most dissimilar set that keeps at least 70% of what the most covering set gains"
        in text
    )
    assert f"The chosen set keeps {100 * frontier.share:.0f}%" in text
    assert text.count("| tried |") == len(frontier.tried) - 1
    assert text.count("| **chosen** |") == 1
    assert "| 16 random sets |" in text
    assert "What the set covers, and how similar it is" in evidence(report)  # which is the card's
    write_json(tmp_path / "report.json", plain(report))
    assert read_report(tmp_path / "report.json").frontier == frontier
    assert frontier.weight == next(point.weight for point in frontier.points if point.chosen)


def test_a_table_and_a_figure_hold_every_set(report):
    frontier = report.frontier
    rows = list(TABLES["frontier"](report, None)[2])
    assert len(rows) == len(frontier.points)
    assert sum(row[0] == "chosen" for row in rows) == 1
    found = Seen(webpage(report, Figures()))
    assert len(found.cells["frontier"]) == len(frontier.points) + 1
    assert "Similarity against coverage" in found.text
    drawn = str(figure(report))
    assert drawn.count("<circle") == len(frontier.points)
    assert drawn.count('class="dot"') == 1


def test_without_a_floor_nothing_is_said_and_where_none_is_kept_nothing_is_drawn():
    plain_report = invent().report()
    assert plain_report.frontier is None
    assert "frontier" not in json.loads(json.dumps(plain(plain_report)))
    assert "What the set covers" not in markdown(plain_report)
    assert figure(plain_report) is None
    x = np.tile(np.eye(2, dtype=np.float32)[0], (8, 1))
    found = select(x, np.arange(8.0), 3, coverage=0.9, prefer="dissimilar")
    same = invent().report(frontier=frontier_of(found, frontier_frame(found.frontier)))
    assert figure(same) is None
    assert (
        "Random sets cover as much as any set that was found, so only sets that cover as much keep the floor."
        in markdown(same)
    )


@pytest.mark.parametrize("objective", ["facility-location", "graph-cut", "log-det"])
@pytest.mark.parametrize("weight", [0.3, 0.0, -0.3])
def test_a_set_chosen_at_a_weight_is_on_the_frontier_of_every_objective(objective, weight):
    x, score = unit_rows(4, 60, d=8), np.random.default_rng(4).standard_normal(60)
    problem = prepare(x, score, neighbours=12)
    bounds = limits(problem, 10)
    found = solve(problem, bounds, weight=weight, objective=objective)
    frame = frontier_frame(frontier(problem, bounds, found))
    report = invent().report(frontier=frontier_of(found, frame))
    chosen = report.frontier.chosen
    assert chosen.weight == weight
    assert chosen.similarity == pytest.approx((score[list(found.indices)].mean() - score.mean()) / score.std())
    assert chosen.value == pytest.approx(found.value)
    assert len(report.frontier.draws) == 16
    assert np.mean([draw.share for draw in report.frontier.draws]) == pytest.approx(0.0, abs=1e-9)
    assert max(point.share for point in report.frontier.tried) == pytest.approx(1.0)
    drawn = str(figure(report))
    assert drawn.count("<circle") == len(frame)
    assert drawn.count('class="along"') == len(report.frontier.tried) - 1
    assert f"The recipe gives the weight {weight:.4g}." in markdown(report)


def test_a_set_that_was_given_is_drawn_beside_the_frontier_and_not_on_it():
    x, score = unit_rows(4, 60, d=8), np.random.default_rng(4).standard_normal(60)
    problem = prepare(x, score, neighbours=12)
    bounds = limits(problem, 10)
    found = solve(problem, bounds, given=problem.ids[:10])
    report = invent().report(frontier=frontier_of(found, frontier_frame(frontier(problem, bounds, found))))
    assert report.frontier.chosen.kind == "given"
    assert report.frontier.chosen not in report.frontier.tried
    assert "The objective did not choose this set" in markdown(report)
    assert str(figure(report)).count('class="dot"') == 1


def test_the_card_names_the_marks_that_are_drawn(report):
    def caption(shown):
        return evidence(shown, pictures=("frontier",)).partition("frontier.svg)")[2].partition("| set |")[0]

    assert "Blue rings are sets at other weights" in caption(report)
    kept = [point for point in report.frontier.points if point.chosen or point.kind == "random"]
    alone = report.model_copy(update={"frontier": report.frontier.model_copy(update={"points": tuple(kept)})})
    assert "Blue" not in caption(alone)
    assert "Orange rings are random sets" in caption(alone)
