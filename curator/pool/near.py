"""Near duplicates: candidate pairs by MinHash, each verified by its exact Jaccard similarity to kept rows.

`Sets` stores the words of all rows in files, so that a pool larger than memory can be compared. `Side` finds the rows
that share rare words of the prompts, or of the answers, if MinHash buckets hold too many rows.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from curator.pool.words import Numbers, jaccard, shingles
from curator.records import Messages
from curator.run.folder import reserve

FOUND = 0.99
"""A pair exactly at the threshold becomes a candidate with at least this probability."""

_DOUBT = 0.15  # four standard deviations of an estimate from 128 permutations

_MANY = 512  # rows in a row's buckets from which a search by rare words pays

Text = tuple[Numbers, Numbers, Numbers]
"""For one row: its shingles, the words of its prompts, the words of its answers; see `shingles`."""

_BITS = 256  # size of the bit set that bounds what two rows can share


class Match(NamedTuple):
    """A dropped row, the kept row that it matches, and their similarity, in [0, 1]."""

    row: int
    kept: int
    similarity: float


def near_duplicates(
    rows: Sequence[Messages],
    *,
    threshold: float,
    shingle: int = 2,
    permutations: int = 128,
    scratch: Path | None = None,
) -> list[Match]:
    """The dropped rows, in order: each matches an earlier row that stays.

    A row is dropped if an earlier row that stays is similar to it, so that a chain of rows, each similar to the next,
    is not dropped as a whole. If several kept rows are similar, the most similar one is named, the earliest among
    equals. Two rows are similar if their shingles, separated by speaker, have a Jaccard similarity of at least
    `threshold`, and the words of their prompts and those of their answers one of at least `threshold / 2` each: one
    refusal given to many requests does not make duplicates, nor do many answers to one request.

    Args:
        rows: `n` conversations, those to keep first.
        threshold: Jaccard similarity in (0, 1].
        shingle: Number of words of a shingle.
        permutations: Number of MinHash permutations.
        scratch: Folder for temporary files, about 8 bytes for each word of the rows; null for the system's own.

    Cost: `n` signatures of about 0.1 ms each; memory of about 0.3 kB per row, plus the distinct words, plus the words
    of rows that are similar to very many others.

    Source: MinHash with banding (Broder 1997).
    """
    folder = scratch or Path(tempfile.gettempdir())
    texts = Sets(folder), Sets(folder), Sets(folder)
    for messages in rows:
        for sets, numbers in zip(texts, shingles(messages, shingle), strict=True):
            sets.append(numbers)
    signatures = _signatures(texts[0], permutations, folder)
    sides = [Side(text, threshold / 2) for text in texts[1:]]
    sizes = np.array([len(whole) for whole in texts[0]])
    shared: dict[tuple[int, int], list[int]] = defaultdict(list)
    matches: list[Match] = []
    bucket_of, crowded = _buckets(signatures, threshold, folder)
    for row, row_buckets in enumerate(bucket_of):
        buckets = [(band, int(bucket)) for band, bucket in enumerate(row_buckets) if bucket >= 0]
        near = [shared[bucket] for bucket in buckets if bucket in shared]
        # One answer to many requests fills the buckets; then fewer rows share rare words of a side.
        fewest = min([near, *(side.near(row) for side in sides)], key=_together) if _together(near) > _MANY else near
        candidates = np.unique(np.array([earlier for bucket in fewest for earlier in bucket], dtype=np.int64))
        if len(candidates):
            candidates = candidates[_ratio(sizes[candidates], sizes[row]) >= threshold]
            for side in sides:
                candidates = side.possible(row, candidates)
            # The share of equal hash values estimates the similarity cheaply; the exact one is expensive.
            estimate = (signatures[candidates] == signatures[row]).mean(axis=1)
            candidates = candidates[estimate >= threshold - _DOUBT]
        best = _best(row, candidates.tolist(), texts, threshold)
        if best is not None:
            matches.append(best)
            continue
        for bucket in buckets:
            shared[bucket].append(row)
        # Rows that share no bucket with a crowded one are never searched for by their sides.
        for side in sides if crowded[row] else ():
            side.add(row)
    return matches


def bands(threshold: float, permutations: int) -> tuple[int, int]:
    """Number and length of bands: the longest bands that find a pair at the threshold with probability FOUND."""
    for rows in range(permutations, 1, -1):
        count = permutations // rows
        if 1.0 - (1.0 - threshold**rows) ** count >= FOUND:
            return count, rows
    return permutations, 1


def _signatures(texts: Sets, permutations: int, folder: Path) -> NDArray[np.uint32]:
    from datasketch import MinHash

    low = np.uint64(0xFFFFFFFF)
    numbers = ((text & low).tolist() for text in texts)
    out = table((len(texts), permutations), np.uint32, folder)
    # The numbers are already hashes, so hashfunc=int; affine32 takes only their low half.
    hashed = MinHash.generator(numbers, num_perm=permutations, seed=1, hashfunc=int, scheme="affine32")
    for row, signature in enumerate(hashed):
        out[row] = signature.hashvalues
    return out


def _buckets(
    signatures: NDArray[np.uint32], threshold: float, folder: Path
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The bucket of each row in each band, -1 without other rows in it, `(n, bands)`; and a mask of the rows that share
    a bucket with a row of very many companions, `(n,)`.
    """
    count, width = bands(threshold, signatures.shape[1])
    numbers = table((len(signatures), count), np.int64, folder)
    together = np.zeros(len(signatures), dtype=np.int64)
    for band in range(count):
        part = np.ascontiguousarray(signatures[:, band * width : (band + 1) * width])
        keys = part.view(np.dtype((np.void, part.dtype.itemsize * width))).ravel()
        _, inverse, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        numbers[:, band] = np.where(sizes[inverse] > 1, inverse, -1)
        # All members of a bucket, the row itself among them: the sum over bands bounds the number of its companions.
        together += np.where(sizes[inverse] > 1, sizes[inverse], 0)
    crowded = np.zeros(len(signatures), dtype=bool)
    for band in range(count):
        in_band = numbers[:, band]
        crowded |= np.isin(in_band, in_band[(together > _MANY) & (in_band >= 0)])
    return numbers, crowded


