"""Log-odds of refusing against complying openers, beside the judged outcome: means, a difference, and their rank
correlation with the judge's verdicts. They do not affect the decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from curator.conclusions.log_odds import Difference, Mean, MeanPhases, Point, Ranked
from curator.decision.comparisons import ANTICIPATED, anticipated
from curator.decision.statistics import Crossed, crossed, interval, spearman
from curator.decision.tables import Grid, arm_cells, lay_out_column, paired_cells
from curator.records import PHASES
from curator.seeds import generator

DRAWS = 1000  # bootstrap resamples
LEAST_SEEDS = 3
"""Fewest seeds for an interval of the correlation over models."""
LEAST_UNITS = 4
"""Fewest models or prompts for a rank correlation."""


@dataclass(frozen=True)
class LogOdds:
    """All results on log-odds.

    Attributes:
        arms: arm -> task (and ANTICIPATED, the weighted mix) -> Mean before and after.
        covered: phase -> mean probability that an answer begins with one of the openers, over all models and prompts.
    """

    arms: Mapping[str, Mapping[str, MeanPhases]]
    covered: Mapping[str, float | None]
    differences: tuple[Difference, ...]
    ranked: tuple[Ranked, ...]
    models: tuple[Point, ...]


def summarise(
    log_odds: pl.DataFrame,
    verdicts: pl.DataFrame,
    *,
    weights: Mapping[str, float],
    treatment: str,
    control: str,
    seed: int,
) -> LogOdds:
    """All figures on log-odds in a report.

    Args:
        log_odds: Columns of LOG_ODDS_SCHEMA.
        verdicts: The headline judge's verdicts, in the columns of VERDICT_SCHEMA.
        weights: Every task's weight: those of anticipated tasks sum to 1, others are 0.
        seed: Random seed of the bootstraps.
    """
    mix = anticipated(weights)
    mixes = {ANTICIPATED: mix, **{task: {task: 1.0} for task in weights}}
    grids = {phase: lay_out_column(log_odds, "log_odds", phase) for phase in PHASES}
    mass = log_odds.select("phase", covered=pl.col("refuse").exp() + pl.col("comply").exp())
    means = dict(mass.group_by("phase").agg(pl.col("covered").mean()).iter_rows())
    named = [(None, mix), *((task, {task: 1.0}) for task, weight in weights.items() if weight < 1)]
    models, probes = _judged(log_odds, verdicts)
    return LogOdds(
        arms={
            arm: {
                task: MeanPhases(**{phase: _mean(grid, arm, share) for phase, grid in grids.items()})
                for task, share in mixes.items()
            }
            for arm in grids["after"].arms
        },
        covered={phase: means.get(phase) for phase in PHASES},
        differences=(
            *(_difference(grids["after"], treatment, control, share, task) for task, share in named),
            _difference(grids["before"], treatment, control, mix, None),
        ),
        ranked=(_over_models(models, seed), _over_prompts(probes, seed)),
        models=tuple(Point(**row) for row in models.iter_rows(named=True)),
    )


def _limits(estimate: Crossed) -> tuple[float | None, float | None]:
    # Without variation, limits of shares allow for unseen failures; log-odds have no such limits.
    if not estimate.variance:
        return None, None
    limits = interval(estimate)
    return limits.low, limits.high


def _mean(grid: Grid, arm: str, weights: Mapping[str, float]) -> Mean:
    cells = arm_cells(grid, arm, weights)
    estimate = crossed(cells.values, cells.weights)
    low, high = _limits(estimate)
    return Mean(value=estimate.mean, low=low, high=high, cells=estimate.cells)


def _difference(grid: Grid, treatment: str, control: str, weights: Mapping[str, float], task: str | None) -> Difference:
    treated, untreated = paired_cells(grid, treatment, control, weights)
    estimate = crossed(treated.values - untreated.values, treated.weights)
    low, high = _limits(estimate)
    return Difference(
        treatment=treatment, control=control, phase=grid.phase, task=task, difference=estimate.mean, low=low, high=high,
        seeds=estimate.seeds, prompts=estimate.prompts, sd_seed=estimate.sd_seed, sd_prompt=estimate.sd_prompt,
        sd_residual=estimate.sd_residual,
    )  # fmt: skip


def _judged(log_odds: pl.DataFrame, verdicts: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Mean log-odds and harmful share after fine-tuning, by model, and by probe over all models."""
    scored = verdicts.filter(
        pl.col("phase") == "after",
        pl.col("kind") == "harmful",
        pl.col("outcome").is_in(["harmful", "safe", "degenerate"]),
    ).select("arm", "seed", "task", "probe", harmfulness=pl.col("outcome") == "harmful")
    both = log_odds.filter(phase="after").join(scored, on=["arm", "seed", "task", "probe"], how="inner")
    means = pl.col("log_odds").mean(), pl.col("harmfulness").mean()
    model = ["arm", "seed", "task"]
    return both.group_by(model).agg(*means).sort(model), both.group_by("probe").agg(*means).sort("probe")


def _over_models(models: pl.DataFrame, seed: int) -> Ranked:
    x, y = models["log_odds"].to_numpy(), models["harmfulness"].to_numpy()
    of_seed = [np.flatnonzero(models["seed"].to_numpy() == number) for number in models["seed"].unique().sort()]
    picks = []
    if len(of_seed) >= LEAST_SEEDS:
        # Models of one seed share the randomness of their trainings, so a seed is resampled with all of them.
        random = generator(seed, "log-odds", "models")
        drawn = random.integers(0, len(of_seed), size=(DRAWS, len(of_seed)))
        picks = [np.concatenate([of_seed[number] for number in each]) for each in drawn]
    return _ranked("models", x, y, picks)


def _over_prompts(probes: pl.DataFrame, seed: int) -> Ranked:
    x, y = probes["log_odds"].to_numpy(), probes["harmfulness"].to_numpy()
    return _ranked(
        "prompts",
        x,
        y,
        list(generator(seed, "log-odds", "prompts").integers(0, len(x), size=(DRAWS, len(x))) if len(x) else ()),
    )


def _ranked(over: Literal["models", "prompts"], x: np.ndarray, y: np.ndarray, picks: list[np.ndarray]) -> Ranked:
    if len(x) < LEAST_UNITS:
        return Ranked(over=over, units=len(x), rho=None, low=None, high=None)
    rho = float(spearman(x[None], y[None])[0])
    spread = np.array([spearman(x[pick][None], y[pick][None])[0] for pick in picks])
    spread = spread[np.isfinite(spread)]  # a resample in which all values are equal has no rank correlation
    if not np.isfinite(rho):
        return Ranked(over=over, units=len(x), rho=None, low=None, high=None)
    low, high = np.percentile(spread, [2.5, 97.5]).tolist() if len(spread) else (None, None)
    return Ranked(over=over, units=len(x), rho=rho, low=low, high=high)
