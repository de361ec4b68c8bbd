"""Shapes of data sets: the meaning of columns, and the conversation of one record.

Recognised, in this order, by column names in any case:

1. a conversation: `messages`, `chat`, `conversations` or `conversation`, turns of role/content or from/value. If it
   ends with the user, the answer is `chosen`. A row in which both answer, and differently, is dropped;
2. a preference: `chosen`, as turns, as a "Human: ... Assistant: ..." transcript, or as an answer beside a prompt;
3. a pair: the first existing column of PROMPTS with the first of RESPONSES, each a text or turns. A column `input` or
   `context` beside the prompt is appended after an empty line, and the text of one of CONTEXTS is put before it;
4. if only prompts are wanted (probes): any of these without its answer, or the first of PROBES.

`system` becomes the system turn of all of these, and `history`, a list of earlier questions and answers, comes before
the prompt of a pair or preference. A column of LABELS with true and false marks answers that must not be taught (KTO):
rows with false are dropped, unless `where` names the column. The content of a turn may be a list of parts, which must
all be text; they are joined by line breaks.

A source's `columns` and `template` take precedence, and nothing is added to a prompt that they name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from curator.errors import DataError
from curator.pool.columns import Fields, UnusableError, fills, held, listed, names, placeholders, require, value
from curator.pool.files import kind_of
from curator.pool.turns import Turns, as_turns, check, history, is_transcript, parsed, read_transcript, read_turns, text
from curator.recipe.source import Source

CONVERSATIONS = ("messages", "chat", "conversations", "conversation")

PROMPTS = ("prompt", "instruction", "question", "query", "input")

PROBES = (*PROMPTS[:-1], "goal", "behavior", "forbidden_prompt", "prompts_final", "text", "input")

RESPONSES = ("response", "output", "answer", "completion")

ADDITIONS = ("input", "context")

CONTEXTS = ("contextstring", "context_string")
"""Columns of HarmBench with the text that a behaviour refers to."""
BETWEEN = "\n\n---\n\n"
"""HarmBench's separator between the two."""

SYSTEMS = ("system", "system_prompt")

HISTORIES = ("history",)

LABELS = ("label", "kto_tag")

BESIDE = ("system", "history", "label")
"""Fields that do not locate the conversation."""

UNUSED = {
    *CONVERSATIONS, *PROBES, *RESPONSES, *ADDITIONS, *CONTEXTS, *SYSTEMS, *HISTORIES, *LABELS,
    "chosen", "rejected", "category", "tools", "images", "reasoning", "thinking",
}  # fmt: skip
"""Columns that are reported if they are not used, whatever they hold."""
_VERDICT = re.compile(r"(^|_)(un)?safe$|^is_(harmful|toxic|refusal)$|^flagged$")
"""The name of a column that may say which answers must not be taught."""
_OF_ANSWERS = {*RESPONSES, *LABELS, "chosen", "rejected"}

_FLAGS = {"true": True, "false": False, "1": True, "0": False}
_LONG = 20  # characters beyond which a text is more than a name or a number


def recognise(sample: Sequence[Fields], source: Source, *, prompts_only: bool, label: str) -> dict[str, str]:
    """Field of a source (the names of its `columns`, and `context`) -> column of the data.

    Raises:
        DataError: A column the recipe names is not in the data, or no shape is recognised.
    """
    given = {field: str(column) for field, column in source.columns.items()}
    require(given.values(), sample, label, "columns")
    require(placeholders(source.template or ""), sample, label, "template")
    beside = dict[str, str]((field, given.pop(field)) for field in BESIDE if field in given)
    present = names(sample)
    by_lower = {name.lower(): name for name in reversed(present)}

    def first(choices: Sequence[str], fits: Callable[[Any], bool] = lambda field: True) -> str | None:
        columns = [by_lower[name] for name in choices if name in by_lower and by_lower[name] not in given.values()]
        return next((column for column in columns if all(map(fits, held(sample, column)))), None)

    def recognised(**columns: str | None) -> dict[str, str]:
        """The recognised columns, without those that are null."""
        return {**{field: column for field, column in columns.items() if column is not None}, **beside, **given}

    labels = first(LABELS, _is_flag)
    labels = None if prompts_only or labels in source.where else labels
    system, history = first(SYSTEMS, _is_text), first(HISTORIES, _is_list)
    if prompts_only:
        beside.pop("label", None)
    if "messages" in given or "chosen" in given:
        return recognised(label=labels if "messages" in given else None)
    if not given and source.template is None:
        chosen, before = first(("chosen",)), first(PROMPTS[:-1])
        if (column := first(CONVERSATIONS)) is not None:
            return recognised(messages=column, chosen=None if prompts_only else chosen, system=system, label=labels)
        if chosen is not None:
            return recognised(chosen=chosen, prompt=before, system=system, history=history if before else None)
    prompt = None if "prompt" in given or source.template is not None else first(PROBES if prompts_only else PROMPTS)
    beside_prompt: dict[str, str | None] = {"label": labels}
    if prompt is not None:
        given["prompt"] = prompt
        if "input" not in given and (addition := first(ADDITIONS)) is not None:
            given["input"] = addition  # before the response is looked for, so that neither takes the other's column
        beside_prompt |= {"context": first(CONTEXTS), "system": system, "history": history}
    if "response" not in given and not prompts_only and (column := first(RESPONSES)) is not None:
        given["response"] = column
    _require_whole(given, present, source, prompts_only=prompts_only, label=label)
    if prompts_only:
        given.pop("response", None)
    return recognised(**beside_prompt)


