"""Figures as SVG files of their own, for pages that take images but neither HTML nor a style sheet, such as a card."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from curator.report.figures import Figures
from curator.report.html import fill
from curator.report.model import Report
from curator.report.plots import plots

if TYPE_CHECKING:
    from markupsafe import Markup

PICTURES = ("harm", "frontier", "bank")
"""The figures that a card shows, where there is anything to draw."""
WIDTH = 860
"""Width in pixels; a page scales it."""
_LANE, _AXIS, _AXES = 30, 64, 376
"""Heights in pixels: of a lane, of an axis with its words, and of a figure of two axes."""
_LINE = 30
"""Characters of a name on one line; each further line makes its lane taller."""
_LABEL, _NAME = re.compile('aria-label="([^"]*)"'), re.compile('<span class="name">([^<]*)</span>')


def pictures(report: Report) -> dict[str, str]:
    """Name -> the figure as an SVG document, for those of PICTURES that have anything to draw.

    A document loads nothing and has no script, and it follows the reader's light or dark colours. It is HTML inside
    SVG, which browsers draw; a program that draws SVG alone shows the figure's description instead.
    """
    drawn = plots(report, Figures())
    return {name: _document(drawn[name]) for name in PICTURES if name in drawn}


def _document(figure: Markup) -> str:
    from markupsafe import Markup

    lanes = [max(_LANE, 22 + 18 * (-(-len(name) // _LINE) - 1)) for name in _NAME.findall(figure)]
    described = _LABEL.search(figure)
    assert described, "every figure describes itself"
    return fill(
        "picture.svg.j2",
        figure=Markup(
            str(figure).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
        ),  # XML does not imply it
        label=Markup(described[1]),  # escaped already
        # As text: the page's whole numbers get their thousands separated.
        width=str(WIDTH),
        height=str(sum(lanes) + _AXIS if lanes else _AXES),
    )
