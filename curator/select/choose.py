"""The public call: a pool, a score and limits in, a Selection out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from curator.errors import SelectionError
from curator.neighbours import Graph
from curator.records import Selection
from curator.select.certificate import random_mean, upper_bound
from curator.select.coverage import FacilityLocation
from curator.select.diversity import GraphCut, LogDet
from curator.select.greedy import budget_greedy, follow, lazy_greedy, objective_value, stochastic_greedy
from curator.select.limits import Limits, Quotas, Tally, limits
from curator.select.objectives import OBJECTIVES
from curator.select.problem import Column, Problem, column, prepare


def select(
    vectors: ArrayLike,
    score: ArrayLike,
    k: int | None = None,
    *,
    ids: Sequence[str] | Sequence[int] | None = None,
    weight: float = 0.5,
    objective: str = "facility-location",
    parameters: Mapping[str, Any] | None = None,
    neighbours: int = 64,
    row_weights: ArrayLike | None = None,
    task_cover: ArrayLike | None = None,
    groups: Sequence[Any] | None = None,
    quotas: Quotas | None = None,
    costs: ArrayLike | None = None,
    budget: float | None = None,
    include: Sequence[str] | Sequence[int] = (),
    exclude: Sequence[str] | Sequence[int] = (),
    lengths: ArrayLike | None = None,
    stochastic: float | None = None,
    seed: int = 0,
) -> Selection:
    """The rows that cover the pool best and resemble the tasks least.

    Maximises, over sets S of exactly k rows,

        (1 / sum w) sum over v of w_v max over s in S of K(v, s)  -  (weight / k) sum over s in S of z(s)

    with K = max(0, cos) to the `neighbours` nearest distinct rows of v, and z the standardised score. Under a budget,
    1 / k is cost(s) / budget.

    Args:
        vectors: `(n, d)` float32 unit rows, used as given.
        score: `(n,)`, larger is more similar to the tasks.
        k: Exact size. Exactly one of k and budget.
        ids: `n` distinct ids; row numbers when absent. Ties go by id; the order of rows changes nothing.
        weight: lambda, of either sign or 0; larger moves the set away from the tasks.
        objective, parameters: The coverage term and its settings.
        neighbours: How many nearest distinct rows can cover a row, itself included.
        row_weights: `(n,)` >= 0, how much each row's coverage matters; 1 when absent.
        task_cover: `(n,)` in [0, 1], for conditional gain.
        groups, quotas: `n` labels, and label -> (min, max).
        costs, budget: `(n,)` > 0, and the most that they may sum to.
        include, exclude: Ids that must, and may not, be in.
        lengths: `(n,)` >= 0, e.g. tokens. They decide nothing: `parameters["lengths"]` tells the quartiles of the pool
            and of the chosen rows, so that a set of short rows is seen for what it is.
        stochastic: For very large k: epsilon in (0, 1), to pick from random samples of (n / k) log(1 / epsilon) rows
            instead of from all; null for the plain greedy picks. Not with a budget.
        seed: Of the samples, of the approximate graph and of the random sets behind `relative_gap`.

    Returns:
        A Selection of exactly k rows; under a budget, of rows added while one fits and its value is positive.

    Raises:
        SelectionError: An argument is not as above, or no set meets the limits (it says which limit, and the largest k
            that is possible).
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
        problem, k, groups=groups, quotas=quotas, costs=costs, budget=budget, include=include, exclude=exclude
    )
    return solve(
        problem,
        bounds,
        weight=weight,
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
    weight: float = 0.5,
    objective: str = "facility-location",
    parameters: Mapping[str, Any] | None = None,
    lengths: ArrayLike | None = None,
    stochastic: float | None = None,
    given: Sequence[str] | None = None,
    seed: int = 0,
) -> Selection:
    """`select` on a prepared pool; see there. A `given` set of `bounds.k` ids is not chosen but measured: its value,
    its gains in that order, and how far it is from the best set of its size.
    """
    if objective not in OBJECTIVES:
        raise SelectionError(f"objective: {objective!r} is not known; it is one of {', '.join(OBJECTIVES)}")
    if isinstance(weight, bool) or not isinstance(weight, int | float | np.number) or not np.isfinite(weight):
        raise SelectionError(f"weight: found {weight!r}; it must be a finite number, of either sign")
    if stochastic is not None and (bounds.k is None or not 0.0 < stochastic < 1.0):
        raise SelectionError(
            f"stochastic: found {stochastic} with k={bounds.k}; it must be between 0 and 1, with k given"
        )
    measured = None if lengths is None else column("lengths", lengths, len(problem.ids), low=0.0)[problem.rows]
    term = OBJECTIVES[objective](problem, parameters or {})
    penalty = penalties(problem, bounds, weight)

    generator = np.random.default_rng(seed)
    if given is not None:
        known = {one: row for row, one in enumerate(problem.ids)}
        (picks, gains), method = follow(term, penalty, [known[one] for one in given]), "given"
    elif bounds.k is None:
        (picks, gains), method = budget_greedy(term, penalty, bounds)
    elif stochastic is not None:
        (picks, gains), method = stochastic_greedy(term, penalty, bounds, stochastic, generator), "stochastic"
    else:
        (picks, gains), method = lazy_greedy(term, penalty, bounds), "lazy"
    value = objective_value(term, penalty, picks)
    bound = upper_bound(term, penalty, bounds, picks)
    random_value = random_mean(term, penalty, bounds, generator)
    gap = None if bound is None else max(0.0, bound - value)
    relative = None
    if bound is not None and gap is not None and bound - random_value > 0.0:
        relative = gap / (bound - random_value)

    tally = Tally(bounds)
    for row in picks:
        tally.take(row)
    all_value, all_bound = _all_pairs(term, problem, penalty, bounds, picks)
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
        all_pairs_value=all_value,
        all_pairs_bound=all_bound,
        parameters={
            "objective": dict(parameters or {}),
            "greedy": method,
            "score_mean": problem.mean,
            "score_sd": problem.sd,
            "rows": len(problem.ids),
            "distinct": len(problem.vectors),
            "random_value": random_value,
            **({} if isinstance(term, LogDet) else _graph_facts(problem.graph)),
            **({} if measured is None else {"lengths": _quartiles(measured, picks)}),
        },
    )


