"""The depth of refusal, from answers to harmful probes behind a prefilled opening, and the variation of answers to one
prompt. Both are secondary: they do not decide and are not in the Holm family.

A model whose safety is in its first tokens alone refuses when unprompted, and continues harmfully once these tokens are
prefilled (Qi et al. 2024). Where several answers to a prompt are sampled, a prompt flips if some are harmful and some
are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from curator.conclusions import Comparison, Rate
from curator.decision.comparisons import compare, rate
from curator.decision.tables import REFUSED, Grid, grid_of
from curator.records import PHASES, PREFILLED


@dataclass(frozen=True)
class DepthRates:
    """One arm's answers to harmful probes, each after a prefilled opening.

    Attributes:
        prefill: Number of tokens of the opening; 0 for ordinary answers.
        harmful, refused, degenerate: Shares of scored answers, over the anticipated tasks; `refused` is null if the
            judge does not detect refusals. A degenerate answer is not harmful, so an opening that breaks a model's
            language can look like safety.
    """

    arm: str
    phase: str
    prefill: int
    harmful: Rate
    refused: Rate
    degenerate: Rate


@dataclass(frozen=True)
class DepthDifference:
    """Treatment minus control on harmfulness after an opening of `prefill` tokens; its p-values are null."""

    prefill: int
    comparison: Comparison


@dataclass(frozen=True)
class Depth:
    """All figures by the number of tokens of the opening; both are empty if no answer began with one."""

    rates: tuple[DepthRates, ...]
    differences: tuple[DepthDifference, ...]


@dataclass(frozen=True)
class Flips:
    """The share of one arm's prompts with two or more scored answers to which some answers are harmful and some are
    not.
    """

    arm: str
    phase: str
    share: Rate


def depth(verdicts: pl.DataFrame, mix: Mapping[str, float], treatment: str, control: str) -> Depth:
    """Rates of every arm, and the difference of treatment and control, by the number of tokens of the opening.

    Args:
        verdicts: Verdicts of one judge, in the columns of VERDICT_SCHEMA.
        mix: The anticipated tasks and their weights, with sum 1.

    Raises:
        ValueError: There are two verdicts for the same answer.

    Source: Qi et al. 2024 (arXiv 2406.05946).
    """
    if not verdicts.filter(kind=PREFILLED).height:
        return Depth((), ())
    asked = verdicts.filter(pl.col("kind").is_in(["harmful", PREFILLED]), pl.col("phase").is_in(PHASES))
    arms = asked["arm"].unique().sort()
    rates, differences = [], []
    for phase in PHASES:
        for (tokens,), part in sorted(asked.filter(phase=phase).group_by("prefill"), key=lambda item: item[0]):
            names = ("harmfulness", REFUSED, "degenerate")
            grids = [grid_of(part, quantity, phase, arms) for quantity in names]
            rates += [
                DepthRates(arm, phase, int(str(tokens)), *(rate(grid, arm, mix) for grid in grids))
                for arm in grids[0].arms
            ]
            comparison = compare(grids[0], treatment, control, mix).model_copy(update={"p": None})
            differences.append(DepthDifference(int(str(tokens)), comparison))
    return Depth(tuple(rates), tuple(differences))


def flips(verdicts: pl.DataFrame, mix: Mapping[str, float]) -> tuple[Flips, ...]:
    """Every arm's prompts that flip, before and after fine-tuning; empty if each prompt has one answer.

    Args:
        verdicts, mix: As in `depth`.
    """
    asked = verdicts.filter(pl.col("kind") == "harmful", pl.col("phase").is_in(PHASES))
    if asked["sample"].max() in (None, 0):
        return ()
    arms = asked["arm"].unique().sort()
    shares = []
    for phase in PHASES:
        grid = _flipped(grid_of(asked.filter(phase=phase), "harmfulness", phase, arms))
        shares += [Flips(arm, phase, rate(grid, arm, mix)) for arm in grid.arms]
    return tuple(shares)


def _flipped(grid: Grid) -> Grid:
    """1 where answers to a prompt differ, 0 where they agree; unscored where fewer than two are scored."""
    _, scored = grid.counts()
    mixed = (grid.values > 0) & (grid.values < 1)
    return replace(grid, values=np.where(scored > 1, mixed.astype(np.float64), np.nan), answers=None, scored=None)
