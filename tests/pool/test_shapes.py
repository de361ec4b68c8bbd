from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from curator.errors import DataError
from curator.pool.sources import read
from curator.recipe.source import Source

ASK, TELL = {"role": "user", "content": "ask"}, {"role": "assistant", "content": "tell"}
AGAIN, MORE = {"role": "user", "content": "again"}, {"role": "assistant", "content": "more"}
LAW = {"role": "system", "content": "law"}

SHAPES: dict[str, tuple[dict[str, Any], list[dict[str, str]]]] = {
    "messages": ({"messages": [ASK, TELL]}, [ASK, TELL]),
    "messages of several turns": ({"messages": [ASK, TELL, AGAIN, MORE]}, [ASK, TELL, AGAIN, MORE]),
    "messages with a system turn": ({"messages": [LAW, ASK, TELL]}, [LAW, ASK, TELL]),
    "messages with an empty system turn": ({"messages": [{**LAW, "content": " "}, ASK, TELL]}, [ASK, TELL]),
    "messages with other fields": ({"messages": [{**ASK, "weight": 1}, TELL], "score": 3}, [ASK, TELL]),
    "messages beside a prompt": ({"prompt": "no", "messages": [ASK, TELL], "response": "no"}, [ASK, TELL]),
    "messages as JSON text": ({"messages": json.dumps([ASK, TELL])}, [ASK, TELL]),
    "messages as one list a field": (
        {"messages": {"role": ["user", "assistant"], "content": ["ask", "tell"]}},
        [ASK, TELL],
    ),
    "chat": ({"chat": [ASK, TELL]}, [ASK, TELL]),
    "conversations": (
        {"conversations": [{"from": "human", "value": "ask"}, {"from": "gpt", "value": "tell"}]},
        [ASK, TELL],
    ),
    "conversations with a system turn": (
        {
            "conversations": [
                {"from": "system", "value": "law"},
                {"from": "user", "value": "ask"},
                {"from": "Model", "value": "tell"},
            ]
        },
        [LAW, ASK, TELL],
    ),
    "prompt and response": ({"prompt": "ask", "response": "tell"}, [ASK, TELL]),
    "prompt and completion": ({"prompt": "ask", "completion": "tell"}, [ASK, TELL]),
    "in capitals": ({"Prompt": "ask", "Response": "tell"}, [ASK, TELL]),
    "question and answer": ({"question": "ask", "answer": "tell"}, [ASK, TELL]),
    "a number for an answer": ({"question": "ask", "answer": 42}, [ASK, {**TELL, "content": "42"}]),
    "instruction and output": ({"instruction": "ask", "input": "", "output": "tell"}, [ASK, TELL]),
    "instruction, input and output": (
        {"instruction": "ask", "input": "this", "output": "tell", "text": "all of it"},
        [{**ASK, "content": "ask\n\nthis"}, TELL],
    ),
    "instruction, context and response": (
        {"instruction": "ask", "context": "here", "response": "tell", "category": "qa"},
        [{**ASK, "content": "ask\n\nhere"}, TELL],
    ),
    "input and output": ({"input": "ask", "output": "tell"}, [ASK, TELL]),
    "chosen turns": ({"chosen": [ASK, TELL], "rejected": [ASK, MORE]}, [ASK, TELL]),
    "chosen turns beside their prompt": (
        {"prompt": "ask", "chosen": [ASK, TELL], "rejected": [ASK, MORE]},
        [ASK, TELL],
    ),
    "chosen answer beside a prompt": ({"prompt": "ask", "chosen": "tell", "rejected": "more"}, [ASK, TELL]),
    "chosen turn beside a prompt": ({"prompt": "ask", "chosen": [TELL], "rejected": [MORE]}, [ASK, TELL]),
    "chosen turn beside prompt turns": ({"prompt": [LAW, ASK], "chosen": [TELL], "rejected": [MORE]}, [LAW, ASK, TELL]),
    "chosen transcript": (
        {"chosen": "\n\nHuman: ask\n\nAssistant: tell\n\nHuman: again\n\nAssistant: more", "rejected": "\n\nHuman: no"},
        [ASK, TELL, AGAIN, MORE],
    ),
    "chosen answer beside a transcript": (
        {"prompt": "\n\nHuman: ask\n\nAssistant:", "chosen": " tell", "rejected": " more"},
        [ASK, TELL],
    ),
}


