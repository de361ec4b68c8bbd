"""Columns of a record: finding them, keeping rows by their value, building a prompt from them."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from curator.errors import DataError

Fields = Mapping[str, Any]

_ABSENT = object()  # null is a value that a column may hold


def value(row: Fields, column: str, absent: Any = None) -> Any:
    """What stands in a column, else `absent`; `a.b` is the field b of column a, unless a column is called so."""
    if column in row or "." not in column:
        return row.get(column, absent)
    first, rest = column.split(".", 1)
    inner = row.get(first)
    return value(inner, rest, absent) if isinstance(inner, Mapping) else absent


def has(row: Fields, column: str) -> bool:
    """Whether a row has the column; a dot leads into a column inside a column."""
    return value(row, column, _ABSENT) is not _ABSENT


def names(sample: Iterable[Fields]) -> list[str]:
    """Column names in the order first seen, over rows that need not all have the same."""
    return list(dict.fromkeys(name for row in sample for name in row))


def require(columns: Iterable[str], sample: Sequence[Fields], label: str, key: str) -> None:
    """Checks that each column stands in some row of the sample.

    Raises:
        DataError: One does not; `key` is the recipe's key that names it.
    """
    for column in columns:
        if not any(has(row, column) for row in sample):
            present = ", ".join(names(sample))
            raise DataError(
                f"{label}: {key} names the column {column!r}, which is not in the data; its columns: {present}"
            )


def fills(template: str) -> Callable[[Fields], str]:
    """A function that writes a row's columns into a template such as "{question} ({unit})", null as nothing."""
    pieces = [(before, name) for before, name, _, _ in string.Formatter().parse(template)]

    def fill(row: Fields) -> str:
        filled = ((before, value(row, name) if name else None) for before, name in pieces)
        return "".join(before + ("" if field is None else str(field)) for before, field in filled)

    return fill


def placeholders(template: str) -> list[str]:
    """The columns that a template names, in its order."""
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def matches(where: Mapping[str, Any]) -> Callable[[Fields], str | None]:
    """A function that tells why a row does not meet `where`, or null where it does.

    A value must equal the wanted one, or one of a list of wanted ones, and be of its type: 1 is not true. But a
    text in the data is read as the wanted type, since CSV holds only text: "True" equals true, "1.0" equals 1.
    """
    allowed = {column: choices if isinstance(choices, list) else [choices] for column, choices in where.items()}

    def reason(row: Fields) -> str | None:
        for column, choices in allowed.items():
            field = value(row, column)
            if not any(_equal(field, choice) for choice in choices):
                return f"{column} is not {' or '.join(show(choice) for choice in choices)}"
        return None

    return reason


def _equal(field: Any, choice: Any) -> bool:
    if isinstance(field, str) and isinstance(choice, bool):
        return field.strip().lower() == str(choice).lower()
    if isinstance(field, str) and not isinstance(choice, str):
        try:
            return float(field) == float(choice)
        except ValueError:
            return False
    if isinstance(field, bool) or isinstance(choice, bool):
        return field is choice
    same: bool = field == choice
    return same


def show(field: Any) -> str:
    """A value as a recipe writes it, short."""
    if field is None or isinstance(field, bool):
        return {None: "null", True: "true", False: "false"}[field]
    text = repr(field)
    return text if len(text) <= 40 else f"{text[:37]}..."


def refuse_nothing_kept(where: Mapping[str, Any], sample: Sequence[Fields], label: str, count: int) -> None:
    """Says what the columns of `where` hold, when no row met it; columns of many different values are only counted.

    Raises:
        DataError: Always.
    """
    holds = []
    for column in where:
        values = sorted({show(value(row, column)) for row in sample})
        listed = ", ".join(values) if len(values) <= 12 else f"{len(values)} different values"
        holds.append(f"{column} holds {listed}")
    raise DataError(f"{label}: where keeps none of {count:,} rows; {'; '.join(holds)}; correct the value or its type")
