"""The judge of refusals in the pool: a judge of the recipe's panel, a fitted head, or phrases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curator.recipe.judge import LOCAL, Judge
from curator.recipe.pool import PHRASES

if TYPE_CHECKING:
    from curator.recipe import Recipe

FITTED = "refusals"
"""The name of the judge that is a separate fitted head of the pool."""


def refusal_judge(recipe: Recipe) -> Judge | None:
    """The judge that `pool.refusals` names; null for English phrases, whatever their name in the panel."""
    section = recipe.pool.refusals
    if section.embedding is not None:
        return Judge(name=FITTED, embedding=section.embedding)
    judge = next((judge for judge in recipe.judges.panel if judge.name == section.judge), None)
    return None if section.judge == PHRASES or judge is None or judge.kind == "refusal" else judge


def refusals_by(recipe: Recipe) -> str:
    """A short description of the judge of refusals for a report."""
    judge = refusal_judge(recipe)
    return "English refusal phrases" if judge is None else f"the judge {judge.name} ({judge.told})"


def require_refusals(recipe: Recipe) -> None:
    """Checks that the judge of refusals is in the panel and deterministic.

    Raises:
        ValueError: It is not.
    """
    name = recipe.pool.refusals.judge
    if name is None or name == PHRASES:
        return
    kinds = {judge.name: judge.kind for judge in recipe.judges.panel}
    allowed = [PHRASES, *(each for each, kind in kinds.items() if kind in LOCAL and each != PHRASES)]
    if name not in kinds:
        raise ValueError(
            f"pool: refusals names {name!r}, which is not a judge of the panel; allowed: {', '.join(allowed)}, or "
            "{embedding: FOLDER}"
        )
    if kinds[name] not in LOCAL:
        raise ValueError(
            f"pool: refusals names {name!r}, a {kinds[name]} judge, and the pool is read with judges that need neither "
            f"a language model nor a server; allowed: {', '.join(allowed)}, or {{embedding: FOLDER}}"
        )
