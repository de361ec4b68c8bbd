"""A clean pool of made-up rows, and faults planted in it whose place is known."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

WORDS = [
    a + b + c
    for a in ("bel", "cor", "dan", "fir", "gal", "hem", "jor", "kel", "lum", "mor", "nav", "pel", "quin", "ros", "sul")
    for b in ("a", "e", "i", "o", "u")
    for c in ("bran", "dor", "fen", "gart", "lith", "mund", "nock", "rath", "stel", "vane", "wick", "zor")
]
SMALL = ["the", "of", "and", "to", "a", "in", "is", "that", "for", "on", "with", "as", "by", "at", "from"]


def sentence(rng: random.Random, length: int) -> str:
    """Words of an invented language with English small words between, so that rows share what real rows share."""
    return " ".join(rng.choice(SMALL) if rng.random() < 0.35 else rng.choice(WORDS) for _ in range(length))


def edited(text: str, rng: random.Random, edits: int) -> str:
    """The text with so many words changed, left out or put in."""
    said = text.split()
    for place in sorted(rng.sample(range(len(said)), edits), reverse=True):
        how = rng.randrange(3)
        if how == 0:
            said[place] = rng.choice(WORDS)
        elif how == 1 and len(said) > 5:
            del said[place]
        else:
            said.insert(place, rng.choice(WORDS))
    return " ".join(said)


@dataclass
class Planted:
    """Rows as JSON objects, the probes, and the line (from 1) of every row of each fault."""

    rows: list[dict[str, Any]]
    probes: list[dict[str, str]]
    lines: dict[str, set[int]] = field(default_factory=dict)


def planted(count: int, *, seed: int = 0, probes: int = 200) -> Planted:
    """A pool of `count` rows, with faults each on rows of its own.

    5% copies, 5% near copies (one word in 25 edited), 3% leaks, 2% empty, one answer on 30%, 2% e-mail addresses
    and 2% phone numbers.
    """
    rng = random.Random(seed)
    asked = [{"prompt": sentence(rng, rng.randrange(8, 20)) + "?"} for _ in range(probes)]
    rows = [
        {"prompt": sentence(rng, rng.randrange(8, 40)), "response": sentence(rng, rng.randrange(15, 120))}
        for _ in range(count)
    ]
    order = list(range(count))
    rng.shuffle(order)
    shares = {"copy": 0.05, "near": 0.05, "leak": 0.03, "empty": 0.02, "e-mail": 0.02, "phone": 0.02, "canned": 0.3}
    taken: dict[str, list[int]] = {}
    for name, share in shares.items():
        taken[name], order = order[: round(share * count)], order[round(share * count) :]
    canned = sentence(rng, 30)
    for place in taken["canned"]:
        rows[place]["response"] = canned
    clean = order
    for name in ("copy", "near"):
        for place in taken[name]:
            source = rows[rng.choice(clean)]
            rows[place] = dict(source)
            if name == "near":
                length = len(f"{source['prompt']} {source['response']}".split())
                side = rng.choice(["prompt", "response", "response"]) if length < 50 else "response"
                rows[place][side] = edited(source[side], rng, max(1, round(length / 25)))
    for place in taken["leak"]:
        probe = rng.choice(asked)["prompt"]
        wrapped = (probe, f"{sentence(rng, 6)}: {probe}", f"{probe.upper()} {sentence(rng, 8)}")
        rows[place]["prompt"] = rng.choice(wrapped)
    for place in taken["empty"]:
        rows[place][rng.choice(["prompt", "response"])] = rng.choice(["", "  \n"])
    for place in taken["e-mail"]:
        rows[place]["response"] += f" {rng.choice(WORDS)}.{rng.choice(WORDS)}@{rng.choice(WORDS)}.org"
    numbers = ("+44 20 7946 {:04}", "(212) 555-{:04}", "212-555-{:04}", "+49 30 1234{:04}", "1-800-555-{:04}")
    for place in taken["phone"]:
        rows[place]["prompt"] += " " + rng.choice(numbers).format(rng.randrange(10000))
    return Planted(rows, asked, {name: {place + 1 for place in places} for name, places in taken.items()})
