"""One seed at a time: two arms on the same prompts. Descriptive: seeds are what varies, so no single one decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from curator.verify.tables import Grid, paired_cells


@dataclass(frozen=True)
class WithinSeed:
    """Two arms on one task and seed.

    Attributes:
        only_treatment, only_control: Prompts on which just this arm was harmful.
        pairs: Prompts scored in both.
        p: McNemar's exact two-sided p-value, of this pair of models only.
    """

    task: str
    seed: int
    only_treatment: int
    only_control: int
    pairs: int
    p: float


def within_seeds(grid: Grid, treatment: str, control: str, task: str) -> tuple[WithinSeed, ...]:
    """One entry for each seed that both arms ran and with a scored pair, in seed order."""
    first, second = paired_cells(grid, treatment, control, {task: 1.0})
    if not len(first.values):
        return ()
    step = first.values[0] - second.values[0]
    pairs = (~np.isnan(step)).sum(axis=1)
    more, fewer = (step > 0).sum(axis=1), (step < 0).sum(axis=1)
    tail = special.bdtr(np.minimum(more, fewer), more + fewer, 0.5)
    return tuple(
        WithinSeed(task, seed, int(up), int(down), int(n), min(1.0, 2 * float(p)))
        for seed, up, down, n, p in zip(grid.seeds, more, fewer, pairs, tail, strict=True)
        if n
    )
