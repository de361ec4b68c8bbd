"""The category of each row, where the data has one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def candidates(found: Any) -> list[str] | None:
    """The categories a value names, in the data's order: a name, a list of names, or a mapping from name to true/false.

    Null where the value is none of these; an empty list where it names none.
    """
    if found is None:
        return []
    if isinstance(found, list):
        found = {name: True for name in found if isinstance(name, str)} if _all(found, str) else found
    if isinstance(found, dict):
        return [name for name, true in found.items() if true] if _all(found.values(), bool | None) else None
    if isinstance(found, str | int | float):
        name = str(found).strip()
        return [name] if name else []
    return None


def _all(items: Any, kind: Any) -> bool:
    return all(isinstance(item, kind) for item in items)


def pick(rows: Sequence[Sequence[str]], how: str, counts: Mapping[str, int] | None = None) -> list[str | None]:
    """One category a row, null where it has none: its `first`, or the one that is `rarest` over all these rows.

    Among equally rare ones the first in alphabetical order counts, so that the order of rows does not matter. `counts`
    are those of more rows than these, where these are a part.
    """
    if how == "first":
        return [names[0] if names else None for names in rows]
    counts = Counter(name for names in rows for name in names) if counts is None else counts
    return [min(names, key=lambda name: (counts[name], name)) if names else None for names in rows]