def _graph_facts(found: Graph) -> dict[str, Any]:
    names = ("recall", "device", *(("cells", "probes") if found.cells else ()))
    return {"graph": found.method, **{name: getattr(found, name) for name in names}}


def _quartiles(lengths: Column, picks: list[int]) -> dict[str, list[float]]:
    parts = {"pool": lengths, "chosen": lengths[picks]}
    return {name: np.quantile(part, [0.25, 0.5, 0.75]).tolist() if len(part) else [] for name, part in parts.items()}


def penalties(problem: Problem, bounds: Limits, weight: float) -> Column:
    """`(n,)` what each row costs the objective: weight * z times 1 / k, or times cost / budget."""
    return weight * problem.z * bounds.cost / bounds.room


def _all_pairs(
    term: object, problem: Problem, penalty: Column, bounds: Limits, picks: list[int]
) -> tuple[float | None, float | None]:
    """Value of the set, and a bound on every set, when any row may cover any row; null where no neighbours are used.

    The value is exact. The bound is of facility location and conditional gain, and needs the exact graph: it raises
    each row's start to its r-th cosine, which no row outside its neighbours exceeds.
    """
    if isinstance(term, GraphCut):
        return term.all_pairs_value(picks) - float(penalty[picks].sum()), None
    if not isinstance(term, FacilityLocation) or not picks:
        return None, None
    cover = problem.covered(np.unique(problem.copy_of[picks]))[1]
    total, penalties = float(problem.mass.sum()), float(penalty[picks].sum())
    value = float(problem.mass @ np.maximum(cover - term.floor, 0.0)) / total - penalties
    if problem.graph.method != "exact":
        return value, None
    raised = np.maximum(term.floor, problem.columns.floor)
    bound = upper_bound(FacilityLocation(problem, raised), penalty, bounds, picks)
    assert bound is not None
    return value, bound + float(problem.mass @ (raised - term.floor)) / total
