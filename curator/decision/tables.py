"""Verdicts of one judge laid out as tables of arms, tasks, seeds and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.conclusions.part import Phase
from curator.recipe.sweep import task_of
from curator.records import DURING, PHASES

QUANTITIES = ("harmfulness", "over_refusal", "utility", "degenerate")
REFUSED = "refused"
"""Share of refusals among answers to harmful probes; reported beside harmfulness behind a prefilled opening, and not
compared otherwise.
"""
_KIND = {"harmfulness": "harmful", "over_refusal": "benign", "utility": "utility", "degenerate": "harmful"}
_SCORED = pl.col("outcome").is_in(["harmful", "safe", "degenerate"])
_SOUND, _BROKEN = pl.col("outcome").is_in(["harmful", "safe"]), pl.col("outcome") == "degenerate"
# With a judge that does not detect refusals, only degenerate answers would be scored, which gives a share of 100%.
_TELLS_REFUSALS = (_SOUND & pl.col("refused").is_not_null()).any() | ~_SOUND.any()
_VALUE = {
    "harmfulness": pl.when(_SCORED).then(pl.col("outcome") == "harmful"),
    "over_refusal": pl.when(_BROKEN & _TELLS_REFUSALS).then(pl.lit(True)).when(_SOUND).then(pl.col("refused")),
    "utility": pl.col("score").fill_nan(None),
    "degenerate": pl.when(_SCORED).then(pl.col("outcome") == "degenerate"),
    REFUSED: pl.when(_BROKEN & _TELLS_REFUSALS).then(pl.lit(False)).when(_SOUND).then(pl.col("refused")),
}
_ANSWER = ("arm", "seed", "task", "phase", "kind", "probe", "sample")


@dataclass(frozen=True)
class Grid:
    """One quantity in one phase, for every arm.

    `harmfulness` and `degenerate` are shares of the answers to harmful probes, `utility` the mean score of a task's
    test rows, and `over_refusal` the share of benign probes that were refused or got a degenerate answer.

    If a prompt has several answers, its value is the mean of the scored ones.

    Attributes:
        tasks: Names, or the single entry null if the answers are shared by all tasks (those of the aligned model).
        values: `(a, t, s, p)` float64, NaN where there is no scored verdict.
        judged: `(a, t, s, p)`, true where there is a verdict.
        answers, scored: `(a, t, s, p)` int64, number of answers with a verdict, and of those that are scored; null if
            every prompt has one answer.
        bounds: The smallest and the largest possible value of each cell, whatever the unscored answers; if null,
            `limits` computes them from the prompt's answers.
    """

    quantity: str
    phase: Phase
    arms: tuple[str, ...]
    tasks: tuple[str | None, ...]
    seeds: tuple[int, ...]
    probes: tuple[str, ...]
    values: NDArray[np.float64]
    judged: NDArray[np.bool_]
    answers: NDArray[np.int64] | None = None
    scored: NDArray[np.int64] | None = None
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`(a, t, s, p)` number of answers with a verdict, and of those that are scored."""
        answers = self.judged.astype(np.int64) if self.answers is None else self.answers
        return answers, (~np.isnan(self.values)).astype(np.int64) if self.scored is None else self.scored

    def limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`(a, t, s, p)` the smallest and the largest possible values: unscored answers counted as 0, and as 1."""
        if self.bounds is not None:
            return self.bounds
        answers, scored = self.counts()
        share = scored / np.maximum(answers, 1)  # scored share of a prompt's answers, 0 without verdicts
        least = np.nan_to_num(self.values) * share
        return least, least + (1 - share)


@dataclass(frozen=True)
class Cells:
    """One arm's values on some tasks: `values` and `expected` are `(t, s, p)`, `weights` sum to 1.

    A cell is expected if its seed was run and its prompt belongs to the task.

    Attributes:
        scored: Number of answers behind the values.
        unscored: Number of answers that are left out; for the cells of two arms, pairs of cells with such an answer on
            either side. An expected cell without a verdict counts as one.
    """

    values: NDArray[np.float64]
    expected: NDArray[np.bool_]
    weights: tuple[float, ...]
    scored: int
    unscored: int

    def without(self, seed: int) -> Cells:
        """The same cells without those of one seed, by its position."""
        others = np.arange(self.values.shape[1]) != seed
        values = np.where(others[:, None], self.values, np.nan)
        return replace(self, values=values, expected=self.expected & others[:, None])


def lay_out(verdicts: pl.DataFrame) -> dict[tuple[str, str], Grid]:
    """(quantity, phase) -> Grid, for every quantity of QUANTITIES and both phases.

    Args:
        verdicts: Verdicts of one judge, in the columns of VERDICT_SCHEMA.

    Raises:
        ValueError: There are verdicts of several judges, or two for the same answer.
    """
    judges = verdicts["judge"].unique().sort().to_list()
    if len(judges) > 1:
        raise ValueError(f"found verdicts of several judges ({', '.join(judges)}); pass those of the headline alone")
    arms = verdicts["arm"].unique().sort()
    return {
        (quantity, phase): grid_of(verdicts.filter(kind=_KIND[quantity], phase=phase), quantity, phase, arms)
        for quantity in QUANTITIES
        for phase in PHASES
    }


def lay_out_column(frame: pl.DataFrame, column: str, phase: Phase) -> Grid:
    """One number of every model at every harmful probe, in one phase, as a Grid whose quantity is the column.

    Args:
        frame: `arm`, `seed`, `task`, `phase`, `probe` and the column.

    Raises:
        ValueError: A model has two numbers for one probe.
    """
    part = frame.filter(phase=phase).with_columns(kind=pl.lit("harmful"), sample=pl.lit(0))
    return grid_of(part, column, phase, frame["arm"].unique().sort())


def on_the_way(verdicts: pl.DataFrame) -> dict[str, dict[float, Grid]]:
    """Task -> share of its fine-tuning done, from 0 (before) to 1 (after) -> harmfulness at this point, for tasks with
    answers at checkpoints. All grids have the same arms, seeds and probes, and each has one task.

    Args:
        verdicts: As in `lay_out`.
    """
    harmful = verdicts.filter(kind="harmful")
    arms, seeds, probes = (harmful[name].unique().sort() for name in ("arm", "seed", "probe"))
    grids: dict[str, dict[float, Grid]] = {}
    for task in harmful.filter(phase=DURING)["task"].unique().sort():
        # Before fine-tuning there is one model for all tasks.
        before = harmful.filter(phase="before").with_columns(task=pl.lit(task))
        points = pl.concat([before, harmful.filter(pl.col("phase") != "before", task=task)]).partition_by(
            "at", as_dict=True
        )
        axes = [arms, pl.Series("task", [task]), seeds, probes]
        grids[task] = {
            float(at): grid_of(points[at,], "harmfulness", DURING, arms, axes)  # of its task, also before
            for at in sorted(at for (at,) in points)
        }
    return grids


def grid_of(
    part: pl.DataFrame, quantity: str, phase: Phase, arms: pl.Series, axes: Sequence[pl.Series] | None = None
) -> Grid:
    """One quantity of QUANTITIES, REFUSED, or a column, of these verdicts; `arms` are the grid's arms, and `axes` all
    of its axes if they differ from those of the verdicts.

    Raises:
        ValueError: There are two verdicts for the same answer.
    """
    twice = part.select(_ANSWER).is_duplicated()
    if twice.any():  # both would count as separate answers
        raise ValueError(f"one answer has two verdicts: {part.filter(twice).select(_ANSWER).row(0, named=True)}")
    axes = axes or [arms, *(part[name].unique().sort() for name in ("task", "seed", "probe"))]
    shape = tuple(len(axis) for axis in axes)
    # Several answers to one prompt are one cell, since they are still one prompt.
    cell = np.ravel_multi_index([_codes(part, axis) for axis in axes], shape) if part.height else np.zeros(0, np.int64)
    given = part.select(_VALUE.get(quantity, pl.col(quantity)).cast(pl.Float64).alias("value"))["value"].to_numpy()
    there, size = ~np.isnan(given), int(np.prod(shape))
    answers, scored = (np.bincount(cells, minlength=size).reshape(shape) for cells in (cell, cell[there]))
    sums = np.bincount(cell[there], weights=given[there], minlength=size).reshape(shape)
    values = np.divide(sums, scored, out=np.full(shape, np.nan), where=scored > 0)
    arm, task, seed, probe = (tuple(axis.to_list()) for axis in axes)
    return Grid(quantity, phase, arm, task, seed, probe, values, answers > 0, answers, scored)


def _codes(part: pl.DataFrame, axis: pl.Series) -> NDArray[np.int64]:
    codes = pl.DataFrame({axis.name: axis, "code": pl.Series(range(len(axis)), dtype=pl.Int64)})
    joined = part.select(axis.name).join(codes, on=axis.name, how="left", nulls_equal=True, maintain_order="left")
    return joined["code"].to_numpy()


def arm_cells(grid: Grid, arm: str, weights: Mapping[str, float]) -> Cells:
    """One arm's cells for the tasks in `weights`, on the seeds that it ran."""
    chosen, shares = _tasks(grid, weights)
    a = grid.arms.index(arm)
    ran = np.any(grid.judged[a][chosen], axis=(0, 2))
    expected = _expected(grid, [a], chosen, ran)
    answers, scored = (int(each[a][chosen][expected].sum()) for each in grid.counts())
    lacking = int((expected & ~grid.judged[a][chosen]).sum())
    return Cells(grid.values[a][chosen], expected, shares, scored, answers - scored + lacking)


