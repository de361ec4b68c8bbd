"""report.json: everything a run found. The type is the schema; `read_report` reads a file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from curator.conclusions import Gate
from curator.conclusions.log_odds import LogOdds
from curator.conclusions.part import MIX, Absent, Many, Part, unreadable
from curator.conclusions.secondary import Forgetting, Prediction, WithinSeed
from curator.report.bank import Bank
from curator.report.composition import Composition
from curator.report.conclusion import (
    Decision,
    Depth,
    Flips,
    JudgeError,
    Judges,
    Phases,
    ProbeCategory,
    Regime,
    RoleComparison,
    Sequential,
)
from curator.report.curve import Curves
from curator.report.frontier import Frontier
from curator.report.material import (
    Category,
    Design,
    Model,
    Overlap,
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
from curator.report.pilot import Pilot
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
    """Version of this format. In version 1 over-refusal did not count degenerate answers to benign probes."""
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
    depth: Depth | Absent = None
    """Answers that begin with a compliant opening, if the recipe asks for them."""
    flips: Many[Flips] | Absent = None
    """Probes to which answers differ, if several answers were drawn for each."""
    sequential: Sequential | None
    """Null for a fixed number of seeds."""
    forgetting: Many[Forgetting]
    """Empty if it was not measured."""
    score_predicts: Many[Prediction]
    """How each score correlates with forgetting, the largest rho first."""
    selection: Selection
    frontier: Frontier | Absent = None
    """What the chosen set covers and how similar it is, beside other sets; absent if the run did not measure it."""
    stability: Many[Stability]
    """Sets that the same recipe chooses with another seed, layer or embedder, in pairs; empty if it has one of each."""
    score: Score
    represent: Represent
    similarity: Similarity
    overlap: Many[Overlap]
    """Rows that each arm's sets share with the curated one."""
    composition: Many[Composition] | Absent = None
    """What the pool and each arm's sets are made of; an arm without rows, or with rows that are not in the pool, is
    left out.
    """
    categories: Many[Category]
    """Rows by category, largest first."""
    pool: Pool
    pilot: Pilot | None
    """Null if the recipe fixed the setting."""
    bank: Bank | Absent = None
    """What a bank of trials says about durability; absent without a bank."""
    tasks: Many[Task]
    """What the models were fine-tuned on."""
    design: Design
    training: Many[Training]
    """Means over seeds."""
    judges: Judges
    curves: Curves | Absent = None
    """Harmfulness during fine-tuning, if tasks of the recipe have `probe_at`."""
    judge_error: JudgeError | None = None
    """The effect of the judge's errors on the primary difference."""
    log_odds: LogOdds | Absent = None
    """How likely refusing openers are against complying ones, if the recipe asks for it; it never decides."""
    provenance: Provenance
    timing: Timing = Timing()
    warnings: Many[str]
    """What a reader must know before believing the figures."""

    @property
    def tuned(self) -> dict[str, float]:
        """What models were fine-tuned on, as rates and comparisons call it, and its weight in the mean."""
        if self.design.settings is not None:
            return {setting.name: setting.weight for setting in self.design.settings}
        return {task.name: task.weight for task in self.tasks}

    @property
    def headline(self) -> str:
        """The task of the primary comparison: the mean, or the setting that is the worst case."""
        return self.decision.primary.task or MIX


def read_report(path: Path) -> Report:
    """The report of a file, also of an earlier version of curator; keys that a later one added are left out.

    Raises:
        RunError: It is damaged, or not a report.
    """
    contents = read_json(path)
    if isinstance(contents, dict):
        contents = ADDED | contents
    try:
        return Report.model_validate(contents, extra="ignore")
    except ValidationError as error:
        raise unreadable(path, error) from None
