"""Figures as inline SVG. The style sheet colours them, and positions are percentages, so that they fit narrow screens.

The meaning of a mark is in its class, not in a colour written here, so one drawing serves light and dark. Foreign text
is escaped by `Markup.format`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from curator.wording import visible

BANDS = 2
"""Number of sets whose intervals are drawn as bands; more would cover each other."""


@dataclass(frozen=True)
class Mark:
    """A point of a lane, with its interval where it has one.

    Attributes:
        style: CSS classes. `hollow`: drawn as a ring, so that two states of one thing differ without colour.
    """

    value: float
    low: float | None
    high: float | None
    style: str
    hollow: bool = False


@dataclass(frozen=True)
class Lane:
    """One row of a dot plot: a name, its marks from left to right, and the figures in words. `joined` draws a line from
    the first mark to the last. `limit`: a value that the marks should stay below. A lane without marks and words is a
    heading of those below it.
    """

    name: str
    marks: Sequence[Mark]
    words: str
    joined: bool = False
    style: str = ""
    limit: float | None = None


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high` with labelled ticks; `zero` is drawn stronger."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    zero: float | None = None

    def at(self, value: float) -> str:
        """Where a value lies, as a percentage of the width; what lies outside is put on the edge."""
        share = (value - self.low) / (self.high - self.low)
        return f"{100 * min(max(share, 0.0), 1.0):.2f}%"


def shares() -> Scale:
    """From 0 to 100%."""
    return Scale(0.0, 1.0, [(quarter / 4, f"{25 * quarter}%") for quarter in range(5)])


def around_zero(values: Sequence[float | None], *, factor: float) -> Scale:
    """A scale with zero in its middle, wide enough for the values; ticks are labelled in `factor` times the value."""
    widest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0.0) or 0.01
    step = _step(widest * factor / 2) / factor
    reach = math.ceil(widest / step - 1e-9) * step
    count = round(reach / step)
    ticks = [(tick * step, f"{tick * step * factor:+.4g}" if tick else "0") for tick in range(-count, count + 1)]
    return Scale(-reach, reach, ticks, zero=0.0)


def between(low: float, high: float, *, percent: bool = False) -> Scale:
    """A scale from `low` to `high` with about six round ticks; `percent`: of shares, labelled so."""
    high = high if high > low else low + 1.0
    step = _step((high - low) / 7)
    # A limit that misses a tick by rounding alone keeps it.
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    values = [tick * step for tick in range(first, last + 1)]
    return Scale(low, high, [(value, f"{100 * value:.4g}%" if percent else f"{value:.4g}") for value in values])


def dots(lanes: Sequence[Lane], scale: Scale, *, label: str, axis: Sequence[str]) -> Markup:
    """Lanes below each other over one axis; `axis` is what it measures, or what its left and its right end mean."""
    rows = Markup("").join(_lane(lane, scale) for lane in lanes)
    return Markup(
        '<div class="plot" role="img" aria-label="{}">{}<div class="lane axis"><span></span><div>'
        '<svg width="100%" height="20" aria-hidden="true">{}</svg>{}</div><span></span></div></div>'
    ).format(visible(label), rows, _labels(scale, 14), _ends(axis))


def bars(
    rows: Sequence[tuple[str, Sequence[tuple[float, str]], str]],
    *,
    label: str,
    scale: Scale | None = None,
    axis: Sequence[str] = (),
) -> Markup:
    """One bar a row: name, (share of the width, CSS class) from left to right, and the figures in words; over an axis
    where the width means something beyond those.
    """
    made = []
    for name, parts, words in rows:
        start, drawn = 0.0, Markup("")
        for share, style in parts:
            drawn += Markup('<rect x="{:.2f}%" y="6" width="{:.2f}%" height="14" class="{}"/>').format(
                100 * start, 100 * share, style
            )
            start += share
        made.append(
            Markup(
                '<div class="lane"><span class="name">{}</span>'
                '<svg width="100%" height="26" aria-hidden="true">{}</svg><span class="words">{}</span></div>'
            ).format(visible(name), drawn, visible(words))
        )
    if scale is not None:
        below = '<div class="lane axis"><span></span><div><svg width="100%" height="20" aria-hidden="true">{}</svg>{}'
        made.append(Markup(below + "</div><span></span></div>").format(_labels(scale, 14), _ends(axis)))
    return Markup('<div class="plot" role="img" aria-label="{}">{}</div>').format(visible(label), Markup("").join(made))


def curves(
    edges: Sequence[float], sets: Mapping[str, tuple[Sequence[float], str]], *, label: str, axes: tuple[str, str]
) -> Markup:
    """Distributions over one axis: set -> (share of each bin, CSS class); the first is filled, the others are lines.
    `axes` is what is up and what is to the right.
    """
    scale = between(edges[0], edges[-1])
    tallest = max((max(heights) for heights, _ in sets.values()), default=0.0) or 1.0
    middles = [(left + right) / 2 for left, right in pairwise(edges)]
    drawn = Markup("")
    for number, (heights, style) in enumerate(sets.values()):
        points = [
            f"{1000 * (x - scale.low) / (scale.high - scale.low):.1f},{100 - 96 * y / tallest:.1f}"
            for x, y in zip(middles, heights, strict=True)
        ]
        first, last = points[0].split(",")[0], points[-1].split(",")[0]
        if number == 0:
            drawn += Markup('<polygon points="{},100 {} {},100" class="area {}"/>').format(
                first, " ".join(points), last, style
            )
        else:
            drawn += Markup('<polyline points="{}" class="curve {}"/>').format(" ".join(points), style)
    return _framed(drawn, scale, label=label, height=170, axes=axes)


def climb(
    ranks: Sequence[float],
    values: Sequence[float],
    levels: Sequence[tuple[float, str, str]],
    *,
    label: str,
    axes: tuple[str, str],
) -> Markup:
    """A line that climbs with the rank, and horizontal levels: (value, words, CSS class); `axes` as of `curves`."""
    scale = between(0.0, max(ranks, default=1.0))
    reached = [*values, *(level for level, _, _ in levels), 0.0]
    low, high = min(reached), max(reached)
    room = (high - low) or 1.0

    def up(value: float) -> float:
        return 96 - 90 * (value - low) / room

    start = [(0.0, 0.0), *zip(ranks, values, strict=True)]
    points = " ".join(f"{1000 * (x - scale.low) / (scale.high - scale.low):.1f},{up(y):.2f}" for x, y in start)
    drawn = Markup('<polyline points="{}" class="curve a0"/>').format(points)
    words = Markup("")
    for level, text, style in levels:
        drawn += Markup('<line x1="0" x2="1000" y1="{0:.2f}" y2="{0:.2f}" class="level {1}"/>').format(up(level), style)
        words += Markup('<text x="99%" y="{:.2f}%" dy="-5" class="end">{}</text>').format(up(level), visible(text))
    return _framed(drawn, scale, label=label, height=220, words=words, axes=axes)


def course(
    sets: Mapping[str, tuple[Sequence[tuple[float, Mark]], str]],
    ticks: Sequence[tuple[float, str]],
    level: float,
    *,
    label: str,
    axes: tuple[str, str],
) -> Markup:
    """Shares over shares: set -> (pairs of x and the mark that stands over it, CSS class), the points joined, and the
    intervals of the first two sets as bands. `level` is a share to look out for, `axes` as of `curves`.
    """

    def line(pairs: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{1000 * x:.1f},{100 - 100 * y:.2f}" for x, y in pairs)

    drawn = words = Markup("")
    for share, text in shares().ticks:
        drawn += Markup('<polyline points="{}" class="grid"/>').format(line([(0.0, share), (1.0, share)]))
        words += Markup('<text x="0" y="{:.2f}%" dx="9" dy="-3">{}</text>').format(100 - 100 * share, text)
    drawn += Markup('<polyline points="{}" class="level"/>').format(line([(0.0, level), (1.0, level)]))
    for number, (marks, style) in enumerate(sets.values()):
        limits = [(x, mark.low, mark.high) for x, mark in marks if mark.low is not None and mark.high is not None]
        if number < BANDS:
            around = [*((x, low) for x, low, _ in limits), *((x, high) for x, _, high in reversed(limits))]
            drawn += Markup('<polygon points="{}" class="band {}"/>').format(line(around), style)
        drawn += Markup('<polyline points="{}" class="curve {}"/>').format(line((x, m.value) for x, m in marks), style)
        words += Markup("").join(
            Markup('<circle cx="{:.2f}%" cy="{:.2f}%" r="{}" class="{} {}"/>').format(
                100 * x, 100 - 100 * mark.value, 4 if mark.hollow else 5, "ring" if mark.hollow else "dot", style
            )
            for x, mark in marks
        )
    figure = _framed(drawn, Scale(0.0, 1.0, ticks), label=label, height=300, words=words, axes=axes)
    return Markup('<div class="course">{}</div>').format(figure)


def cloud(
    sets: Mapping[str, tuple[Sequence[tuple[float, Mark]], str]],
    across: Scale,
    up: Scale,
    *,
    label: str,
    axes: tuple[str, str, str],
    joined: Sequence[tuple[float, float]] = (),
) -> Markup:
    """Points over two labelled axes: set -> (pairs of x and the mark that stands over it, CSS class).

    Args:
        axes: What is up, and what the left and the right end mean.
        joined: Points that a line goes through, below all marks.
    """
    height = 300

    def y(value: float) -> str:
        return f"{100 - float(up.at(value)[:-1]):.2f}%"

    drawn = Markup("").join(
        Markup(
            '<line x1="0" x2="100%" y1="{0}" y2="{0}" class="grid"/><text x="0" y="{0}" dx="9" dy="-3">{1}</text>'
        ).format(y(value), words)
        for value, words in up.ticks
    )
    for (x, value), (end, end_value) in pairwise(joined):
        drawn += Markup('<line x1="{}" x2="{}" y1="{}" y2="{}" class="along"/>').format(
            across.at(x), across.at(end), y(value), y(end_value)
        )
    for points, style in sets.values():
        inside = Markup("")
        for x, mark in points:
            if mark.low is not None and mark.high is not None:
                inside += Markup('<line x1="{0}" x2="{0}" y1="{1}" y2="{2}" class="reach"/>').format(
                    across.at(x), y(mark.low), y(mark.high)
                )
            inside += Markup('<circle cx="{}" cy="{}" r="{}" class="{}"/>').format(
                across.at(x), y(mark.value), 5 if mark.hollow else 6, "ring" if mark.hollow else "dot"
            )
        drawn += Markup('<g class="{}">{}</g>').format(style, inside)
    return Markup(
        '<div class="cloud" role="img" aria-label="{}"><div class="up">\u2191 {}</div>'
        '<svg width="100%" height="{}" aria-hidden="true"><svg width="100%" height="{}">{}{}</svg>{}</svg>{}</div>'
    ).format(
        visible(label), visible(axes[0]), height, height - 24, _grid(across, height - 24), drawn,
        _labels(across, height - 8), _ends(axes[1:]),
    )  # fmt: skip


def _lane(lane: Lane, scale: Scale) -> Markup:
    if not lane.marks and not lane.words:
        return Markup('<div class="lane group"><span class="name">{}</span></div>').format(visible(lane.name))
    drawn = _grid(scale, 38, top=-8)  # a little over, so that lines go on beside a name of two lines
    if lane.limit is not None:
        drawn += Markup('<line x1="{0}" x2="{0}" y1="10%" y2="90%" class="limit"/>').format(scale.at(lane.limit))
    if lane.joined and len(lane.marks) > 1:
        drawn += Markup('<line x1="{}" x2="{}" y1="50%" y2="50%" class="move {}"/>').format(
            scale.at(lane.marks[0].value), scale.at(lane.marks[-1].value), lane.marks[-1].style
        )
    for mark in lane.marks:
        if mark.low is not None and mark.high is not None:
            drawn += Markup('<line x1="{}" x2="{}" y1="50%" y2="50%" class="reach {}"/>').format(
                scale.at(mark.low), scale.at(mark.high), mark.style
            )
    for mark, up in _apart(lane, scale):
        drawn += Markup('<circle cx="{}" cy="{}%" r="{}" class="{} {}"/>').format(
            scale.at(mark.value), up, 6.5 if mark.hollow else 5, "ring" if mark.hollow else "dot", mark.style
        )
    return Markup(
        '<div class="lane {}"><span class="name">{}</span><svg width="100%" height="30" aria-hidden="true">{}</svg>'
        '<span class="words">{}</span></div>'
    ).format(lane.style, visible(lane.name), drawn, visible(lane.words))


def _apart(lane: Lane, scale: Scale) -> list[tuple[Mark, int]]:
    """Each mark and its height in percent, the rings first: a dot in a ring is seen, and marks of one kind that would
    hide each other stand above each other.
    """
    near, levels = 0.012 * (scale.high - scale.low), (50, 18, 82, 34, 66)
    placed: list[tuple[Mark, int]] = []
    for mark in sorted(lane.marks, key=lambda mark: not mark.hollow):
        taken = {up for other, up in placed if other.hollow is mark.hollow and abs(other.value - mark.value) < near}
        placed.append((mark, 50 if lane.joined else next((up for up in levels if up not in taken), 50)))
    return placed


def _ends(words: Sequence[str]) -> Markup:
    """What an axis measures, or what its ends mean, below it."""
    spans = Markup("").join(Markup("<span>{}</span>").format(visible(each)) for each in words)
    return Markup('<div class="ends">{}</div>').format(spans)


def _framed(drawn: Markup, scale: Scale, *, label: str, height: int, words: str = "", axes: tuple[str, str]) -> Markup:
    return Markup(
        '<div role="img" aria-label="{}"><div class="up">\u2191 {}</div>'
        '<svg class="framed" width="100%" height="{}" aria-hidden="true">'
        '<svg width="100%" height="{}"><svg width="100%" height="100%">{}</svg>'
        '<svg width="100%" height="100%" viewBox="0 0 1000 100" preserveAspectRatio="none">{}</svg>{}</svg>{}</svg>{}'
        "</div>"
    ).format(
        visible(label), visible(axes[0]), height, height - 22, _grid(scale, height), drawn, words,
        _labels(scale, height - 6), _ends(["", f"{axes[1]} \u2192"]),
    )  # fmt: skip


def _grid(scale: Scale, bottom: int, *, top: int = 0) -> Markup:
    return Markup("").join(
        Markup('<line x1="{0}" x2="{0}" y1="{1}" y2="{2}" class="{3}"/>').format(
            scale.at(value), top, bottom, "zero" if value == scale.zero else "grid"
        )
        for value, _ in scale.ticks
    )


def _labels(scale: Scale, y: int) -> Markup:
    def anchor(value: float) -> str:
        share = (value - scale.low) / (scale.high - scale.low)
        return "start" if share < 0.04 else "end" if share > 0.96 else "middle"

    return Markup("").join(
        Markup('<text x="{}" y="{}" class="tick {}">{}</text>').format(scale.at(value), y, anchor(value), words)
        for value, words in scale.ticks
    )


def _step(rough: float) -> float:
    """The round number (1, 2 or 5 times a power of ten) that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))
