"""The turns of a conversation, read from objects, JSON text, pairs or transcripts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import cast

from curator.pool.columns import Fields, UnusableError, value
from curator.pool.files import Unreadable, kind_of, read_json

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
"""Word for a role in data, in lower case -> role in curator."""

_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_TEXT_PARTS = (None, "text", "input_text", "output_text")
Turns = list[dict[str, str]]


_PYTHON = re.compile(r"\s*\[\s*\{\s*'(?:role|from|content|value)'\s*:")
"""The start of a list of turns as Python prints it, such as pandas writes to CSV."""


def parsed(text: str) -> object:
    """The value of JSON text; null if it is not JSON."""
    try:
        return read_json(text)
    except (ValueError, RecursionError):
        return None


def as_turns(field: object, what: str) -> Turns | None:
    """The turns of a value that is a turn or a list of turns; null if it is neither.

    A text counts as a list of turns if all of it is the JSON of one (as in CSV); any other text is plain text.
    """
    if isinstance(field, str):
        if not field.lstrip().startswith("["):
            return None
        value = parsed(field)
        if value is None and _PYTHON.match(field):
            reason = "is a list of turns in Python's own form, and not JSON; write the file with to_json, or as Parquet"
            raise UnusableError("no-conversation", f"{what} {reason}")
        try:
            return as_turns(value, what)
        except UnusableError:
            return None
    if isinstance(field, dict) and _has_role(field):
        field = field if any(isinstance(part, list) for part in field.values()) else [field]
    elif not (isinstance(field, list) and field and all(map(_has_role, field))):
        return None
    turns = read_turns(field, what)
    if not turns:
        raise UnusableError("empty", f"{what} is empty")
    return turns


def _has_role(item: object) -> bool:
    return isinstance(item, dict) and (item.get("role") is not None or item.get("from") is not None)


def read_turns(field: object, what: str) -> Turns:
    """The turns of a conversation column: role/content or from/value objects, as a list or as JSON text (in CSV).

    Empty system turns are left out.

    Raises:
        UnusableError: It is not a conversation.
    """
    if isinstance(field, str) and field.strip():
        field = parsed(field)
        if field is None:
            raise UnusableError("no-conversation", f"{what} is text, and not a JSON list of turns")
    if isinstance(field, dict):
        # A Hub feature "sequence of turns" comes as one list per field.
        if not all(isinstance(values, list) for values in field.values()):
            raise UnusableError("no-conversation", f"{what} is an object, not a list of turns")
        field = [dict(zip(field, values, strict=False)) for values in zip(*field.values(), strict=False)]
    if field is None or field in ("", []) or (isinstance(field, str) and not field.strip()):
        raise UnusableError("empty", f"{what} is empty")
    if not isinstance(field, list):
        raise UnusableError("no-conversation", f"{what} is {kind_of(field)}, not a list of turns")
    turns = [_turn(item, number) for number, item in enumerate(field, 1)]
    return [turn for turn in turns if turn["role"] != "system" or turn["content"].strip()]


def _turn(item: object, number: int) -> dict[str, str]:
    if isinstance(item, Unreadable):
        raise UnusableError("broken-records", f"turn {number} {item.reason}")
    if not isinstance(item, dict):
        raise UnusableError("no-conversation", f"turn {number} is {kind_of(item)}, not an object with role and content")
    role = item.get("role") if item.get("role") is not None else item.get("from")
    if not isinstance(role, str) or role.strip().lower() not in ROLES:
        named = "missing" if role is None else repr(role[:20]) if isinstance(role, str) else kind_of(role)
        raise UnusableError("wrong-roles", f"the role of turn {number} is {named}; known: {', '.join(ROLES)}")
    calls = next((name for name in ("tool_calls", "function_call") if item.get(name)), None)
    if calls is not None:
        raise UnusableError("not-text", f"turn {number} has {calls}, which are not text")
    if "content" not in item and "value" not in item:
        keys = ", ".join(map(str, item))
        raise UnusableError("no-conversation", f"turn {number} has neither content nor value; its keys: {keys}")
    content = item.get("content") if item.get("content") is not None else item.get("value")
    return {"role": ROLES[role.strip().lower()], "content": _content(content, f"the content of turn {number}")}


def _content(content: object, what: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Unreadable):
        raise UnusableError("broken-records", f"{what} {content.reason}")
    if isinstance(content, dict) and "text" in content:
        content = [content]
    if not isinstance(content, list):
        raise UnusableError("not-text", f"{what} is {kind_of(content)}, not text")
    return _joined(content, what)


def _joined(parts: Sequence[object], what: str) -> str:
    """The text of a list of parts, each a text or an object of type text, joined by line ends."""
    texts = []
    for part in parts:
        if isinstance(part, Unreadable):
            raise UnusableError("broken-records", f"{what} contains an object that {part.reason}")
        kind, text = (part.get("type"), part.get("text")) if isinstance(part, dict) else (None, part)
        if kind not in _TEXT_PARTS or not isinstance(text, str | None) or (text is None and kind is None):
            named = f"of type {kind[:20]!r}" if isinstance(kind, str) else f"that is {kind_of(part)}"
            raise UnusableError("not-text", f"{what} has a part {named}, which is not text")
        texts.append(text or "")
    return "\n".join(texts)


def is_transcript(text: str) -> bool:
    """Whether a text starts like a transcript with named speakers."""
    return _SPEAKER.match(text.lstrip(" ")) is not None


def read_transcript(text: str) -> Turns:
    r"""The turns of a text such as "\n\nHuman: ...\n\nAssistant: ...", with surrounding white space removed."""
    pieces = _SPEAKER.split(text.lstrip(" "))[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[speaker], "content": content.strip()}
        for speaker, content in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def check(turns: Sequence[dict[str, str]], last: str) -> None:
    """Checks a conversation: an optional system turn, then user and assistant in turn, ending with `last`; none empty.

    Raises:
        UnusableError: The conversation is not like that.
    """
    dialogue = turns[1:] if turns and turns[0]["role"] == "system" else turns
    for number, turn in enumerate(dialogue, 1):
        if turn["role"] != ("user" if number % 2 else "assistant"):
            raise UnusableError(
                "wrong-roles", f"turn {number} is by the {turn['role']}; user and assistant must alternate, user first"
            )
    if not dialogue or dialogue[-1]["role"] != last:
        reason = f"the last turn is not by the {last}" if dialogue else "there is no turn by the user"
        raise UnusableError("wrong-roles", reason)
    for number, turn in enumerate(dialogue, 1):
        if not turn["content"].strip():
            single = "the prompt is empty" if number == 1 else "the answer is empty"
            raise UnusableError("empty", single if len(dialogue) <= 2 else f"turn {number} is empty")
    for turn in turns:
        check_text(turn["content"], f"the text of the {turn['role']}")


def check_text(text: str, what: str) -> None:
    """Raises UnusableError if a text cannot be written as UTF-8: it contains half a surrogate pair, or bytes that were
    not UTF-8 when they were read.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ord(text[error.start])
        if 0xDC80 <= half <= 0xDCFF:
            reason = f"{what} is not UTF-8 (byte 0x{half - 0xDC00:02X})"
            raise UnusableError("broken-records", reason) from None
        raise UnusableError("half-characters", f"{what} contains half of a surrogate pair, not a character") from None


