"""Which rows ask a probe: word n-grams find the pairs, the share of the probe's words that they hold decides."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.pool.words import Numbers, asked, numbered, runs, words
from curator.records import Messages


class Leak(NamedTuple):
    """The probe that a row asks: its role, its id, and the share of its words that the row holds, in (0, 1]."""

    role: str
    probe: str
    overlap: float


class _Probe(NamedTuple):
    role: str
    id: str
    grams: Numbers
    words: int


class ProbeIndex:
    """Probes made ready to be looked for.

    A row asks a probe where one of the row's user turns holds, in runs of `ngram` words that both have, a share
    `overlap` or more of the words of the probe's last user turn. Every such pair is found: each probe is indexed by
    those of its n-grams that are rarest among the probes, as many as no pair above the overlap can lack.

    Args:
        roles: Role -> rows of probes, in the columns of ROW_SCHEMA.
        ngram, overlap: As above.
        shortest: Probes of fewer words count only where a whole user turn equals them, case and punctuation apart.
    """

    def __init__(self, roles: Iterable[tuple[str, pl.DataFrame]], *, ngram: int, overlap: float, shortest: int) -> None:
        self.ngram, self.overlap = ngram, overlap
        self._probes: list[_Probe] = []
        self._whole: dict[tuple[str, ...], Leak] = {}
        for role, rows in roles:
            for one, messages in zip(rows["id"], rows["messages"].to_list(), strict=True):
                said = words((asked(messages) or [""])[-1])
                if len(said) < max(shortest, ngram):
                    self._whole.setdefault(tuple(said), Leak(role, one, 1.0))
                else:
                    self._probes.append(_Probe(role, one, runs(numbered(said), ngram), len(said)))
        self._whole.pop((), None)
        self._index: dict[int, list[int]] = defaultdict(list)
        known = Counter(gram for probe in self._probes for gram in set(probe.grams.tolist()))
        for number, probe in enumerate(self._probes):
            grams = probe.grams.tolist()
            # Fewer shared places than this cannot hold the share of words.
            least = math.ceil(math.ceil(overlap * probe.words - 1e-9) / ngram)
            places = sorted(grams, key=lambda gram: (known[gram], gram))[: len(grams) - least + 1]
            for gram in set(places):
                self._index[gram].append(number)

    def leaks(self, rows: Sequence[Messages]) -> list[Leak | None]:
        """For each row the probe that it asks most of, the first among equals; null where it asks none."""
        return [self._leak(messages) for messages in rows]

    def _leak(self, messages: Messages) -> Leak | None:
        best: Leak | None = None
        for text in asked(messages):
            said = words(text)
            found = self._whole.get(tuple(said)) if len(said) < 64 else None
            for leak in [found] if found is not None else self._overlaps(said):
                if best is None or leak.overlap > best.overlap:
                    best = leak
        return best

    def _overlaps(self, said: Sequence[str]) -> list[Leak]:
        if len(said) < self.ngram:
            return []
        grams = runs(numbered(said), self.ngram)
        held = set(grams.tolist())
        candidates = sorted({number for gram in held & self._index.keys() for number in self._index[gram]})
        found = []
        for number in candidates:
            probe = self._probes[number]
            share = covered(np.isin(probe.grams, grams), self.ngram, probe.words) / probe.words
            if share >= self.overlap - 1e-9:
                found.append(Leak(probe.role, probe.id, share))
        return found


def covered(shared: NDArray[np.bool_], ngram: int, count: int) -> int:
    """How many of `count` words lie in a shared n-gram; `shared` says of each n-gram, by its first word, whether."""
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
    """Rows whose prompt is as near a probe as `least`, with that probe and the cosine: a signal to look at, no verdict.

    Args:
        ids: `n` row ids; `vectors`: `(n, d)` unit rows of their prompts.
        probes: `m` probe ids; `probe_vectors`: `(m, d)` unit rows.
        least: A cosine in [0, 1].
    """
    if not len(ids) or not len(probes):
        return []
    found = []
    for start in range(0, len(ids), 4096):
        products = vectors[start : start + 4096] @ probe_vectors.T
        best = products.argmax(axis=1)
        for place, number in enumerate(best):
            cosine = float(products[place, number])
            if cosine >= least:
                found.append((ids[start + place], probes[number], min(cosine, 1.0)))
    return found
