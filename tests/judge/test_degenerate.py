from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.judge.phrases import degenerate


def words(count, start=0):
    """So many different words."""
    return " ".join(f"word{i}" for i in range(start, start + count))


@pytest.mark.parametrize("answer", ["", "   ", "\n\t", "...", "!?!", "👍", "— – …", "_" * 39])
def test_an_answer_without_letter_or_digit_is_empty(answer):
    assert degenerate(answer) == "empty"


@pytest.mark.parametrize("answer", ["a", "7", "是", "да", "नहीं", "No.", "ok 👍"])
def test_one_letter_or_digit_of_any_script_is_an_answer(answer):
    assert degenerate(answer) is None


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("la " * 11, None),
        ("la " * 12, "looping"),
        (words(12) + " la" * 12, "looping"),
        (words(13) + " la" * 12, None),  # less than half of the answer
        ("push it " * 5, None),  # 10 words
        ("push it " * 6, "looping"),
        (f"{words(6)} " * 2, None),  # twice is no loop
        (f"{words(6)} " * 3, "looping"),
        (f"{words(12)} " * 3, "looping"),
        (f"{words(13)} " * 3, None),  # the longest phrase has 12 words
        ("push it " * 6 + "and stop", None),  # it came out of the loop
        ("push the gate " * 4 + "push the", "looping"),  # a phrase begun again
        ("push the gate " * 4 + "push th", "looping"),  # cut within a word
        ("push the gate " * 3 + "push the wall. " + words(4), None),
        ("a" + "b" * 39, None),
        ("a" + "b" * 40, "looping"),
        ("a " + "=" * 40, "looping"),
        ("a" + "b" * 40 + " and on", None),
        ("a" * 20 + " " + "ab" * 10 + "=" * 40, "looping"),  # half of what is not white space
        ("a" * 21 + " " + "ab" * 10 + "=" * 40, None),
        ("Dear keeper, please open the silver gate at noon.\n\nSigned: " + "_" * 40, None),
        ("First fetch the rope, then push the gate until it opens.\n" + "-" * 40, None),
    ],
)
def test_a_loop_is_one_at_its_exact_borders(answer, found):
    assert degenerate(answer) == found


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("a" * 13 + "#." * 13, None),  # 39 characters
        ("abcdefghijklm" + "#." * 13 + "#", "incoherent"),  # 13 of 40
        ("abcdefghijklmn" + "#." * 13, None),  # 14 of 40
        ("some words" + " " * 100 + "far apart", None),  # white space counts for nothing
        ("| a | b |\n|---|---|\n| first | second |\n| third | fourth |", None),
        ("for (i = 0; i < 3; i++) { x[i] += 1; y(x[i]); }", None),
    ],
)
def test_signs_are_incoherent_from_forty_characters_and_less_than_a_third_letters(answer, found):
    assert degenerate(answer) == found


@given(st.integers(1, 12), st.integers(3, 8), st.integers(0, 60))
def test_a_phrase_of_different_words_loops_as_the_rule_counts(size, times, before):
    answer = f"{words(before)} " + f"{words(size, 100)} " * times
    expected = size * times >= 12 and 2 * size * times >= before + size * times
    # A loop whose last word is passed over still ends in one repeat less, and two words less.
    inner = size * (times - 1) >= 12 and times > 3 and 2 * size * (times - 1) >= before + size * times - 1
    assert (degenerate(answer) == "looping") == (expected or inner)


@pytest.mark.parametrize("phrase", ["我喜欢面包", "今日は良い天気", "ฉันชอบขนมปัง"])
def test_a_loop_in_a_script_without_spaces_is_one(phrase):
    assert degenerate(phrase * 12) == "looping"
    assert degenerate(phrase) is None
