"""A recipe has one seed, from which every purpose derives its own by name; rows are chosen by hash.

Derived seeds make purposes independent of each other: if a stage draws one more number, or an arm is added, the draws
of other stages and arms do not change. seed + 1, seed + 2 and so on are unsuitable, since generators of neighbouring
seeds can be correlated, and seed + 1 of one recipe is seed + 0 of the next.

Rows are chosen by the hash of their id, not by a generator, so that a choice depends on the rows and not on their order
in a file: adding or removing a row changes at most one row of the choice, and a smaller choice is part of a larger one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**31) for one purpose; other names give unrelated seeds.

    The range is that of signed 32-bit integers, which every library accepts; numpy's older generators refuse larger
    ones.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for one purpose."""
    import numpy as np

    return np.random.default_rng(derive(seed, *names))


def by_hash(ids: Iterable[str], count: int, *, seed: int, purpose: str) -> set[str]:
    """The `count` ids with the smallest SHA-256 of seed, purpose and id; all of them if there are not more.

    A larger `count` gives a superset of a smaller one. Draws for two purposes are independent.
    """
    return set(sorted(ids, key=lambda row: hashlib.sha256(f"{seed}/{purpose}/{row}".encode()).digest())[:count])
