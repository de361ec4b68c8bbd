"""The analysis of a bank of trials: which features of a set correlate with harm after fine-tuning, and how reliably.

A subset is one trial: a model is aligned on some rows, fine-tuned and evaluated. Its harm is the judged harmful share
after fine-tuning, weighted over the anticipated tasks and averaged over its seeds. Subsets are the units of all
statistics here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special, stats

from curator.conclusions import LEVEL
from curator.conclusions.bank import Continuous, Mixture, Reliability
from curator.decision.comparisons import anticipated
from curator.decision.mixtures import mixture
from curator.decision.statistics import holm, spearman
from curator.seeds import generator

Vector = NDArray[np.float64]

DRAWS = 2000  # bootstrap resamples
PERMUTATIONS = 9999  # the smallest p is 1e-4, which Holm can multiply by 500
_OF_TASK = {"harm": "after", "before": "before", "degenerate": "degenerate", "log_odds": "log_odds"}
"""Outcome of a subset -> the column of a task's."""
LEAST_SUBSETS = 8
"""Fewest subsets for which correlations are computed."""

PREDICTORS = {
    "feature": pl.String,
    "rho": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "p_holm": pl.Float64,
    "sign": pl.Int64,
    "n": pl.Int64,
    "before_rho": pl.Float64,
    "before_low": pl.Float64,
    "before_high": pl.Float64,
    "log_odds_rho": pl.Float64,
    "log_odds_low": pl.Float64,
    "log_odds_high": pl.Float64,
}


@dataclass(frozen=True)
class Reading:
    """All results of a bank.

    Attributes:
        subsets: The scored subsets, with the columns subset, grouping (null for a plain draw), seeds, harm, before,
            degenerate, log_odds, costly (harm before, or the degenerate share, is above the mean of the other plain
            draws by more than its margin; without plain draws, above the median of all subsets).
        predictors: Columns of PREDICTORS, one row per feature, the strongest first. `rho` is with harm: `sign` is 1
            where more of the feature goes with more harm, -1 with less, and 0 where rho is null. `n`: number of subsets
            that have both. Intervals are not adjusted; `p_holm` is, for all features. `before_rho` is with harm before
            fine-tuning: a set that teaches less to refuse is more harmful both before and after, without losing more.
            `log_odds_rho` is with the log-odds of refusing (null where the bank has none), and points the other way
            for the same feature.
        mixtures: Grouping -> the regression on it, in the order of `groups`.
        continuous: Null where the bank has no log-odds.
        left_out: Number of subsets without a scored outcome on every anticipated task.
    """

    subsets: pl.DataFrame
    predictors: pl.DataFrame
    mixtures: dict[str, Mixture]
    reliability: Reliability
    continuous: Continuous | None
    left_out: int


def read(
    subsets: pl.DataFrame,
    groups: pl.DataFrame,
    outcomes: pl.DataFrame,
    features: pl.DataFrame,
    *,
    weights: Mapping[str, float],
    seed: int,
    margins: Mapping[str, float] | None = None,
) -> Reading:
    """Analyses a bank.

    Args:
        subsets: `subset`, `grouping` (null for a plain draw), `concentration`, `ids`.
        groups: `id` and one string column for each grouping, of every candidate of the pool.
        outcomes: `subset`, `seed`, `task`, shares `before`, `after`, `degenerate` in [0, 1], and `log_odds` in nats;
            null if nothing was scored.
        features: `subset` and one number for each score and feature of its rows; null or NaN if it has none.
        weights: Every task's weight; they sum to 1, and those of weight 0 are left out.
        seed: Random seed of folds, permutations and bootstraps.
        margins: Margins of the gates `harmfulness_before` and `degenerate`, for `costly`.

    Raises:
        ValueError: The weights do not sum to 1.
    """
    mix = anticipated(weights)
    scored = _scored(subsets, _by_seed(outcomes, mix), margins or {})
    named = [name for name in groups.columns if name != "id"]
    chosen = scored.join(subsets.select("subset", "ids"), on="subset", how="left", maintain_order="left")
    return Reading(
        subsets=scored,
        predictors=_predictors(scored, features, seed),
        mixtures={name: mixture(chosen, groups, name, generator(seed, "bank", "mixture", name)) for name in named},
        reliability=_reliability(outcomes, mix, set(scored["subset"])),
        continuous=_continuous(scored, outcomes, mix, seed),
        left_out=subsets.height - scored.height,
    )


