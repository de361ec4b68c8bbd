from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.pool import words
from curator.pool.near import Match, Side, bands, near_duplicates, text_similarity
from curator.pool.semantic import semantic_duplicates

Rows = list[list[dict[str, str]]]


def row(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def text(rng: random.Random, length: int) -> str:
    return " ".join(f"w{rng.randrange(400)}" for _ in range(length))


def edited(said: str, rng: random.Random, edits: int) -> str:
    found = said.split()
    for place in rng.sample(range(len(found)), edits):
        found[place] = f"x{rng.randrange(10**6)}"
    return " ".join(found)


def twin(rows: Rows, threshold: float, shingle: int) -> list[Match]:
    """Every pair of Python sets of word tuples, no hashing: what `near_duplicates` must find."""

    def sets(turns: list[dict[str, str]]) -> tuple[set[Any], set[Any], set[Any]]:
        whole, sides = set(), {"user": set(), "assistant": set()}
        for turn in turns:
            said = words.words(turn["content"])
            size = min(shingle, len(said))
            whole |= {(turn["role"], *said[n : n + size]) for n in range(len(said) - size + 1) if size}
            sides[turn["role"]] |= set(said)
        return whole, sides["user"], sides["assistant"]

    def jaccard(one: set[Any], other: set[Any]) -> float:
        return len(one & other) / len(one | other) if one | other else 1.0

    texts, kept, found = [sets(turns) for turns in rows], [], []
    for number, own in enumerate(texts):
        likes = []
        for other in kept:
            whole, *sides = (jaccard(a, b) for a, b in zip(own, texts[other], strict=True))
            if whole >= threshold and min(sides) >= threshold / 2:
                likes.append(Match(number, other, whole))
        if likes:
            found.append(max(likes, key=lambda match: (match.similarity, -match.kept)))
        else:
            kept.append(number)
    return found


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.95])
@pytest.mark.parametrize(("shingle", "many"), [(1, 512), (2, 512), (3, 512), (2, 0)])
def test_all_pairs_and_minhash_agree(
    threshold: float, shingle: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curator.pool.near._MANY", many)  # from 0 on, rare words are looked for beside the buckets
    rng = random.Random(7)
    rows = [row(text(rng, 12), text(rng, 40)) for _ in range(60)]
    for _ in range(120):
        prompt, answer = (turn["content"] for turn in rng.choice(rows))
        rows.append(row(edited(prompt, rng, rng.randrange(4)), edited(answer, rng, rng.randrange(6))))
    expected = twin(rows, threshold, shingle)
    found = near_duplicates(rows, threshold=threshold, shingle=shingle)
    assert len(expected) > 5
    assert [match[:2] for match in found] == [match[:2] for match in expected]
    assert np.allclose([match.similarity for match in found], [match.similarity for match in expected])


def test_a_chain_of_like_rows_does_not_leave_as_a_whole() -> None:
    rng = random.Random(1)
    chain, answer = [text(rng, 60)], "the same short answer"
    for _ in range(12):
        chain.append(edited(chain[-1], rng, 3))
    rows = [row(prompt, answer) for prompt in chain]
    found = near_duplicates(rows, threshold=0.8)
    gone = {match.row for match in found}
    assert 0 < len(gone) < len(rows) - 2
    assert all(match.kept not in gone for match in found)
    assert found == twin(rows, 0.8, 2)


def test_one_answer_to_many_requests_and_many_answers_to_one_are_no_duplicates() -> None:
    rng = random.Random(2)
    canned, asked = text(rng, 80), text(rng, 80)
    assert near_duplicates([row(text(rng, 8), canned) for _ in range(50)], threshold=0.8) == []
    assert near_duplicates([row(asked, text(rng, 8)) for _ in range(50)], threshold=0.8) == []


def test_two_texts_are_alike_only_where_both_sides_are() -> None:
    rng = random.Random(4)
    asked, canned = text(rng, 8), text(rng, 200)
    one, same, other = (words.shingles(row(said, canned), 2) for said in (asked, asked, text(rng, 8)))
    assert words.jaccard(one[0], other[0]) > 0.8
    assert text_similarity(one, same, 0.8) == 1.0
    assert text_similarity(one, other, 0.8) == 0.0


@pytest.mark.parametrize("least", [0.25, 0.4, 0.8])
def test_no_row_as_like_as_asked_is_missed_by_rare_words_or_by_bits(least: float) -> None:
    rng = np.random.default_rng(5)
    texts = [np.unique(rng.integers(0, 60, rng.integers(1, 30))).astype(np.uint64) for _ in range(150)]
    side = Side(texts, least)
    for row_number in range(len(texts)):
        near = {other for found in side.near(row_number) for other in found}
        alike = {n for n in range(row_number) if words.jaccard(texts[n], texts[row_number]) >= least}
        assert alike <= near
        possible = side.possible(row_number, np.arange(row_number))
        assert alike <= set(possible.tolist())
        side.add(row_number)


def test_many_copies_of_a_long_answer_take_no_time_squared() -> None:
    rng = random.Random(3)
    canned = text(rng, 120)
    rows = [row(text(rng, 12), canned) for _ in range(2000)]
    assert near_duplicates(rows, threshold=0.8) == []


def test_case_punctuation_and_space_do_not_matter_and_empty_texts_are_alike() -> None:
    rows = [row("Tell me: a tale!", "No."), row("tell  ME a (tale)", "no"), row("", ""), row(" ", "\n")]
    assert near_duplicates(rows, threshold=1.0) == [Match(1, 0, 1.0), Match(3, 2, 1.0)]


def test_texts_of_signs_alone_are_as_different_as_their_signs() -> None:
    pictures = [row(chr(0x1F600 + number), chr(0x1F400 + number)) for number in range(30)]
    assert near_duplicates([*pictures, row("!", "?"), row("...", "-"), pictures[7]], threshold=0.8) == [
        Match(32, 7, 1.0)
    ]


def test_scripts_without_spaces_are_compared_by_words() -> None:
    rows = [
        row("今日は良い天気ですね散歩に行きましょう", "はい、そうしましょう"),
        row("今日は良い天気ですね、散歩に行きましょう。", "はい、そうしましょう"),
        row("今日は悪い天気ですね家にいましょう", "はい、そうしましょう"),
    ]
    assert [match[:2] for match in near_duplicates(rows, threshold=0.8)] == [(1, 0)]


def test_rows_that_only_a_symbol_or_a_vowel_sign_tells_apart_stay() -> None:
    rows = [
        *(row(f"How is a list sorted in {name}?", f"In {name} by its library.") for name in ("C", "C++", "C#")),
        *(row(f"Is x {sign} 5 the limit?", f"I say that x {sign} 5.") for sign in "<>=≥≠"),
        *(row(f"यह {day} कैसा है?", f"अच्छा {day} है") for day in ("दिन", "दीन")),
        *(row(f"मेर{ending} है", "ठीक है") for ending in ("ा बेटा", "ी बेटी")),
    ]
    assert near_duplicates(rows, threshold=0.8) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), max_size=12))
