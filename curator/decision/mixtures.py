"""Ridge regression of harm on the mixture of a set: which share each group should have, if the data show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from curator.conclusions import LEVEL
from curator.conclusions.bank import GroupShare, Mixture
from curator.decision.statistics import spearman

if TYPE_CHECKING:
    from sklearn.linear_model import RidgeCV

Matrix = NDArray[np.float64]

PENALTIES = np.logspace(-1, 4, 16)  # for standardised columns; the largest shrinks coefficients to nearly zero
FOLDS, REPEATS, DRAWS = 5, 6, 2000
LEAST_SUBSETS = 16
"""Fewest subsets for a regression."""
BLENDS = 4000  # candidate mixtures


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
    figures: dict[str, object] = {"groups": len(names), "subsets": len(harm), "usable": False, "best": ()}
    if len(harm) < LEAST_SUBSETS or not harm.std() > 0 or not columns.std(axis=0).any():
        return Mixture.filled(**figures)
    scaler = StandardScaler().fit(columns)
    x = scaler.transform(columns)
    unseen = _unseen(x, harm, random)
    rho = float(spearman(unseen[None], harm[None])[0])
    if not np.isfinite(rho):
        return Mixture.filled(**figures)
    picks = random.integers(0, len(harm), size=(DRAWS, len(harm)))
    low, high = np.nanquantile(spearman(unseen[picks], harm[picks]), [LEVEL / 2, 1 - LEVEL / 2]).tolist()
    fitted = RidgeCV(PENALTIES).fit(x, harm)
    figures |= {"rho": rho, "low": low, "high": high, "penalty": float(fitted.alpha_), "usable": low > 0}
    if not low > 0:
        return Mixture.filled(**figures)
    blends = _blends(shares[~subsets["costly"].to_numpy()], random)
    if not len(blends):
        return Mixture.filled(**figures)
    predicted, error = _predicted(fitted, x, harm, scaler.transform(_columns(blends)))
    upper = predicted - special.ndtri(LEVEL) * error
    least = int(np.argmin(upper))
    best = sorted(
        zip(names, blends[least].tolist(), counted["count"], strict=True), key=lambda each: (-each[1], each[0])
    )
    # A linear prediction may lie outside [0, 1]; candidates are ordered by the unclipped prediction.
    shown = np.clip([predicted[least], upper[least]], 0.0, 1.0).tolist()
    shares_of = tuple(GroupShare(group=name, share=of, pool=rows / groups.height) for name, of, rows in best)
    return Mixture.filled(**figures | {"best": shares_of, "predicted": shown[0], "upper": shown[1]})


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
