"""The number of mixtures in a bank: the recipe's number, or as many as its time budget is expected to allow.

The number is written into the run folder before the bank starts, so that an interrupted bank continues with the same
sets, however fast the machine turns out to be. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable

from curator.recipe import Recipe
from curator.recipe.bank import LEAST, affordable
from curator.recipe.verify import Pilot
from curator.wording import duration, these

Seconds = Callable[[Recipe], float | None]
"""Seconds that the bank and the confirmation of a recipe take on this machine; null if unknown."""


def sized(recipe: Recipe, seconds: Seconds) -> Recipe:
    """The recipe with the number of mixtures that its bank has.

    Without a budget, or if speeds are unknown, that is the recipe's own number. With a budget it is `affordable`: the
    time of a mixture is the time of two minus that of one, and the rest is the time of the draws and the confirmation.
    Speeds are those that the run folder has measured for this model, else those that `curator check` assumes.
    """
    bank = recipe.verify.pilot.bank
    if bank.seconds is None:
        return recipe
    first, second = (seconds(with_mixtures(recipe, count)) for count in (1, 2))
    if first is None or second is None or second <= first:
        return recipe
    mixture = second - first
    count = affordable(bank.seconds, mixture=mixture, beside=first - mixture, most=bank.mixtures)
    return with_mixtures(recipe, count)


def short(recipe: Recipe, seconds: Seconds) -> str | None:
    """Why the budget of a bank is too small at the expected speeds; null if it is large enough, or if that is
    unknown.
    """
    bank = recipe.verify.pilot.bank
    if recipe.select.by != "bank" or bank.seconds is None:
        return None
    first, second = (seconds(with_mixtures(recipe, count)) for count in (1, 2))
    if first is None or second is None or second <= first:
        return None
    mixture, least = second - first, min(LEAST, bank.mixtures)
    beside = first - mixture
    if beside + least * mixture <= bank.seconds:
        return None
    return (
        f"verify.pilot.bank.budget: {bank.budget} is too short: {these(least, 'mixture', 'mixtures')}, the fewest that "
        f"are drawn, take about {duration(least * mixture)}, and the random draws and the confirmation about "
        f"{duration(beside)} on top; raise budget to {duration(beside + least * mixture)} or more, or lower draws, "
        "candidates or verify.pilot.seeds"
    )


def with_mixtures(recipe: Recipe, count: int) -> Recipe:
    """The recipe with `count` mixtures in its bank."""
    verify, pilot = recipe.verify, recipe.verify.pilot
    changed: Pilot = pilot.model_copy(update={"bank": pilot.bank.model_copy(update={"mixtures": count})})
    return recipe.model_copy(update={"verify": verify.model_copy(update={"pilot": changed})})


def outline(pilot: Pilot) -> str:
    """How a bank chooses, in words."""
    bank = pilot.bank
    over = ", ".join(bank.groupings)
    if len(bank.groupings) > 1:  # which of them do is known when the pool is read
        over = f"those of {over} that divide the candidates"
    sets = f"{these(bank.mixtures, 'mixture', 'mixtures')} over {over}"
    most = "at most " if bank.budget else ""
    return (
        f"a bank of {most}{sets}, and {these(bank.draws, 'random draw', 'random draws')}, on "
        f"{these(bank.seeds, 'seed', 'seeds')}; then {these(bank.candidates, 'candidate', 'candidates')} and as many "
        f"random draws are confirmed on {these(pilot.seeds, 'seed', 'seeds')}; in addition to the runs below"
    )


def in_words(recipe: Recipe, disk: str) -> str:
    """The number of sets in a bank and the reason for it, and the disk space of its weights, in words.

    Args:
        recipe: The result of `sized`.
    """
    bank = recipe.verify.pilot.bank
    sets = f"{these(bank.mixtures, 'mixture', 'mixtures')} and {these(bank.draws, 'random draw', 'random draws')}"
    if bank.seconds is None:
        return f"{sets}; disk for weights {disk}"
    return (
        f"{sets}: as many mixtures as fit into an estimated {duration(bank.seconds)} together with the draws and the "
        f"confirmation, from {LEAST} to verify.pilot.bank.mixtures; disk for weights {disk}"
    )


def unseen(recipe: Recipe) -> str | None:
    """Why the experiment cannot assess tasks that the bank has not seen; null if it can."""
    if recipe.select.by != "bank" or any(not task.anticipated for task in recipe.tasks):
        return None
    return (
        "the bank chooses what lasts on the anticipated tasks, and no other task could show whether it also lasts "
        "elsewhere; add a task with anticipated: false"
    )
