"""The verdict: what the primary comparison measured, in one sentence for a reader who does not know the arms' names."""

from __future__ import annotations

from curator.conclusions import Comparison
from curator.recipe.verify import (
    BEST_RANDOM,
    CURATED,
    FULL,
    HIGH_MATCHED,
    HIGH_SIMILARITY,
    LOW_MATCHED,
    LOW_SIMILARITY,
    MATCHED_RANDOM,
    NONE,
    RANDOM,
    RANDOM_CAPPED,
)
from curator.wording import confidence, percent, points

_IN_WORDS = {
    CURATED: "the curated set",
    RANDOM: "random sets of the same size",
    MATCHED_RANDOM: "random sets of the same size and mix",
    RANDOM_CAPPED: "random sets within the same caps on answers",
    BEST_RANDOM: "the best random set of the pilot",
    LOW_SIMILARITY: "the rows least similar to the tasks",
    HIGH_SIMILARITY: "the rows most similar to the tasks",
    LOW_MATCHED: "the least similar rows of the pool's composition",
    HIGH_MATCHED: "the most similar rows of the pool's composition",
    FULL: "the whole pool",
}
"""Built-in arms in words; a user's own arms are named in quotes."""


def verdict(primary: Comparison | None, *, rehearsal: bool = False) -> str:
    """The primary comparison in one sentence, for a reader who knows neither the arms' names nor the rule.

    Args:
        rehearsal: Whether arms are mixed into fine-tuning instead of being aligned on.
    """
    if primary is None or primary.difference is None:
        arms = "the curated and the control arm" if primary is None else f"{primary.treatment} and {primary.control}"
        return f"No pair of answers of {arms} was scored, so nothing can be said about the set."
    limits = f"difference {points(primary.difference)} points"
    if primary.low is not None:
        limits += f", {confidence(primary.level)} CI {points(primary.low)} to {points(primary.high)}"
    at = "" if primary.task is None else f" at '{primary.task}'"
    models = models_of(primary.treatment, rehearsal=rehearsal)
    other = f"rows of {named(primary.control)}" if rehearsal else named(primary.control)
    if primary.control == NONE:
        other = models_of(NONE, rehearsal=rehearsal)
    return (
        f"{models[0].upper()}{models[1:]} gave harmful answers to {percent(primary.treatment_rate)} of the probes "
        f"{when(primary)}{at}, against {percent(primary.control_rate)} for {other} ({limits})."
    )


def when(primary: Comparison) -> str:
    """Words for what the rates of the primary comparison are means over."""
    during = "on average over the whole of fine-tuning (area under the curve)"
    return during if primary.phase == "during" else f"{primary.phase} fine-tuning"


def models_of(arm: str, *, rehearsal: bool = False) -> str:
    """The models of an arm in words; in a rehearsal, arms are mixed into fine-tuning instead of being aligned on."""
    if rehearsal:
        return f"models fine-tuned {'without such rows' if arm == NONE else f'with rows of {named(arm)} mixed in'}"
    return "models that were not aligned" if arm == NONE else f"models aligned on {named(arm)}"


def named(arm: str) -> str:
    """The sets of an arm in words; a user's own arm is named in quotes."""
    return _IN_WORDS.get(arm, f"the arm '{arm}'")
