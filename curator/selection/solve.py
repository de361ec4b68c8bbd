"""The public entry point: takes a pool, a score and limits, and returns a Selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from curator.errors import SelectionError
from curator.neighbours import Graph
from curator.recipe.select import DEFAULT_WEIGHT, OBJECTIVES
from curator.records import Selection
from curator.selection.caps import CapsGiven
from curator.selection.certificate import random_mean, rounding, upper_bound
from curator.selection.floor import keep
from curator.selection.greedy import follow, objective_value, penalties, pick
from curator.selection.limits import Limits, Quotas, Tally, limits
from curator.selection.objectives import Coverage, coverage_term
from curator.selection.problem import Column, Problem, column, prepare


def select(
    vectors: ArrayLike,
    score: ArrayLike,
    k: int | None = None,
    *,
    ids: Sequence[str] | Sequence[int] | None = None,
    weight: float | None = None,
    coverage: float | None = None,
    prefer: str = "none",
    objective: str = "facility-location",
    parameters: Mapping[str, Any] | None = None,
    neighbours: int = 64,
    row_weights: ArrayLike | None = None,
    task_cover: ArrayLike | None = None,
    groups: Sequence[object] | None = None,
    quotas: Quotas | None = None,
    costs: ArrayLike | None = None,
    budget: float | None = None,
    include: Sequence[str] | Sequence[int] = (),
    exclude: Sequence[str] | Sequence[int] = (),
    caps: CapsGiven | None = None,
    lengths: ArrayLike | None = None,
    stochastic: float | None = None,
    seed: int = 0,
) -> Selection:
    """Selects the rows that cover the pool best and resemble the tasks least.

    Maximises, over sets S of exactly k rows,

        (1 / sum w) sum over v of w_v max over s in S of K(v, s)  -  (weight / k) sum over s in S of z(s)

    with K = max(0, cos) to the `neighbours` nearest distinct rows of v, and z the standardised score. Under a budget,
    cost(s) / budget replaces 1 / k. Other objectives replace the first sum by another coverage term:

    - `facility-location`: the first sum itself, in [0, 1]. It has no parameters.
    - `conditional-gain`: (1 / sum w) sum over v of w_v max(0, max over s in S of K(v, s) - nu * task_cover_v), in
      [0, 1]: coverage beyond what the tasks cover. `nu` >= 0 [default: 1]; 0 is facility location. Needs `task_cover`.
    - `graph-cut`: (1 / n) (sum over v and s in S of w_v K(v, s) - theta * sum over s, t in S of K(s, t)), with row
      weights of mean 1; it grows with k. `theta` >= 0 [default: 0.5]; above half the smallest weight there is no
      certificate.
    - `log-det`: log det(I + alpha X_S X_S^T) of raw cosines, in nats; it grows with k. `alpha` > 0 [default: 1]. It
      takes no row weights and uses no neighbours.

    Args:
        vectors: `(n, d)` float32 unit rows, used as given.
        score: `(n,)`, larger is more similar to the tasks.
        k: Exact size. Exactly one of k and budget.
        ids: `n` distinct ids [default: row numbers]. Ties are broken by id; the order of rows changes nothing.
        weight: lambda, of either sign or 0; larger moves the set away from the tasks [default: 0, coverage alone].
        coverage: Instead of weight: the share of coverage to keep, in (0, 1]; `prefer` chooses among the sets found
            that keep it. Its lambda is `weight`, `parameters["floor"]` gives the share that was kept and its bound, and
            `frontier` has the sets that were tried. 0 is the coverage of random sets within the same limits (the mean
            of 16), 1 the most of any tried set, as a rule the greedy one at lambda 0. Not for graph cut where it is not
            monotone.
        prefer: With `coverage`: `dissimilar`, `similar` (the most similar set that keeps the share), or `none`
            (coverage alone).
        objective: The coverage term, one of those above.
        parameters: The objective's parameters, by name.
        neighbours: Number of nearest distinct rows that can cover a row, including itself.
        row_weights: `(n,)` >= 0, how much each row's coverage matters [default: 1].
        task_cover: `(n,)` in [0, 1], for conditional gain.
        groups, quotas: `n` labels, and label -> (min, max) number of rows, null for no limit.
        costs, budget: `(n,)` > 0, and the largest sum of the costs of a set.
        include, exclude: Ids that must, and must not, be in the set.
        caps: Name -> `n` labels and a share in (0, 1], for example `{"opener": (openers, 0.05)}`: rows of one label are
            at most that share of the set, rounded down, but at least one row; rows labelled null are not limited. Under
            a budget the share refers to the number of rows that it buys at the pool's mean cost. Groups of two caps
            must be disjoint or nested.
        lengths: `(n,)` >= 0, e.g. tokens. They do not affect the result: `parameters["lengths"]` gives the quartiles of
            the pool and of the chosen rows, which shows if short rows were preferred.
        stochastic: For very large k: epsilon in (0, 1), to pick from random samples of (n / k) log(1 / epsilon) rows
            instead of all rows; null for plain greedy. Not with a budget.
        seed: Random seed of these samples, the approximate graph and the random sets behind `relative_gap`.

    Returns:
        A Selection of exactly k rows; under a budget, of rows added while one fits and its value is positive. Its
        `bound` is a certificate: no set within the same limits has a larger value.

    Raises:
        SelectionError: An argument is invalid, or no set meets the limits (the message names the limit and the largest
            possible k).

    Source: lazy greedy (Minoux 1978) on monotone submodular terms, whose value without penalties is at least 1 - 1/e of
    the best under a size k (Nemhauser, Wolsey and Fisher 1978). See `certificate` for the bound.
    """
    problem = prepare(
        vectors,
        score,
        ids=ids,
        neighbours=neighbours,
        row_weights=row_weights,
        task_cover=task_cover,
        seed=seed,
    )
    bounds = limits(
        problem,
        k,
        groups=groups,
        quotas=quotas,
        costs=costs,
        budget=budget,
        include=include,
        exclude=exclude,
        caps=caps,
    )
    return solve(
        problem,
        bounds,
        weight=weight,
        coverage=coverage,
        prefer=prefer,
        objective=objective,
        parameters=parameters,
        lengths=lengths,
        stochastic=stochastic,
        seed=seed,
    )


def solve(
    problem: Problem,
    bounds: Limits,
    *,
    weight: float | None = None,
    coverage: float | None = None,
    prefer: str = "none",
    objective: str = "facility-location",
    parameters: Mapping[str, Any] | None = None,
    lengths: ArrayLike | None = None,
    stochastic: float | None = None,
    given: Sequence[str] | None = None,
    seed: int = 0,
) -> Selection:
    """`select` on a prepared pool; see there.

    A `given` set of `bounds.k` ids is only measured: its value, its gains in that order, and its certified distance
    from the best set of its size.

    Raises:
        SelectionError: The objective, its parameters, weight, coverage, prefer, lengths or stochastic are invalid, see
            `select`.
    """
    if coverage is not None and (weight is not None or given is not None):
        raise SelectionError(
            "coverage: given together with weight or with a data set; coverage finds the weight of a set that is "
            "chosen, so give only one of them"
        )
    weight = DEFAULT_WEIGHT if weight is None else weight
    if isinstance(weight, bool) or not isinstance(weight, int | float | np.number) or not np.isfinite(weight):
        raise SelectionError(f"weight: found {weight!r}; it must be a finite number, of either sign")
    if stochastic is not None and (bounds.k is None or not 0.0 < stochastic < 1.0):
        raise SelectionError(
            f"stochastic: found {stochastic} with k={bounds.k}; it must be between 0 and 1, with k given"
        )
    measured = None if lengths is None else column("lengths", lengths, len(problem.ids), low=0.0)[problem.rows]
    term = coverage_term(objective, problem, parameters or {})
    generator = np.random.default_rng(seed)
    kept = None
    if coverage is not None:
        kept = keep(term, problem, bounds, coverage=coverage, prefer=prefer, stochastic=stochastic, seed=seed)
        weight, (picks, gains), method = kept.weight, kept.picks, kept.method
    penalty = penalties(problem, bounds, weight)
    if given is not None:
        row_of = {row_id: row for row, row_id in enumerate(problem.ids)}
        (picks, gains), method = follow(term, penalty, [row_of[row_id] for row_id in given]), "given"
    elif kept is None:
        (picks, gains), method = pick(term, penalty, bounds, stochastic=stochastic, generator=generator)
    value = objective_value(term, penalty, picks)
    bound = upper_bound(term, penalty, bounds, picks)
    random_value = random_mean(term, penalty, bounds, generator) if kept is None else kept.random_value
    gap = None if bound is None else max(0.0, bound - value)
    # The share of the possible gain over random sets that is not proven to be captured; undefined if the bound does not
    # exceed the random sets' mean by more than sums of the same rows differ in another order.
    relative = None
    if bound is not None and gap is not None and bound - random_value > rounding(bound):
        relative = gap / (bound - random_value)

    tally = Tally(bounds)
    for row in picks:
        tally.take(row)
    all_pairs_value, all_pairs_bound = _all_pairs(term, penalty, bounds, picks)
    return Selection(
        ids=tuple(problem.ids[row] for row in picks),
        indices=problem.rows[picks],
        gains=np.array(gains),
        value=value,
        bound=bound,
        gap=gap,
        relative_gap=relative,
        objective=objective,
        weight=float(weight),
        neighbours=problem.neighbours,
        seed=seed,
        group_counts=tally.counts(),
        budget_used=None if bounds.k is not None else tally.used,
        all_pairs_value=all_pairs_value,
        all_pairs_bound=all_pairs_bound,
        frontier=() if kept is None else kept.points,
        parameters={
            "objective": dict(parameters or {}),
            "greedy": method,
            "score_mean": problem.mean,
            "score_sd": problem.sd,
            "rows": len(problem.ids),
            "distinct": len(problem.vectors),
            "random_value": random_value,
            **({} if kept is None else {"floor": kept.facts}),
            **(_graph_facts(problem.graph) if OBJECTIVES[objective].neighbours else {}),
            **({} if measured is None else {"lengths": _quartiles(measured, picks)}),
        },
    )


def _graph_facts(graph: Graph) -> dict[str, Any]:
    names = ("recall", "device", *(("cells", "probes") if graph.cells else ()))
    return {"graph": graph.method, **{name: getattr(graph, name) for name in names}}


def _quartiles(lengths: Column, picks: list[int]) -> dict[str, list[float]]:
    parts = {"pool": lengths, "chosen": lengths[picks]}
    return {name: np.quantile(part, [0.25, 0.5, 0.75]).tolist() if len(part) else [] for name, part in parts.items()}


def _all_pairs(term: Coverage, penalty: Column, bounds: Limits, picks: list[int]) -> tuple[float | None, float | None]:
    """Value of the set, and a bound on every set, if any row may cover any row; null if the term has none.

    The value is exact, so that its difference from the value on the graph is the cost of truncation to neighbours.
    """
    value = term.all_pairs_value(picks)
    if value is None:
        return None, None
    raised = term.all_pairs_term()
    bound = None if raised is None else upper_bound(raised[0], penalty, bounds, picks)
    value -= float(penalty[picks].sum())
    return value, None if raised is None or bound is None else bound + raised[1]
