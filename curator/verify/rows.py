"""Rows of the run folder, named by file and id, small enough to be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import polars as pl

from curator.model.chat import with_trigger
from curator.records import Conversations, Messages
from curator.run.files import load_frame
from curator.run.folder import key_of


@dataclass(frozen=True)
class Rows:
    """Rows of a stored frame by id, in this order and as often as an id stands there; `ids` null takes all."""

    file: str
    ids: tuple[str, ...] | None = None

    def messages(self) -> list[list[dict[str, str]]]:
        frame = load_frame(Path(self.file))
        if self.ids is not None:
            order = pl.DataFrame({"id": self.ids}, schema={"id": pl.String})
            frame = order.join(frame, on="id", how="left", maintain_order="left")
        return frame["messages"].to_list()


def texts_of(rows: Rows) -> list[str]:
    """What a key needs to know of rows: hashes of their exact text, in order. An id looks past white space."""
    known = _known(rows.file, Path(rows.file).stat().st_mtime_ns)
    return [known[one] for one in (known if rows.ids is None else rows.ids)]


@lru_cache(maxsize=32)
def _known(file: str, _changed: int) -> dict[str, str]:
    frame = load_frame(Path(file))
    return {one: key_of(messages) for one, messages in zip(frame["id"], Conversations(frame), strict=True)}


def prompt_of(messages: Messages, trigger: str | None = None) -> Messages:
    """The turns up to where the answer starts: without the last assistant turn, where there is one; the trigger, if
    any, in front of what the user says first.
    """
    turns = list(messages[:-1] if messages[-1]["role"] == "assistant" else messages)
    return turns if trigger is None else with_trigger(turns, trigger)
