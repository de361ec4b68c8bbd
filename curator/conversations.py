"""Conversations of a frame as a sequence, so that a pool larger than memory is never all Python's objects at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

import polars as pl

from curator.records import Messages

CHUNK = 256
"""Conversations that are Python's objects at one time while a sequence is gone through."""

View = Callable[[Messages], Messages]


class Conversations(Sequence[Messages]):
    """The `messages` of `n` rows, in their order, made into lists of turns when they are asked for.

    Args:
        rows: A frame with a column `messages`; where it is mapped from a file, so is what is read here.
        view: What is made of each conversation, for example its last question alone; null for the whole.
    """

    def __init__(self, rows: pl.DataFrame, view: View | None = None) -> None:
        self._messages = rows["messages"]
        self._view = view

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, place: int) -> Messages: ...
    @overload
    def __getitem__(self, place: slice) -> list[Messages]: ...
    def __getitem__(self, place: int | slice) -> Messages | list[Messages]:
        if isinstance(place, slice):
            return self._seen(self._messages[place])
        found: Messages = self._messages[place].to_list()
        return found if self._view is None else self._view(found)

    def __iter__(self) -> Iterator[Messages]:
        for start in range(0, len(self), CHUNK):
            yield from self._seen(self._messages.slice(start, CHUNK))

    def _seen(self, part: pl.Series) -> list[Messages]:
        found: list[Messages] = part.to_list()
        return found if self._view is None else [self._view(one) for one in found]
