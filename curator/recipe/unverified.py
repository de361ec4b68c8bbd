"""Recipes that only choose rows: the sections that they may lack, and the settings that they cannot use. Imports
nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from curator.errors import RecipeError
from curator.recipe.judge import Judge, Judges
from curator.recipe.probes import Probes
from curator.recipe.score import needs_training, parts_of
from curator.recipe.training import Training
from curator.recipe.verify import CURATED, RANDOM, Arm, Verify

if TYPE_CHECKING:
    from curator.recipe import Recipe

SECTIONS = ("probes", "verify", "judges")
"""Sections needed to verify a set, but not to choose one."""

# Placeholders of missing sections: they are never used in training or evaluation, nor recorded. Random sets are drawn,
# so that the chosen one can be compared with them.
PROBES = Probes.model_construct(harmful=[], benign=[], prefill=[], opening=None)
VERIFY = Verify(arms=[Arm(name=CURATED), Arm(name=RANDOM)], align=Training(steps=1), finetune=Training(steps=1))
JUDGES = Judges(headline="phrases", panel=[Judge(name="phrases", refusal="phrases")])


def lacking(given: Mapping[str, object] | set[str]) -> tuple[str, ...]:
    """The sections that a recipe with these keys lacks for verification."""
    return tuple(name for name in SECTIONS if name not in given)


def listed(names: tuple[str, ...], word: str = "and") -> str:
    """`probes, verify and judges`."""
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def require_verifiable(recipe: Recipe) -> None:
    """Checks that a recipe has the sections of a verification.

    Raises:
        RecipeError: It lacks a section.
    """
    if missing := recipe.lacks:
        raise RecipeError(
            f"{recipe.name}: the recipe has no {listed(missing, 'or')}, so the chosen rows cannot be verified; add "
            f"{'it' if len(missing) == 1 else 'them'}, or choose rows without verification with `curator select`"
        )


def require_untrained(recipe: Recipe) -> None:
    """Checks that a recipe does not train models before its rows are chosen.

    Raises:
        RecipeError: It does; the message names every reason.
    """
    reasons = [
        f"{key}: {what}, and `curator select` trains nothing; {instead}, or run `curator build --until select`"
        for key, what, instead in trains(recipe)
    ]
    if reasons:
        raise RecipeError(reasons)


def refuse_unverifiable(recipe: Recipe) -> None:
    """Refuses settings that only a missing section reads.

    Raises:
        ValueError: There are such settings; one sentence per line, which begins with the section.
    """
    if not recipe.lacks:
        return
    without = f"and the recipe has no {listed(recipe.lacks, 'or')}"
    problems = [
        f"{key}: {what}, {without}; {instead}, or add the missing sections" for key, what, instead in trains(recipe)
    ]
    if "verify" in recipe.lacks and any(part.kind == "interference" for part in parts_of(recipe.score)):
        problems.append(
            "score: interference takes a step as verify.finetune does, and the recipe has no verify; use another "
            "score, or add verify"
        )
    if problems:
        raise ValueError("\n".join(problems))


def trains(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Parts of a recipe that train models before rows are chosen: the section, what it does, and what to write
    instead.
    """
    if recipe.model.instruction is not None:
        yield "model", "instruction tunes the model before rows are represented", "remove instruction"
    trained = [part.kind for part in parts_of(recipe.score) if needs_training(part)]
    if trained:
        yield "score", f"{trained[0]} trains models to score rows", "use another score, for example cosine"
    if recipe.select.by == "bank":
        yield "select", "by: bank chooses rows by training on many sets", "remove by"
    elif recipe.select.weight == "auto":
        yield "select", "weight: auto finds the weight by training on candidate sets", "give a number as weight"