def text(row: Fields, column: str) -> str:
    """The text of a column: numbers are converted, parts are joined, null is empty."""
    field: object = value(row, column)
    if field is None:
        return ""
    if isinstance(field, str):
        return field
    if isinstance(field, int | float | Decimal) and not isinstance(field, bool) and abs(field) != float("inf"):
        return str(field)
    if isinstance(field, list) and field and all(isinstance(part, dict) and "text" in part for part in field):
        return _joined(field, column)
    raise UnusableError("not-text", f"{column} is {kind_of(field)}, not text")


def history(row: Fields, column: str) -> Turns:
    """Earlier turns: a list of pairs of a question and its answer, or of turns."""
    field = value(row, column)
    if isinstance(field, str) and field.strip():
        written, field = field, parsed(field)
        if field is None and written.strip() != "null":
            raise UnusableError("no-conversation", f"{column} is text, and not a JSON list of earlier turns")
    if not field:
        return []
    if (turns := as_turns(field, column)) is not None:
        return turns
    pairs = field if isinstance(field, list) else [field]
    if not all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair) for pair in pairs):
        raise UnusableError("no-conversation", f"{column} is not a list of pairs of a question and its answer")
    roles = ("user", "assistant")
    return [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(roles, cast("list[str]", pair), strict=True)
    ]