def _together(lists: Sequence[Sequence[int]]) -> int:
    return sum(map(len, lists))


def _ratio(sizes: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Smaller over larger size, 1 for two empty sets: an upper bound of the Jaccard similarity."""
    larger = np.maximum(sizes, size)
    return np.where(larger == 0, 1.0, np.minimum(sizes, size) / np.maximum(larger, 1))


def _best(row: int, candidates: Sequence[int], texts: tuple[Sets, Sets, Sets], threshold: float) -> Match | None:
    def text(number: int) -> Text:
        return texts[0][number], texts[1][number], texts[2][number]

    best: Match | None = None
    for candidate in candidates:
        similarity = text_similarity(text(row), text(candidate), threshold)
        if similarity >= threshold and (best is None or similarity > best.similarity):
            best = Match(row, candidate, similarity)
    return best


def text_similarity(first: Text, second: Text, threshold: float) -> float:
    """The Jaccard similarity of two texts' shingles, in [0, 1]; 0 if prompts or answers are too different."""
    whole = jaccard(first[0], second[0])
    if whole < threshold:
        return whole
    sides = min(jaccard(first[1], second[1]), jaccard(first[2], second[2]))
    return whole if sides >= threshold / 2 else 0.0


class Sets(Sequence[Numbers]):
    """`n` sorted sets of 64-bit numbers, one after the other in an unnamed file.

    Args:
        folder: Folder of the file; its space is freed when the sets are released.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as the sets
        self._ends = [0]
        self._all: Numbers | None = None

    def append(self, numbers: Numbers) -> None:
        """Adds a set; not allowed after a set has been read."""
        numbers.tofile(self._file)
        self._ends.append(self._ends[-1] + len(numbers))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, position: int) -> Numbers: ...
    @overload
    def __getitem__(self, position: slice) -> list[Numbers]: ...
    def __getitem__(self, position: int | slice) -> Numbers | list[Numbers]:
        if isinstance(position, slice):
            return [self[row] for row in range(*position.indices(len(self)))]
        if not 0 <= position < len(self):
            raise IndexError(position)
        return self._read()[self._ends[position] : self._ends[position + 1]]

    def __iter__(self) -> Iterator[Numbers]:
        return (self[row] for row in range(len(self)))

    def _read(self) -> Numbers:
        if self._all is None:
            self._file.flush()
            empty = self._ends[-1] == 0
            # As a plain array: slices of numpy's memory-mapped type cost several times as much.
            self._all = np.asarray(
                np.empty(0, np.uint64) if empty else np.memmap(self._file, dtype=np.uint64, mode="r")
            )
        return self._all


def table(shape: tuple[int, int], dtype: DTypeLike, folder: Path) -> NDArray[Any]:
    """An array of zeros in an unnamed file."""
    if 0 in shape:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        reserve(file, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return np.asarray(np.memmap(file, dtype=dtype, mode="w+", shape=shape))


def counted(sets: Iterable[Numbers], block: int = 2**22) -> tuple[Numbers, NDArray[np.int64]]:
    """The distinct numbers of all sets, sorted, and the number of sets with each; memory holds these and one block."""
    known, counts = np.empty(0, np.uint64), np.empty(0, np.int64)
    waiting: list[Numbers] = []
    held = 0
    for numbers in sets:
        waiting.append(numbers)
        held += len(numbers)
        if held >= max(block, len(known)):
            known, counts = _merged(known, counts, waiting)
            waiting, held = [], 0
    return _merged(known, counts, waiting)


def _merged(known: Numbers, counts: NDArray[np.int64], waiting: list[Numbers]) -> tuple[Numbers, NDArray[np.int64]]:
    new, times = np.unique(np.concatenate([*waiting, np.empty(0, np.uint64)]), return_counts=True)
    every, position = np.unique(np.concatenate([known, new]), return_inverse=True)
    total = np.zeros(len(every), np.int64)
    np.add.at(total, position, np.concatenate([counts, times]))
    return every, total


class Side:
    """The words of one side of `n` rows, and an index of the rows that were added.

    Args:
        texts: `n` sorted sets of words.
        least: Least Jaccard similarity to find, in (0, 1].
    """

    def __init__(self, texts: Sequence[Numbers], least: float) -> None:
        self.least = least
        self._sizes = np.array([len(text) for text in texts], dtype=np.int64)
        self._texts = texts
        self._known, counts = counted(texts)
        # Rarest first: rank 0 is the rarest word.
        self._rank = np.empty(len(self._known), dtype=np.int64)
        self._rank[np.argsort(counts, kind="stable")] = np.arange(len(self._known))
        self._bits = np.zeros((len(texts), _BITS // 64), dtype=np.uint64)
        for row in range(len(texts)):
            ranks = self._ranks(row)
            np.bitwise_or.at(self._bits[row], ranks % _BITS // 64, np.uint64(1) << (ranks % 64).astype(np.uint64))
        # Bits of the row's own set: fewer than its words if two words share a bit.
        self._held = np.bitwise_count(self._bits).sum(axis=1).astype(np.int64)
        self._index: dict[int, list[int]] = defaultdict(list)

    def add(self, row: int) -> None:
        """Puts a row into the index."""
        for word in self._prefix(row):
            self._index[word].append(row)

    def near(self, row: int) -> list[list[int]]:
        """Lists of added rows that together contain every added row with a similarity of at least `least`."""
        return [self._index[word] for word in self._prefix(row) if word in self._index]

    def _ranks(self, row: int) -> NDArray[np.int64]:
        return self._rank[np.searchsorted(self._known, self._texts[row])]

    def _prefix(self, row: int) -> list[int]:
        # Two sets with a similarity of at least `least` share one of these (prefix filtering, Chaudhuri et al. 2006).
        ranks = np.sort(self._ranks(row))
        length = len(ranks) - math.ceil(self.least * len(ranks) - 1e-9) + 1 if len(ranks) else 0
        return ranks[:length].tolist() or [-1]

    def possible(self, row: int, others: NDArray[np.int64]) -> NDArray[np.int64]:
        """The other rows whose similarity may reach `least`, by an upper bound from bit sets."""
        common = np.bitwise_count(self._bits[others] & self._bits[row]).sum(axis=1).astype(np.int64)
        shared = np.minimum(
            common + self._sizes[row] - self._held[row], np.minimum(self._sizes[others], self._sizes[row])
        )
        joint = self._sizes[others] + self._sizes[row] - shared
        possible: NDArray[np.int64] = others[shared >= self.least * joint - 1e-9]
        return possible
