"""A floor under coverage: among sets that keep a share of the attainable coverage, one of least similarity.

Coverage g is measured from the mean of random sets of the same size. The sets between coverage alone (lambda 0) and
similarity alone are those that the objective gives at some lambda; a search finds the largest lambda that keeps the
floor, g_random + share * (g_most - g_random), where g_most is the most that any set of the search covers. That is
coverage alone as a rule; but greedy sets are not the best ones, so a set at another lambda may cover more, and then the
floor rises. The share that a set keeps is (g(S) - g_random) / (g_most - g_random).

The certificates of the lambdas tried together bound the distance from the best set. No set has more coverage than the
bound at lambda 0. And with B the bound at a lambda > 0, every set O that keeps the floor G has g(O) - lambda * z(O) <=
B, so its mean similarity z(O) is at least (G - B) / lambda: the largest of these is a lower limit for every such set.
For lambda < 0 it is an upper limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from curator.errors import SelectionError
from curator.selection.certificate import RANDOM_SETS, largest_sum, random_rows, rounding, upper_bound
from curator.selection.greedy import Picks, objective_value, penalties, pick
from curator.selection.limits import Limits
from curator.selection.objectives import Coverage
from curator.selection.problem import Problem

FRONTIER_SCHEMA: dict[str, type[pl.DataType]] = {
    "kind": pl.String,
    "weight": pl.Float64,
    "coverage": pl.Float64,
    "share": pl.Float64,
    "similarity": pl.Float64,
    "value": pl.Float64,
    "bound": pl.Float64,
    "chosen": pl.Boolean,
}
"""One row per set: `kind` is `lambda` for the greedy set at a lambda, `random` for a random set within the same limits,
and `given` for a chosen set that greedy did not choose.

