"""Similarity against coverage, the two terms of the objective: the part of report.json, a table and a figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from curator import wording
from curator.conclusions.part import Absent, Many, Number, Part, Share
from curator.report import drawing
from curator.report.cells import Cell, Made, Row, number, share

if TYPE_CHECKING:
    import polars as pl
    from markupsafe import Markup

    from curator.records import Selection
    from curator.report.figures import Figures
    from curator.report.model import Report


class FrontierPoint(Part):
    """A set between coverage alone and similarity alone, or a random one."""

    kind: Literal["lambda", "random", "given"]
    """The greedy set at a lambda, a random set within the same limits, or a chosen set that is not greedy's."""
    weight: Number
    """That lambda; null for a random set."""
    coverage: Number
    """The objective's coverage term."""
    share: Number
    """Coverage from 0, what random sets have on average, to 1, the most found; null if that is not more."""
    similarity: Number
    """Mean score of the rows, in standard deviations of the pool above its mean."""
    value: Number
    """The objective at this lambda."""
    bound: Number
    """No set within the limits exceeds it at this lambda."""
    chosen: bool


class Frontier(Part):
    """What the chosen set covers and how similar it is, every set that was tried, and the floor if there was one."""

    coverage: Share | Absent = None
    """The share of coverage that the recipe asks to keep; absent if it gives a weight instead."""
    prefer: str | Absent = None
    """Which of the sets that keep it: the most dissimilar, the most similar, or the one of most coverage (none)."""
    share: Number
    """The share that the chosen set keeps; null if random sets cover as much as any set found."""
    share_certified: Number = None
    """The same against the bound of coverage instead of the most found; under a floor."""
    random: Number
    """Mean coverage of random sets."""
    most: Number
    """The most coverage found."""
    most_bound: Number = None
    """No set covers more; under a floor."""
    similarity: Number
    """Of the chosen set, as in the points."""
    similarity_bound: Number = None
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
    def chosen(self) -> FrontierPoint:
        """The set that was chosen."""
        return next(point for point in self.points if point.chosen)

    @property
    def weight(self) -> float:
        """Its lambda."""
        return self.chosen.weight or 0.0


def frontier_of(selection: Selection, frame: pl.DataFrame | None) -> Frontier | None:
    """The frontier of a selection, from a frame with the columns of FRONTIER_SCHEMA; null if the run has none."""
    if frame is None:
        return None
    points = [FrontierPoint.model_validate(row) for row in frame.iter_rows(named=True)]
    chosen = next(point for point in points if point.chosen)
    random = [point.coverage for point in points if point.kind == "random" and point.coverage is not None]
    measured = {
        "share": chosen.share,
        "similarity": chosen.similarity,
        "random": fmean(random) if random else None,
        "most": max(point.coverage for point in points if point.kind != "random" and point.coverage is not None),
    }
    return Frontier.model_validate({**measured, **selection.parameters.get("floor", {}), "points": points})


def _known(value: float | None, digits: int) -> Cell:
    """A number; empty where a set has none, as a random one has no lambda."""
    return Cell("") if value is None else number(value, digits)


def _frontier(report: Report, _: Figures) -> Made:
    def rows() -> Iterator[Row]:
        for point in report.frontier.points if report.frontier else ():
            yield (
                "random set" if point.kind == "random" else "chosen" if point.chosen else "tried",
                _known(point.weight, 6), share(point.share), number(point.coverage, 4), number(point.similarity, 3),
                _known(point.value, 4), _known(point.bound, 4),
            )  # fmt: skip

    caption = (
        "Every set that was tried, and random sets within the same limits. Similarity is in standard deviations of the "
        "pool above its mean. No set exceeds the bound at its lambda; the bound is shown where it was computed."
    )
    return caption, "set|lambda|coverage kept|coverage|mean similarity|value|bound", rows()


TABLES = {"frontier": _frontier}


def figure(report: Report) -> Markup | None:
    """Coverage kept against mean similarity: the chosen set, those at other lambdas joined to a line, and random ones;
    the line at 0 is the pool's mean similarity.
    """
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
        "chosen": (marks([frontier.chosen], hollow=False), "a0"),
    }
    along = sorted(frontier.tried, key=lambda point: point.similarity or 0.0)
    similar = [0.0, *(point.similarity or 0.0 for point in frontier.points)]
    kept = [point.share or 0.0 for point in frontier.points]
    room, above = 0.05 * (max(similar) - min(similar) or 1.0), 0.06 * (max(1.0, *kept) - min(0.0, *kept))
    across = drawing.between(min(similar) - room, max(similar) + room)
    return drawing.cloud(
        sets,
        replace(across, zero=0.0),
        drawing.between(min(0.0, *kept) - above, max(1.0, *kept) + above, percent=True),
        label=(
            f"Coverage kept and mean similarity of the chosen set ({wording.percent(frontier.share)} kept), of sets at "
            "other lambdas, and of random sets"
        ),
        axes=("coverage kept", "\u2190 less similar to the tasks", "more similar (standard deviations) \u2192"),
        joined=[(point.similarity or 0.0, point.share or 0.0) for point in along],
    )