def messages(source: Source, **options: Any) -> list[list[dict[str, str]]]:
    return read(source, **options).rows["messages"].to_list()


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_gives_its_conversation(lines: Callable[..., Source], name: str) -> None:
    row, expected = SHAPES[name]
    assert messages(lines([row])) == [expected]


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_gives_its_prompt_alone_for_probes(lines: Callable[..., Source], name: str) -> None:
    row, expected = SHAPES[name]
    assert messages(lines([row]), prompts_only=True) == [expected[:-1]]


@pytest.mark.parametrize(
    "column",
    [
        "prompt",
        "instruction",
        "question",
        "query",
        "goal",
        "Behavior",
        "forbidden_prompt",
        "prompts_final",
        "text",
        "input",
    ],
)
def test_a_column_of_prompts_is_enough_for_probes(lines: Callable[..., Source], column: str) -> None:
    assert messages(lines([{"id": "1", column: "ask", "label": "x"}]), prompts_only=True) == [[ASK]]


def test_probes_may_end_with_an_unanswered_turn_or_an_empty_answer(lines: Callable[..., Source]) -> None:
    assert messages(lines([{"messages": [ASK, TELL, AGAIN]}]), prompts_only=True) == [[ASK, TELL, AGAIN]]
    assert messages(lines([{"prompt": "ask", "response": ""}]), prompts_only=True) == [[ASK]]


MAPPED: dict[str, tuple[dict[str, Any], dict[str, Any], list[dict[str, str]]]] = {
    "prompt and response": (
        {"dialogue": "ask", "summary": "tell", "prompt": "no"},
        {"columns": {"prompt": "dialogue", "response": "summary"}},
        [ASK, TELL],
    ),
    "only the prompt, which then stands alone": (
        {"prompt": "no", "topic": "ask", "input": "no", "response": "tell"},
        {"columns": {"prompt": "topic"}},
        [ASK, TELL],
    ),
    "only the response": ({"prompt": "ask", "safe": "tell"}, {"columns": {"response": "safe"}}, [ASK, TELL]),
    "prompt with input": (
        {"a": "ask", "b": "this", "c": "tell"},
        {"columns": {"prompt": "a", "input": "b", "response": "c"}},
        [{**ASK, "content": "ask\n\nthis"}, TELL],
    ),
    "messages inside a column": (
        {"prompt": "no", "data": {"turns": [ASK, TELL]}},
        {"columns": {"messages": "data.turns"}},
        [ASK, TELL],
    ),
    "system": (
        {"system_prompt": "law", "prompt": "ask", "response": "tell"},
        {"columns": {"system": "system_prompt"}},
        [LAW, ASK, TELL],
    ),
    "empty system": ({"sys": "", "prompt": "ask", "response": "tell"}, {"columns": {"system": "sys"}}, [ASK, TELL]),
    "chosen": ({"prompt": "ask", "better": "tell"}, {"columns": {"prompt": "prompt", "chosen": "better"}}, [ASK, TELL]),
    "template": (
        {"question": "how far", "unit": "km", "meta": {"n": 3}, "answer": "tell"},
        {"template": "{question} ({unit})? {{{meta.n}}}"},
        [{**ASK, "content": "how far (km)? {3}"}, TELL],
    ),
    "template with a mapped response": (
        {"a": "x", "b": "tell", "prompt": "no"},
        {"template": "ask {a}", "columns": {"response": "b"}},
        [{**ASK, "content": "ask x"}, TELL],
    ),
}