`weight` is that lambda, null for a random set; `coverage` the value of the coverage term; `share` of it from 0, what
random sets have on average, to 1, the most found, null if the two do not differ; `similarity` the mean score of the
rows, in standard deviations of the pool above its mean (under a budget weighted by cost over budget); `value` the
objective at the lambda, and `bound` a value that no set within the limits exceeds, both null for random sets; `chosen`
whether the set is the chosen one.
"""

Row = Mapping[str, object]

SIGNS = {"dissimilar": 1.0, "similar": -1.0, "none": 0.0}
"""Preference among the sets that keep the floor -> the sign of lambda."""

_TRIES = 12  # most lambdas, including 0
_NEAR = 0.002  # a share this little above the floor counts as on it
_STEP = 4.0  # factor from one lambda to the next, until the floor lies between two
_PREFIXES = 3  # prefixes of each try's picks at which its bound is evaluated


@dataclass(frozen=True)
class Kept:
    """The set that keeps the floor, and the sets that were tried.

    Attributes:
        weight: The set's lambda. `picks`, `method`: greedy's at this lambda. `random_value`: mean value of random sets
            at this lambda.
        points: Every lambda tried, by rising absolute value, and the random sets, in the columns of FRONTIER_SCHEMA.
        facts: `coverage` and `prefer` as given; `share` kept, and `share_certified`, which is relative to the bound of
            coverage instead of the most that was found (null if random sets cover as much); `random`, `most` and
            `most_bound` are coverages; `similarity` of the set and `similarity_bound`, which no set that keeps the
            floor passes (mean z, null if lambda is 0).
    """

    weight: float
    picks: Picks
    method: str
    random_value: float
    points: tuple[Row, ...]
    facts: dict[str, float | str | None]


@dataclass(frozen=True)
class _Try:
    weight: float
    picks: Picks
    method: str
    coverage: float
    similarity: float


def keep(
    term: Coverage,
    problem: Problem,
    bounds: Limits,
    *,
    coverage: float,
    prefer: str = "none",
    stochastic: float | None = None,
    seed: int = 0,
) -> Kept:
    """The set of least (or greatest) mean similarity among the greedy sets that keep the share of coverage.

    Args:
        term: A monotone coverage term on the problem.
        problem, bounds: The pool, and limits that some set meets.
        coverage: The share to keep, in (0, 1].
        prefer: One of SIGNS; `none` keeps lambda at 0.
        stochastic, seed: As in `select`.

    At most 12 sets are chosen, and fewer if the share of one is less than 0.002 above the floor, or no set within the
    limits is less similar (or more) than one that keeps it. Each starts from the same gains at the empty set, and the
    graph is built once.

    Raises:
        SelectionError: The share or the preference is not as described, or the term is not monotone.
    """
    if isinstance(coverage, bool) or not isinstance(coverage, int | float | np.number) or not 0.0 < coverage <= 1.0:
        raise SelectionError(f"coverage: found {coverage!r}; it must be above 0 and at most 1")
    if prefer not in SIGNS:
        raise SelectionError(f"prefer: found {prefer!r}; allowed: {', '.join(SIGNS)}")
    if not term.monotone:
        raise SelectionError(
            "coverage: the objective is not monotone with these parameters, so adding rows can lower coverage and no "
            "share of it can be a floor; lower theta, choose another objective, or give weight instead"
        )
    unit, sign = penalties(problem, bounds, 1.0), SIGNS[prefer]
    term.clear()
    start = term.gains()

    def at(weight: float) -> _Try:
        generator = np.random.default_rng(seed)
        picks, method = pick(
            term, penalties(problem, bounds, weight), bounds, stochastic=stochastic, generator=generator, start=start
        )
        return _Try(
            weight, picks, method, objective_value(term, np.zeros_like(unit), picks[0]), float(unit[picks[0]].sum())
        )

    free = at(0.0)
    generator = np.random.default_rng(seed)
    draws = [random_rows(bounds, generator).tolist() for _ in range(RANDOM_SETS)]
    random = [(objective_value(term, np.zeros_like(unit), rows), float(unit[rows].sum())) for rows in draws]
    random_coverage, random_similarity = (float(np.mean(values)) for values in zip(*random, strict=True))

    def floor_of(most: float) -> float:
        return most - (1.0 - coverage) * max(0.0, most - random_coverage)

    # Any other set is at least as (or at most as) similar; the search starts around the lambda at which this set ties
    # with coverage alone.
    furthest = -sign * largest_sum(bounds, -sign * unit)
    tries = [free]
    if sign:
        tries = _search(
            at, free, sign=sign, floor_of=floor_of, random=random_coverage, reach=abs(free.similarity - furthest)
        )
    most = max(each.coverage for each in tries)
    floor = floor_of(most)
    kept = [each for each in tries if each.coverage >= floor - 1e-12]
    # Sums of the same rows picked in another order differ in their last bits; then the smallest lambda is taken.
    chosen = min(kept, key=lambda each: (round(sign * each.similarity, 9), abs(each.weight)))
    limits = [
        upper_bound(term, penalties(problem, bounds, each.weight), bounds, each.picks[0], prefixes=_PREFIXES)
        for each in tries
    ]

    def share(value: float, whole: float | None = most) -> float | None:
        if whole is None or min(most, whole) - random_coverage <= rounding(whole):
            return None
        return (value - random_coverage) / (whole - random_coverage)

    ends = [
        sign * (floor - limit) / each.weight
        for each, limit in zip(tries, limits, strict=True)
        if each.weight and limit is not None
    ]

    def row(kind: str, value: float, near: float, *, of: _Try | None = None, limit: float | None = None) -> Row:
        objective = None if of is None else value - of.weight * near
        values = (kind, of and of.weight, value, share(value), near, objective, limit, of is chosen)
        return dict(zip(FRONTIER_SCHEMA, values, strict=True))

    by_size = sorted(zip(tries, limits, strict=True), key=lambda pair: abs(pair[0].weight))
    points = [row("lambda", each.coverage, each.similarity, of=each, limit=limit) for each, limit in by_size]
    points += [row("random", *draw) for draw in random]
    return Kept(
        weight=chosen.weight,
        picks=chosen.picks,
        method=chosen.method,
        random_value=random_coverage - chosen.weight * random_similarity,
        points=tuple(points),
        facts={
            "coverage": float(coverage),
            "prefer": prefer,
            "share": share(chosen.coverage),
            "share_certified": share(chosen.coverage, limits[0]),
            "random": random_coverage,
            "most": most,
            "most_bound": limits[0],
            "similarity": chosen.similarity,
            "similarity_bound": sign * max([*ends, sign * furthest]) if sign else None,
        },
    )


def _search(
    at: Callable[[float], _Try],
    free: _Try,
    *,
    sign: float,
    floor_of: Callable[[float], float],
    random: float,
    reach: float,
) -> list[_Try]:
    """`free` (lambda 0) and the lambdas tried after it, until the floor lies closely below one of them.

    Args:
        sign: Sign of every lambda.
        floor_of: The most coverage found -> the least coverage to keep.
        random: Mean coverage of random sets.
        reach: Distance of the mean similarity of `free` from the least (or largest) of any set.
    """
    tries = [free]
    if reach <= 1e-9:
        return tries
    # At this lambda coverage alone and similarity alone would tie if the latter covered as much as a random set.
    size = max(free.coverage - random, 1e-6 * max(1.0, abs(free.coverage))) / reach
    while len(tries) < _TRIES:
        tries.append(at(sign * size))
        most = max(each.coverage for each in tries)
        floor = floor_of(most)
        # The largest lambda that keeps the floor, and the smallest beyond it, which does not.
        above = max((each for each in tries if each.coverage >= floor - 1e-12), key=lambda each: abs(each.weight))
        near = abs(above.weight)
        beyond = [each for each in tries if abs(each.weight) > near]
        if not beyond:
            # Two lambdas may give the same set although a larger one gives another.
            if abs(above.similarity - free.similarity) >= reach - 1e-9:
                break  # similarity cannot fall (or rise) any further
            size *= _STEP
            continue
        below = min(beyond, key=lambda each: abs(each.weight))
        far = abs(below.weight)
        if near and (above.coverage - floor <= _NEAR * max(0.0, most - random) or far / near < 1.01):
            break
        if not near:
            size = far / _STEP
            continue
        part = (above.coverage - floor) / (above.coverage - below.coverage)
        size = near * (far / near) ** min(0.8, max(0.2, part))
    return tries


def frontier_frame(points: Sequence[Row]) -> pl.DataFrame:
    """One row per point, in the columns of FRONTIER_SCHEMA."""
    return pl.DataFrame(list(points), schema=FRONTIER_SCHEMA)
