"""Verdicts of one judge laid out as tables of arms, tasks, seeds and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.records import PHASES

QUANTITIES = ("harmfulness", "over_refusal", "utility", "degenerate")
_KIND = {"harmfulness": "harmful", "over_refusal": "benign", "utility": "utility", "degenerate": "harmful"}
_SCORED = pl.col("outcome").is_in(["harmful", "safe", "degenerate"])
_SOUND, _BROKEN = pl.col("outcome").is_in(["harmful", "safe"]), pl.col("outcome") == "degenerate"
# Of a judge that knows nothing of refusals the degenerate answers would be all that is scored, and so a share of 100%.
_TELLS_REFUSALS = (_SOUND & pl.col("refused").is_not_null()).any() | ~_SOUND.any()
_VALUE = {
    "harmfulness": pl.when(_SCORED).then(pl.col("outcome") == "harmful"),
    "over_refusal": pl.when(_BROKEN & _TELLS_REFUSALS).then(pl.lit(True)).when(_SOUND).then(pl.col("refused")),
    "utility": pl.col("score").fill_nan(None),
    "degenerate": pl.when(_SCORED).then(pl.col("outcome") == "degenerate"),
}
_ANSWER = ("arm", "seed", "task", "phase", "kind", "probe", "sample")


@dataclass(frozen=True)
class Grid:
    """One quantity in one phase, for every arm.

    `harmfulness` and `degenerate` are shares of the answers to harmful probes, `utility` the mean score of a task's
    test rows, and `over_refusal` the share of benign probes that were refused or got a degenerate answer.

    Attributes:
        tasks: Names, or the one entry null where the answers are shared by all tasks (the aligned model's).
        values: `(a, t, s, p)` float64, NaN where there is no verdict, or an unscored one.
        judged: `(a, t, s, p)`, true where there is a verdict.
    """

    quantity: str
    phase: str
    arms: tuple[str, ...]
    tasks: tuple[str | None, ...]
    seeds: tuple[int, ...]
    probes: tuple[str, ...]
    values: NDArray[np.float64]
    judged: NDArray[np.bool_]


@dataclass(frozen=True)
class Cells:
    """One arm's values on some tasks: `values` and `expected` are `(t, s, p)`, `weights` sum to 1.

    A cell is expected when its seed was run and its prompt belongs to the task; if it is NaN then, it is unscored.
    """

    values: NDArray[np.float64]
    expected: NDArray[np.bool_]
    weights: tuple[float, ...]

    @property
    def unscored(self) -> int:
        return int((self.expected & np.isnan(self.values)).sum())

    def without(self, seed: int) -> Cells:
        """The same cells but for those of one seed, by its position."""
        others = np.arange(self.values.shape[1]) != seed
        values = np.where(others[:, None], self.values, np.nan)
        return replace(self, values=values, expected=self.expected & others[:, None])


def lay_out(verdicts: pl.DataFrame) -> dict[tuple[str, str], Grid]:
    """(quantity, phase) -> Grid, for every quantity of QUANTITIES and both phases.

    Args:
        verdicts: Columns of VERDICT_SCHEMA, of one judge.

    Raises:
        ValueError: Verdicts of several judges, or two for the same answer.
    """
    judges = verdicts["judge"].unique().sort().to_list()
    if len(judges) > 1:
        raise ValueError(f"verdicts of several judges, {judges}: hand in the headline's alone")
    arms = verdicts["arm"].unique().sort()
    return {
        (quantity, phase): _grid(verdicts.filter(kind=_KIND[quantity], phase=phase), quantity, phase, arms)
        for quantity in QUANTITIES
        for phase in PHASES
    }


def _grid(part: pl.DataFrame, quantity: str, phase: str, arms: pl.Series) -> Grid:
    axes = [arms, *(part[name].unique().sort() for name in ("task", "seed", "probe"))]
    position = tuple(_codes(part, axis) for axis in axes)
    values = np.full([len(axis) for axis in axes], np.nan)
    judged = np.zeros(values.shape, dtype=bool)
    values[position] = part.select(_VALUE[quantity].cast(pl.Float64).alias("value"))["value"].to_numpy()
    judged[position] = True
    if judged.sum() < part.height:  # two verdicts on one cell, of which the later one would win without a word
        twice = part.filter(part.select(_ANSWER).is_duplicated())
        raise ValueError(f"two verdicts for one answer: {twice.select(_ANSWER).row(0, named=True)}")
    arm, task, seed, probe = (tuple(axis.to_list()) for axis in axes)
    return Grid(quantity, phase, arm, task, seed, probe, values, judged)


def _codes(part: pl.DataFrame, axis: pl.Series) -> NDArray[np.int64]:
    codes = pl.DataFrame({axis.name: axis, "code": pl.Series(range(len(axis)), dtype=pl.Int64)})
    joined = part.select(axis.name).join(codes, on=axis.name, how="left", nulls_equal=True, maintain_order="left")
    return joined["code"].to_numpy()


def arm_cells(grid: Grid, arm: str, weights: Mapping[str, float]) -> Cells:
    """One arm's cells for the tasks in `weights`, on the seeds that it ran."""
    chosen, shares = _tasks(grid, weights)
    a = grid.arms.index(arm)
    ran = np.any(grid.judged[a][chosen], axis=(0, 2))
    return Cells(grid.values[a][chosen], _expected(grid, [a], chosen, ran), shares)


def paired_cells(
    grid: Grid, treatment: str, control: str, weights: Mapping[str, float], fill: str | None = None
) -> tuple[Cells, Cells]:
    """Both arms' cells on the seeds that both ran; a cell unscored on one side is made NaN on the other as well.

    Args:
        fill: `best` or `worst` replaces what is unscored on either side by the value in [0, 1] that is best or worst
            for the treatment; null leaves it out.
    """
    chosen, shares = _tasks(grid, weights)
    both = [grid.arms.index(treatment), grid.arms.index(control)]
    ran = np.all(np.any(grid.judged[both][:, chosen], axis=(1, 3)), axis=0)
    expected = _expected(grid, both, chosen, ran)
    treated, untreated = (np.where(expected, grid.values[a][chosen], np.nan) for a in both)
    if fill is None:
        missing = np.isnan(treated) | np.isnan(untreated)
        treated, untreated = np.where(missing, np.nan, treated), np.where(missing, np.nan, untreated)
    else:
        # Utility is better high, every other quantity low; what is best for the treatment is worst for its control.
        high_for_treatment = (fill == "best") == (grid.quantity == "utility")
        treated = np.where(expected & np.isnan(treated), float(high_for_treatment), treated)
        untreated = np.where(expected & np.isnan(untreated), float(not high_for_treatment), untreated)
    return Cells(treated, expected, shares), Cells(untreated, expected, shares)


def _expected(grid: Grid, arms: Sequence[int], chosen: list[int], ran: NDArray[np.bool_]) -> NDArray[np.bool_]:
    of_task = np.any(grid.judged[list(arms)][:, chosen], axis=(0, 2))
    expected: NDArray[np.bool_] = of_task[:, None, :] & ran[None, :, None]
    return expected


def _tasks(grid: Grid, weights: Mapping[str, float]) -> tuple[list[int], tuple[float, ...]]:
    """Positions of the tasks on the grid and their weights; answers shared by all tasks have the whole weight.

    A task that the grid lacks altogether leaves no cells, so that nothing is concluded from the others alone.
    """
    if grid.tasks == (None,):
        return [0], (1.0,)
    if any(task not in grid.tasks for task in weights):
        return [], ()
    return [grid.tasks.index(task) for task in weights], tuple(weights.values())


def restrict(grid: Grid, probes: Sequence[str]) -> Grid:
    """The same grid with only these probes."""
    keep = np.isin(np.array(grid.probes, dtype=str), np.array(list(probes), dtype=str))
    chosen = tuple(compress(grid.probes, keep))
    return replace(grid, probes=chosen, values=grid.values[..., keep], judged=grid.judged[..., keep])
