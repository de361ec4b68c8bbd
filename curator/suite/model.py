"""suite.json: how every run of a suite stands, what the finished ones found, and all comparisons as one family."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from curator.report.part import (
    AtLeastZero,
    BeforeAfter,
    Comparison,
    Count,
    Many,
    Number,
    Outcome,
    Part,
    ShareOrNull,
)
from curator.suite.recovered import PaperNumber

VERSION: Literal[1] = 1
Side = Literal["less harmful", "more harmful", "not distinguishable"]


class Trainings(Part):
    """Models, instruction stages among them."""

    made: Count
    """Trained."""
    shared: Count
    """Taken from another run of the suite."""


class Model(Part):
    """What was aligned and fine-tuned."""

    id: str
    """A Hub id, a folder or `sandbox:`."""
    revision: str | None
    """The commit."""


class Sets(Part):
    """An arm's sets; null for rows that are not the pool's."""

    rows: AtLeastZero
    """Of a set, mean over draws."""
    sets: Annotated[int, Field(ge=1)]
    """That differ between seeds."""
    similarity: Number
    """Mean score of its rows, larger is more similar to the task."""
    z: Number
    """The same, in standard deviations of the pool from its mean."""
    log_det: AtLeastZero | None
    """The logarithm of det(I + XX') of its unit vectors."""
    vendi: AtLeastZero | None
    """Effective number of different rows."""
    pairwise: Number
    """Mean cosine of two different rows."""


class Judged(Part):
    """One judge's verdicts."""

    decides: bool
    """Whether its verdicts decide."""
    rates: dict[str, BeforeAfter]
    """Arm -> harmfulness."""


class RunDecision(Part):
    """What the run decided of ours against its control."""

    outcome: Outcome
    reason: str | None
    """Why not distinguishable."""
    difference: Number
    """Of its primary comparison."""
    low: Number
    high: Number


class Found(Part):
    """What a run found."""

    model: Model
    tasks: dict[str, float]
    """Task -> weight."""
    pool: Count
    """Candidates kept."""
    score: str
    """What similarity is."""
    arms: dict[str, Sets]
    """Arm -> its sets; none for the arm that is not aligned."""
    shared: Count | None
    """Rows in both the high and the low set."""
    judges: dict[str, Judged]
    utility: dict[str, BeforeAfter]
    """Arm -> the task's metric on held-out rows."""
    decision: RunDecision
    warning: str | None
    """Why no arm could win."""
    trainings: Trainings


class Run(Part):
    """One run."""

    name: str
    """Of its folder."""
    source: str
    """Recipe file without its ending."""
    k: int | None
    """Rows of a set; null: the recipe was not expanded."""
    task: str | None
    """Null: the recipe was not expanded."""
    status: Literal["done", "failed", "waiting"]
    """Waiting: not finished yet."""
    reason: str | None
    """Why it failed."""
    bug: bool
    """Whether the mistake is curator's."""
    found: Found | None
    """Null until it is done."""
    paper: dict[str, PaperNumber | None]
    """Arm -> the paper's number; null: nothing is known of this cell."""

    @property
    def result(self) -> Found:
        """What a run that is done has found."""
        assert self.found is not None
        return self.found


class Contrast(Comparison):
    """One arm against another after fine-tuning, over paired seeds; the interval is not adjusted."""

    variant: str
    """The run."""
    judge: str
    """Whose verdicts."""
    decides: bool
    """Whether they decide in the run."""
    p_holm: ShareOrNull
    """Adjusted by Holm over all comparisons of this pair of arms in the suite, those of judges that do not decide
    apart.
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
    """What it would say by itself, of the treatment."""
    outcome: Side
    """What it says as one of many: the adjusted p is below 0.05 too."""
    reason: str | None
    """Why it says nothing: interval, floor, ceiling, unscored, too few seeds, or not clear among so many."""


class Paper(Part):
    """The paper that the suite is set beside."""

    source: str
    """Where its numbers are from."""
    caution: str
    """What to remember when reading them."""


class Timing(Part):
    """All that may differ between equal suites."""

    seconds: dict[str, AtLeastZero]
    """Run -> seconds of its stages, wherever they were run."""


class Suite(Part):
    """Everything a suite found.

    Shares are in [0, 1], differences in [-1, 1], times in seconds. What is not known is null, never 0. Within one
    version keys may be added, and none changes its meaning or goes. Two suites of equal recipes on one machine differ
    in `timing` alone.
    """

    version: Literal[1]
    """Of this format."""
    name: str
    """The folder of recipes."""
    runs: Many[Run]
    """In order of recipes, sizes and tasks."""
    contrasts: Many[Contrast]
    """Every comparison of finished runs, each pair of arms one Holm family."""
    trainings: Trainings
    paper: Paper | None
    """Null without one."""
    timing: Timing
