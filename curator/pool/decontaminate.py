"""Rows that contain a probe: word n-grams find candidate pairs, and the share of the probe's words in the row
decides.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.language import words
from curator.pool.words import Numbers, numbered, runs, user_turns
from curator.records import Messages


class Leak(NamedTuple):
    """The probe that a row contains: its role, its id, and the share of its words in the row, in (0, 1]."""

    role: str
    probe: str
    overlap: float


class _Probe(NamedTuple):
    role: str
    id: str
    grams: Numbers
    words: int


class ProbeIndex:
    """An index of probes for the search in rows.

    A row contains a probe if one of the row's user turns, or its system text, holds at least the share `overlap` of the
    words of the probe's last user turn, in shared runs of `ngram` words. All such pairs are found: each probe is
    indexed by its n-grams that are rarest among the probes, enough of them that every pair above the overlap shares
    one.

    Args:
        roles: Role -> rows of probes, in the columns of ROW_SCHEMA.
        ngram, overlap: Words of a run, and the share of a probe's words, in (0, 1].
        shortest: Probes of fewer words count only if a whole user turn equals them, ignoring case and punctuation.
    """

    def __init__(self, roles: Iterable[tuple[str, pl.DataFrame]], *, ngram: int, overlap: float, shortest: int) -> None:
        self.ngram, self.overlap = ngram, overlap
        self._probes: list[_Probe] = []
        self._whole: dict[tuple[str, ...], Leak] = {}
        for role, rows in roles:
            for probe_id, messages in zip(rows["id"], rows["messages"].to_list(), strict=True):
                prompt = words((user_turns(messages) or [""])[-1])
                if len(prompt) < max(shortest, ngram):
                    self._whole.setdefault(tuple(prompt), Leak(role, probe_id, 1.0))
                else:
                    self._probes.append(_Probe(role, probe_id, runs(numbered(prompt), ngram), len(prompt)))
        self._whole.pop((), None)
        self._index: dict[int, list[int]] = defaultdict(list)
        frequency = Counter(gram for probe in self._probes for gram in set(probe.grams.tolist()))
        for number, probe in enumerate(self._probes):
            grams = probe.grams.tolist()
            # A shared n-gram covers at most `ngram` words, so fewer than `least` shared ones cannot hold the share of
            # words; a row that has `least` of the probe's n-grams has one of any `len(grams) - least + 1` of them. The
            # rarest are indexed, as they find the fewest rows. 1e-9: 0.8 x 5 must not round up to 5 words.
            least = math.ceil(math.ceil(overlap * probe.words - 1e-9) / ngram)
            rarest = sorted(grams, key=lambda gram: (frequency[gram], gram))[: len(grams) - least + 1]
            for gram in set(rarest):
                self._index[gram].append(number)

    def leaks(self, rows: Sequence[Messages]) -> list[Leak | None]:
        """For each row the probe with the largest share in it, the first among equals; null if it contains none."""
        return [self._leak(messages) for messages in rows]

    def _leak(self, messages: Messages) -> Leak | None:
        best: Leak | None = None
        system = [turn["content"] for turn in messages if turn["role"] == "system"]
        for text in (*user_turns(messages), *system):
            turn = words(text)
            equal = self._whole.get(tuple(turn)) if len(turn) < 64 else None
            for leak in [equal] if equal is not None else self._overlaps(turn):
                if best is None or leak.overlap > best.overlap:
                    best = leak
        return best

    def _overlaps(self, turn: Sequence[str]) -> list[Leak]:
        if len(turn) < self.ngram:
            return []
        grams = runs(numbered(turn), self.ngram)
        held = set(grams.tolist())
        candidates = sorted({number for gram in held & self._index.keys() for number in self._index[gram]})
        leaks = []
        for number in candidates:
            probe = self._probes[number]
            share = covered(np.isin(probe.grams, grams), self.ngram, probe.words) / probe.words
            if share >= self.overlap - 1e-9:
                leaks.append(Leak(probe.role, probe.id, share))
        return leaks


def covered(shared: NDArray[np.bool_], ngram: int, count: int) -> int:
    """How many of `count` words lie in a shared n-gram; `shared` marks the shared n-grams by their first word."""
    # Every n-gram opens an interval of words and closes it; the running sum counts the intervals over each word.
    edges = np.zeros(count + 1, dtype=np.int64)
    starts = np.flatnonzero(shared)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + ngram, -1)
    return int(np.count_nonzero(np.cumsum(edges[:-1]) > 0))


def neighbours(
    ids: Sequence[str],
    vectors: NDArray[np.float32],
    probes: Sequence[str],
    probe_vectors: NDArray[np.float32],
    *,
    least: float,
) -> list[tuple[str, str, float]]:
    """Rows whose prompt has a cosine of at least `least` to a probe, with that probe and the cosine: a signal, not a
    verdict.

    Args:
        ids: `n` row ids.
        vectors: `(n, d)` unit rows of their prompts.
        probes: `m` probe ids.
        probe_vectors: `(m, d)` unit rows.
        least: A cosine in [0, 1].
    """
    if not len(ids) or not len(probes):
        return []
    near = []
    for start in range(0, len(ids), 4096):
        products = vectors[start : start + 4096] @ probe_vectors.T
        best = products.argmax(axis=1)
        for offset, nearest in enumerate(best):
            cosine = float(products[offset, nearest])
            if cosine >= least:
                near.append((ids[start + offset], probes[nearest], min(cosine, 1.0)))
    return near
