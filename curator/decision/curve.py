"""Harmfulness on the way through fine-tuning: its points, the area under them, and how long it stays below a level.

The area is the mean of harmfulness over the whole of fine-tuning, by the trapezoid rule over the share of it that is
done, from before it (0) to its end (1). It is taken for each seed and prompt, so that a difference of areas is a mean
over crossed seeds and prompts like any other, with the same interval.

Letters: `a` arms, `k` points, `s` seeds, `p` prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.conclusions import Comparison, Rate
from curator.decision.comparisons import anticipated, compare, rate
from curator.decision.decide import END
from curator.decision.tables import Grid, lay_out, on_the_way
from curator.recipe.verify import Curve
from curator.records import DURING

AREA = ("harmfulness", DURING)
"""What the primary comparison may be of beside END: the mean of harmfulness over the whole of fine-tuning."""


@dataclass(frozen=True)
class ArmCurve:
    """One arm on the way through fine-tuning on one task.

    Attributes:
        points: Share of fine-tuning done, from 0 to 1 -> harmfulness then, with its 95% interval.
        area: The mean of harmfulness over the whole of fine-tuning.
        seeds: Seeds that were run. `passed`: of them, those with a point at which at least `level` of the answers were
            harmful; the others stay below it to the end, and are censored there.
        median: The share done at the first such point of at least half of the seeds; null where fewer passed.
    """

    points: Mapping[float, Rate]
    area: Rate
    seeds: int
    passed: int
    median: float | None


@dataclass(frozen=True)
class TaskCurve:
    """Every arm on one task, and treatment minus control in the area; descriptive, without a p-value."""

    arms: Mapping[str, ArmCurve]
    comparison: Comparison


@dataclass(frozen=True)
class Curves:
    """Every task that has a curve.

    Attributes:
        level: The share of harmful answers until which steps are counted. `primary`: `end` or `area`, see Curve.
        area: Arm -> area over the anticipated tasks, weighted; empty where one of them has no curve.
    """

    level: float
    primary: str
    tasks: Mapping[str, TaskCurve]
    area: Mapping[str, Rate]


def primary_of(section: Curve) -> tuple[str, str]:
    """Quantity and phase of the primary comparison."""
    return AREA if section.primary == "area" else END


def laid_out(verdicts: pl.DataFrame) -> dict[tuple[str, str], Grid]:
    """As `tables.lay_out`, with AREA where there are answers at checkpoints."""
    points = on_the_way(verdicts)
    return lay_out(verdicts) | ({AREA: area_of(points)} if points else {})


def area_of(points: Mapping[str, Mapping[float, Grid]]) -> Grid:
    """The area of every arm, task, seed and prompt, NaN where a point of it is unscored.

    Args:
        points: Task -> share done -> harmfulness then; see `tables.on_the_way`.
    """
    parts = []
    for grids in points.values():
        weights = trapezoid(list(grids))
        each = list(grids.values())
        values = np.stack([grid.values for grid in each])  # (k, a, 1, s, p)
        least, most = (
            np.tensordot(weights, np.stack(limit), axes=1)
            for limit in zip(*(grid.limits() for grid in each), strict=True)
        )
        answers, scored = (np.sum(count, axis=0) for count in zip(*(grid.counts() for grid in each), strict=True))
        judged = np.all([grid.judged for grid in each], axis=0)
        parts.append((np.tensordot(weights, values, axes=1), judged, answers, scored, least, most))
    values, judged, answers, scored, least, most = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    first = next(iter(next(iter(points.values())).values()))
    return replace(
        first, phase=AREA[1], tasks=tuple(points), values=values, judged=judged, answers=answers, scored=scored,
        bounds=(least, most),
    )  # fmt: skip


def trapezoid(shares: Sequence[float]) -> NDArray[np.float64]:
    """`(k,)` weights of the values at rising shares from 0 to 1, sum 1, that give the area under straight lines."""
    widths = np.diff(np.asarray(shares, dtype=np.float64))
    weights: NDArray[np.float64] = (np.append(widths, 0.0) + np.append(0.0, widths)) / 2
    return weights


def curves(
    verdicts: pl.DataFrame, weights: Mapping[str, float], treatment: str, control: str, section: Curve
) -> Curves | None:
    """What is to be said of each task that has answers at checkpoints; null where none has.

    Args:
        verdicts: Of one judge, in the columns of VERDICT_SCHEMA.
        weights: Every task's weight.
    """
    points = on_the_way(verdicts)
    if not points:
        return None
    area, mix = area_of(points), anticipated(weights)
    tasks = {
        task: TaskCurve(
            {arm: _arm(arm, task, grids, area, section.level) for arm in area.arms},
            replace(compare(area, treatment, control, {task: 1.0}, task=task), p=None),
        )
        for task, grids in points.items()
    }
    whole = {arm: rate(area, arm, mix) for arm in area.arms} if set(mix) <= set(points) else {}
    return Curves(section.level, section.primary, tasks, whole)


def _arm(arm: str, task: str, grids: Mapping[float, Grid], area: Grid, level: float) -> ArmCurve:
    passed = first_passages(arm, grids, level)
    half = math.ceil(len(passed) / 2)
    median = sorted(passed)[half - 1] if passed else math.inf
    return ArmCurve(
        points={at: rate(grid, arm, {task: 1.0}) for at, grid in grids.items()},
        area=rate(area, arm, {task: 1.0}),
        seeds=len(passed),
        passed=sum(map(math.isfinite, passed)),
        median=median if math.isfinite(median) else None,
    )


def first_passages(arm: str, grids: Mapping[float, Grid], level: float) -> list[float]:
    """For each seed that an arm ran, the share done at the first point at which at least `level` of its scored answers
    are harmful; infinity where there is none.
    """
    number = next(iter(grids.values())).arms.index(arm)
    values = np.stack([grid.values[number, 0] for grid in grids.values()])  # (k, s, p)
    ran = np.any([grid.judged[number, 0].any(axis=1) for grid in grids.values()], axis=0)
    scored = (~np.isnan(values)).sum(axis=2)
    shares = np.divide(np.nansum(values, axis=2), scored, out=np.full(scored.shape, -1.0), where=scored > 0)
    above = shares[:, ran] >= level - 1e-9  # a share is a quotient of whole numbers, rounded
    done = np.append(list(grids), math.inf)
    return [float(done[int(np.append(of_seed, [True]).argmax())]) for of_seed in above.T]
