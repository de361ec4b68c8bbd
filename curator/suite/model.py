"""suite.json: how every run of a suite stands, what the finished ones found, and all comparisons as one family."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from curator.conclusions import BeforeAfter, Comparison
from curator.conclusions.part import AtLeastZero, Count, Many, Number, Outcome, Part, ShareOrNull
from curator.suite.recovered import PaperNumber

VERSION: Literal[1] = 1
Side = Literal["less harmful", "more harmful", "not distinguishable"]


class Trainings(Part):
    """Models, instruction stages among them."""

    made: Count
    """Number of models that this run trained."""
    shared: Count
    """Number of models taken from another run of the suite."""


class Model(Part):
    """What was aligned and fine-tuned."""

    id: str
    """A Hub id, a folder, or `sandbox:` for the sandbox model."""
    revision: str | None
    """The commit on the Hub."""


class Sets(Part):
    """The sets of an arm. Values are null for rows that are not in the pool."""

    rows: AtLeastZero
    """Rows in a set, mean over draws."""
    sets: Annotated[int, Field(ge=1)]
    """Number of sets that differ between seeds."""
    similarity: Number
    """Mean score of the rows; a larger score is more similar to the task."""
    z: Number
    """Mean score in standard deviations of the pool from the pool's mean."""
    log_det: AtLeastZero | None
    """The logarithm of det(I + XX') of the unit vectors; a larger value is more diverse."""
    vendi: AtLeastZero | None
    """Vendi score: the effective number of different rows."""
    pairwise: Number
    """Mean cosine of two different rows; a smaller value is more diverse."""


class Judged(Part):
    """One judge's verdicts."""

    decides: bool
    """Whether this judge's verdicts decide."""
    rates: dict[str, BeforeAfter]
    """Arm -> harmfulness before and after fine-tuning."""


class RunDecision(Part):
    """What the run decided about the curated set against its control."""

    control: str | None = None
    """The control arm; null in suites of earlier versions."""
    outcome: Outcome
    reason: str | None
    """Why the outcome is 'not distinguishable', else null."""
    difference: Number
    """Difference of the primary comparison."""
    low: Number
    high: Number


class Found(Part):
    """What a run found."""

    model: Model
    tasks: dict[str, float]
    """Task -> weight."""
    pool: Count
    """Number of candidates in the pool."""
    score: str
    """Name of the score that measures similarity."""
    arms: dict[str, Sets]
    """Arm -> its sets. The arm that is not aligned has none."""
    shared: Count | None
    """Number of rows that are in both the high and the low set."""
    judges: dict[str, Judged]
    utility: dict[str, BeforeAfter]
    """Arm -> the task's metric on held-out rows."""
    decision: RunDecision
    warning: str | None
    """Why no arm could be better, else null."""
    trainings: Trainings


class Run(Part):
    """One run."""

    name: str
    """Name of the run's folder."""
    source: str
    """Name of the recipe file without its extension."""
    k: int | None
    """Rows in a set; null if the recipe was not expanded."""
    task: str | None
    """The task; null if the recipe was not expanded."""
    status: Literal["done", "failed", "waiting"]
    """`waiting` means not finished yet."""
    reason: str | None
    """Why the run failed, else null."""
    bug: bool
    """Whether the failure is a bug in curator."""
    found: Found | None
    """What the run found; null until it is done."""
    paper: dict[str, PaperNumber | None]
    """Arm -> the paper's number; null if the paper's number is not known."""

    @property
    def result(self) -> Found:
        """What a finished run has found."""
        assert self.found is not None
        return self.found


class Contrast(Comparison):
    """One arm against another after fine-tuning, over paired seeds; the interval is not adjusted."""

    variant: str
    """Name of the run."""
    judge: str
    """The judge whose verdicts are compared."""
    decides: bool
    """Whether this judge decides in the run."""
    p_holm: ShareOrNull
    """Adjusted by Holm over all comparisons of this pair of arms in the suite, those of judges that do not decide
    apart. A p-value read at a look is first multiplied by 0.05 / level.
    """
    treatment_rate: ShareOrNull
    control_rate: ShareOrNull
    method: str | None
    df: int | Number
    sd_seed: Number
    sd_prompt: Number
    sd_residual: Number
    bootstrap: Annotated[tuple[float, float], Field(strict=False)] | None
    category: str | None
    alone: Side
    """Outcome of this comparison alone."""
    outcome: Side
    """Outcome as one comparison of many, for which the adjusted p must also be below 0.05."""
    reason: str | None
    """Why the outcome is 'not distinguishable': interval, floor, ceiling, unscored, too few seeds, or not clear among
    all comparisons.
    """


class Paper(Part):
    """The paper that the suite is compared with."""

    source: str
    """Source of the paper's numbers."""
    caution: str
    """Limits of these numbers."""


class Timing(Part):
    """Everything that may differ between equal suites."""

    seconds: dict[str, AtLeastZero]
    """Run -> seconds of its stages, on any machine."""


class Suite(Part):
    """Everything a suite found.

    Shares are in [0, 1], differences in [-1, 1], times in seconds. What is not known is null, never 0. Within one
    version keys may be added, and none changes its meaning or goes. Two suites of equal recipes on one machine differ
    in `timing` alone.
    """

    version: Literal[1]
    """Version of this format."""
    name: str
    """The folder of recipes."""
    runs: Many[Run]
    """Runs in the order of recipes, sizes and tasks."""
    contrasts: Many[Contrast]
    """Every comparison of finished runs, each pair of arms one Holm family."""
    trainings: Trainings
    paper: Paper | None
    """The paper; null if the suite has none."""
    timing: Timing
