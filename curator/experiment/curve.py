"""Harmfulness during fine-tuning: the models that are evaluated there, by their cells; `recipe.training` defines the
steps. Imports nothing heavy, so that a plan can name them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from curator.errors import RecipeError
from curator.recipe.training import checkpoint_steps, steps_at
from curator.wording import these

if TYPE_CHECKING:
    from curator.experiment.design import Experiment
    from curator.experiment.plan import Cell, Plan
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


def without_curve(shares: Sequence[float], steps: int) -> str | None:
    """The words for a task whose `probe_at` leaves no checkpoint in a fine-tuning of so many steps, where the area
    under its curve is to decide; null if it leaves one.
    """
    if checkpoint_steps(shares, steps):
        return None
    given = ", ".join(f"{share:g}" for share in shares)
    return (
        f"found {given}, which all fall on the last step of a fine-tuning of {these(steps, 'step', 'steps')}, so there "
        "is no curve, and verify.curve.primary is 'area'; give smaller shares, fine-tune for more steps, or set "
        "verify.curve.primary to end"
    )


def require_curves(experiment: Experiment, plan: Plan) -> None:
    """Checks before any training that every anticipated task gets the curve whose area decides.

    Raises:
        RecipeError: All points of a task fall on the last step of its fine-tuning.
    """
    from curator.experiment.design import finetuning_steps

    lengths = {
        (cell.task or "", finetuning_steps(experiment, cell, rehearsal=plan.rehearsal)) for cell in plan.finetuned
    }
    problems = [
        f"tasks.{task}.probe_at: {sentence}"
        for task, steps in sorted(lengths)
        if task in experiment.probe_at
        and experiment.task(task).weight > 0
        and (sentence := without_curve(experiment.probe_at[task], steps)) is not None
    ]
    if problems:
        raise RecipeError(problems)


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
