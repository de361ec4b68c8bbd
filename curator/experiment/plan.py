"""Which models are trained and asked: arms x tasks x seeds. Imports nothing heavy, so that a plan can be shown at
once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curator.recipe.verify import Verify

PRELOAD = "curator.train.warm"  # the module that workers load before their first job
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


BASE = Cell(NONE, 0)


@dataclass(frozen=True)
class Plan:
    """Every model of the experiment.

    Attributes:
        aligned, finetuned: Models to train.
        unaligned: Cells before fine-tuning whose model is the base itself: those of the arm `none`, and of every arm
            where it is rehearsed. The base is asked once for all of them.
        rehearsal: Whether arms are mixed into fine-tuning instead of being aligned on.
    """

    aligned: tuple[Cell, ...]
    finetuned: tuple[Cell, ...]
    unaligned: tuple[Cell, ...] = ()
    rehearsal: bool = False

    @property
    def asked(self) -> tuple[Cell, ...]:
        """Models that answer probes: the base where a cell needs it, aligned, and fine-tuned ones."""
        return (*((BASE,) if self.unaligned else ()), *self.aligned, *self.finetuned)


def plan(verify: Verify, tasks: Sequence[str], *, seeds: int | None = None) -> Plan:
    """The grid of a recipe, or of its first `seeds` seeds. Seeds come first in the order, so that an interrupted grid
    holds whole pairs.
    """
    most = verify.most_seeds if seeds is None else min(seeds, verify.most_seeds)
    return grid({arm.name: min(most, verify.seeds_of(arm)) for arm in verify.arms}, tasks, stage=verify.stage)


def grid(seeds: Mapping[str, int], tasks: Sequence[str], *, stage: str) -> Plan:
    """The plan of these arms, each with so many seeds; `stage` is `upstream` or `rehearsal`."""
    most, rehearsal = max(seeds.values(), default=0), stage == "rehearsal"
    cells = [Cell(arm, seed) for seed in range(most) for arm, count in seeds.items() if seed < count]
    return Plan(
        aligned=tuple(cell for cell in cells if cell.arm != NONE and not rehearsal),
        finetuned=tuple(Cell(cell.arm, cell.seed, task) for task in tasks for cell in cells),
        unaligned=tuple(cell for cell in cells if cell.arm == NONE or rehearsal),
        rehearsal=rehearsal,
    )
