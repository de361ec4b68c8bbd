"""Words and runs of words as numbers, to compare texts by what they share; and ids of prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.language import words
from curator.records import Conversations, Messages, row_id

Numbers = NDArray[np.uint64]

Claims = dict[str, tuple[str, str]]
"""Id of a prompt -> (role, row id) of the first row with it."""

TELLING = 4
"""Fewest words of a turn that is a prompt by itself: "continue" stands in many conversations."""

_STEP = np.uint64(0x9E3779B97F4A7C15)

_SIDES = {"assistant": np.uint64(0x5851F42D4C957F2D)}

_LONG = 32  # letters; longer words rarely repeat, and caching them costs memory


def user_turns(messages: Messages) -> list[str]:
    """The user's turns, one text each."""
    return [turn["content"] for turn in messages if turn["role"] == "user"]


def last(messages: Messages, role: str) -> str:
    """The text of the last turn by this role, empty if there is none."""
    return next((turn["content"] for turn in reversed(messages) if turn["role"] == role), "")


def _number(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


_cached_number = lru_cache(maxsize=2**20)(_number)


def numbered(text: Sequence[str]) -> Numbers:
    """A 64-bit number per word, the same on every machine, `(t,)`."""
    numbers = (_cached_number(word) if len(word) < _LONG else _number(word) for word in text)
    return np.fromiter(numbers, dtype=np.uint64, count=len(text))


def runs(numbers: Numbers, size: int) -> Numbers:
    """A number for every run of `size` words, in order, `(t - size + 1,)`; a single number for a shorter text."""
    if len(numbers) == 0:
        return numbers
    size = min(size, len(numbers))
    # Mixed before each addition, so that the order of the words matters: a b and b a have different numbers.
    total = numbers[: len(numbers) - size + 1].copy()
    for offset in range(1, size):
        total = _mixed(total) + numbers[offset : len(numbers) - size + 1 + offset]
    return _mixed(total)


def _mixed(numbers: Numbers) -> Numbers:
    """Well mixed numbers, so that their sums do not collide by chance (the finaliser of SplitMix64)."""
    mixed = numbers + _STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def shingles(messages: Messages, size: int) -> tuple[Numbers, Numbers, Numbers]:
    """Sorted distinct numbers of a conversation: its shingles, separated by speaker; the words of its user turns; the
    words of its answers. A system turn, which many rows may share, is ignored.
    """
    sides = {"user": [numbered([])], "assistant": [numbered([])]}
    whole = []
    for turn in messages:
        if turn["role"] in sides:
            numbers = numbered(words(turn["content"]))
            sides[turn["role"]].append(numbers)
            whole.append(runs(numbers, size) ^ _SIDES.get(turn["role"], np.uint64(0)))
    return (
        np.unique(np.concatenate(whole or [numbered([])])),
        np.unique(np.concatenate(sides["user"])),
        np.unique(np.concatenate(sides["assistant"])),
    )


def jaccard(first: Numbers, second: Numbers) -> float:
    """The Jaccard similarity of two sorted sets, in [0, 1]; 1 for two empty sets."""
    if len(first) == 0 and len(second) == 0:
        return 1.0
    # A stable sort merges two sorted runs in one pass; numpy's intersect1d would sort them from the start.
    both = np.concatenate([first, second])
    both.sort(kind="stable")
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared)


def prompt_id(messages: Messages) -> str:
    """The id of a conversation up to its last user turn, without a system turn."""
    spoken = [turn for turn in messages if turn["role"] != "system"]
    return row_id(spoken[:-1] if spoken[-1]["role"] == "assistant" else spoken)


def prompt_ids(messages: Messages, *, least: int = 0) -> set[str]:
    """The ids of every prompt in a conversation: each user turn of at least `least` words alone, and each with all
    earlier turns.
    """
    spoken = [turn for turn in messages if turn["role"] != "system"]
    users = [number for number, turn in enumerate(spoken) if turn["role"] == "user"]
    alone = {
        row_id([spoken[number]]) for number in users if not least or len(words(spoken[number]["content"])) >= least
    }
    return alone | {row_id(spoken[: number + 1]) for number in users if number > 0}


def ids_with_system(messages: Messages) -> set[str]:
    """The ids of a system text as if the user had written it, alone and before the first turn: for a template without a
    system role it becomes a part of that turn.
    """
    system = next((turn["content"] for turn in messages if turn["role"] == "system"), "")
    first = next(iter(user_turns(messages)), "")
    return {row_id([{"role": "user", "content": text}]) for text in (system, f"{system}\n\n{first}") if system}


def claims_of(role: str, rows: pl.DataFrame) -> Claims:
    """Every prompt in a role's rows, with the first row that has it. An earlier turn of fewer than TELLING words is not
    a prompt by itself.
    """
    claims: Claims = {}
    for row, messages in zip(rows["id"], Conversations(rows), strict=True):
        whole = row_id([{"role": "user", "content": last(messages, "user")}])
        for prompt in {whole} | prompt_ids(messages, least=TELLING):
            claims.setdefault(prompt, (role, row))
    return claims
