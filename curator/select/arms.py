"""Control arms: other ways to choose k rows, against which a curated set is measured.

Each returns row ids in the order chosen. Rows are taken by id, never by position, and ties go by id, so the order in
which ids arrive changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curator.errors import SelectionError
from curator.select.problem import column

_QUANTILES = 4


def full(ids: Sequence[str]) -> tuple[str, ...]:
    """All ids, sorted."""
    return tuple(sorted(ids))


def random(ids: Sequence[str], k: int, generator: np.random.Generator) -> tuple[str, ...]:
    """`k` ids drawn without replacement.

    Raises:
        SelectionError: k is not from 1 to the number of ids.
    """
    _check_size(ids, k)
    ordered = sorted(ids)
    return tuple(ordered[row] for row in generator.choice(len(ordered), k, replace=False))


def matched_random(
    ids: Sequence[str],
    groups: Sequence[Any],
    lengths: ArrayLike | None,
    chosen: Sequence[str],
    *,
    k: int,
    drawable: Set[str] | None = None,
    generator: np.random.Generator,
) -> tuple[str, ...]:
    """`k` ids drawn so that groups, and length quartiles within each group, are as frequent as among `chosen`.

    Group counts are exactly those of `chosen` (scaled to k by largest remainder where k differs). Lengths are cut at
    the quartiles of the pool's lengths within the group; a cell always holds enough rows, since `chosen` lies in it.
    The draw may share rows with `chosen`, as a random draw does. Where `drawable` leaves a cell too few rows, the rest
    is drawn from the nearest lengths of the same group, and from other groups when that is used up.

    Args:
        ids: `n` ids of the pool.
        groups: `n` labels.
        lengths: `(n,)` tokens, or null to match groups only.
        chosen: Ids to match, part of `ids`.
        k: How many to draw.
        drawable: Ids that may be drawn; null for all.
        generator: Source of randomness.

    Raises:
        SelectionError: Shapes differ, `chosen` is empty or holds unknown ids, or a cell is too small when k is larger
            than `chosen`.
    """
    _check_size(ids, k)
    if len(groups) != len(ids):
        raise SelectionError(f"groups: {len(groups)} labels for {len(ids)} ids; there must be one an id")
    cells = _cells(ids, groups, None if lengths is None else column("lengths", lengths, len(ids)))
    unknown = sorted(set(chosen) - set(ids))
    if unknown or not chosen:
        raise SelectionError(f"chosen: {unknown[0] if unknown else 'nothing'!r} given; it must hold ids of the pool")
    wanted = _scaled(Counter(cells[one] for one in chosen), k)
    picked: list[str] = []
    short: list[tuple[str, int]] = []
    for cell in sorted(wanted):
        members = sorted(one for one in ids if cells[one] == cell and (drawable is None or one in drawable))
        if len(members) < wanted[cell] and drawable is None:
            raise SelectionError(
                f"k: {k} asks for {wanted[cell]} rows of group {cell[0]!r} and there are {len(members)}; lower k"
            )
        count = min(wanted[cell], len(members))
        picked += [members[row] for row in generator.choice(len(members), count, replace=False)]
        short += [cell] * (wanted[cell] - count)
    picked += _nearest_cells(short, cells, sorted(set(drawable or ()) - set(picked)), generator)
    return tuple(picked[row] for row in generator.permutation(len(picked)))


def _nearest_cells(
    short: Sequence[tuple[str, int]],
    cells: Mapping[str, tuple[str, int]],
    spare: list[str],
    generator: np.random.Generator,
) -> list[str]:
    if len(spare) < len(short):
        raise SelectionError(f"k: {len(short)} rows more are needed than may be drawn; lower k, or add sources")
    spare = [spare[row] for row in generator.permutation(len(spare))]
    found = []
    for group, length in short:
        far = [(cells[one][0] != group, abs(cells[one][1] - length)) for one in spare]
        found.append(spare.pop(far.index(min(far))))
    return found


def low_similarity(ids: Sequence[str], score: ArrayLike, k: int) -> tuple[str, ...]:
    """The `k` ids of lowest score, lowest first. With the per-example score: the rows least similar to most task rows.

    Raises:
        SelectionError: k is not from 1 to the number of ids, or score is not `(n,)` finite numbers.
    """
    return _ranked(ids, [column("score", score, len(ids))], k)


def high_similarity(ids: Sequence[str], score: ArrayLike, k: int) -> tuple[str, ...]:
    """The `k` ids of highest score, highest first.

    Raises:
        SelectionError: As `low_similarity`.
    """
    return _ranked(ids, [-column("score", score, len(ids))], k)


def per_example(ids: Sequence[str], score: ArrayLike, mean_cosine: ArrayLike, k: int) -> tuple[str, ...]:
    """The paper's per-example sets, merged: the `k` ids least similar to the most task rows, ties by lower mean cosine.

    Args:
        ids: `n` ids.
        score: `(n,)` the `per-example` score (minus a share, so lowest comes first).
        mean_cosine: `(n,)` the `mean` score.
        k: How many.

    Raises:
        SelectionError: As `low_similarity`.
    """
    return _ranked(ids, [column("score", score, len(ids)), column("mean_cosine", mean_cosine, len(ids))], k)


def within(order: Sequence[str], costs: Mapping[str, float], budget: float) -> tuple[str, ...]:
    """The ids taken in this order, each while it still fits into the budget.

    Raises:
        SelectionError: None fits.
    """
    taken, used = [], 0.0
    for one in order:
        if used + costs[one] <= budget:
            taken.append(one)
            used += costs[one]
    if not taken:
        raise SelectionError(f"budget: {budget:g} is less than any row costs; raise it")
    return tuple(taken)


def _ranked(ids: Sequence[str], keys: list[NDArray[np.float64]], k: int) -> tuple[str, ...]:
    _check_size(ids, k)
    order = sorted(range(len(ids)), key=lambda row: (*(float(key[row]) for key in keys), ids[row]))
    return tuple(ids[row] for row in order[:k])


def _cells(
    ids: Sequence[str], groups: Sequence[Any], lengths: NDArray[np.float64] | None
) -> dict[str, tuple[str, int]]:
    if lengths is None:
        return {one: (str(label), 0) for one, label in zip(ids, groups, strict=True)}
    by_group: dict[str, list[float]] = {}
    for label, length in zip(groups, lengths, strict=True):
        by_group.setdefault(str(label), []).append(float(length))
    shares = np.arange(1, _QUANTILES) / _QUANTILES
    cuts = {label: np.quantile(values, shares) for label, values in by_group.items()}
    return {
        one: (str(label), int(np.searchsorted(cuts[str(label)], length)))
        for one, label, length in zip(ids, groups, lengths, strict=True)
    }


def _scaled(counts: Counter[tuple[str, int]], k: int) -> dict[tuple[str, int], int]:
    total = sum(counts.values())
    if total == k:
        return dict(counts)
    shares = {cell: count * k / total for cell, count in counts.items()}
    floors = {cell: int(share) for cell, share in shares.items()}
    by_rest = sorted(shares, key=lambda cell: (floors[cell] - shares[cell], cell))
    for cell in by_rest[: k - sum(floors.values())]:
        floors[cell] += 1
    return floors


def _check_size(ids: Sequence[str], k: int) -> None:
    if not 1 <= k <= len(ids):
        raise SelectionError(f"k: found {k}; it must be a whole number from 1 to the {len(ids)} rows there are")
