"""Slow, obvious twins of the selection engine: dense kernels, all subsets, plain greedy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

SetFunction = Callable[[tuple[int, ...]], float]


def unit_rows(seed: int, n: int, d: int = 5, copies: int = 0) -> np.ndarray:
    """Random unit rows in a cone (so that most cosines are positive), the last `copies` equal to earlier ones."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) + 0.7
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    for at in range(copies):
        x[n - 1 - at] = x[int(rng.integers(0, n - copies))]
    return x


def kernel(x: np.ndarray, neighbours: int) -> np.ndarray:
    """K(v, s) for all rows: clipped cosine if s is (a copy of) one of the nearest distinct rows of v, else 0."""
    n = len(x)
    keys = [row.tobytes() for row in x]
    first = [keys.index(key) for key in keys]
    distinct = sorted(set(first))
    cosine = np.clip(x.astype(np.float64) @ x.T.astype(np.float64), -1, 1)
    out = np.zeros((n, n))
    for v in range(n):
        order = sorted(distinct, key=lambda s: (s != first[v], -cosine[v, s], s))[:neighbours]
        for s in range(n):
            if first[s] in order:
                out[v, s] = 1.0 if first[s] == first[v] else max(0.0, cosine[v, s])
    return out


def standard(score: np.ndarray) -> np.ndarray:
    spread = score.std()
    return (score - score.mean()) / spread if spread > 1e-12 else np.zeros(len(score))


def facility(
    x: np.ndarray, neighbours: int, w: np.ndarray | None = None, floor: np.ndarray | None = None
) -> SetFunction:
    k = kernel(x, neighbours)
    w = np.ones(len(x)) if w is None else w
    floor = np.zeros(len(x)) if floor is None else floor

    def value(rows: tuple[int, ...]) -> float:
        if not rows:
            return 0.0
        return float(w @ np.maximum(0.0, k[:, list(rows)].max(axis=1) - floor) / w.sum())

    return value


def feasible(
    n: int,
    k: int | None,
    groups: list[int] | None = None,
    quotas: dict[int, tuple[int | None, int | None]] | None = None,
    costs: np.ndarray | None = None,
    budget: float | None = None,
    include: tuple[int, ...] = (),
    exclude: tuple[int, ...] = (),
) -> Iterator[tuple[int, ...]]:
    """All sets within the limits."""
    for size in range(n + 1) if k is None else (k,):
        for rows in itertools.combinations(range(n), size):
            if set(include) - set(rows) or set(exclude) & set(rows):
                continue
            if budget is not None and costs is not None and costs[list(rows)].sum() > budget * (1 + 1e-12):
                continue
            for label, (low, high) in (quotas or {}).items():
                count = sum(groups[row] == label for row in rows) if groups else 0
                if count < (low or 0) or (high is not None and count > high):
                    break
            else:
                yield rows


def plain_greedy(value: SetFunction, penalty: np.ndarray, n: int, k: int) -> list[int]:
    """k rows, each the one of largest gain; gains within 1e-12 are equal and go to the lower row."""
    rows: tuple[int, ...] = ()
    while len(rows) < k:
        gains = {s: value((*rows, s)) - value(rows) - penalty[s] for s in range(n) if s not in rows}
        best = max(gains.values())
        rows = (*rows, min(s for s, gain in gains.items() if gain >= best - 1e-12))
    return list(rows)


def graph_cut(x: np.ndarray, neighbours: int, theta: float, w: np.ndarray | None = None) -> SetFunction:
    k = kernel(x, neighbours)
    k = np.maximum(k, k.T)
    w = np.ones(len(x)) if w is None else w / w.mean()

    def value(rows: tuple[int, ...]) -> float:
        s = list(rows)
        return float((w @ k[:, s]).sum() - theta * k[np.ix_(s, s)].sum()) / len(x)

    return value


def log_det(x: np.ndarray, alpha: float) -> SetFunction:
    def value(rows: tuple[int, ...]) -> float:
        s = x[list(rows)].astype(np.float64)
        return float(np.linalg.slogdet(np.eye(len(rows)) + alpha * s @ s.T)[1])

    return value
