"""What a floor under coverage kept and gave up: in report.json, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from curator import wording
from curator.report import drawing
from curator.report.cells import Made, Row, number, share
from curator.report.part import Many, Number, Part, Share

if TYPE_CHECKING:
    import polars as pl
    from markupsafe import Markup

    from curator.records import Selection
    from curator.report.figures import Figures
    from curator.report.model import Report


class FrontierPoint(Part):
    """A set between coverage alone and similarity alone, or a random one."""

    kind: Literal["lambda", "random"]
    """The greedy set at a lambda, or a random set within the same limits."""
    weight: Number
    """That lambda; null for a random set."""
    coverage: Number
    """The objective's coverage term."""
    share: Number
    """Coverage from 0, what random sets have on average, to 1, the most found; null where that is no more."""
    similarity: Number
    """Mean score of the rows, in standard deviations of the pool above its mean."""
    value: Number
    """The objective at this lambda."""
    bound: Number
    """No set within the limits exceeds it at this lambda."""
    chosen: bool


class Frontier(Part):
    """The floor that was asked for, what the chosen set keeps, and every set that was tried."""

    coverage: Share
    """The share of coverage to keep."""
    prefer: str
    """Which of the sets that keep it: the most dissimilar, the most similar, or the one of most coverage (none)."""
    share: Number
    """The share that the chosen set keeps; null where random sets cover as much as any set found."""
    share_certified: Number
    """The same against the bound of coverage instead of the most found."""
    random: Number
    """Mean coverage of random sets."""
    most: Number
    """The most coverage found."""
    most_bound: Number
    """No set covers more."""
    similarity: Number
    """Of the chosen set, as in the points."""
    similarity_bound: Number
    """No set that keeps the floor is less similar (with `similar`: more similar); null for `none`."""
    points: Many[FrontierPoint]

    @property
    def tried(self) -> list[FrontierPoint]:
        """The sets at each lambda, by its size."""
        return [point for point in self.points if point.kind == "lambda"]

    @property
    def draws(self) -> list[FrontierPoint]:
        """The random sets."""
        return [point for point in self.points if point.kind == "random"]

    @property
    def weight(self) -> float:
        """The lambda of the chosen set."""
        return next(point.weight or 0.0 for point in self.points if point.chosen)


def frontier_of(selection: Selection, frame: pl.DataFrame | None) -> Frontier | None:
    """Of a selection and its frontier in the columns of FRONTIER_SCHEMA; null where there was no floor."""
    if frame is None:
        return None
    points = [FrontierPoint.model_validate(row) for row in frame.iter_rows(named=True)]
    return Frontier.model_validate({**selection.parameters["floor"], "points": points})


def _frontier(report: Report, _: Figures) -> Made:
    def rows() -> Iterator[Row]:
        for point in report.frontier.points if report.frontier else ():
            yield (
                "random set" if point.kind == "random" else "chosen" if point.chosen else "tried",
                number(point.weight, 6), share(point.share), number(point.coverage, 4), number(point.similarity, 3),
                number(point.value, 4), number(point.bound, 4),
            )  # fmt: skip

    caption = (
        "Every set that was tried for the floor, and random sets within the same limits. Similarity is in standard "
        "deviations of the pool above its mean; the bound is what no set exceeds at that lambda."
    )
    return caption, "set|lambda|coverage kept|coverage|mean similarity|value|bound", rows()


TABLES = {"frontier": _frontier}


def figure(report: Report) -> Markup | None:
    """Coverage kept against mean similarity: the chosen set, those at other lambdas, and random ones."""
    frontier = report.frontier
    if frontier is None or any(point.share is None or point.similarity is None for point in frontier.points):
        return None

    def marks(points: list[FrontierPoint], *, hollow: bool) -> list[tuple[float, drawing.Mark]]:
        return [
            (point.similarity or 0.0, drawing.Mark(point.share or 0.0, None, None, "", hollow=hollow))
            for point in points
        ]

    sets = {
        "random": (marks(frontier.draws, hollow=True), "a1"),
        "tried": (marks([point for point in frontier.tried if not point.chosen], hollow=True), "a0"),
        "chosen": (marks([point for point in frontier.tried if point.chosen], hollow=False), "a0"),
    }
    similar = [point.similarity or 0.0 for point in frontier.points]
    kept = [point.share or 0.0 for point in frontier.points]
    room = 0.05 * (max(similar) - min(similar) or 1.0)
    return drawing.cloud(
        sets,
        drawing.between(min(similar) - room, max(similar) + room),
        drawing.between(min(0.0, *kept), max(1.0, *kept)),
        label=(
            f"Coverage kept and mean similarity of the chosen set ({wording.percent(frontier.share)} kept), of sets at "
            "other lambdas, and of random sets"
        ),
        axes=("\u2190 less similar to the tasks", "more similar \u2192"),
    )
