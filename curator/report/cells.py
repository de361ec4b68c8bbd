"""Cells of the report's tables: what a reader sees, and the number behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from curator import wording


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number behind it, by which it is sorted and which a CSV file gets."""

    shown: str
    value: float | None = None


def cell(shown: Callable[..., str], value: float | None, *more: Any) -> Cell:
    """A number as `shown` tells it."""
    return Cell(shown(value, *more), value)


def share(value: float | None) -> Cell:
    """A share in [0, 1], in percent."""
    return cell(wording.percent, value)


def points(value: float | None) -> Cell:
    """A difference in [-1, 1], in points."""
    return cell(wording.points, value)


def number(value: float | None, digits: int = 3) -> Cell:
    """Any number."""
    return cell(wording.number, value, digits)


def interval(one: Mapping[str, Any]) -> Cell:
    """The limits `low` and `high` of an interval."""
    return Cell(wording.reach(one["low"], one["high"]))
