"""The `select` section of a recipe, turned into a call of the selection engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from curator.errors import SelectionError
from curator.recipe_select import Quotas, Represent, Select

if TYPE_CHECKING:
    import polars as pl

    from curator.records import Scores, Selection, Vectors
    from curator.select.limits import Limits
    from curator.select.problem import Column, Problem


class Chosen(NamedTuple):
    """A selection and what it was solved from, for `explain`."""

    problem: Problem
    bounds: Limits
    selection: Selection


def choose(
    section: Select,
    rows: pl.DataFrame,
    vectors: Vectors,
    scores: Scores,
    *,
    weight: float,
    task_cover: Column | None,
    given: Sequence[str] | None = None,
    seed: int,
) -> Chosen:
    """The rows that a recipe's section asks for.

    Args:
        section: The recipe's. `weight` stands for its own, which may be `auto`.
        rows: The pool, in the columns of ROW_SCHEMA; groups and tokens are read from it.
        vectors, scores: Of the same rows, in the same order as each other.
        given: Ids of a set that is measured as it is, instead of one that is chosen.
        task_cover: `(n,)` in the order of `vectors`, for conditional gain.
        seed: Of everything random.

    Raises:
        SelectionError: No set meets the section's limits; the message names the key of the recipe.
    """
    from curator.select import limits, prepare, solve

    order = rows.select("id", section.quotas.by if section.quotas else "category", "tokens")
    known = dict(zip(order["id"], order.iter_rows(), strict=True))
    own = [known[one] for one in vectors.ids]
    try:
        problem = prepare(
            vectors.matrix,
            scores.combined,
            ids=vectors.ids,
            neighbours=section.neighbours,
            task_cover=task_cover,
            seed=seed,
        )
        bounds = limits(
            problem,
            len(given) if given is not None else section.k,
            groups=[label for _, label, _ in own],
            quotas=quotas_of(section.quotas, {label for _, label, _ in own if label is not None}),
            costs=None if section.budget_tokens is None else [tokens for *_, tokens in own],
            budget=section.budget_tokens,
            include=section.include,
            exclude=section.exclude,
        )
        selection = solve(
            problem,
            bounds,
            weight=weight,
            objective=section.objective,
            parameters=section.parameters,
            stochastic=section.stochastic,
            given=given,
            seed=seed,
            lengths=[tokens for *_, tokens in own],
        )
    except SelectionError as error:
        key, _, rest = str(error).partition(":")
        raise SelectionError(f"select.{'budget_tokens' if key == 'budget' else key}:{rest}") from error
    return Chosen(problem, bounds, selection)


def quotas_of(section: Quotas | None, labels: set[str]) -> Mapping[Any, tuple[int | None, int | None]]:
    """Label -> (min, max) for every group of the pool that has a limit.

    Raises:
        SelectionError: `groups` names a group that the pool does not have.
    """
    if section is None:
        return {}
    unknown = sorted(set(section.groups) - labels)
    if unknown:
        raise SelectionError(
            f"quotas.groups: no row of the pool has {section.by} {unknown[0]!r}; there are "
            f"{', '.join(sorted(labels)) or 'none'}"
        )
    limits = {label: section.groups.get(label, section) for label in sorted(labels)}
    return {label: (one.min, one.max) for label, one in limits.items() if (one.min, one.max) != (None, None)}


def rows_wanted(section: Select, tokens: pl.Series) -> int:
    """`k`, or about how many rows of this pool the budget pays for, at least 1."""
    if section.k is not None:
        return section.k
    assert section.budget_tokens is not None
    return max(1, min(len(tokens), int(section.budget_tokens / float(tokens.mean() or 1.0))))  # type: ignore[arg-type]


def label(section: Represent) -> str:
    """How a representation is called in tables."""
    if section.kind == "sentence-transformers":
        return f"{section.id}"
    return f"layer {section.layer}, {section.token}"