def paired_cells(
    grid: Grid, treatment: str, control: str, weights: Mapping[str, float], fill: str | None = None
) -> tuple[Cells, Cells]:
    """Both arms' cells on the seeds that both ran; a cell unscored on one side is made NaN on the other as well.

    Args:
        grid: One quantity in one phase.
        treatment, control: The arms.
        weights: Tasks and their weights.
        fill: `best` or `worst` replaces every answer that is unscored on either side by the value in [0, 1] that is
            best or worst for the treatment; null leaves it out.
    """
    chosen, shares = _tasks(grid, weights)
    both = [grid.arms.index(treatment), grid.arms.index(control)]
    ran = np.all(np.any(grid.judged[both][:, chosen], axis=(1, 3)), axis=0)
    expected = _expected(grid, both, chosen, ran)
    treated, untreated = (np.where(expected, grid.values[a][chosen], np.nan) for a in both)
    answers, scored = ([counts[a][chosen] for a in both] for counts in grid.counts())
    # The share of a cell's answers that is scored; 0 without verdicts.
    known = [np.where(expected, part / np.maximum(total, 1), 0.0) for part, total in zip(scored, answers, strict=True)]
    open_ = int((expected & ((known[0] < 1) | (known[1] < 1))).sum())
    if fill is None:
        missing = np.isnan(treated) | np.isnan(untreated)
        treated, untreated = np.where(missing, np.nan, treated), np.where(missing, np.nan, untreated)
    else:
        # Utility is better high, every other quantity low; what is best for the treatment is worst for its control.
        high_for_treatment = (fill == "best") == (grid.quantity == "utility")
        treated, untreated = (
            np.where(expected, grid.limits()[high][a][chosen], np.nan)
            for a, high in zip(both, (high_for_treatment, not high_for_treatment), strict=True)
        )
        open_ = 0
    counts = [int(part[expected].sum()) for part in scored]
    return Cells(treated, expected, shares, counts[0], open_), Cells(untreated, expected, shares, counts[1], open_)


