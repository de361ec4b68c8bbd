"""When two rows ask the same: ids of what is asked, apart from what is answered."""

from __future__ import annotations

import polars as pl

from curator.records import Conversations, Messages, row_id


def prompt_id(messages: Messages) -> str:
    """The id of a conversation up to its last user turn, without a system turn."""
    spoken = [turn for turn in messages if turn["role"] != "system"]
    return row_id(spoken[:-1] if spoken[-1]["role"] == "assistant" else spoken)


def asked_ids(messages: Messages) -> set[str]:
    """The ids of everything a conversation asks: each user turn alone, and with all that went before it."""
    spoken = [turn for turn in messages if turn["role"] != "system"]
    users = [number for number, turn in enumerate(spoken) if turn["role"] == "user"]
    alone = {row_id([spoken[number]]) for number in users}
    return alone | {row_id(spoken[: number + 1]) for number in users if number > 0}


Asked = dict[str, tuple[str, str]]
"""Id of what is asked -> (role, row id) of the first row that asks it."""


def asked_in(role: str, rows: pl.DataFrame) -> Asked:
    """Everything asked in a role's rows."""
    found: Asked = {}
    for row, messages in zip(rows["id"], Conversations(rows), strict=True):
        for asked in asked_ids(messages):
            found.setdefault(asked, (role, row))
    return found