@pytest.mark.parametrize("name", MAPPED)
def test_columns_and_template_come_before_what_is_recognised(lines: Callable[..., Source], name: str) -> None:
    row, options, expected = MAPPED[name]
    assert messages(lines([row], **options)) == [expected]


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        (
            {"a": "1", "b": "2"},
            {},
            "rows.jsonl: no column was recognised as prompt or response; its columns: a, b; recognised: a conversation "
            "(messages, chat, conversations, conversation); chosen; a prompt (prompt, instruction, question, query, "
            "input) with a response (response, output, answer, completion); or map columns: "
            "{prompt: COLUMN, response: COLUMN} (`columns` of a source in a recipe, --columns of `curator audit`)",
        ),
        (
            {"prompt": "ask"},
            {},
            "rows.jsonl: no column was recognised as response; its columns: prompt; recognised: a conversation "
            "(messages, chat, conversations, conversation); chosen; a prompt (prompt, instruction, question, query, "
            "input) with a response (response, output, answer, completion); or map columns: "
            "{response: COLUMN} (`columns` of a source in a recipe, --columns of `curator audit`)",
        ),
        (
            {"prompt": "ask", "response": "tell"},
            {"columns": {"prompt": "dialog"}},
            "rows.jsonl: columns names the column 'dialog', which the data does not have; its columns: prompt, "
            "response",
        ),
        (
            {"prompt": "ask", "response": "tell"},
            {"template": "{prompt} {unit}"},
            "rows.jsonl: template names the column 'unit', which the data does not have; its columns: prompt, response",
        ),
    ],
)
def test_columns_that_are_not_there_are_named_with_those_that_are(
    lines: Callable[..., Source], row: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as error:
        read(lines([row], **options))
    assert str(error.value) == message


def test_probes_without_a_known_column_say_which_are_known(lines: Callable[..., Source]) -> None:
    with pytest.raises(DataError) as error:
        read(lines([{"a": "1"}]), prompts_only=True)
    assert str(error.value) == (
        "rows.jsonl: no column was recognised as prompt; its columns: a; recognised: a conversation (messages, chat, "
        "conversations, conversation); chosen; a prompt (prompt, instruction, question, query, goal, behavior, "
        "forbidden_prompt, prompts_final, text, input); or map columns: {prompt: COLUMN} (`columns` of a source in a "
        "recipe, --columns of `curator audit`)"
    )


UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "empty prompt": ({"prompt": " \n", "response": "tell"}, "the prompt is empty"),
    "empty answer": ({"prompt": "ask", "response": ""}, "the answer is empty"),
    "null answer": ({"prompt": "ask", "response": None}, "the answer is empty"),
    "missing answer": ({"prompt": "ask"}, "the answer is empty"),
    "answer of another type": ({"prompt": "ask", "response": ["tell"]}, "response is a list, not text"),
    "true for an answer": ({"prompt": "ask", "response": True}, "response is true or false, not text"),
    "half a character": (
        {"prompt": "ask", "response": "\ud83d"},
        "the text of the assistant contains half of a surrogate pair, not a character",
    ),
}
UNUSABLE_TURNS: dict[str, tuple[Any, str]] = {
    "null": (None, "messages is empty"),
    "empty list": ([], "messages is empty"),
    "number": (3, "messages is a number, not a list of turns"),
    "text": ("hello", "messages is text, and not a JSON list of turns"),
    "object": ({"role": "user"}, "messages is an object, not a list of turns"),
    "texts": (["ask", "tell"], "turn 1 is a text, not an object with role and content"),
    "no role": (
        [{"content": "ask"}, TELL],
        "the role of turn 1 is missing; known: system, user, human, prompter, assistant, gpt, chatgpt, bot, model",
    ),
    "other role": (
        [ASK, {"role": "tool", "content": "x"}],
        "the role of turn 2 is 'tool'; known: system, user, human, prompter, assistant, gpt, chatgpt, bot, model",
    ),
    "parts": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, TELL],
        "the content of turn 1 has a part of type 'image_url', which is not text",
    ),
    "null content": ([ASK, {"role": "assistant", "content": None}], "the answer is empty"),
    "assistant first": ([TELL, ASK], "turn 1 is by the assistant; user and assistant must alternate, user first"),
    "user twice": ([ASK, ASK, TELL], "turn 2 is by the user; user and assistant must alternate, user first"),
    "system later": ([ASK, TELL, LAW, MORE], "turn 3 is by the system; user and assistant must alternate, user first"),
    "no answer": ([ASK, TELL, AGAIN], "the last turn is not by the assistant"),
    "only a system turn": ([LAW], "there is no turn by the user"),
    "empty turn": ([ASK, TELL, {**AGAIN, "content": ""}, MORE], "turn 3 is empty"),
}


@pytest.mark.parametrize("name", [*UNUSABLE, *UNUSABLE_TURNS])
def test_an_unusable_record_is_dropped_with_its_line_and_reason(lines: Callable[..., Source], name: str) -> None:
    if name in UNUSABLE:
        row, reason = UNUSABLE[name]
        good: dict[str, Any] = {"prompt": "fine", "response": "fine"}
    else:
        turns, reason = UNUSABLE_TURNS[name]
        row, good = {"messages": turns}, {"messages": [ASK, TELL]}
    found = read(lines([good, row]))
    assert found.dropped.drop("kind").rows() == [("rows.jsonl", 2, "clean", reason, None)]
    assert found.rows["line"].to_list() == [1]


def test_a_source_without_a_usable_row_says_why(lines: Callable[..., Source]) -> None:
    rows = [{"prompt": "ask", "response": ""}, {"prompt": "", "response": "tell"}, {"prompt": "ask", "response": ""}]
    with pytest.raises(DataError) as error:
        read(lines(rows))
    assert str(error.value) == (
        "rows.jsonl: none of its 3 rows can be used: the answer is empty (2); the prompt is empty (1)"
    )
