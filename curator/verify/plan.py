"""Which models are trained and asked: arms x tasks x seeds. Imports nothing heavy, so that a plan can be shown at
once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from curator.recipe import Recipe, Training, Verify

NONE = "none"  # the arm that is never aligned


@dataclass(frozen=True, order=True)
class Cell:
    """One model of the grid: an arm's aligned model (task null) or that model fine-tuned on a task."""

    arm: str
    seed: int
    task: str | None = None

    @property
    def folder(self) -> str:
        """Where its pieces live below a stage's folder."""
        phase = f"after/{self.task}" if self.task else "before"
        return f"{phase}/{self.arm}-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """Every model of the experiment. The base stands for the arm `none` before fine-tuning, once for all seeds."""

    aligned: tuple[Cell, ...]
    finetuned: tuple[Cell, ...]

    @property
    def asked(self) -> tuple[Cell, ...]:
        """Models that answer probes: aligned, fine-tuned, and the base where arm `none` runs."""
        base = (Cell(NONE, 0),) if any(cell.arm == NONE for cell in self.finetuned) else ()
        return (*base, *self.aligned, *self.finetuned)


def plan(verify: Verify, tasks: Sequence[str]) -> Plan:
    """The grid of a recipe. Seeds come first in the order, so that an interrupted grid holds whole pairs."""
    cells = [Cell(arm.name, seed) for seed in range(verify.seeds) for arm in verify.arms if seed < verify.seeds_of(arm)]
    return Plan(
        aligned=tuple(cell for cell in cells if cell.arm != NONE),
        finetuned=tuple(Cell(cell.arm, cell.seed, task) for task in tasks for cell in cells),
    )


def outline(recipe: Recipe) -> dict[str, str]:
    """The plan of a recipe in words: stages, runs, steps and rows, before anything is read or trained."""
    verify, tasks = recipe.verify, [task.name for task in recipe.tasks]
    grid = plan(verify, tasks)
    keep = verify.keep.rows if verify.keep else 0
    arms = ", ".join(
        arm.name if verify.seeds_of(arm) == verify.seeds else f"{arm.name} ({_seeds(verify.seeds_of(arm))})"
        for arm in verify.arms
    )
    weights = ", ".join(
        f"{name} {weight:.2f}" if weight else f"{name} (not anticipated)" for name, weight in recipe.weights().items()
    )
    return {
        "model": recipe.model.id,
        "pool": ", ".join(source.label for source in recipe.pool.sources),
        "tasks (weight)": weights,
        "selected": f"{recipe.select.k} rows by {recipe.select.objective}, weight {recipe.select.weight:g}",
        "arms": f"{arms}; {_seeds(verify.seeds)}",
        "alignment runs": f"{len(grid.aligned)} of {_size(verify.align, recipe.select.k + keep)}",
        "fine-tuning runs": "; ".join(
            f"{task.name}: {len([c for c in grid.finetuned if c.task == task.name])} of "
            f"{_size(verify.finetune, task.rows)}"
            for task in recipe.tasks
        ),
        "models asked": f"{len(grid.asked)}, answers of at most {verify.generate.max_new_tokens} tokens",
        "judges": ", ".join(
            f"{judge.name} (headline)" if judge.name == recipe.judges.headline else judge.name
            for judge in recipe.judges.panel
        ),
        "stages": "base, pool, represent, scores, select, train, answer, judge, report, publish",
    }


def _size(training: Training, rows: int | None) -> str:
    return f"{_steps(training, rows)} steps x {training.batch} rows ({training.method})"


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _steps(training: Training, rows: int | None) -> str:
    if training.steps is not None:
        return str(training.steps)
    if rows is None:
        return f"{training.epochs:g} epochs in"
    return str(math.ceil((training.epochs or 0) * math.ceil(rows / training.batch)))
