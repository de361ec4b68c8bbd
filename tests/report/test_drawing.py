"""Figures: numbers land where they belong, and nothing foreign becomes structure."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.report.drawing import (
    Lane,
    Mark,
    Scale,
    around_zero,
    bars,
    between,
    climb,
    cloud,
    course,
    curves,
    dots,
    shares,
)

AXES = ("up", "right")
HOSTILE = '"><script>alert(1)</script><g onload="x">\u202e & \' </svg>'


def parsed(markup):
    return ET.fromstring(f"<div>{markup}</div>")


def test_marks_lie_where_their_values_are():
    lane = Lane("a", [Mark(0.25, 0.1, 0.5, "a0", hollow=True), Mark(0.75, None, None, "a0")], "words", joined=True)
    drawn = parsed(dots([lane], shares(), label="l", axis=["x"]))
    assert [(one.get("cx"), one.get("class")) for one in drawn.iter("circle")] == [
        ("25.00%", "ring a0"),
        ("75.00%", "dot a0"),
    ]
    reach = next(one for one in drawn.iter("line") if "reach" in one.get("class"))
    assert (reach.get("x1"), reach.get("x2")) == ("10.00%", "50.00%")
    move = next(one for one in drawn.iter("line") if "move" in one.get("class"))
    assert (move.get("x1"), move.get("x2")) == ("25.00%", "75.00%")


def test_a_value_beyond_the_scale_is_put_on_its_edge():
    assert Scale(0, 1, ()).at(7) == "100.00%"
    assert Scale(0, 1, ()).at(-7) == "0.00%"


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=5))
def test_a_scale_around_zero_holds_every_value_and_has_zero_in_the_middle(values):
    scale = around_zero(values, factor=100.0)
    assert scale.low == -scale.high
    assert scale.high >= max(map(abs, values)) - 1e-9
    assert scale.at(0.0) == "50.00%"
    assert 3 <= len(scale.ticks) <= 9
    assert any(words == "0" for _, words in scale.ticks)


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_ticks_lie_within_their_scale(low, width):
    scale = between(low, low + width)
    assert 2 <= len(scale.ticks) <= 9
    assert all(low - 1e-6 * width <= value <= low + width * (1 + 1e-6) for value, _ in scale.ticks)


def test_bars_follow_each_other():
    drawn = parsed(bars([("a", [(0.25, "harmful"), (0.5, "safe")], "w")], label="l"))
    assert [(one.get("x"), one.get("width")) for one in drawn.iter("rect")] == [
        ("0.00%", "25.00%"),
        ("25.00%", "50.00%"),
    ]


def test_curves_are_as_high_as_their_shares():
    drawn = parsed(
        curves([0.0, 0.5, 1.0], {"pool": ([0.5, 0.5], "pool"), "curated": ([1.0, 0.0], "a0")}, label="l", axes=AXES)
    )
    (area,), (line,) = list(drawn.iter("polygon")), list(drawn.iter("polyline"))
    assert line.get("points") == "250.0,4.0 750.0,100.0"
    assert area.get("points").split() == ["250.0,100", "250.0,52.0", "750.0,52.0", "750.0,100"]


def test_a_climb_ends_at_its_last_value_below_its_bound():
    drawn = parsed(climb([1, 2], [0.5, 0.8], [(1.0, "bound", "bound")], label="l", axes=AXES))
    heights = [float(pair.split(",")[1]) for pair in next(drawn.iter("polyline")).get("points").split()]
    assert heights == sorted(heights, reverse=True)
    bound = next(one for one in drawn.iter("line") if "level" in one.get("class"))
    assert float(bound.get("y1")) < heights[-1]


def test_marks_that_would_hide_each_other_are_all_seen():
    alike = [Mark(0.5, None, None, "a0"), Mark(0.5, None, None, "a1"), Mark(0.5, None, None, "pool", hollow=True)]
    drawn = parsed(dots([Lane("a", alike, "w")], shares(), label="l", axis=["x"]))
    ring, *both = drawn.iter("circle")
    assert (ring.get("class"), ring.get("cy")) == ("ring pool", "50%")
    assert float(ring.get("r")) > float(both[0].get("r")), "a dot lies within the ring"
    assert len({one.get("cy") for one in both}) == 2
    apart = [Mark(0.5, None, None, "a0"), Mark(0.6, None, None, "a1")]
    drawn = parsed(dots([Lane("a", apart, "w")], shares(), label="l", axis=["x"]))
    assert {one.get("cy") for one in drawn.iter("circle")} == {"50%"}


def test_a_cloud_joins_points_below_its_marks():
    marks = [(0.0, Mark(0.0, None, None, "")), (1.0, Mark(1.0, None, None, ""))]
    drawn = cloud(
        {"x": (marks, "a0")}, between(0.0, 1.0), shares(), label="l", axes=("up", "left", "right"),
        joined=[(0.0, 0.0), (0.5, 0.25), (1.0, 1.0)],
    )  # fmt: skip
    lines = [one for one in parsed(drawn).iter("line") if one.get("class") == "along"]
    assert [(one.get("x1"), one.get("y1")) for one in lines] == [("0.00%", "100.00%"), ("50.00%", "75.00%")]
    assert str(drawn).index("along") < str(drawn).index("<circle")


@pytest.mark.parametrize(
    "drawn",
    [
        dots([Lane(HOSTILE, [Mark(0.5, 0.1, 0.9, "a0")], HOSTILE)], shares(), label=HOSTILE, axis=(HOSTILE, HOSTILE)),
        bars([(HOSTILE, [(0.5, "safe")], HOSTILE)], label=HOSTILE),
        curves([0.0, 1.0, 2.0], {HOSTILE: ([0.5, 0.5], "pool")}, label=HOSTILE, axes=(HOSTILE, HOSTILE)),
        climb([1.0], [1.0], [(2.0, HOSTILE, "bound")], label=HOSTILE, axes=(HOSTILE, HOSTILE)),
        cloud(
            {HOSTILE: ([(0.5, Mark(0.5, None, None, ""))], "pool")},
            shares(),
            shares(),
            label=HOSTILE,
            axes=(HOSTILE,) * 3,
        ),
    ],
    ids=["dots", "bars", "curves", "climb", "cloud"],
)
def test_foreign_text_in_a_figure_stays_text(drawn):
    tree = parsed(drawn)
    assert {one.tag for one in tree.iter()} <= {
        "div", "span", "svg", "line", "circle", "text", "rect", "polygon", "polyline", "g", "use", "defs", "path",
    }  # fmt: skip
    assert not [name for one in tree.iter() for name in one.attrib if name.startswith("on")]
    assert "\u202e" not in str(drawn)


def test_every_figure_says_in_words_what_it_shows():
    for drawn in (
        dots([], shares(), label="said", axis=["x"]),
        bars([], label="said"),
        curves([0.0, 1.0], {}, label="said", axes=AXES),
        cloud({}, shares(), shares(), label="said", axes=("a", "b", "c")),
    ):
        figure = next(one for one in parsed(drawn).iter() if one.get("role") == "img")
        assert figure.get("aria-label") == "said"


def test_every_axis_says_what_it_measures():
    for drawn in (
        dots([], shares(), label="l", axis=["what is across"]),
        bars([], label="l", scale=shares(), axis=["what is across"]),
        curves([0.0, 1.0], {}, label="l", axes=("what is up", "what is across")),
        climb([1.0], [1.0], [], label="l", axes=("what is up", "what is across")),
        course({}, [], 0.5, label="l", axes=("what is up", "what is across")),
        cloud({}, shares(), shares(), label="l", axes=("what is up", "less", "what is across")),
    ):
        words = " ".join(parsed(drawn).itertext())
        assert "what is across" in words
        assert ("what is up" in words) == ("up" in str(drawn))


def test_nothing_is_drawn_in_a_colour_of_its_own():
    drawn = dots([Lane("a", [Mark(0.5, 0.1, 0.9, "a0")], "w", limit=0.3)], shares(), label="l", axis=["x"])
    assert not re.search(r"#[0-9a-f]{3}|rgb|fill=|stroke=", drawn)
