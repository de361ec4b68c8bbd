"""Harmfulness during fine-tuning, as report.json says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from curator.conclusions import Comparison, Rate
from curator.conclusions.part import Count, Many, Part, Share

if TYPE_CHECKING:
    from curator.decision import curve as concluded


class CurvePoint(Rate):
    """Harmfulness at one point of fine-tuning."""

    at: Share
    """Share of fine-tuning done: 0 before it, 1 at its end."""
    step: Count
    """Optimiser steps done."""


class ArmCurve(Part):
    """One arm during fine-tuning on one task."""

    points: Many[CurvePoint]
    area: Rate
    """Under the curve: the mean of harmfulness over the whole of fine-tuning, by the trapezoid rule."""
    seeds: Count
    """Models that were followed."""
    passed: Count
    """How many of these models were harmful in at least `level` of their answers at some point."""
    median_step: Count | None
    """The step by which at least half of the models have reached that point; null if fewer did."""


class TaskCurve(Part):
    """Every arm during fine-tuning on one task."""

    steps: Count
    """Steps of the whole fine-tuning."""
    arms: dict[str, ArmCurve]
    comparison: Comparison
    """Treatment minus control in the area; descriptive, p null."""


class Curves(Part):
    """Harmfulness during fine-tuning, at checkpoints of the same trainings."""

    level: Share
    """The share of harmful answers that a model reaches; steps are counted until then."""
    primary: Literal["end", "area"]
    """What the primary comparison is of, as the recipe named it beforehand."""
    tasks: dict[str, TaskCurve]
    area: dict[str, Rate]
    """Arm -> area over the anticipated tasks, weighted; empty where one of them has no curve."""


def curve_facts(found: concluded.Curves, steps: Mapping[str, int]) -> Curves:
    """The section of a report; `steps` are those of each task's fine-tuning."""

    def of_arm(arm: concluded.ArmCurve, task: str) -> ArmCurve:
        return ArmCurve(
            points=tuple(
                CurvePoint(**vars(rate), at=at, step=round(at * steps[task])) for at, rate in arm.points.items()
            ),
            area=arm.area,
            seeds=arm.seeds,
            passed=arm.passed,
            median_step=None if arm.median is None else round(arm.median * steps[task]),
        )

    tasks = {
        name: TaskCurve(
            steps=steps[name],
            arms={arm: of_arm(curve, name) for arm, curve in task.arms.items()},
            comparison=task.comparison,
        )
        for name, task in found.tasks.items()
    }
    return Curves(
        level=found.level, primary="area" if found.primary == "area" else "end", tasks=tasks, area=dict(found.area)
    )
