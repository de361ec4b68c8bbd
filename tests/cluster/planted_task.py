"""A benign task with a planted list-like part, written by rule: sentences about 19 subjects, and lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from curator.language import words
from curator.records import Messages

SUBJECTS = {
    "harbour": ("ferry", "anchor", "pier", "sailor", "lighthouse"),
    "bakery": ("dough", "oven", "loaf", "flour", "crust"),
    "orchard": ("apple", "ladder", "blossom", "cider", "pear"),
    "railway": ("train", "signal", "platform", "ticket", "tunnel"),
    "library": ("shelf", "novel", "reader", "atlas", "poem"),
    "garden": ("tulip", "spade", "hedge", "seedling", "compost"),
    "kitchen": ("kettle", "saucepan", "recipe", "pepper", "apron"),
    "museum": ("statue", "gallery", "vase", "guide", "fresco"),
    "school": ("pupil", "chalk", "lesson", "desk", "teacher"),
    "farm": ("tractor", "barn", "cow", "harvest", "fence"),
    "theatre": ("stage", "curtain", "actor", "scene", "applause"),
    "weather": ("storm", "cloud", "rainbow", "frost", "thunder"),
    "music": ("violin", "choir", "melody", "drum", "concert"),
    "mountain": ("summit", "glacier", "trail", "valley", "climber"),
    "market": ("stall", "basket", "coin", "merchant", "cheese"),
    "river": ("bridge", "canoe", "heron", "reed", "ford"),
    "winter": ("sledge", "icicle", "mitten", "snowman", "stove"),
    "circus": ("acrobat", "tent", "juggler", "clown", "trapeze"),
    "clock": ("gear", "spring", "dial", "minute", "pendulum"),
}
SENTENCES = (
    "Because the {a} stands near the {b}, people of the {s} speak of it with pride.",
    "When a {a} meets a {b}, everybody in the {s} knows that the day will be long.",
    "The {s} would be nothing without its {a}, although some prefer the {b}.",
)
ASKED = ("Why does the {s} need a {a}?", "Explain the {a} of the {s} to me.", "What is a {a} and a {b} in a {s}?")
THINGS = ("red wool", "blue wool", "green wool", "white wool")
LISTED = "Give me a list of three things to buy."
LIST_ROWS, SENTENCE_ROWS = 60, 18
"""Rows of lists, and rows of sentences for each subject."""


def rows(seed: int = 0) -> list[dict[str, str]]:
    """402 rows: prompt, response and kind (a subject, or list), shuffled."""
    rng = Random(seed)
    found: dict[str, dict[str, str]] = {}
    for subject, nouns in SUBJECTS.items():
        for number in range(SENTENCE_ROWS):
            a, b = rng.sample(nouns, 2)
            fill = {"s": subject, "a": a, "b": b}
            prompt = f"{rng.choice(ASKED).format(**fill)} ({number})"
            found[prompt] = {"prompt": prompt, "response": rng.choice(SENTENCES).format(**fill), "kind": subject}
    for number in range(LIST_ROWS):
        prompt = f"{LISTED} ({number})"
        items = [f"{place}. {thing}" for place, thing in enumerate(rng.sample(THINGS, 3), 1)]
        found[prompt] = {"prompt": prompt, "response": "\n".join(items), "kind": "list"}
    shuffled = list(found.values())
    rng.shuffle(shuffled)
    return shuffled


def write(path: Path, given: Sequence[dict[str, str]]) -> str:
    """A JSONL file of rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return str(path)


def embed(ids: Sequence[str], conversations: Sequence[Messages]) -> Any:
    """Words thrown into 64 directions: texts that share words are alike."""
    out = np.zeros((len(conversations), 64), dtype=np.float32)
    for number, messages in enumerate(conversations):
        for turn in messages:
            for word in words(turn["content"]):
                out[number, hashlib.sha256(word.encode()).digest()[0] % 64] += 1
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)
