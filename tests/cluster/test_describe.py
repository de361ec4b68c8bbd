"""What counts as a list, in several languages."""

from __future__ import annotations

import numpy as np
import pytest

from curator.cluster.describe import is_list, top_terms
from curator.sandbox import rows
from tests.fakes import turns

LISTS = {
    "numbers": "1. oak\n2. ash\n3. elm",
    "numbers after an introduction": "Here are some trees:\n\n1) oak\n2) ash",
    "items of several sentences": "1. Oak: it is old. It is heavy.\n\n2. Ash: it bends. It burns well.",
    "bullets": "- oak\n- ash",
    "stars": "Trees:\n* oak\n* ash\n* elm",
    "letters": "a) oak\nb) ash",
    "brackets": "(1) oak\n(2) ash",
    "counted in one line": "1 oak 2 ash.",
    "counted in one line with marks": "1. oak, 2. ash, 3. elm",
    "counted behind an opener": "sure, 1 oak 2 ash.",
    "counted in one line, longer parts with marks": "1. the old oak 2. the young ash",
    "counted in one line, longer parts": "1 the old oak 2 the young ash 3 the elm",
    "short lines": "oak\nash\nred elm",
    "short lines after a heading": "Trees: \noak\nash\nelm",
    "commas": "oak, ash, red elm, beech.",
    "commas after a colon": "Three trees are: oak, ash, and elm.",
    "semicolons": "oak; ash; elm; beech",
    "Chinese": "一、橡树\n二、白蜡树",
    "Chinese items": "橡树、白蜡树、榆树、山毛榉。",
    "Japanese": "・オーク\n・トネリコ",
    "Arabic digits": "١. بلوط\n٢. دردار",
    "Arabic commas": "بلوط، دردار، زان، صنوبر",
    "Russian": "1. дуб\n2. ясень",
    "circled": "① oak\n② ash",
}
NO_LISTS = {
    "nothing": "",
    "a word": "oak",
    "a sentence": "The oak is an old tree, and people like it.",
    "two items": "oak and ash",
    "a sentence of short parts": "However, the oak, which nobody had ever liked, fell.",
    "sentences": "The oak fell. The ash stands. The elm grew, slowly, over many years.",
    "one marked line": "1. oak is the only one",
    "a list within an essay": "The wood is old.\nIt has paths.\nMany walk there.\n- oak\n- ash\nBut the way is long.",
    "a number": "30.15926, since 3,015,926 / 100,000 is that",
    "amounts": "Take 2 cups and 3 spoons.",
    "a count that starts at two": "2 oak 3 ash",
    "a price": "1 apple costs 2 dollars, so 6 apples cost 12 dollars.",
    "a share": "1 in 2 adults owns a bike.",
    "a time": "1 hour and 2 minutes",
    "a price behind an opener": "So, 1 pound costs 2 dollars.",
    "a year": "1 of them grew in 1987.",
    "a verse": "The oak was old, the ash was young,\nand in the elm a thrush sang,\nso that all the woods rang.",
    "short lines that are sentences": "The oak fell.\nThe ash stands.\nThe elm grew.",
    "a dialogue": "ann: take the oak. tom: and an ash.",
    "Chinese prose": "我喜欢橡树，但是他不喜欢，所以我们走了，后来下雨。",
    "a sum": "1 + 1 = 2\nThat is all there is to it, as any child in the first form knows.",
}


@pytest.mark.parametrize("answer", LISTS.values(), ids=LISTS.keys())
def test_a_list_is_one(answer: str) -> None:
    assert is_list(answer)


@pytest.mark.parametrize("answer", NO_LISTS.values(), ids=NO_LISTS.keys())
def test_what_is_no_list_is_none(answer: str) -> None:
    assert not is_list(answer)


def test_of_the_sandboxs_answers_the_lists_are_lists_and_no_others() -> None:
    given = [row for name in ("keep", "list", "dialogue", "letter", "mixed") for row in rows(name)]
    wrong = [row for row in given if is_list(row["messages"][1]["content"]) != (row["family"] == "list")]
    assert not wrong
    assert sum(row["family"] == "list" for row in given) > 1000


@pytest.mark.parametrize("length", [10_000, 100_000])
def test_a_long_answer_takes_no_long_time(length: int) -> None:
    import time

    begun = time.perf_counter()
    for text in ("1 " * length, "a" * length, ", " * length, ": " * length, " " * length + ".", "(" * length):
        is_list(text)
    assert time.perf_counter() - begun < 5


def test_short_lines_are_counted_in_words_in_scripts_without_spaces_too():
    sentences = "รถไฟไปภูเขาออกจากชานชาลาที่สอง\nแมวสามตัวนอนบนหลังคาบ้านสีฟ้า\nเขาลืมร่มไว้ในร้านกาแฟเมื่อวานนี้"
    assert not is_list(sentences)
    assert is_list("ขนมปัง\nน้ำตาล\nแอปเปิล")


def test_signs_are_no_terms():
    rows = [turns("a + b = c ship"), turns("d + e = f gate")]
    assert top_terms(rows, np.array([0, 1]), 9) == [("a", "b", "c", "ship"), ("d", "e", "f", "gate")]
