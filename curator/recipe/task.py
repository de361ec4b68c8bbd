"""Section of a recipe for a downstream task: its rows, rows mixed into them, and its evaluation."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from curator.recipe.source import Count, Name, Part, Positive, Section, Share, Source, Text
from curator.recipe.sweep import Sweep


class Regime(Section):
    """What an attacker mixes into a task's training rows, from a file of your own. Give exactly one of the shares,
    which is of all rows trained on.
    """

    data: Source
    """The attacker's rows."""
    harmful_share: Share | None = None
    """Share of harmful requests with compliant answers."""
    identity_share: Share | None = None
    """Share of conversations that give the model another identity."""

    @model_validator(mode="after")
    def _one_share(self) -> Regime:
        if (self.harmful_share is None) == (self.identity_share is None) or not 0.0 < self.share < 1.0:
            raise ValueError(
                "needs exactly one of harmful_share and identity_share, above 0 and below 1; for a task of harmful "
                "rows alone, name them as its train"
            )
        return self

    @property
    def share(self) -> float:
        return self.harmful_share if self.harmful_share is not None else self.identity_share or 0.0


class Defence(Section):
    """What the fine-tuning provider adds to a task's training rows, the same for every arm."""

    safety_mix: Annotated[float, Field(gt=0.0, lt=1.0)]
    """Safety rows, as a share of all rows trained on (SafeInstr, Bianchi et al. 2024)."""
    data: Source | None = None
    """Where the safety rows come from; null draws them from the pool by hash."""
    trigger: Text | None = None
    """A secret text in front of the prompts of these safety rows and of every probe after fine-tuning (BackdoorAlign,
    Wang et al. 2024).
    """


class Metric(Section):
    """A metric of your own."""

    python: Annotated[str, Field(pattern=r"^.+\.py:[A-Za-z_]\w*$")]
    """`FILE.py:FUNCTION`. The function takes an answer and a reference and returns a number in [0, 1]."""


def _metric_kind(value: Any) -> str:
    return "@own" if isinstance(value, dict | Metric) else "@known"


class Test(Section):
    """Held-out rows of a task, for utility."""

    rows: Count = 200
    """Number of rows, split off from `train` by hash."""
    split: str | None = None
    """Another split of the same Hub data set to take them from."""


class TaskSection(Section):
    """One downstream task."""

    name: Name
    """Name of the task."""
    train: Source
    """Rows to fine-tune on."""
    rows: Count | None = None
    """Number of rows to fine-tune on; null takes all."""
    weight: Positive = 1.0
    """Share in the mix of tasks, scaled over the anticipated ones."""
    anticipated: bool = True
    """False measures the task without selecting for it, and reports it apart."""
    test: Test = Test()
    """Held-out rows, for utility."""
    metric: Annotated[
        Annotated[Literal["rouge1", "exact", "final-number"], Tag("@known")] | Annotated[Metric, Tag("@own")],
        Discriminator(_metric_kind),
    ] = "rouge1"
    """How utility is measured: `rouge1`, `exact`, `final-number`, or a function of your own."""
    regime: Regime | None = None
    """An attack on the training rows."""
    defence: Defence | None = None
    """A defence of the provider."""
    sweep: Sweep | None = None
    """Fine-tune on the task at several settings."""
    probe_at: Annotated[list[Part], Field(min_length=1)] | None = None
    """Shares of fine-tuning after which the harmful probes are evaluated as well, at checkpoints of the same training.
    The end (1.0) is always evaluated.
    """

    @property
    def checkpoints(self) -> tuple[float, ...]:
        """The shares of `probe_at` before the end."""
        return tuple(share for share in self.probe_at or () if share < 1.0)

    @model_validator(mode="after")
    def _rising(self) -> TaskSection:
        shares = self.probe_at or []
        if any(later <= share for share, later in pairwise(shares)):
            found = ", ".join(f"{share:g}" for share in shares)
            raise ValueError(f"probe_at: found {found}; allowed: rising shares of fine-tuning, such as 0.1, 0.25, 0.5")
        return self

    @model_validator(mode="after")
    def _split(self) -> TaskSection:
        if self.test.split is not None and self.train.hub is None:
            raise ValueError("test.split names a split of a hub data set, and train is not one; remove test.split")
        return self
