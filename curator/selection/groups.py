"""The group of each row, by its columns or the kind of its answer, and sets with the composition of their pool.

Strata are the rows with the same labels of several groupings. A composition is whole rows of each stratum, by largest
remainder, and becomes quotas whose minimum is their maximum: disjoint groups, for which greedy choice and certificate
hold as for any other quotas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

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


def strata(rows: pl.DataFrame, traits: pl.DataFrame | None, by: Sequence[str]) -> list[Stratum]:
    """The labels of each row by every grouping, in the order of the rows; arguments as in `grouped`."""
    return grouped(rows, traits, by).drop("id").rows()


def named(stratum: Stratum, by: Sequence[str]) -> str:
    """A stratum in words, such as `refusal, short, theft`."""
    return ", ".join(f"unknown {name}" if label is None else label for name, label in zip(by, stratum, strict=True))


def largest_remainder(weights: Mapping[Label, float], k: int) -> dict[Label, int]:
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


def _order(label: Hashable) -> list[tuple[bool, str]]:
    """Sorts labels and their parts by name, null last."""
    parts = label if isinstance(label, tuple) else (label,)
    return [(part is None, str(part)) for part in parts]


def composed(section: Within, strata: Sequence[Stratum], allowed: Sequence[bool], k: int) -> dict[Stratum, int]:
    """The number of rows of each stratum in a set of `k`.

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
    weights = _fitted(section, stock)
    counts = largest_remainder(weights, k)
    short = [stratum for stratum in sorted(counts, key=_order) if counts[stratum] > stock[stratum]]
    if short:
        first = short[0]
        fits = (
            size
            for size in range(k - 1, 0, -1)
            if all(count <= stock[stratum] for stratum, count in largest_remainder(weights, size).items())
        )
        raise SelectionError(
            f"within: the stated shares need {these(counts[first], 'row', 'rows')} of {named(first, section.by)!r}, "
            f"but only {stock[first]:,} can be chosen; change within.shares, or lower k to at most {next(fits, 0):,}"
        )
    return {stratum: counts.get(stratum, 0) for stratum in set(strata)}


def _fitted(section: Within, stock: Mapping[Stratum, int]) -> Mapping[Stratum, float]:
    """The weight of each stratum: its rows, rescaled until single groupings have the stated shares.

    This is iterative proportional fitting (Deming and Stephan 1940): within a label, strata stay in proportion.
    """
    weights: dict[Stratum, float] = dict(stock)
    if not section.shares:
        return weights
    at = {name: section.by.index(name) for name in section.shares}
    stated = {name: dict[str | None, float](shares.items()) for name, shares in section.shares.items()}
    for name, shares in stated.items():
        known = sorted({label for stratum in stock if (label := stratum[at[name]]) is not None})
        unknown = [label for label, share in shares.items() if share > 0 and label not in known]
        if unknown:
            raise SelectionError(
                f"within.shares.{name}: no row that can be chosen has {name} {unknown[0]!r}; found: "
                f"{', '.join(known) or 'none'}"
            )
    total = sum(weights.values())
    weights = {stratum: weight / total for stratum, weight in weights.items()}
    for _ in range(_ROUNDS):
        apart = 0.0
        for name, shares in stated.items():
            sums: dict[str | None, float] = {}
            for stratum, weight in weights.items():
                sums[stratum[at[name]]] = sums.get(stratum[at[name]], 0.0) + weight
            apart = max(apart, *(abs(reached - shares.get(label, 0.0)) for label, reached in sums.items()))
            weights = {
                stratum: weight * shares.get(stratum[at[name]], 0.0) / sums[stratum[at[name]]] if weight else 0.0
                for stratum, weight in weights.items()
            }
        if apart <= _EXACT:
            # Noise of the last digits must not decide between equal remainders.
            return {stratum: round(weight, 12) for stratum, weight in weights.items()}
    raise SelectionError(
        f"within.shares: no mix of the rows that can be chosen has these shares of {' and '.join(section.shares)} at "
        "once; state fewer of them"
    )
