"""From rows to vectors, chunk by chunk, so that memory does not grow with the number of rows.

Letters: `n` rows, `b` rows of a chunk, `d` width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curator.errors import ModelError, RunError
from curator.records import Messages
from curator.represent.cache import KEY, Keys, add, keys_of, locate
from curator.represent.encoder import Encoded, Encoder, Progress, Texts
from curator.wording import these

MOST_ROWS, LEAST_ROWS, BYTES = 8192, 512, 2**27
"""Rows of a chunk, within which rows are sorted by length: as many as give 128 MiB of vectors, within these limits."""
READ = 4096  # rows whose text is read together
SEEN_WITHIN = 120.0  # seconds


class Rows(NamedTuple):
    """Rows that can be read again and again, a few at a time.

    Attributes:
        ids: `n` row ids, each once.
        read: Returns the conversations of `ids[start:stop]`.
    """

    ids: Sequence[str]
    read: Callable[[int, int], Sequence[Messages]]


@dataclass(frozen=True)
class Chunk:
    """Rows that are embedded together.

    Attributes:
        positions: `(b,)` positions of the rows among all rows.
        keys: `(b,)` keys of the rows in the caches.
        lacking: Number of a cache that lacks any of the rows -> `(b,)` which of them it lacks.
    """

    positions: NDArray[np.int64]
    keys: Keys
    lacking: Mapping[int, NDArray[np.bool_]]


class Elsewhere(NamedTuple):
    """Other processes that embed chunks with `embed` and write to the same caches.

    Attributes:
        width: Total width of a row's vectors, over all representations.
        rows: As `Encoder.rows`, so that chunks are those of this process.
        run: Yields the number of rows done in each chunk, in any order.
    """

    width: int
    rows: int | None
    run: Callable[[Sequence[Chunk]], Iterator[int]]


@dataclass(frozen=True)
class Filled:
    """The result of `fill`.

    Attributes:
        keys: `(n,)` the rows' keys in the caches, in the rows' order.
        embedded, cached: Number of rows embedded for each cache, and of rows that it had; the rest of the `n` rows
            repeat the text of another row.
    """

    keys: Keys
    embedded: tuple[int, ...]
    cached: tuple[int, ...]


def in_memory(ids: Sequence[str], rows: Sequence[Messages]) -> Rows:
    """Rows of two sequences."""
    return Rows(ids, lambda start, stop: rows[start:stop])


def fill(
    caches: Sequence[Path],
    rows: Rows,
    ready: Callable[[], Encoder],
    *,
    elsewhere: Elsewhere | None = None,
    progress: Progress = lambda done, total: None,
) -> Filled:
    """Puts the vectors of all rows into the caches, one per representation of the encoder; embeds only missing rows.

    Missing rows go in the order of their ids, in chunks whose size depends on the encoder's widths, and on a CPU on the
    size of its model; in a chunk, batches are composed from lengths and ids. Each chunk is a shard of every cache that
    lacked it, so a killed run loses at most one chunk.

    Reproducibility: the order of the rows changes nothing. Rows that are embedded into an empty cache, in one run or in
    several interrupted ones, get the same bits with the same number of threads on one machine. A row's bits may differ
    by rounding (1e-4 in fp32, about 1e-2 in bf16) between caches that were filled with different sets of rows, because
    a matrix product rounds by the shape of its batch; so a run on a warm cache equals one on a cold cache up to that.
    Only batches of a fixed shape would avoid this, at the cost of padding every row to the limit.

    Args:
        caches: Folders from `cache.folder_of`, in the order of the encoder's representations.
        rows: In any order.
        ready: Loads the model; not called if no row is missing.
        elsewhere: Other processes that embed the chunks; null for this process.
        progress: Called with the rows done (cached or embedded) and the number of all rows.

    Raises:
        ModelError: A vector holds an infinite number or NaN.
        RunError: Vectors that other processes have written into the caches are not visible here.
    """
    keys, distinct, _ = _distinct_texts(rows)
    n, lacking = len(keys), [np.zeros(len(keys), dtype=np.bool_) for _ in caches]
    for cache, lacks in zip(caches, lacking, strict=True):
        lacks[distinct[locate(cache, keys[distinct]).missing]] = True
    missing = distinct[np.logical_or.reduce(lacking)[distinct]]
    done = n - len(missing)
    progress(done, n)
    if not len(missing):
        return Filled(keys, (0,) * len(caches), (len(distinct),) * len(caches))
    if elsewhere is None:
        encoder = ready()
        for chunk in _with_lacking(_chunks(missing, sum(encoder.widths), encoder.rows), keys, lacking):
            embed(chunk, rows, caches, encoder, progress=_from(done, n, progress))
            done += len(chunk.positions)
    else:
        chunks = _chunks(missing, elsewhere.width, elsewhere.rows)
        for count in elsewhere.run(list(_with_lacking(chunks, keys, lacking))):
            done += count
            progress(done, n)
        _await(caches, keys[distinct])
    embedded = [int(lacks.sum()) for lacks in lacking]
    return Filled(keys, tuple(embedded), tuple(len(distinct) - count for count in embedded))


def embed(
    chunk: Chunk, rows: Rows, caches: Sequence[Path], encoder: Encoder, *, progress: Callable[[int], None]
) -> None:
    """Embeds the rows of one chunk and adds a shard to every cache that lacks any of them.

    Raises:
        ModelError: A vector holds an infinite number or NaN.
    """
    texts = _texts(rows, chunk.positions)
    vectors = _finite(texts, encoder.encode(texts, list(chunk.lacking), progress))
    for (number, lacks), (matrix, cut) in zip(chunk.lacking.items(), vectors, strict=True):
        add(caches[number], chunk.keys[lacks], Encoded(matrix[lacks], cut[lacks]))


def encoded(rows: Rows, encoder: Encoder, *, progress: Progress = lambda done, total: None) -> list[Encoded]:
    """The vectors of all rows by every representation of the encoder, in memory, bit for bit those that `fill` puts
    into an empty cache.

    Raises:
        ModelError: See `embed`.
    """
    keys, distinct, same = _distinct_texts(rows)
    n, done = len(keys), len(keys) - len(distinct)
    whole = [Encoded(np.zeros((n, width), dtype=np.float32), np.zeros(n, dtype=np.bool_)) for width in encoder.widths]
    for positions in _chunks(distinct, sum(encoder.widths), encoder.rows):
        texts = _texts(rows, positions)
        vectors = _finite(texts, encoder.encode(texts, range(len(whole)), _from(done, n, progress)))
        for target, source in zip(whole, vectors, strict=True):
            target.matrix[positions], target.cut[positions] = source.matrix, source.cut
        done += len(positions)
    return [Encoded(matrix[same], cut[same]) for matrix, cut in whole]


def _distinct_texts(rows: Rows) -> tuple[Keys, NDArray[np.int64], NDArray[np.int64]]:
    """Keys of all rows `(n,)`; one row of every distinct text, by id; and for each row `(n,)` its representative."""
    n = len(rows.ids)
    read_keys = [keys_of(rows.read(start, min(start + READ, n))) for start in range(0, n, READ)]
    keys = np.concatenate([np.zeros(0, dtype=f"S{KEY}"), *read_keys])
    # A pool comes sorted by id; a range then avoids the list of `n` Python numbers that a sort would make.
    sorted_already = all(rows.ids[row] <= rows.ids[row + 1] for row in range(n - 1))
    order = range(n) if sorted_already else sorted(range(n), key=lambda row: rows.ids[row])
    by_id = np.fromiter(order, dtype=np.int64, count=n)
    _, first, text = np.unique(keys[by_id], return_index=True, return_inverse=True)
    same = np.empty(n, dtype=np.int64)
    same[by_id] = by_id[first[text]]
    return keys, by_id[np.sort(first)], same


def _chunks(positions: NDArray[np.int64], width: int, most: int | None) -> Iterator[NDArray[np.int64]]:
    size = min(MOST_ROWS, max(LEAST_ROWS, BYTES // (4 * max(width, 1))))
    size = size if most is None else min(size, most)
    for start in range(0, len(positions), size):
        yield positions[start : start + size]


def _with_lacking(
    chunks: Iterable[NDArray[np.int64]], keys: Keys, lacking: Sequence[NDArray[np.bool_]]
) -> Iterator[Chunk]:
    for rows in chunks:
        yield Chunk(
            rows, keys[rows], {number: lacks[rows] for number, lacks in enumerate(lacking) if lacks[rows].any()}
        )


def _texts(rows: Rows, positions: NDArray[np.int64]) -> Texts:
    """The rows at these positions, read block by block."""
    texts: dict[int, Messages] = {}
    for block in np.unique(positions // READ).tolist():
        start = block * READ
        messages = rows.read(start, min(start + READ, len(rows.ids)))
        texts |= {row: messages[row - start] for row in positions[positions // READ == block].tolist()}
    order = positions.tolist()
    return Texts([rows.ids[row] for row in order], [texts[row] for row in order])


def _finite(texts: Texts, vectors: list[Encoded]) -> list[Encoded]:
    """The vectors, if all values are finite: a single NaN would spread to every row through the mean."""
    for matrix, _ in vectors:
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        if bad.size:
            raise ModelError(
                f"represent: the vectors of {these(bad.size, 'row', 'rows')} contain NaN or infinite numbers (first: "
                f"{texts.ids[bad[0]]!r}); leave these rows out, use another layer, or check the weights"
            )
    return vectors


def _await(caches: Sequence[Path], keys: Keys) -> None:
    """Waits up to SEEN_WITHIN seconds until every row is visible here: a shared disk may show a folder as it was up to
    a minute ago.
    """
    limit = time.monotonic() + SEEN_WITHIN
    for cache in caches:
        while lost := len(locate(cache, keys).missing):
            if time.monotonic() > limit:
                raise RunError(
                    f"engine.cache: {these(lost, 'row', 'rows')} that workers embedded cannot be seen in {cache} from "
                    "here; name a folder on a disk that all nodes share, or set engine.cache to false"
                )
            time.sleep(1.0)


def _from(done: int, total: int, progress: Progress) -> Callable[[int], None]:
    return lambda more: progress(done + more, total)
