"""One seed in the recipe; every stage and run derives its own from it and from its name."""

from __future__ import annotations

import hashlib
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
