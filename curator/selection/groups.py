"""The group of each row, by its columns or the kind of its answer, and sets with the composition of their pool.

Strata are the rows with the same labels of several groupings. A composition is whole rows of each stratum, by largest
remainder grouping by grouping, and becomes quotas whose minimum is their maximum: disjoint groups, for which greedy
choice and certificate hold as for any other quotas.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np
import polars as pl

from curator.errors import SelectionError
from curator.recipe.limits import TRAITS, Within
from curator.wording import these

_ROUNDS, _EXACT = 1000, 1e-7  # of fitting strata to stated shares, and the tolerance

Stratum = tuple[str | None, ...]
Label = TypeVar("Label", bound=Hashable)


def grouped(rows: pl.DataFrame, traits: pl.DataFrame | None, by: Sequence[str]) -> pl.DataFrame:
    """`id` and a column of labels for each grouping of `by`, in the order of the rows; null: in no group.

    Only this function knows which column holds a grouping of `recipe.limits.GROUPINGS`.

    Args:
        rows: In the columns of ROW_SCHEMA.
        traits: Traits of all these rows; null if none of the groupings is one of TRAITS.
        by: Names of groupings.

    Raises:
        ValueError: A grouping is one of TRAITS, and `traits` is null.
    """
    taken = [name for name in by if name in TRAITS]
    frame = rows.select("id", *(name for name in by if name not in TRAITS))
    if taken:
        if traits is None:
            raise ValueError(f"{taken[0]!r} is a trait, and no traits are given")
        frame = frame.join(traits.select("id", *taken), on="id", how="left", maintain_order="left")
    return frame.select("id", *by)


def stock_of(labels: pl.Series, allowed: pl.Series) -> dict[str | None, int]:
    """Label -> number of its rows that may be chosen, 0 where none may.

    Args:
        labels: `(n,)` label of each row of the pool; null: in no group.
        allowed: `(n,)` whether a row may be chosen.
    """
    counts = Counter(labels.filter(allowed).to_list())
    return {label: counts[label] for label in labels.unique().to_list()}


def strata(rows: pl.DataFrame, traits: pl.DataFrame | None, by: Sequence[str]) -> list[Stratum]:
    """The labels of each row by every grouping, in the order of the rows; arguments as in `grouped`."""
    return grouped(rows, traits, by).drop("id").rows()


def named(stratum: Stratum, by: Sequence[str]) -> str:
    """A stratum in words, such as `refusal, short, theft`; no two strata have the same words."""
    return ", ".join(_quoted(label, f"unknown {name}") for name, label in zip(by, stratum, strict=True))


def _quoted(label: str | None, unknown: str) -> str:
    """The label; in quotation marks if it could be read as two labels, or as the word for none."""
    if label is None:
        return unknown
    return json.dumps(label, ensure_ascii=False) if "," in label or '"' in label or label == unknown else label


def largest_remainder(weights: Mapping[Label, float | Fraction], k: int) -> dict[Label, int]:
    """Whole numbers that sum to `k` and are as near to the shares of the weights as possible.

    Each share is rounded down, and the remaining rows go to the largest remainders, ties by label. If k is at most the
    sum of whole weights, no label gets more than its weight.

    Args:
        weights: Label -> weight, at least 0 and not all 0; exact, so that equal remainders are equal.
        k: At least 0.
    """
    exact = {label: Fraction(weight) for label, weight in weights.items()}
    total = sum(exact.values())
    shares = {label: weight * k / total for label, weight in exact.items()}
    counts = {label: int(share) for label, share in shares.items()}
    by_rest = sorted(shares, key=lambda label: (counts[label] - shares[label], _order(label)))
    for label in by_rest[: k - sum(counts.values())]:
        counts[label] += 1
    return counts


def by_levels(
    weights: Mapping[Stratum, float],
    k: int,
    order: Sequence[int],
    shares: Mapping[str | None, float] | None = None,
) -> dict[Stratum, int]:
    """Whole numbers of rows of each stratum that sum to `k`: by largest remainder among the labels of one grouping,
    then within each label among those of the next.

    Rounding all strata at once would let the labels with the larger strata take nearly all rows wherever strata are
    smaller than about one row. So each label of the first grouping has its share to less than one row. If k is at most
    the sum of whole weights, no stratum gets more than its weight.

    Args:
        weights: Stratum -> weight, at least 0 and not all 0.
        k: At least 0.
        order: The position in the strata of each grouping, the one that matters most first.
        shares: Label -> share, in place of the weights of the first grouping.
    """
    if not order or k == 0:  # with no grouping left there is one stratum
        return dict.fromkeys(weights, k)
    parts: dict[str | None, dict[Stratum, float]] = {}
    for stratum, weight in weights.items():
        parts.setdefault(stratum[order[0]], {})[stratum] = weight
    sums = {label: sum(map(Fraction, part.values())) for label, part in parts.items()}
    if shares is not None:
        sums = {label: Fraction(shares.get(label, 0.0)) for label in parts}
    sizes = largest_remainder(sums, k)
    return {
        stratum: count
        for label, part in parts.items()
        for stratum, count in by_levels(part, sizes[label], order[1:]).items()
    }


def _order(label: Hashable) -> list[tuple[bool, str]]:
    """Sorts labels and their parts by name, null last."""
    parts = label if isinstance(label, tuple) else (label,)
    return [(part is None, str(part)) for part in parts]


Stated = Mapping[int, Mapping[str | None, float]]
"""Position of a grouping in the strata -> the stated share of each of its labels, sum 1; most important first."""


def composed(section: Within, strata: Sequence[Stratum], allowed: Sequence[bool], k: int) -> dict[Stratum, int]:
    """The number of rows of each stratum in a set of `k`.

    Groupings with stated shares come first, then the others, each in the order of `by`. The labels of the first one
    have their shares to less than one row, and those of other stated ones to one row at most.

    Args:
        section: The recipe's `select.within`.
        strata: The strata of the pool's `n` rows.
        allowed: `(n,)` whether a row may be chosen; the composition is that of the allowed rows.

    Raises:
        SelectionError: No k of the allowed rows have the stated shares; the message says where, and gives the largest
            possible k.
    """
    stock = Counter(stratum for stratum, free in zip(strata, allowed, strict=True) if free)
    if not stock:
        raise SelectionError("within: every row is excluded; name fewer rows in exclude")
    total = sum(stock.values())
    if k > total:
        raise SelectionError(
            f"within: k is {k:,}, but only {these(total, 'row', 'rows')} can be chosen; lower k to at most {total:,}, "
            "or exclude fewer rows"
        )
    stated = _stated(section, stock)
    weights = dict(stock) if len(stated) < 2 else _fitted(section, stock, stated)

    def counted(size: int) -> tuple[dict[Stratum, int], list[Stratum]]:
        """The rows of each stratum, and the strata that have too few."""
        order = [*stated, *(at for at in range(len(section.by)) if at not in stated)]
        shares = {label: round(share, 12) for label, share in stated[order[0]].items()} if stated else None
        counts = by_levels(weights, size, order, shares)
        if len(stated) > 1:
            _even_out(counts, weights, stock, stated)
        return counts, [stratum for stratum in sorted(counts, key=_order) if counts[stratum] > stock[stratum]]

    counts, short = counted(k)
    if short:
        first = short[0]
        fits = (size for size in range(k - 1, 0, -1) if not counted(size)[1])
        raise SelectionError(
            f"within: the stated shares need {these(counts[first], 'row', 'rows')} of {named(first, section.by)!r}, "
            f"but only {stock[first]:,} can be chosen; change within.shares, or lower k to at most {next(fits, 0):,}"
        )
    for at, shares in stated.items():
        sums = _sums(counts, at)
        for label, share in shares.items():
            if abs(sums.get(label, 0) - share * k) > 1 + 1e-6:
                raise SelectionError(
                    f"within.shares.{section.by[at]}: the share of {label!r} is {share * k:.1f} of k ({k:,}), and "
                    f"whole rows of each stratum sum to {sums.get(label, 0):,}; state fewer shares, or change k"
                )
    return {stratum: counts.get(stratum, 0) for stratum in dict.fromkeys(strata)}


def _stated(section: Within, stock: Mapping[Stratum, int]) -> Stated:
    stated: dict[int, dict[str | None, float]] = {}
    for name in (each for each in section.by if each in section.shares):
        at, shares = section.by.index(name), section.shares[name]
        known = sorted({label for stratum in stock if (label := stratum[at]) is not None})
        unknown = [label for label, share in shares.items() if share > 0 and label not in known]
        if unknown:
            raise SelectionError(
                f"within.shares.{name}: no row that can be chosen has {name} {unknown[0]!r}; found: "
                f"{', '.join(known) or 'none'}"
            )
        total = sum(shares.values())
        stated[at] = {label: share / total for label, share in shares.items()}
    return stated


def _sums(weights: Mapping[Stratum, float], at: int) -> dict[str | None, float]:
    """The sum of the weights of each label at a position of the strata."""
    sums: dict[str | None, float] = {}
    for stratum, weight in weights.items():
        sums[stratum[at]] = sums.get(stratum[at], 0) + weight
    return sums


def _even_out(
    counts: dict[Stratum, int], weights: Mapping[Stratum, float], stock: Mapping[Stratum, int], stated: Stated
) -> None:
    """Moves rows between strata with the same label of the first stated grouping, as long as a move brings the sums of
    the other stated ones nearer to their shares.
    """
    k, total = sum(counts.values()), sum(weights.values())
    first, *later = stated
    order = sorted(counts, key=_order)
    rows, left = (np.array([of[stratum] for stratum in order]) for of in (counts, stock))
    wanted = np.array([weights[stratum] for stratum in order]) * k / total
    label = {at: np.unique([repr(stratum[at]) for stratum in order], return_inverse=True)[1] for at in stated}
    share = {at: np.array([stated[at].get(stratum[at], 0.0) for stratum in order]) for at in later}

    while True:
        some = np.flatnonzero(rows)  # a row can only leave one of these
        lowered = np.zeros((len(some), len(order)))  # how much a move lowers the squared differences, halved
        for at in later:
            over = np.bincount(label[at], rows)[label[at]] - share[at] * k  # of each stratum's label
            lowered += np.where(label[at][some][:, None] != label[at], over[some][:, None] - over - 1.0, 0.0)
        possible = (label[first][some][:, None] == label[first]) & ((rows < left) & (wanted > 0.0))
        lost = np.where(possible, -lowered.round(9), np.inf)
        least = lost.min(initial=np.inf)
        if least >= 0:
            break
        missing = (wanted - rows)[some][:, None] - (wanted - rows)
        source, goal = divmod(int(np.where(lost == least, missing.round(9), np.inf).argmin()), len(order))
        rows[some[source]] -= 1
        rows[goal] += 1
    counts.update(zip(order, rows.tolist(), strict=True))


def _fitted(section: Within, stock: Mapping[Stratum, int], stated: Stated) -> Mapping[Stratum, float]:
    """The weight of each stratum: its rows, rescaled until single groupings have the stated shares."""
    fitted = _scaled(stock, stated)
    if fitted is None:
        # Rescaling hardly converges if a stratum must end at 0, and then succeeds without it.
        mix = _mix(stock, stated)
        if mix is None:
            raise SelectionError(
                "within.shares: no mix of the rows that can be chosen has these shares of "
                f"{' and '.join(section.shares)} at once; state fewer of them"
            )
        fitted = _scaled({stratum: stock[stratum] for stratum, weight in mix.items() if weight}, stated) or mix
    # Noise of the last digits must not decide between equal remainders.
    return {stratum: round(fitted.get(stratum, 0.0), 12) for stratum in stock}


def _scaled(stock: Mapping[Stratum, int], stated: Stated) -> dict[Stratum, float] | None:
    """The shares of strata with the stated sums, in the proportions of the stock; null if they are not reached.

    This is iterative proportional fitting (Deming and Stephan 1940): within a label, strata stay in proportion.
    """
    total = sum(stock.values())
    weights = {stratum: rows / total for stratum, rows in stock.items()}
    for _ in range(_ROUNDS):
        apart = 0.0
        for at, shares in stated.items():
            sums = _sums(weights, at)
            apart = max(apart, *(abs(reached - shares.get(label, 0.0)) for label, reached in sums.items()))
            weights = {
                stratum: weight * shares.get(stratum[at], 0.0) / sums[stratum[at]] if weight else 0.0
                for stratum, weight in weights.items()
            }
        if apart <= _EXACT:
            return weights
    return None


def _mix(stock: Mapping[Stratum, int], stated: Stated) -> dict[Stratum, float] | None:
    """Shares of strata with the stated sums, positive wherever those of any such mix are; null if there is none.

    A linear program: of weights w with sum T and the stated shares of T, it maximises the sum over strata of min(w, 1).
    Since T is free, that counts the strata that can be positive.
    """
    from scipy.optimize import linprog

    rows = [(at, label) for at, shares in stated.items() for label in {**_sums(stock, at), **shares}]
    held = np.array([[stratum[at] == label for stratum in stock] for at, label in rows], dtype=np.float64)
    shares = np.array([stated[at].get(label, 0.0) for at, label in rows])
    n = len(stock)  # the variables: min(w, 1) of each stratum, the rest of its w, and T
    solved = linprog(
        np.concatenate([-np.ones(n), np.zeros(n + 1)]),
        A_eq=np.hstack([held, held, -shares[:, None]]),
        b_eq=np.zeros(len(rows)),
        bounds=[(0.0, 1.0)] * n + [(0.0, None)] * (n + 1),
    )
    if not solved.success or solved.x[:n].max() < 0.5:
        return None
    weights = solved.x[:n] + solved.x[n : 2 * n]
    positive = np.where(solved.x[:n] > 0.5, weights, 0.0) / weights.sum()
    return dict(zip(stock, positive.tolist(), strict=True))