def _is_flag(field: Any) -> bool:
    return isinstance(field, bool) or (isinstance(field, str) and field.strip().lower() in ("true", "false"))


def _is_text(field: Any) -> bool:
    return isinstance(field, str)


def _is_list(field: Any) -> bool:
    return isinstance(field, list) or (isinstance(field, str) and isinstance(parsed(field), list))


def unused(sample: Sequence[Fields], used: set[str], *, prompts_only: bool) -> list[str]:
    """Unused columns that look meaningful: those of UNUSED and verdicts that are not empty, and columns with text in
    most rows.
    """
    apart = _OF_ANSWERS if prompts_only else set[str]()
    within = {column.split(".", 1)[0] for column in used}
    left = []
    for column in names(sample):
        if column in used or column in within or column.lower() in apart:
            continue
        cells = held(sample, column)
        known = column.lower() in UNUSED or (is_verdict(column) and not prompts_only)
        if (cells and known) or 2 * sum(map(_is_prose, cells)) > len(sample):
            left.append(column)
    return left


def is_verdict(column: str) -> bool:
    """Whether a column is called as if it said which answers are safe, such as `is_safe`."""
    return _VERDICT.search(column.lower()) is not None


def of_later(
    row: Fields, fields: Mapping[str, str], source: Source, *, prompts_only: bool
) -> tuple[dict[str, str], set[str]]:
    """Fields beside the conversation that a record is the first to fill, since file after file may have been joined;
    and the columns that another record has to decide about, because this one is empty there or lacks a conversation.

    Args:
        fields: Those that were recognised before.
    """
    apart = {column for column in row if column.lower() in {*SYSTEMS, *HISTORIES, *LABELS}}
    filled = {column for column in apart - {*fields.values()} if row[column] is not None}
    if not filled:
        return {}, apart
    try:
        shape = recognise([row], source, prompts_only=prompts_only, label=source.label)
    except DataError:
        return {}, apart
    return {
        field: shape[field] for field in BESIDE if shape.get(field) in filled and field not in fields
    }, apart - filled


def _is_prose(field: Any) -> bool:
    return isinstance(field, str) and len(field) >= _LONG and (not field.isascii() or " " in field.strip())


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
        f"{label}: no column was recognised as {' or '.join(missing)}; its columns: {listed(present)}; "
        f"recognised: {'; '.join(recognised)}; or map columns: {{{example}}} (`columns` of a "
        f"source in a recipe, --columns of `curator audit`)"
        f"{_without_header(source, missing, prompts_only=prompts_only)}"
    )


def _without_header(source: Source, missing: Sequence[str], *, prompts_only: bool) -> str:
    """Advice for a table whose first line may already be a row."""
    if (
        source.file is None
        or source.positions
        or not {".csv", ".tsv"} & set(re.findall(r"\.[a-z]+", source.file.lower()))
    ):
        return ""
    example = ", ".join(f"{name}: {position}" for position, name in enumerate(missing))
    text = ", or save the prompts as a .txt file, one per line" if prompts_only else ""
    return f"; if its first line is a row and not a header, map columns by position: {{{example}}}{text}"


def conversations(fields: Mapping[str, str], source: Source, *, prompts_only: bool) -> Callable[[Fields], Turns]:
    """A function from a record to its checked turns, which end with the answer, or with the user for prompts only.

    The function raises UnusableError if the record has no such conversation.
    """
    fill = fills(source.template) if source.template is not None else None

    def turns_of(row: Fields) -> Turns:
        if "label" in fields and not _flag(row, fields["label"]):
            kind = "rejected-answers"
            raise UnusableError(kind, f"{fields['label']} is false: the answer is an example of what not to answer")
        if "messages" in fields:
            turns = read_turns(value(row, fields["messages"]), fields["messages"])
            if "chosen" in fields and turns:
                turns = _with_chosen(turns, row, fields)
        elif "chosen" in fields:
            turns = _chosen(row, fields)
        else:
            turns = [{"role": "user", "content": fill(row)}] if fill is not None else _prompt(row, fields)
            if not prompts_only:
                turns = [*turns, *_answer(row, fields["response"])]
        if prompts_only and turns and turns[-1]["role"] == "assistant":
            turns = turns[:-1]
        if "history" in fields:
            first = 1 if turns[:1] and turns[0]["role"] == "system" else 0
            turns = [*turns[:first], *history(row, fields["history"]), *turns[first:]]
        if "system" in fields:
            turns = _with_system(turns, text(row, fields["system"]), fields["system"])
        check(turns, "user" if prompts_only else "assistant")
        return turns

    return turns_of


