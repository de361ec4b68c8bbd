"""Shapes of data sets: which columns hold what, and the conversation of one record.

Recognised, in this order, by column names in any case:

1. a conversation: `messages`, `chat`, `conversations` or `conversation`, turns of role/content or from/value;
2. a preference: `chosen`, as turns, as a "Human: ... Assistant: ..." transcript, or as an answer beside a prompt;
3. a pair: the first of PROMPTS that is there with the first of RESPONSES. A column `input` or `context` beside the
   prompt follows it after an empty line;
4. where only prompts are wanted (probes): any of these without its answer, or the first of PROBES.

What a source's `columns` and `template` say comes first, and nothing is added to a prompt they name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from curator.errors import DataError
from curator.pool.columns import Fields, fills, names, placeholders, require, value
from curator.recipe.source import Source

CONVERSATIONS = ("messages", "chat", "conversations", "conversation")

PROMPTS = ("prompt", "instruction", "question", "query", "input")

PROBES = (*PROMPTS[:-1], "goal", "behavior", "forbidden_prompt", "prompts_final", "text", "input")

RESPONSES = ("response", "output", "answer", "completion")

ADDITIONS = ("input", "context")

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


def recognise(sample: Sequence[Fields], source: Source, *, prompts_only: bool, label: str) -> dict[str, str]:
    """Which column holds which field: our name (messages, chosen, prompt, input, response, system) -> the data's.

    Raises:
        DataError: A column the recipe names is not in the data, or no shape is recognised.
    """
    require(source.columns.values(), sample, label, "columns")
    require(placeholders(source.template or ""), sample, label, "template")
    given = dict(source.columns)
    system = {"system": given.pop("system")} if "system" in given else {}
    if "messages" in given or "chosen" in given:
        return {**system, **given}
    present = names(sample)
    by_lower = {name.lower(): name for name in reversed(present)}

    def first(choices: Sequence[str]) -> str | None:
        return next(
            (by_lower[name] for name in choices if name in by_lower and by_lower[name] not in given.values()), None
        )

    if not given and source.template is None:
        if (column := first(CONVERSATIONS)) is not None:
            return {**system, "messages": column}
        if (column := first(("chosen",))) is not None:
            beside = first(PROMPTS[:-1])
            return {**system, "chosen": column, **({"prompt": beside} if beside else {})}
    prompt = None if "prompt" in given or source.template is not None else first(PROBES if prompts_only else PROMPTS)
    if prompt is not None:
        given["prompt"] = prompt
        if "input" not in given and (addition := first(ADDITIONS)) is not None:
            given["input"] = addition
    if "response" not in given and not prompts_only and (column := first(RESPONSES)) is not None:
        given["response"] = column
    _require_whole(given, present, source, prompts_only=prompts_only, label=label)
    if prompts_only:
        given.pop("response", None)
    return {**system, **given}


def _require_whole(
    given: Mapping[str, str], present: list[str], source: Source, *, prompts_only: bool, label: str
) -> None:
    missing = [] if "prompt" in given or source.template else ["prompt"]
    if "response" not in given and not prompts_only:
        missing.append("response")
    if not missing:
        return
    recognised = [f"a conversation ({', '.join(CONVERSATIONS)})", "chosen"]
    recognised.append(f"a prompt ({', '.join(PROBES if prompts_only else PROMPTS)})")
    if not prompts_only:
        recognised[-1] += f" with a response ({', '.join(RESPONSES)})"
    example = ", ".join(f"{name}: COLUMN" for name in missing)
    raise DataError(
        f"{label}: no column holds the {' or the '.join(missing)}; its columns: {', '.join(present)}; "
        f"recognised: {'; '.join(recognised)}; or name them in the recipe: columns: {{{example}}}"
    )


def conversations(fields: Mapping[str, str], source: Source, *, prompts_only: bool) -> Callable[[Fields], Turns]:
    """A function from a record to its checked turns, which end with the answer, or with the user for prompts only.

    The function raises UnusableError where the record gives no such conversation.
    """
    fill = fills(source.template) if source.template is not None else None

    def turns_of(row: Fields) -> Turns:
        if "messages" in fields:
            turns = read_turns(value(row, fields["messages"]), fields["messages"])
        elif "chosen" in fields:
            turns = _chosen(row, fields)
        else:
            prompt = fill(row) if fill is not None else _prompt(row, fields)
            turns = [{"role": "user", "content": prompt}]
            if not prompts_only:
                turns.append({"role": "assistant", "content": _text(row, fields["response"])})
        if prompts_only and turns and turns[-1]["role"] == "assistant":
            turns = turns[:-1]
        if "system" in fields and (system := _text(row, fields["system"])).strip():
            turns = [{"role": "system", "content": system}, *turns]
        check(turns, "user" if prompts_only else "assistant")
        return turns

    return turns_of


def _prompt(row: Fields, fields: Mapping[str, str]) -> str:
    parts = [_text(row, fields[name]) for name in ("prompt", "input") if name in fields]
    return "\n\n".join(part for part in parts if part.strip())


def _text(row: Fields, column: str) -> str:
    field: Any = value(row, column)
    if field is None:
        return ""
    if isinstance(field, str):
        return field
    if isinstance(field, int | float) and not isinstance(field, bool):
        return str(field)
    raise UnusableError(f"{column} is not text")


def _chosen(row: Fields, fields: Mapping[str, str]) -> Turns:
    chosen, prompt = value(row, fields["chosen"]), value(row, fields["prompt"]) if "prompt" in fields else None
    if isinstance(chosen, str) and not chosen.lstrip().startswith("["):
        if is_transcript(chosen):
            return read_transcript(chosen)
        if isinstance(prompt, str) and is_transcript(prompt):
            return read_transcript(prompt + chosen)
        if prompt is None:
            raise UnusableError("chosen is text without a prompt, and no Human/Assistant transcript")
        turns = [{"role": "assistant", "content": chosen}]
    else:
        turns = read_turns(chosen, fields["chosen"])
    if prompt is None or [turn["role"] for turn in turns] != ["assistant"]:
        return turns
    before = read_turns(prompt, "prompt") if isinstance(prompt, list) else [{"role": "user", "content": str(prompt)}]
    return [*before, *turns]


def read_turns(field: Any, what: str) -> Turns:
    """The turns of a conversation column: role/content or from/value objects, as a list or as JSON text (in CSV).

    Empty system turns are left out.

    Raises:
        UnusableError: It is not a conversation.
    """
    if isinstance(field, str):
        try:
            field = json.loads(field)
        except (ValueError, RecursionError):
            raise UnusableError(f"{what} is text, and no JSON list of turns") from None
    if isinstance(field, dict):
        # A Hub feature "sequence of turns" comes as one list a field.
        if not all(isinstance(values, list) for values in field.values()):
            raise UnusableError(f"{what} is an object, not a list of turns")
        field = [dict(zip(field, values, strict=False)) for values in zip(*field.values(), strict=False)]
    if field is None or field == []:
        raise UnusableError(f"{what} is empty")
    if not isinstance(field, list):
        raise UnusableError(f"{what} is no list of turns")
    turns = [_turn(item, number) for number, item in enumerate(field, 1)]
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
    return [
        {"role": roles[speaker], "content": content.strip()}
        for speaker, content in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def check(turns: Sequence[dict[str, str]], last: str) -> None:
    """Checks a conversation: an optional system turn, then user and assistant in turn, ending with `last`; none empty.

    Raises:
        UnusableError: It is otherwise.
    """
    dialogue = turns[1:] if turns and turns[0]["role"] == "system" else turns
    for number, turn in enumerate(dialogue, 1):
        if turn["role"] != ("user" if number % 2 else "assistant"):
            raise UnusableError(
                f"turn {number} is by the {turn['role']}; user and assistant must alternate, user first"
            )
    if not dialogue or dialogue[-1]["role"] != last:
        raise UnusableError(f"the last turn is not by the {last}" if dialogue else "there is no turn by the user")
    for number, turn in enumerate(dialogue, 1):
        if not turn["content"].strip():
            single = "the prompt is empty" if number == 1 else "the answer is empty"
            raise UnusableError(single if len(dialogue) <= 2 else f"turn {number} is empty")
    for turn in turns:
        check_text(turn["content"])


def check_text(text: str) -> None:
    """Raises UnusableError where a text holds what no file of ours can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnusableError("the text holds half of a surrogate pair, which is no character") from None
