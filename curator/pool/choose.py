"""Which rows are taken where fewer are wanted: those of smallest hash, whatever the order of a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def by_hash(ids: Iterable[str], count: int, *, seed: int, purpose: str) -> set[str]:
    """The `count` ids with the smallest SHA-256 of seed, purpose and id; all of them where there are not more.

    More are a superset of fewer. Draws for two purposes are independent.
    """
    return set(sorted(ids, key=lambda row: hashlib.sha256(f"{seed}/{purpose}/{row}".encode()).digest())[:count])