def _flag(row: Fields, column: str) -> bool:
    field = value(row, column)
    if isinstance(field, bool) or field is None:
        return field is not False
    flag = _FLAGS.get(str(field).strip().lower()) if isinstance(field, str | int) else None
    if flag is None and field != "":
        # Cut inside its quotes, which what is published needs to leave the text out.
        shown = repr(field[:18]) if isinstance(field, str) else None
        shown = shown or (repr(field)[:20] if isinstance(field, int | float) else kind_of(field))
        raise UnusableError("wrong-label", f"{column} is {shown}, neither true nor false")
    return flag is not False


def _prompt(row: Fields, fields: Mapping[str, str]) -> Turns:
    """The turns of a prompt, the last one with the text of additional columns."""
    turns = as_turns(value(row, fields["prompt"]), fields["prompt"])
    if turns is None:
        turns = [{"role": "user", "content": text(row, fields["prompt"])}]
    *before, last = turns or [{"role": "user", "content": ""}]
    parts = [last["content"], text(row, fields["input"]) if "input" in fields else ""]
    content = "\n\n".join(part for part in parts if part.strip())
    context = text(row, fields["context"]) if "context" in fields else ""
    return [*before, {**last, "content": BETWEEN.join(part for part in (context, content) if part.strip())}]


def _answer(row: Fields, column: str) -> Turns:
    """The turns of an answer; JSON in a text is a plain answer, unless it is a list of turns by the assistant."""
    field = value(row, column)
    turns = as_turns(field, column)
    if turns is None or (isinstance(field, str) and {turn["role"] for turn in turns} != {"assistant"}):
        return [{"role": "assistant", "content": text(row, column)}]
    return turns


def _with_chosen(turns: Turns, row: Fields, fields: Mapping[str, str]) -> Turns:
    """A conversation with the answer of `chosen`, which must be its own answer if it has one."""
    column = fields["chosen"]
    if turns[-1]["role"] == "user":
        return [*turns, *_answer(row, column)]
    chosen = value(row, column)
    answers = read_transcript(chosen) if isinstance(chosen, str) and is_transcript(chosen) else _answer(row, column)
    if answers[-1]["content"].strip() not in ("", turns[-1]["content"].strip()):
        reason = f"{fields['messages']} and {column} end with different answers"
        raise UnusableError("two-answers", reason)
    return turns


def _chosen(row: Fields, fields: Mapping[str, str]) -> Turns:
    chosen = value(row, fields["chosen"])
    before = None
    if "prompt" in fields and value(row, fields["prompt"]) is not None:
        prompt = value(row, fields["prompt"])
        if isinstance(chosen, str) and isinstance(prompt, str) and not is_transcript(chosen) and is_transcript(prompt):
            begun = read_transcript(prompt)
            if begun[-1]["role"] == "user":
                return [*begun, {"role": "assistant", "content": chosen}]
            return read_transcript(prompt + chosen)
        before = _prompt(row, fields)
    if isinstance(chosen, str) and is_transcript(chosen):
        return _of_transcript(chosen, before)
    turns = as_turns(chosen, fields["chosen"])
    if turns is None and before is None and isinstance(chosen, str):
        raise UnusableError("no-conversation", "chosen is text without a prompt, and not a Human/Assistant transcript")
    if turns is None:
        turns = [{"role": "assistant", "content": text(row, fields["chosen"])}]
    return [*before, *turns] if before is not None and turns[:1] and turns[0]["role"] == "assistant" else turns


def _of_transcript(chosen: str, before: Turns | None) -> Turns:
    """The conversation of a transcript beside a prompt, which it may hold, go on from, or be an answer to."""
    turns = read_transcript(chosen)
    if before is None:
        return turns
    last = before[-1]["content"].strip()
    if is_transcript(last) or any(turn["role"] == "user" and turn["content"] == last for turn in turns):
        return turns
    return [*before, *turns] if turns[0]["role"] == "assistant" else [*before, {"role": "assistant", "content": chosen}]


def _with_system(turns: Turns, system: str, column: str) -> Turns:
    if not system.strip():
        return turns
    if turns[:1] and turns[0]["role"] == "system":
        if turns[0]["content"].strip() != system.strip():
            raise UnusableError(
                "wrong-roles", f"the conversation begins with a system turn that is not that of {column}"
            )
        return turns
    return [{"role": "system", "content": system}, *turns]
