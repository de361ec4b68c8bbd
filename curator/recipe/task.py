"""What a recipe says of one downstream task: its rows, what is mixed into them, and how it is evaluated."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from curator.recipe.source import Count, Name, Section, Share, Source
from curator.recipe.sweep import Sweep


class Regime(Section):
    """What is mixed into a task's training rows, from the user's own file: exactly one share, of the rows trained on.

    `harmful_share`: harmful requests with compliant answers. `identity_share`: conversations that give the model
    another identity.
    """

    data: Source
    harmful_share: Share | None = None
    identity_share: Share | None = None

    @model_validator(mode="after")
    def _one_share(self) -> Regime:
        if (self.harmful_share is None) == (self.identity_share is None) or not 0.0 < self.share < 1.0:
            raise ValueError(
                "needs exactly one of harmful_share and identity_share, more than 0 and less than 1; rows that are all "
                "harmful are a task of their own, whose train names them"
            )
        return self

    @property
    def share(self) -> float:
        return self.harmful_share if self.harmful_share is not None else self.identity_share or 0.0


class Defence(Section):
    """What the fine-tuning provider adds to a task's training rows, the same for every arm.

    `safety_mix`: safety rows, as a share of the rows trained on (SafeInstr, Bianchi et al. 2024), from `data` or, when
    absent, drawn by hash from the pool. `trigger`: a secret text put in front of these safety rows' prompts, and of
    every probe after fine-tuning (BackdoorAlign, Wang et al. 2024).
    """

    safety_mix: Annotated[float, Field(gt=0.0, lt=1.0)]
    data: Source | None = None
    trigger: Annotated[str, Field(min_length=1)] | None = None


class Metric(Section):
    """A metric of the user's own: `python: file.py:function`, which takes answer and reference and gives [0, 1]."""

    python: Annotated[str, Field(pattern=r"^.+\.py:[A-Za-z_]\w*$")]


def _metric_kind(value: Any) -> str:
    return "@own" if isinstance(value, dict | Metric) else "@known"


class Test(Section):
    """Held-out rows of a task: split off by hash from the train source, or another `split` of the same data set."""

    rows: Count = 200
    split: str | None = None


class TaskSection(Section):
    """One downstream task. `rows` are fine-tuned on; `anticipated: false` gives it weight 0 and shows it apart; `sweep`
    fine-tunes on it at several settings.

    `probe_at` are shares of its fine-tuning after which harmful probes are evaluated as well, at checkpoints of the
    same training; the end (1.0) is always among them.
    """

    name: Name
    train: Source
    rows: Count | None = None
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    anticipated: bool = True
    test: Test = Test()
    metric: Annotated[
        Annotated[Literal["rouge1", "exact", "final-number"], Tag("@known")] | Annotated[Metric, Tag("@own")],
        Discriminator(_metric_kind),
    ] = "rouge1"
    regime: Regime | None = None
    defence: Defence | None = None
    sweep: Sweep | None = None
    probe_at: Annotated[list[Annotated[float, Field(gt=0.0, le=1.0)]], Field(min_length=1)] | None = None

    @property
    def checkpoints(self) -> tuple[float, ...]:
        """The shares of `probe_at` before the end."""
        return tuple(share for share in self.probe_at or () if share < 1.0)

    @model_validator(mode="after")
    def _rising(self) -> TaskSection:
        shares = self.probe_at or []
        if any(later <= share for share, later in pairwise(shares)):
            found = ", ".join(f"{share:g}" for share in shares)
            raise ValueError(f"probe_at is {found}; allowed: shares of fine-tuning that rise, such as 0.1, 0.25, 0.5")
        return self

    @model_validator(mode="after")
    def _split(self) -> TaskSection:
        if self.test.split is not None and self.train.hub is None:
            raise ValueError("test.split names a split of a hub data set, and train is none; remove test.split")
        return self