def _by_seed(outcomes: pl.DataFrame, mix: Mapping[str, float]) -> pl.DataFrame:
    """Values of each subset and seed, weighted over the tasks; null if a task lacks one."""
    of_mix = outcomes.filter(pl.col("task").is_in(list(mix))).with_columns(
        weight=pl.col("task").replace_strict(dict(mix), return_dtype=pl.Float64)
    )
    weighted = [
        pl.when(pl.col(column).count() == len(mix)).then((pl.col(column) * pl.col("weight")).sum()).alias(name)
        for name, column in _OF_TASK.items()
    ]
    return of_mix.group_by("subset", "seed", maintain_order=True).agg(*weighted)


def _scored(subsets: pl.DataFrame, by_seed: pl.DataFrame, margins: Mapping[str, float]) -> pl.DataFrame:
    """Columns of `Reading.subsets`, in the order of `subsets`."""
    means = (pl.col(name).mean() for name in ("harm", "before", "degenerate", "log_odds"))
    known = by_seed.filter(pl.col("harm").is_not_null())
    means_of = known.group_by("subset").agg(pl.len().alias("seeds"), *means)
    scored = subsets.select("subset", "grouping").join(means_of, on="subset", how="inner", maintain_order="left")
    costly = pl.lit(False)
    for column, gate in (("before", "harmfulness_before"), ("degenerate", "degenerate")):
        if gate in margins:
            costly |= (pl.col(column) > _usual(scored, column) + margins[gate]).fill_null(False)
    return scored.with_columns(costly=costly)


def _usual(scored: pl.DataFrame, column: str) -> pl.Expr:
    """What a subset's rate is compared with: the mean of the other plain draws, or, if no plain draw has the rate, the
    median of all subsets. Null for a draw that is alone.
    """
    draws = pl.when(pl.col("grouping").is_null()).then(pl.col(column))
    count = draws.count() - draws.is_not_null().cast(pl.Int64)
    if not scored.select(draws.count()).item():
        return pl.col(column).median()
    return pl.when(count > 0).then((draws.sum() - draws.fill_null(0.0)) / count)


def _predictors(scored: pl.DataFrame, features: pl.DataFrame, seed: int) -> pl.DataFrame:
    table = scored.join(features, on="subset", how="left", maintain_order="left")
    named = [name for name in features.columns if name != "subset"]
    harm, *others = (_numbers(table, name) for name in ("harm", "before", "log_odds"))
    rows = []
    for name in named:
        values = _numbers(table, name)
        rho, low, high, n = _correlated(values, harm, seed)
        beside = (each for other in others for each in _correlated(values, other, seed)[:3])
        p = None if rho is None else _permuted(values, harm, seed)
        rows.append((name, rho, low, high, p, None, int(np.sign(rho or 0.0)), n, *beside))
    frame = pl.DataFrame(rows, schema=PREDICTORS, orient="row")
    frame = frame.with_columns(pl.Series("p_holm", holm(frame["p"].to_list()), dtype=pl.Float64))
    return frame.sort(pl.col("rho").abs(), descending=True, nulls_last=True, maintain_order=True)


def _numbers(table: pl.DataFrame, name: str) -> Vector:
    # Means of the same shares in another order differ by rounding, and would get different ranks.
    return table[name].cast(pl.Float64).fill_null(math.nan).round_sig_figs(10).to_numpy()


def _correlated(x: Vector, y: Vector, seed: int) -> tuple[float | None, float | None, float | None, int]:
    """Spearman's rho over the subsets that have both, its 95% interval, and the number of these subsets."""
    both = np.isfinite(x) & np.isfinite(y)
    n = int(both.sum())
    if n < LEAST_SUBSETS:
        return None, None, None, n
    x, y = x[both], y[both]
    rho = float(spearman(x[None], y[None])[0])
    if not math.isfinite(rho):
        return None, None, None, n
    # Percentiles cover 94 to 97% at 24 and 60 subsets where BCa covers 93 to 96% (tests.benchmarks.bank).
    picks = generator(seed, "bank", "bootstrap", n).integers(0, n, size=(DRAWS, n))
    low, high = np.nanquantile(spearman(x[picks], y[picks]), [LEVEL / 2, 1 - LEVEL / 2])
    return rho, float(low), float(high), n


