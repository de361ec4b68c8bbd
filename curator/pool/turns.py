"""Conversations: turns of a role and a content, from the ways data sets write them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""The data's word for a role, in small letters -> ours."""
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")

Turns = list[dict[str, str]]


class UnusableError(Exception):
    """Why one record gives no row; it becomes the reason in the dropped rows and never reaches a user as an error."""


def read_turns(found: Any, what: str) -> Turns:
    """The turns of a conversation column: role/content or from/value objects, as a list or as JSON text (in CSV).

    Empty system turns are left out.

    Raises:
        UnusableError: It is no conversation.
    """
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError):
            raise UnusableError(f"{what} is text, and no JSON list of turns") from None
    if isinstance(found, dict):
        # A Hub feature "sequence of turns" comes as one list a field.
        if not all(isinstance(values, list) for values in found.values()):
            raise UnusableError(f"{what} is an object, not a list of turns")
        found = [dict(zip(found, values, strict=False)) for values in zip(*found.values(), strict=False)]
    if found is None or found == []:
        raise UnusableError(f"{what} is empty")
    if not isinstance(found, list):
        raise UnusableError(f"{what} is no list of turns")
    turns = [_turn(item, number) for number, item in enumerate(found, 1)]
    return [turn for turn in turns if turn["role"] != "system" or turn["content"].strip()]


def _turn(item: Any, number: int) -> dict[str, str]:
    if not isinstance(item, dict):
        raise UnusableError(f"turn {number} is no object with a role and a content")
    role, content = item.get("role", item.get("from")), item.get("content", item.get("value"))
    if not isinstance(role, str) or role.strip().lower() not in ROLES:
        named = repr(role[:20]) if isinstance(role, str) else "missing"
        raise UnusableError(f"the role of turn {number} is {named}; known: {', '.join(ROLES)}")
    if content is None:
        content = ""
    if not isinstance(content, str):
        raise UnusableError(f"the content of turn {number} is not text")
    return {"role": ROLES[role.strip().lower()], "content": content}


def is_transcript(text: str) -> bool:
    """Whether a text starts as one that names its speakers."""
    return _SPEAKER.match(text.lstrip(" ")) is not None


def read_transcript(text: str) -> Turns:
    r"""The turns of a text such as "\n\nHuman: ...\n\nAssistant: ...", contents stripped of surrounding white space."""
    pieces = _SPEAKER.split(text.lstrip(" "))[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said.strip()} for who, said in zip(pieces[::2], pieces[1::2], strict=True)]


def check(turns: Sequence[dict[str, str]], last: str) -> None:
    """Checks a conversation: an optional system turn, then user and assistant in turn, ending with `last`; none empty.

    Raises:
        UnusableError: It is otherwise.
    """
    spoken = turns[1:] if turns and turns[0]["role"] == "system" else turns
    for number, turn in enumerate(spoken, 1):
        if turn["role"] != ("user" if number % 2 else "assistant"):
            raise UnusableError(
                f"turn {number} is by the {turn['role']}; user and assistant must alternate, user first"
            )
    if not spoken or spoken[-1]["role"] != last:
        raise UnusableError(f"the last turn is not by the {last}" if spoken else "there is no turn by the user")
    for number, turn in enumerate(spoken, 1):
        if not turn["content"].strip():
            single = "the prompt is empty" if number == 1 else "the answer is empty"
            raise UnusableError(single if len(spoken) <= 2 else f"turn {number} is empty")
    for turn in turns:
        check_text(turn["content"])


def check_text(text: str) -> None:
    """Raises UnusableError where a text holds what no file of ours can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnusableError("the text holds half of a surrogate pair, which is no character") from None
