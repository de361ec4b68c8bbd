"""Near duplicates: candidate pairs by MinHash, each verified by its true Jaccard similarity, against kept rows only."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curator.pool.sets import Sets, table
from curator.pool.sides import Side
from curator.pool.words import Numbers, jaccard, shingles
from curator.records import Messages

FOUND = 0.99
"""A pair exactly at the threshold becomes a candidate with at least this probability."""
_DOUBT = 0.15  # four standard deviations of an estimate from 128 permutations
_MANY = 512  # rows in a row's buckets from which looking for fewer pays


class Match(NamedTuple):
    """A row that leaves, the kept row that it matches, and how like they are, in [0, 1]."""

    row: int
    kept: int
    similarity: float


def near_duplicates(
    rows: Sequence[Messages],
    *,
    threshold: float,
    shingle: int = 2,
    permutations: int = 128,
    seed: int = 1,
    scratch: Path | None = None,
) -> list[Match]:
    """The rows that leave, in order: each matches an earlier row that stays.

    A row leaves where some earlier row that has not itself left is as like as `threshold`; so a chain of rows, each
    like the next, does not leave as a whole. Of several kept rows the most similar is named, the earliest among equals.
    Alike are two rows whose shingles, told apart by who speaks, have a Jaccard similarity of `threshold` or more, and
    whose words asked, and words answered, one of `threshold / 2` or more each: one refusal given to many requests makes
    no duplicates, nor do many answers to one request.

    Args:
        rows: `n` conversations, those that are to stay first.
        threshold: In (0, 1].
        shingle: Words of a shingle.
        permutations: Of MinHash.
        seed: Of its permutations.
        scratch: Folder for what is compared, some 8 bytes for each word of the rows; the system's for temporary files
            if null.

    Cost: `n` signatures, about 0.1 ms each; memory of about 0.3 kB a row, of the different words, and of the rows that
    are like very many others their words.
    """
    folder = scratch or Path(tempfile.gettempdir())
    texts = Sets(folder), Sets(folder), Sets(folder)
    for messages in rows:
        for own, numbers in zip(texts, shingles(messages, shingle), strict=True):
            own.append(numbers)
    signatures = _signatures(texts[0], permutations, seed, folder)
    sides = [Side(text, threshold / 2) for text in texts[1:]]
    sizes = np.array([len(whole) for whole in texts[0]])
    shared: dict[tuple[int, int], list[int]] = defaultdict(list)
    found: list[Match] = []
    places, crowded = _buckets(signatures, threshold, folder)
    for row, numbered in enumerate(places):
        buckets = [(band, int(bucket)) for band, bucket in enumerate(numbered) if bucket >= 0]
        near = [shared[bucket] for bucket in buckets if bucket in shared]
        # One answer to many requests fills the buckets; then rows that share rare words of a side are fewer.
        fewest = min([near, *(side.near(row) for side in sides)], key=_together) if _together(near) > _MANY else near
        candidates = np.unique(np.array([kept for bucket in fewest for kept in bucket], dtype=np.int64))
        if len(candidates):
            candidates = candidates[_ratio(sizes[candidates], sizes[row]) >= threshold]
            for side in sides:
                candidates = side.possible(row, candidates)
            alike = (signatures[candidates] == signatures[row]).mean(axis=1)
            candidates = candidates[alike >= threshold - _DOUBT]
        best = _best(row, candidates.tolist(), lambda one: (texts[0][one], texts[1][one], texts[2][one]), threshold)
        if best is not None:
            found.append(best)
            continue
        for bucket in buckets:
            shared[bucket].append(row)
        for side in sides if crowded[row] else ():
            side.add(row)
    return found


def like(one: tuple[Numbers, Numbers, Numbers], other: tuple[Numbers, Numbers, Numbers], threshold: float) -> float:
    """The Jaccard similarity of two texts' shingles, 0 where what is asked or what is answered is too different."""
    whole = jaccard(one[0], other[0])
    if whole < threshold:
        return whole
    sides = min(jaccard(one[1], other[1]), jaccard(one[2], other[2]))
    return whole if sides >= threshold / 2 else 0.0


def bands(threshold: float, permutations: int) -> tuple[int, int]:
    """How many bands of how many permutations: the longest bands that find a pair at the threshold with FOUND."""
    for rows in range(permutations, 1, -1):
        count = permutations // rows
        if 1.0 - (1.0 - threshold**rows) ** count >= FOUND:
            return count, rows
    return permutations, 1


def _signatures(texts: Sets, permutations: int, seed: int, folder: Path) -> NDArray[np.uint32]:
    from datasketch import MinHash

    low = np.uint64(0xFFFFFFFF)
    numbers = ((text & low).tolist() for text in texts)
    out = table((len(texts), permutations), np.uint32, folder)
    # The numbers are hashes already.
    made = MinHash.generator(numbers, num_perm=permutations, seed=seed, hashfunc=int, scheme="affine32")
    for row, one in enumerate(made):
        out[row] = one.hashvalues
    return out


def _buckets(
    signatures: NDArray[np.uint32], threshold: float, folder: Path
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The bucket of each row in each band, -1 where no other row is in it, `(n, bands)`; and the rows that share one
    with a row of very many companions, `(n,)`.
    """
    count, width = bands(threshold, signatures.shape[1])
    numbers = table((len(signatures), count), np.int64, folder)
    together = np.zeros(len(signatures), dtype=np.int64)
    for band in range(count):
        part = np.ascontiguousarray(signatures[:, band * width : (band + 1) * width])
        keys = part.view(np.dtype((np.void, part.dtype.itemsize * width))).ravel()
        _, inverse, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        numbers[:, band] = np.where(sizes[inverse] > 1, inverse, -1)
        together += np.where(sizes[inverse] > 1, sizes[inverse], 0)
    crowded = np.zeros(len(signatures), dtype=bool)
    for band in range(count):
        own = numbers[:, band]
        crowded |= np.isin(own, own[(together > _MANY) & (own >= 0)])
    return numbers, crowded


def _together(lists: Sequence[Sequence[int]]) -> int:
    return sum(map(len, lists))


def _ratio(sizes: NDArray[np.int64], own: int) -> NDArray[np.float64]:
    """Smaller over larger size, 1 for two empty ones: no Jaccard similarity is above it."""
    larger = np.maximum(sizes, own)
    return np.where(larger == 0, 1.0, np.minimum(sizes, own) / np.maximum(larger, 1))


def _best(
    row: int, candidates: Sequence[int], texts: Callable[[int], tuple[Numbers, Numbers, Numbers]], threshold: float
) -> Match | None:
    best: Match | None = None
    for kept in candidates:
        similarity = like(texts(row), texts(kept), threshold)
        if similarity >= threshold and (best is None or similarity > best.similarity):
            best = Match(row, kept, similarity)
    return best
