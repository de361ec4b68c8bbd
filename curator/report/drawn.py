"""The figures of a report, each on its own page, for notebooks, slides and files."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curator.report.model import Report

HEIGHT = 480
"""Height of a figure in a notebook, in pixels; a taller figure scrolls."""


@dataclass(frozen=True)
class Drawing:
    """A figure of report.html. A notebook shows it if it is the value of a cell.

    Attributes:
        name: Its name in the report, for example `harm`.
        page: A complete HTML page, with its style and without a script.
    """

    name: str
    page: str

    def save(self, path: str | Path) -> Path:
        """Writes the figure as a page that any browser shows, in light or dark, and returns its path."""
        path = Path(path)
        path.write_text(self.page, encoding="utf-8")
        return path

    def _repr_html_(self) -> str:
        # In a frame, so that neither its style nor the notebook's reaches the other.
        page = html.escape(self.page, quote=True)
        return f'<iframe srcdoc="{page}" sandbox width="100%" height="{HEIGHT}" style="border:0"></iframe>'


def drawings(report: Report, values: Mapping[str, object]) -> dict[str, Drawing]:
    """Name -> figure.

    Args:
        values: The content of figures.json.
    """
    from pydantic import TypeAdapter

    from curator.report.figures import Figures
    from curator.report.html import fill
    from curator.report.plots import plots

    figures = TypeAdapter(Figures).validate_python(values)
    return {
        name: Drawing(name, fill("figure.html.j2", title=f"{report.name}: {name}", figure=markup))
        for name, markup in plots(report, figures).items()
    }
