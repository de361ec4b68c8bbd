"""How much a training reads: rows, tokens and steps. The grid and the estimate count by the same functions.

Imports nothing heavy, so that an estimate can be shown at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curator.recipe import TaskSection
from curator.recipe.source import rows_added
from curator.recipe.verify import Training, Verify

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Tally:
    """Rows to train on.

    Attributes:
        rows: All of them.
        kept: Those of at most `max_tokens` tokens; the others are left out of training.
        tokens: Tokens of the kept rows.
        counted: Whether they were counted. Otherwise each row is taken to have `max_tokens` tokens, the most allowed.
    """

    rows: int
    kept: int
    tokens: float
    counted: bool = True

    @classmethod
    def of(cls, tokens: pl.Series, section: Training) -> Tally:
        """Rows of so many tokens each."""
        kept = tokens.filter(tokens <= section.max_tokens)
        return cls(tokens.len(), kept.len(), float(kept.sum()))

    @classmethod
    def at_most(cls, rows: int, section: Training) -> Tally:
        """Rows whose tokens nobody has counted yet."""
        return cls(rows, rows, rows * section.max_tokens, counted=False)

    @property
    def mean(self) -> float:
        """Mean tokens of a kept row; 1 where no row is kept."""
        return self.tokens / self.kept if self.kept else 1.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.rows + other.rows, self.kept + other.kept, self.tokens + other.tokens, self.counted and other.counted
        )

    def sample(self, rows: int) -> Tally:
        """What `rows` rows like these have, on average."""
        kept = round(rows * self.kept / self.rows) if self.rows else 0
        return Tally(rows, kept, kept * self.mean, self.counted)


def steps_by_exposure(section: Training, exposure: str, rows: Tally, reference: Tally) -> int:
    """Optimiser steps of an arm's alignment.

    Args:
        section: How arms are aligned.
        exposure: By `steps`, every arm takes the steps of the curated one. By `tokens`, an arm takes as many as show it
            the tokens of the curated one, to half a step. By `epochs`, it takes those that its own rows make.
        rows: The arm's rows and the keep rows; tokens matter to exposure by `tokens` alone.
        reference: The same of the curated arm.
    """
    if exposure == "epochs":
        return section.steps_over(rows.rows)
    steps = section.steps_over(reference.rows)
    return max(1, round(steps * reference.mean / rows.mean)) if exposure == "tokens" else steps


def rehearsed_rows(rows: int, share: float) -> int:
    """How many rows of an arm are added to `rows` rows of a task so that they are `share` of all, at least 1."""
    return max(1, rows_added(rows, share))


def trained_on(task: TaskSection, verify: Verify) -> int | None:
    """Rows of one fine-tuning, what defends and what is rehearsed among them; null where all of a source are taken."""
    if task.rows is None:
        return None
    rows = task.rows + (rows_added(task.rows, task.defence.safety_mix) if task.defence else 0)
    return rows + (rehearsed_rows(rows, verify.rehearsal_share) if verify.stage == "rehearsal" else 0)
