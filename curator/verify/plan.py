"""Which models are trained and asked: arms x tasks x seeds. Imports nothing heavy, so that a plan can be shown at
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curator.recipe_verify import Verify

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


def plan(verify: Verify, tasks: Sequence[str], *, seeds: int | None = None) -> Plan:
    """The grid of a recipe, or of its first `seeds` seeds. Seeds come first in the order, so that an interrupted grid
    holds whole pairs.
    """
    most = verify.most_seeds if seeds is None else min(seeds, verify.most_seeds)
    cells = [Cell(arm.name, seed) for seed in range(most) for arm in verify.arms if seed < verify.seeds_of(arm)]
    return Plan(
        aligned=tuple(cell for cell in cells if cell.arm != NONE),
        finetuned=tuple(Cell(cell.arm, cell.seed, task) for task in tasks for cell in cells),
    )
