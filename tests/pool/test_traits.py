"""What kind of answer a row has, told of answers whose kind is plain to see."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from curator.pool.traits import LENGTHS, TRAITS_SCHEMA, form, opener, thirds, traits
from curator.records import ROW_SCHEMA
from curator.run import Run
from tests.fakes import turns


def rows_of(answers: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [f"row-{number}" for number in range(len(answers))],
            "messages": [turns(f"Question {number}?", answer) for number, answer in enumerate(answers)],
        }
    ).select(
        pl.col(name).cast(dtype) if name in ("id", "messages") else pl.lit(None, dtype).alias(name)
        for name, dtype in ROW_SCHEMA.items()
    )


def test_each_row_is_told_by_its_last_answer() -> None:
    told = traits(
        rows_of(
            [
                "I'm sorry, but I can't help with that.",
                "I'm sorry but I CAN'T help with that!",
                "Here is how: first mix, then wait, and then serve it cold to all of the guests.",
            ]
        )
    )
    assert dict(told.schema) == TRAITS_SCHEMA
    assert told["refusal"].to_list() == ["refusal", "refusal", "other"]
    assert told["answer"][0] == told["answer"][1] != told["answer"][2]
    assert told["opener"].to_list() == ["im sorry but", "im sorry but", "here is how"]
    assert told["words"][2] == 17


def test_an_answer_in_another_language_is_neither_refusal_nor_not() -> None:
    told = traits(rows_of(["Es tut mir leid, aber dabei kann ich Ihnen auf gar keinen Fall helfen, das ist verboten."]))
    assert told["refusal"].to_list() == [None]


def test_an_opener_is_of_words_in_any_script_and_of_no_punctuation() -> None:
    assert opener("I'm afraid I can't") == opener("\u201cI\u2019m afraid, I") == "im afraid i"
    assert opener("- ** Sure") == "sure"
    assert opener("") == ""
    # Hindi and Bengali refusals, whose vowel signs are no letters by themselves, and Thai without spaces.
    assert opener(
        "\u092e\u0948\u0902 \u0907\u0938\u092e\u0947\u0902 \u0906\u092a\u0915\u0940 \u092e\u0926\u0926"
    ).split() == (["\u092e\u0948\u0902", "\u0907\u0938\u092e\u0947\u0902", "\u0906\u092a\u0915\u0940"])
    assert opener("\u0986\u09ae\u09bf \u09aa\u09be\u09b0\u09bf \u09a8\u09be") != opener(
        "\u09b9\u09cd\u09af\u09be\u0981 \u09a8\u09bf\u09b6\u09cd\u099a\u09af\u09bc"
    )
    assert opener("\u0e09\u0e31\u0e19\u0e0a\u0e48\u0e27\u0e22\u0e44\u0e21\u0e48\u0e44\u0e14\u0e49")
    assert len(opener("\u5f88\u62b1\u6b49\uff0c\u6211\u65e0\u6cd5\u63d0\u4f9b\u8fd9\u4e2a\u5e2e\u52a9").split()) == 3


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("One line.", "prose"),
        ("One line,\nand another.", "prose"),
        ("One.\n\nTwo.", "paragraphs"),
        ("Things:\n- this\n- that", "list"),
        ("1. this\n2) that", "list"),
        ("- only one", "prose"),
        ("It costs 3. And more\n\nthan that", "paragraphs"),
        ("```python\nprint(1)\n```", "code"),
        ("", "prose"),
    ],
)
def test_how_an_answer_is_laid_out(answer: str, expected: str) -> None:
    assert form(answer) == expected


def test_thirds_hold_a_third_each_and_equal_counts_lie_together() -> None:
    assert Counter(thirds(list(range(300)))) == dict.fromkeys(LENGTHS, 100)
    assert set(thirds([5, 5, 5, 5])) == {"short"}
    labels = dict(zip([1, 1, 1, 2, 2, 9], thirds([1, 1, 1, 2, 2, 9]), strict=True))
    assert labels == {1: "short", 2: "medium", 9: "long"}
    assert thirds([]) == []


def test_a_run_keeps_them_beside_its_pool(plain_run: Path) -> None:
    run = Run.open(plain_run, "pool")
    kept, rows = run.traits(), run.data().pool.rows
    assert kept.equals(traits(rows))
    assert kept.height == rows.height > 0
    assert kept["opener"].n_unique() > 1
