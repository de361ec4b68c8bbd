"""Ridge regression of harm on the mixture of a set: which share each group should have, if the data show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from curator.conclusions import LEVEL
from curator.decision.statistics import spearman

if TYPE_CHECKING:
    from sklearn.linear_model import RidgeCV

Matrix = NDArray[np.float64]

PENALTIES = np.logspace(-1, 4, 16)  # for standardised columns; the largest shrinks coefficients to nearly zero
FOLDS, REPEATS, DRAWS = 5, 6, 2000
LEAST_SUBSETS = 16
"""Fewest subsets for a regression."""
BLENDS = 4000  # candidate mixtures


@dataclass(frozen=True)
class Mixture:
    """The regression of harm on the shares of one grouping.

    Attributes:
        groups: Number of groups. `subsets`: number of subsets in the regression.
        rho: Spearman's rho between harm and its prediction for subsets outside the fold that was fitted, in [-1, 1].
        low, high: Limits of its 95% bootstrap interval over subsets; null with rho.
        penalty: Penalty of the ridge regression on all subsets.
        usable: Whether `low` is above zero.
        best: Group -> share of the best mixture, summing to 1: the blend of observed mixtures with the lowest upper
            limit of predicted harm. Null if not usable.
        predicted, upper: Its predicted harm, and the upper limit that it was chosen by, clipped to [0, 1].
    """

    grouping: str
    groups: int
    subsets: int
    rho: float | None = None
    low: float | None = None
    high: float | None = None
    penalty: float | None = None
    usable: bool = False
    best: Mapping[str, float] | None = None
    predicted: float | None = None
    upper: float | None = None


def mixture(subsets: pl.DataFrame, groups: pl.DataFrame, grouping: str, random: np.random.Generator) -> Mixture:
    """The regression of one grouping.

    Every subset has shares in every grouping, whichever grouping it was drawn to vary, so all subsets are used. Columns
    are p and sqrt(p) of each group, because the first rows of a group may matter more than later ones. They are
    standardised over all subsets, and the penalty is chosen within every fold by leaving one subset out.

    Args:
        subsets: `harm`, `ids` and `costly`.
        groups: `id` and the column `grouping`, of few labels (see `experiment.features.pooled`).
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    counted = groups[grouping].value_counts().sort("count", grouping, descending=[True, False])
    names: list[str] = counted[grouping].to_list()
    shares, harm = _shares(subsets["ids"], groups, grouping, names), subsets["harm"].to_numpy()
    columns = _columns(shares)
    size = len(names), len(harm)
    if len(harm) < LEAST_SUBSETS or not harm.std() > 0 or not columns.std(axis=0).any():
        return Mixture(grouping, *size)
    scaler = StandardScaler().fit(columns)
    x = scaler.transform(columns)
    unseen = _unseen(x, harm, random)
    rho = float(spearman(unseen[None], harm[None])[0])
    if not np.isfinite(rho):
        return Mixture(grouping, *size)
    picks = random.integers(0, len(harm), size=(DRAWS, len(harm)))
    low, high = np.nanquantile(spearman(unseen[picks], harm[picks]), [LEVEL / 2, 1 - LEVEL / 2]).tolist()
    fitted = RidgeCV(PENALTIES).fit(x, harm)
    read = Mixture(grouping, *size, rho, low, high, float(fitted.alpha_), usable=low > 0)
    if not read.usable:
        return read
    blends = _blends(shares[~subsets["costly"].to_numpy()], random)
    if not len(blends):
        return read
    predicted, error = _predicted(fitted, x, harm, scaler.transform(_columns(blends)))
    upper = predicted - special.ndtri(LEVEL) * error
    least = int(np.argmin(upper))
    best = dict(zip(names, blends[least].tolist(), strict=True))
    # A linear prediction may lie outside [0, 1]; candidates are ordered by the unclipped prediction.
    shown = np.clip([predicted[least], upper[least]], 0.0, 1.0).tolist()
    return replace(read, best=best, predicted=shown[0], upper=shown[1])


def _shares(sets: pl.Series, groups: pl.DataFrame, grouping: str, names: Sequence[str]) -> Matrix:
    """`(subsets, groups)`, each row summing to 1."""
    number = {name: index for index, name in enumerate(names)}
    group_of = {row: number[name] for row, name in groups.select("id", grouping).iter_rows()}
    counts = [np.bincount([group_of[row] for row in ids], minlength=len(names)) for ids in sets]
    table: Matrix = np.array(counts, dtype=np.float64).reshape(len(counts), len(names))
    table /= np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    return table


def _columns(shares: Matrix) -> Matrix:
    """`(n, 2 x groups)`: p and sqrt(p)."""
    return np.column_stack([shares, np.sqrt(shares)])


def _unseen(x: Matrix, harm: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Harm of each subset predicted from the other folds, without the intercept; the mean over REPEATS divisions.

    The intercept is left out: if harm is high in a fold it is low in the others, so predictions with their intercept
    fall as the truth rises, and an uninformative regression has a rho far below zero.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold

    total = np.zeros(len(harm))
    for _ in range(REPEATS):
        for inside, outside in KFold(FOLDS, shuffle=True, random_state=int(random.integers(2**31))).split(x):
            total[outside] += x[outside] @ RidgeCV(PENALTIES).fit(x[inside], harm[inside]).coef_
    return total / REPEATS


def _blends(observed: Matrix, random: np.random.Generator) -> Matrix:
    """Observed mixtures and weighted means of them, from nearly one to nearly all.

    Every candidate lies in the convex hull of the mixtures that were tried, and so needs at most as many rows of a
    group as the pool holds.
    """
    if not len(observed):
        return observed
    drawn = [random.dirichlet(np.full(len(observed), total / len(observed)), BLENDS // 4) for total in (1, 3, 10, 30)]
    return np.vstack([observed, *(weights @ observed for weights in drawn)])


def _predicted(
    fitted: RidgeCV, x: Matrix, harm: NDArray[np.float64], at: Matrix
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted mean harm at standardised columns and its standard error, with the penalty as a prior of the
    coefficients.
    """
    inverse = np.linalg.inv(x.T @ x + fitted.alpha_ * np.eye(x.shape[1]))
    used = 1 + float(np.trace(x @ inverse @ x.T))  # degrees of freedom
    noise = float(((harm - fitted.predict(x)) ** 2).sum()) / max(len(harm) - used, 1.0)
    variance = noise * (1 / len(harm) + np.einsum("ij,jk,ik->i", at, inverse, at))
    return fitted.predict(at), np.sqrt(variance)