def test_numbers_of_runs_are_as_different_as_the_runs(found: list[list[str]]) -> None:
    for size in (1, 2, 3):
        numbers = [tuple(words.runs(words.numbered(said), size).tolist()) for said in found]
        tuples = [
            tuple(tuple(said[n : n + min(size, len(said))]) for n in range(max(len(said) - size + 1, 1)) if said)
            for said in found
        ]
        assert [a == b for a in numbers for b in numbers] == [a == b for a in tuples for b in tuples]


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.95, 1.0])
def test_bands_find_a_pair_at_the_threshold(threshold: float) -> None:
    count, width = bands(threshold, 128)
    assert count * width <= 128
    assert 1 - (1 - threshold**width) ** count >= 0.99


def cosine_twin(vectors: np.ndarray, threshold: float) -> list[Match]:
    kept: list[int] = []
    found = []
    for number, vector in enumerate(vectors):
        likes = [(float(vector @ vectors[other]), -other) for other in kept]
        best = max(likes, default=(-1.0, 0))
        if best[0] >= threshold:
            found.append(Match(number, -best[1], min(best[0], 1.0)))
        else:
            kept.append(number)
    return found


@pytest.mark.parametrize("block", [3, 1024])
def test_semantic_duplicates_are_those_of_one_row_at_a_time(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curator.pool.semantic._BLOCK", block)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, 16))
    vectors = centres[rng.integers(0, 20, 150)] + rng.choice([0.05, 0.3], (150, 1)) * rng.standard_normal((150, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    vectors[5] = 0
    found = semantic_duplicates(vectors, threshold=0.97)
    expected = cosine_twin(vectors, 0.97)
    assert 10 < len(found) < 140
    assert [match[:2] for match in found] == [match[:2] for match in expected]
    assert np.allclose([match.similarity for match in found], [match.similarity for match in expected], atol=1e-6)
