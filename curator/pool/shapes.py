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

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from curator.errors import DataError
from curator.pool.columns import Fields, fills, names, placeholders, require, value
from curator.pool.turns import Turns, UnusableError, check, is_transcript, read_transcript, read_turns
from curator.recipe.source import Source

CONVERSATIONS = ("messages", "chat", "conversations", "conversation")
PROMPTS = ("prompt", "instruction", "question", "query", "input")
PROBES = (*PROMPTS[:-1], "goal", "behavior", "forbidden_prompt", "prompts_final", "text", "input")
RESPONSES = ("response", "output", "answer", "completion")
ADDITIONS = ("input", "context")


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
    found: Any = value(row, column)
    if found is None:
        return ""
    if isinstance(found, str):
        return found
    if isinstance(found, int | float) and not isinstance(found, bool):
        return str(found)
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
    asked = read_turns(prompt, "prompt") if isinstance(prompt, list) else [{"role": "user", "content": str(prompt)}]
    return [*asked, *turns]
