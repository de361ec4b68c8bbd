"""Cells and tables of a report: what a reader sees, and the number behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from curator import wording
from curator.conclusions.part import MIX

Row = tuple[object, ...]  # cells, and words

Made = tuple[str, str | Sequence[str], Iterable[Row]]  # caption, columns (between bars), rows


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number behind it, by which it is sorted and which a CSV file gets.

    Attributes:
        whole: Whether it stays on one line.
    """

    shown: str
    value: float | None = None
    whole: bool = False


class Interval(Protocol):
    """Whatever has the limits of an interval."""

    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


@dataclass(frozen=True)
class Table:
    """A table with its caption.

    Attributes:
        name: Name of its CSV file and of its position on the page. `numbers`: the columns that hold numbers.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: frozenset[int]


def table(name: str, caption: str, columns: str | Sequence[str], rows: Iterable[Row]) -> Table:
    """A table of rows whose entries are cells or plain values; `columns` may be one text, with bars between names."""
    cells = [tuple(value if isinstance(value, Cell) else Cell(_text(value)) for value in row) for row in rows]
    numbers = frozenset(column for row in cells for column, value in enumerate(row) if value.value is not None)
    return Table(name, caption, columns.split("|") if isinstance(columns, str) else columns, cells, numbers)


def _text(value: object) -> str:
    return "none" if value is None else "yes" if value is True else "no" if value is False else str(value)


def label(task: str | None) -> str:
    """A task's name for readers; the weighted mix reads `all anticipated`."""
    return "all anticipated" if task in (None, MIX) else str(task)


def cell(shown: Callable[[float | None], str], value: float | None) -> Cell:
    """A number in the words of `shown`."""
    return Cell(shown(value), value)


def share(value: float | None) -> Cell:
    """A share in [0, 1], in percent."""
    return cell(wording.percent, value)


def points(value: float | None) -> Cell:
    """A difference in [-1, 1], in points."""
    return cell(wording.points, value)


def number(value: float | None, digits: int = 3) -> Cell:
    """Any number."""
    return Cell(wording.number(value, digits), value)


def interval(limits: Interval) -> Cell:
    """The limits of an interval."""
    return Cell(wording.reach(limits.low, limits.high), whole=True)