def _permuted(x: Vector, y: Vector, seed: int) -> float:
    """Two-sided p-value by permuting outcomes over subsets; valid with ties and for any number of subsets."""
    both = np.isfinite(x) & np.isfinite(y)
    a, b = (ranks - ranks.mean() for ranks in (stats.rankdata(values[both]) for values in (x, y)))
    beyond = np.abs(b[_orders(seed, len(b))] @ a) >= abs(b @ a) - 1e-9
    return float((beyond.sum() + 1) / (PERMUTATIONS + 1))


@lru_cache(maxsize=2)  # cached, as most features have the same number of subsets
def _orders(seed: int, n: int) -> NDArray[np.int64]:
    random = generator(seed, "bank", "permutations", n)
    return random.permuted(np.tile(np.arange(n), (PERMUTATIONS, 1)), axis=1)


def _continuous(scored: pl.DataFrame, outcomes: pl.DataFrame, mix: Mapping[str, float], seed: int) -> Continuous | None:
    measured = scored.filter(pl.col("log_odds").is_not_null())
    if measured.is_empty():
        return None
    rho, low, high, _ = _correlated(_numbers(measured, "log_odds"), _numbers(measured, "harm"), seed)
    reliability = _reliability(outcomes, mix, set(measured["subset"]), "log_odds")
    return Continuous(rho=rho, low=low, high=high, reliability=reliability)


def _reliability(
    outcomes: pl.DataFrame, mix: Mapping[str, float], scored: set[str], outcome: str = "harm"
) -> Reliability:
    kept = outcomes.filter(pl.col("subset").is_in(list(scored)))
    by_seed = _by_seed(kept, mix)
    if by_seed["seed"].n_unique() > 1:
        return _repeats("seeds", _complete(by_seed, "seed", outcome))
    if len(mix) > 1:
        of_tasks = kept.filter(pl.col("task").is_in(list(mix)))
        return _repeats("tasks", _complete(of_tasks, "task", _OF_TASK[outcome]))
    return Reliability.filled(subsets=len(scored), repeats=1)


def _complete(cells: pl.DataFrame, repeat: str, column: str) -> Vector:
    """`(subsets, repeats)` values of the subsets that have all repeats."""
    wide = cells.pivot(on=repeat, index="subset", values=column, aggregate_function="first").drop_nulls()
    return wide.drop("subset").to_numpy().astype(np.float64)


def _repeats(source: Literal["seeds", "tasks"], table: Vector) -> Reliability:
    """Intraclass correlations of consistency, two-way, with their exact limits (McGraw and Wong 1996, ICC(C, 1))."""
    n, r = table.shape
    if n < LEAST_SUBSETS:
        return Reliability.filled(source=source, subsets=n, repeats=r)
    between = table.mean(axis=1, keepdims=True) - table.mean()
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    df = n - 1, (n - 1) * (r - 1)
    of_subsets, of_rest = r * float((between**2).sum()) / df[0], float((rest**2).sum()) / df[1]
    if of_subsets <= 0:
        ceiling = 0.0 if source == "seeds" else None
        return Reliability.filled(source=source, subsets=n, repeats=r, one=0.0, mean=0.0, ceiling=ceiling)

    def one(f: float) -> float:
        return 1.0 if math.isinf(f) else min(1.0, max(0.0, (f - 1) / (f + r - 1)))

    def mean(f: float) -> float:
        return 1.0 if math.isinf(f) else max(0.0, 1 - 1 / f)

    f = of_subsets / of_rest if of_rest > 0 else math.inf
    low, high = (
        float(limit) for limit in (f / special.fdtri(*df, 1 - LEVEL / 2), f * special.fdtri(*df[::-1], 1 - LEVEL / 2))
    )
    ceilings = tuple(math.sqrt(mean(at)) if source == "seeds" else None for at in (f, low, high))
    return Reliability(
        source=source, subsets=n, repeats=r, one=one(f), low=one(low), high=one(high), mean=mean(f),
        ceiling=ceilings[0], ceiling_low=ceilings[1], ceiling_high=ceilings[2],
    )  # fmt: skip