def _expected(grid: Grid, arms: Sequence[int], chosen: list[int], ran: NDArray[np.bool_]) -> NDArray[np.bool_]:
    of_task = np.any(grid.judged[list(arms)][:, chosen], axis=(0, 2))
    expected: NDArray[np.bool_] = of_task[:, None, :] & ran[None, :, None]
    return expected


def _tasks(grid: Grid, weights: Mapping[str, float]) -> tuple[list[int], tuple[float, ...]]:
    """Positions of the tasks on the grid and their weights; answers shared by all tasks have the whole weight, and
    those shared by a task's settings the weight of all these settings.

    If the grid lacks a task, there are no cells, so that nothing is concluded from the other tasks alone.
    """
    if grid.tasks == (None,):
        return [0], (1.0,)
    masses: dict[str, float] = {}
    for name, weight in weights.items():
        # Before fine-tuning there is one model for all settings of a task.
        task = task_of(name) if grid.phase == "before" else name
        masses[task] = masses.get(task, 0.0) + weight
    if any(task not in grid.tasks for task in masses):
        return [], ()
    return [grid.tasks.index(task) for task in masses], tuple(masses.values())


def restrict(grid: Grid, probes: Sequence[str]) -> Grid:
    """The same grid with only these probes."""
    keep = np.isin(np.array(grid.probes, dtype=str), np.array(list(probes), dtype=str))
    chosen = tuple(compress(grid.probes, keep))
    answers, scored = (counts[..., keep] for counts in grid.counts())
    bounds = grid.bounds and (grid.bounds[0][..., keep], grid.bounds[1][..., keep])
    values, judged = grid.values[..., keep], grid.judged[..., keep]
    return replace(grid, probes=chosen, values=values, judged=judged, answers=answers, scored=scored, bounds=bounds)
