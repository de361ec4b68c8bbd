"""One seed in the recipe; every stage and run derives its own from it and from its name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**31) for one purpose; other names give unrelated seeds."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for one purpose."""
    import numpy as np

    return np.random.default_rng(derive(seed, *names))


def by_hash(ids: Iterable[str], count: int, *, seed: int, purpose: str) -> set[str]:
    """The `count` ids with the smallest SHA-256 of seed, purpose and id; all of them where there are not more.

    More are a superset of fewer. Draws for two purposes are independent.
    """
    return set(sorted(ids, key=lambda row: hashlib.sha256(f"{seed}/{purpose}/{row}".encode()).digest())[:count])
