"""The objectives by name: each reads its parameters and makes a coverage term for a pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from curator.errors import SelectionError
from curator.select.coverage import Coverage, FacilityLocation
from curator.select.diversity import GraphCut, LogDet
from curator.select.problem import Problem, on_grid

Parameters = Mapping[str, Any]


def facility_location(problem: Problem, parameters: Parameters) -> Coverage:
    """(1 / sum w) sum_v w_v max_s K(v, s): how well the set covers the pool, in [0, 1]. No parameters."""
    _read("facility-location", parameters)
    return FacilityLocation(problem, np.zeros(len(problem.mass)))


def conditional_gain(problem: Problem, parameters: Parameters) -> Coverage:
    """(1 / sum w) sum_v w_v max(0, max_s K(v, s) - nu * task_cover_v), in [0, 1]: coverage beyond what the tasks cover.

    `nu` >= 0, 1 by default; 0 is facility location.
    """
    nu = _read("conditional-gain", parameters, nu=1.0)["nu"]
    if problem.task_cover is None:
        raise SelectionError(
            "task_cover: missing; objective 'conditional-gain' needs the largest cosine of every row to a task row"
        )
    return FacilityLocation(problem, on_grid(nu * problem.task_cover))


def graph_cut(problem: Problem, parameters: Parameters) -> Coverage:
    """(1 / n) (sum_{v, s} w_v K(v, s) - theta sum_{s, t} K(s, t)), in units of rows covered; it grows with k.

    `theta` >= 0, 0.5 by default; above 0.5 there is no certificate.
    """
    return GraphCut(problem, _read("graph-cut", parameters, theta=0.5)["theta"])


def log_det(problem: Problem, parameters: Parameters) -> Coverage:
    """Log det(I + alpha X_S X_S^T), in nats; it grows with k. `alpha` > 0, 1 by default; no row weights.

    Raw cosines, because the clipped kernel is not positive semidefinite.
    """
    alpha = _read("log-det", parameters, alpha=1.0)["alpha"]
    if alpha == 0.0:
        raise SelectionError("parameters['alpha']: found 0; it must be positive")
    if (problem.weight != 1.0).any():
        raise SelectionError("row_weights: objective 'log-det' has no place for them; leave them out")
    return LogDet(problem, alpha)


OBJECTIVES: dict[str, Callable[[Problem, Parameters], Coverage]] = {
    "facility-location": facility_location,
    "conditional-gain": conditional_gain,
    "graph-cut": graph_cut,
    "log-det": log_det,
}


def _read(objective: str, parameters: Parameters, **defaults: float) -> dict[str, float]:
    unknown = sorted(set(parameters) - set(defaults))
    if unknown:
        says = f"it takes {', '.join(defaults)}" if defaults else "it takes none"
        raise SelectionError(f"parameters: {unknown[0]!r} is not known to objective {objective!r}; {says}")
    for name, value in parameters.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
            raise SelectionError(f"parameters[{name!r}]: found {value!r}; it must be a finite number >= 0")
    return defaults | {name: float(value) for name, value in parameters.items()}
