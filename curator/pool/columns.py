"""Columns of a record: finding them, keeping rows by their value, building a prompt from them."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping, Sequence

from curator.errors import DataError
from curator.pool.files import Unreadable, kind_of
from curator.records import Drop
from curator.wording import these

Fields = Mapping[str, object]

_LONGEST = 60  # characters of a column's name in a message
_ABSENT = object()  # marks an absent column, since a column may hold null


class UnusableError(Exception):
    """Why one record gives no row; it becomes the drop of that record and never reaches a user as an error.

    Args:
        kind: One of DROP_KINDS.
        reason: A sentence.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.drop = Drop(kind, reason)


def value(row: Fields, column: str, absent: object = None) -> object:
    """The value of a column, else `absent`; `a.b` is the field b of column a, unless a column has that name.

    Raises:
        UnusableError: The value cannot be read.
    """
    held = _held(row, column, absent)
    if isinstance(held, Unreadable):
        raise UnusableError("broken-records", f"{column} {held.reason}")
    return held


def _held(row: Fields, column: str, absent: object) -> object:
    if column in row or "." not in column:
        return row.get(column, absent)
    first, rest = column.split(".", 1)
    inner = row.get(first)
    if isinstance(inner, Unreadable):
        return inner
    return _held(inner, rest, absent) if isinstance(inner, Mapping) else absent


def has(row: Fields, column: str) -> bool:
    """Whether a row has the column; a dot separates a column from a field in it."""
    return _held(row, column, _ABSENT) is not _ABSENT


def held(sample: Iterable[Fields], column: str) -> list[object]:
    """The readable values of a column that are not empty: not null, "", [] or {}."""
    values = (_held(row, column, None) for row in sample)
    return [each for each in values if each not in (None, "", [], {}) and not isinstance(each, Unreadable)]


def names(sample: Iterable[Fields]) -> list[str]:
    """Column names in the order first seen, over rows that may have different columns."""
    return list(dict.fromkeys(name for row in sample for name in row))


def listed(columns: Iterable[str]) -> str:
    """Column names in a message. Long names are cut, since they may be values of a table without a header."""
    return ", ".join(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..." for name in columns)


def require(columns: Iterable[str], sample: Sequence[Fields], label: str, key: str) -> None:
    """Checks that each column is in some row of the sample.

    Raises:
        DataError: A column is missing; `key` is the recipe's key that names it.
    """
    for column in columns:
        if not any(has(row, column) for row in sample):
            present = listed(names(sample))
            raise DataError(
                f"{label}: {key} names the column {column!r}, which the data does not have; its columns: {present}"
            )


def fills(template: str) -> Callable[[Fields], str]:
    """A function that fills a template such as "{question} ({unit})" with a row's columns; null becomes an empty
    text.
    """
    pieces = [(before, name) for before, name, _, _ in string.Formatter().parse(template)]

    def fill(row: Fields) -> str:
        return "".join(before + (_filling(row, name) if name else "") for before, name in pieces)

    return fill


def _filling(row: Fields, column: str) -> str:
    field = value(row, column)
    if isinstance(field, bytes):
        raise UnusableError("not-text", f"{column} is binary, not text")
    if isinstance(field, list | dict) and (inner := _first_unreadable(field)) is not None:
        raise UnusableError("broken-records", f"{column} contains an object that {inner.reason}")
    return "" if field is None else str(field)


def _first_unreadable(field: object) -> Unreadable | None:
    if isinstance(field, list | dict):
        parts = field.values() if isinstance(field, dict) else field
        return next((inner for part in parts if (inner := _first_unreadable(part)) is not None), None)
    return field if isinstance(field, Unreadable) else None


def placeholders(template: str) -> list[str]:
    """The columns that a template names, in their order."""
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def matches(where: Mapping[str, object]) -> Callable[[Fields], str | None]:
    """A function that returns why a row does not meet `where`, or null if it does. Raises like `value`.

    A value must equal the wanted one, or one of a list of wanted ones, and have its type: 1 is not true. But a text in
    the data is read as the wanted type, since CSV has only text: "True" equals true, "1.0" equals 1.
    """
    allowed = {column: choices if isinstance(choices, list) else [choices] for column, choices in where.items()}

    def reason(row: Fields) -> str | None:
        for column, choices in allowed.items():
            field = value(row, column)
            if not any(_equal(field, choice) for choice in choices):
                return f"{column} is not {' or '.join(show(choice) for choice in choices)}"
        return None

    return reason


def _equal(field: object, choice: object) -> bool:
    if isinstance(field, str) and isinstance(choice, bool):
        return field.strip().lower() == str(choice).lower()
    if isinstance(field, str) and not isinstance(choice, str):
        try:
            return float(field) == float(str(choice))
        except (ValueError, OverflowError):
            return False
    if isinstance(field, bool) or isinstance(choice, bool):
        return field is choice
    same: bool = field == choice
    return same


def show(field: object) -> str:
    """A value as a recipe writes it, short."""
    if field is None or isinstance(field, bool):
        return {None: "null", True: "true", False: "false"}[field]
    if isinstance(field, Unreadable):
        return "an unreadable value"
    if isinstance(field, list | dict):
        return kind_of(field)
    text = repr(field)
    return text if len(text) <= 40 else f"{text[:37]}..."


def refuse_nothing_kept(where: Mapping[str, object], sample: Sequence[Fields], label: str, count: int) -> None:
    """Reports the values of the columns of `where` if no row meets it; many different values are only counted.

    Raises:
        DataError: Always.
    """
    holds = []
    for column in where:
        values = sorted({show(_held(row, column, None)) for row in sample})
        listed = ", ".join(values) if len(values) <= 12 else these(len(values), "different value", "different values")
        holds.append(f"{column} has {listed}")
    rows = these(count, "row", "rows")
    raise DataError(f"{label}: where keeps none of {rows}; {'; '.join(holds)}; correct the value or its type")
