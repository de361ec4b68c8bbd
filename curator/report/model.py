"""report.json: everything a run found. The type is the schema; whoever reads a report gets one from `read_report`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from curator.report.conclusion import (
    Decision,
    Forgetting,
    Gate,
    JudgeError,
    Judges,
    Phases,
    Prediction,
    ProbeCategory,
    Regime,
    RoleComparison,
    Sequential,
    WithinSeed,
)
from curator.report.material import (
    Category,
    Design,
    Model,
    Overlap,
    Pilot,
    Pool,
    Provenance,
    Represent,
    Score,
    Selection,
    Similarity,
    Stability,
    Task,
    Timing,
    Training,
)
from curator.report.part import Many, Part, unreadable
from curator.run.folder import read_json

VERSION: Literal[2] = 2
ADDED = {"stability": (), "pilot": None}
"""Keys that version 1 did not have from the beginning, and what their absence meant."""


class Report(Part):
    """Everything a run found.

    Shares are in [0, 1], differences in [-1, 1], losses in nats per completion token, times in seconds. What is not
    known is null, never 0. Within one version keys may be added, and none changes its meaning or goes. Two builds of
    one recipe on one machine differ in `timing` alone.
    """

    version: Literal[1, 2]
    """Of this format. In version 1 over-refusal did not count degenerate answers to benign probes."""
    name: str
    """The recipe's name."""
    model: Model
    regime: Regime
    gates: Many[Gate]
    """What durability may cost."""
    decision: Decision
    arms: dict[str, dict[str, Phases]]
    """Every rate: arm -> task -> phase -> quantity; the task `anticipated` is the weighted mix."""
    comparisons: Many[RoleComparison]
    """All comparisons, the primary one first."""
    probe_categories: Many[ProbeCategory]
    """By category of harmful probe, descriptive."""
    within_seeds: Many[WithinSeed]
    """Seed by seed."""
    sequential: Sequential | None
    """Null for a fixed number of seeds."""
    forgetting: Many[Forgetting]
    """Empty where it was not measured."""
    score_predicts: Many[Prediction]
    """How each score goes with forgetting, the largest rho first."""
    selection: Selection
    stability: Many[Stability]
    """Sets that the same recipe chooses by another seed, layer or embedder, two by two; empty where it has one of
    each.
    """
    score: Score
    represent: Represent
    similarity: Similarity
    overlap: Many[Overlap]
    """Rows that each arm's sets share with the curated one."""
    categories: Many[Category]
    """Rows by category, largest first."""
    pool: Pool
    pilot: Pilot | None
    """Null where the recipe fixed the setting."""
    tasks: Many[Task]
    """What the models were fine-tuned on."""
    design: Design
    training: Many[Training]
    """Means over seeds."""
    judges: Judges
    judge_error: JudgeError | None = None
    """What the judge's mistakes do to the primary difference."""
    provenance: Provenance
    timing: Timing = Timing()
    warnings: Many[str]
    """What a reader must know before believing the figures."""


def read_report(path: Path) -> Report:
    """The report of a file, also of an earlier version of curator; keys that a later one added are left out.

    Raises:
        RunError: It is damaged, or no report.
    """
    contents = read_json(path)
    if isinstance(contents, dict):
        contents = ADDED | contents
    try:
        return Report.model_validate(contents, extra="ignore")
    except ValidationError as error:
        raise unreadable(path, error) from None
