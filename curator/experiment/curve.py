"""Harmfulness on the way through fine-tuning: at which steps a training leaves its weights, and the models that are
evaluated there. Imports nothing heavy, so that a plan can name the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curator.experiment.answers import Weights
    from curator.experiment.plan import Cell
    from curator.records import Trained

END = 1.0


def steps_at(shares: Sequence[float], steps: int) -> dict[int, tuple[float, ...]]:
    """Optimiser step -> the shares of a fine-tuning of `steps` steps that fall on it, by rising steps.

    A share falls on the nearest whole step, the first at the earliest. The end is always among them.
    """
    falls: dict[int, tuple[float, ...]] = {}
    for share in (*(share for share in shares if share < END), END):
        step = max(1, round(share * steps))
        falls[step] = (*falls.get(step, ()), share)
    return falls


def checkpoint_steps(shares: Sequence[float], steps: int) -> tuple[int, ...]:
    """The steps before the last after which a training leaves its weights."""
    return tuple(step for step in steps_at(shares, steps) if step < steps)


def together(shares: Sequence[float], steps: int) -> list[str]:
    """The end of a sentence for each step of a fine-tuning on which several shares fall."""
    return [
        f"the shares {', '.join(f'{share:g}' for share in several)} fall on the same step, {step} of {steps}, and are "
        "one point of the curve"
        for step, several in steps_at(shares, steps).items()
        if len(several) > 1
    ]


def checkpoints(models: Mapping[Cell, tuple[Weights, Trained]]) -> dict[Cell, Weights]:
    """The models that trainings of a grid have left on the way, each by its cell with the share of fine-tuning done."""
    return {
        replace(cell, at=step / trained.steps): weights.on_the_way(trained, step, path)
        for cell, (weights, trained) in models.items()
        for step, path in trained.checkpoints
    }
