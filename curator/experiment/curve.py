"""Harmfulness during fine-tuning: the models that are evaluated there, by their cells; `recipe.training` defines the
steps. Imports nothing heavy, so that a plan can name them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from curator.recipe.training import steps_at

if TYPE_CHECKING:
    from curator.experiment.plan import Cell
    from curator.records import Trained
    from curator.train.job import Weights


def together(shares: Sequence[float], steps: int) -> list[str]:
    """The end of a sentence for each step of a fine-tuning to which several shares are rounded.

    Args:
        shares: A task's `probe_at`, ascending.
        steps: Number of steps of one fine-tuning on it.
    """
    return [
        f"the shares {', '.join(f'{share:g}' for share in several)} fall on the same step ({step} of {steps}) and give "
        "one point of the curve"
        for step, several in steps_at(shares, steps).items()
        if len(several) > 1
    ]


def checkpoints(models: Mapping[Cell, tuple[Weights, Trained]]) -> dict[Cell, Weights]:
    """The checkpoints that trainings of a grid have left, each by its cell with the share of fine-tuning done.

    Args:
        models: Weights and training of each cell; a training without checkpoints adds nothing.
    """
    return {
        replace(cell, at=step / trained.steps): weights.on_the_way(trained, step, path)
        for cell, (weights, trained) in models.items()
        for step, path in trained.checkpoints
    }
