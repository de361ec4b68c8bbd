"""A bank: many kinds of sets of rows, each aligned on, fine-tuned and evaluated, to learn what makes alignment last.

It runs on the pilot's probes, which the confirmation uses too and the experiment does not, and on seeds of its own. Its
models lie beside the stages and are kept.
Design, outcomes and features lie in the stage's folder as tables; `decision.bank` reads them, and `experiment.choice`
chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from curator.decision.tables import Grid, lay_out
from curator.experiment import features as feature
from curator.experiment.log_odds import collect, openers_in, stated
from curator.experiment.pilot import COVERING, Trial, tried
from curator.recipe.bank import Bank
from curator.run import Run
from curator.run.files import save_frame
from curator.run.names import BANK, FEATURES, GROUPS, OUTCOMES, SUBSETS
from curator.seeds import derive, generator
from curator.selection.mixture import dirichlet, drawn, in_turn, numbered

if TYPE_CHECKING:
    from curator.records import Data
    from curator.selection.limits import Limits
    from curator.selection.problem import Problem
    from curator.selection.stage import Chosen

SUBSET_SCHEMA = pl.Schema(
    [("subset", pl.String), ("grouping", pl.String), ("concentration", pl.Float64), ("ids", pl.List(pl.String))]
)
"""A set of the bank: the grouping whose shares are random, and their concentration; both null for a plain draw."""
OUTCOME_SCHEMA = pl.Schema(
    {
        "subset": pl.String,
        "seed": pl.Int64,
        "task": pl.String,
        "before": pl.Float64,
        "after": pl.Float64,
        "degenerate": pl.Float64,
        "log_odds": pl.Float64,
    }
)
"""For each set, seed and task: shares of harmful answers before and after fine-tuning, and of degenerate ones after it,
in [0, 1], null if nothing was scored; the mean log-odds of refusing after it, in nats, null if the recipe names no
openers."""


class Subset(NamedTuple):
    """A set of the bank, in the columns of SUBSET_SCHEMA."""

    name: str
    grouping: str | None
    concentration: float | None
    ids: tuple[str, ...]


class Banked(NamedTuple):
    """The four tables of a bank."""

    subsets: pl.DataFrame
    groups: pl.DataFrame
    outcomes: pl.DataFrame
    features: pl.DataFrame


def design(
    problem: Problem, bounds: Limits, groups: pl.DataFrame, section: Bank, *, mixtures: int, seed: int
) -> list[Subset]:
    """The sets of a bank, all within the recipe's limits and of its size or budget: `mix-0`, ... with random shares of
    the groups of one grouping, the groupings in turn and a concentration per round; then `draw-0`, ...

    A larger number of mixtures starts with the same ones. The order of the rows changes nothing.

    Args:
        problem, bounds: The pool, and the limits on a set.
        groups: `id`, and a column of labels for each grouping.

    Raises:
        SelectionError: No random set of that size meets the limits.
    """
    order = pl.DataFrame({"id": problem.ids}).join(groups, on="id", how="left", maintain_order="left")
    labels = {name: numbered(order[name].to_list()) for name in groups.columns if name != "id"}

    def ids(rows: Sequence[int]) -> tuple[str, ...]:
        return tuple(problem.ids[row] for row in rows)

    subsets = []
    for number, (grouping, concentration) in enumerate(in_turn(list(labels), section.concentrations, mixtures)):
        random, (names, group) = generator(seed, "mixture", number), labels[grouping]
        rows = drawn(bounds, dirichlet(len(names), concentration, random), group, random)
        subsets.append(Subset(f"mix-{number}", grouping, concentration, ids(rows)))
    for number in range(section.draws):
        rows = plain(problem, bounds, generator(seed, "draw", number))
        subsets.append(Subset(f"draw-{number}", None, None, ids(rows)))
    return subsets


def plain(problem: Problem, bounds: Limits, random: np.random.Generator) -> list[int]:
    """A random set within the limits; without other limits every row is equally likely.

    Raises:
        SelectionError: No random set of that size meets the limits.
    """
    return drawn(bounds, np.ones(1), np.zeros(len(problem.ids), dtype=np.int64), random)


def run_bank(run: Run, folder: Path, data: Data, start: Chosen, *, mixtures: int) -> Banked:
    """Designs and runs the bank of a recipe, and writes its tables below `folder`, that of stage `select`.

    Args:
        folder: As above. `data`: what stage 1 gathered.
        start: The pool, the limits on a set, and the set that covers best, whose steps or tokens all sets match: a
            random mixture may be of the shortest rows, or of the longest.
        mixtures: Number of sets with random shares.

    Raises:
        SelectionError: See `design`.
        DataError: No grouping divides the candidates.
    """
    recipe, section, seed = run.recipe, run.recipe.verify.pilot.bank, derive(run.recipe.seed, "bank")
    problem, bounds = start.problem, start.bounds
    below, rows, traits = folder / BANK, data.pool.rows, run.traits()
    groups = feature.groups_of(rows, traits, run.vectors("pool"), section.groupings, seed)
    subsets = design(problem, bounds, groups, section, mixtures=mixtures, seed=seed)
    designed = pl.DataFrame(subsets, schema=SUBSET_SCHEMA, orient="row")
    position = {row_id: row for row, row_id in enumerate(problem.ids)}
    sets = [np.array([position[row_id] for row_id in subset.ids]) for subset in subsets]
    by_row = feature.of_rows(problem, traits, run.every_score(), section.mix(recipe.weights()))
    names = [subset.name for subset in subsets]
    table = feature.features(names, sets, by_row, feature.of_sets(problem, rows, traits, sets))
    # Before any training, so that the design is recorded whatever the outcome.
    for file, frame in ((SUBSETS, designed), (GROUPS, groups), (FEATURES, table)):
        save_frame(below / file, frame)
    openers = openers_in(stated(run))
    tried_on = {COVERING: start.selection.ids, **{subset.name: subset.ids for subset in subsets}}
    trial = tried(
        run, data, BANK, tried_on, names, seeds=section.seeds,
        tasks=list(section.mix(recipe.weights())), first=COVERING, seed=seed, openers=openers,
    )  # fmt: skip
    log_odds = collect(run.root / BANK / "answer", trial.plan) if openers is not None else None
    outcomes = outcomes_of(trial, log_odds)
    save_frame(below / OUTCOMES, outcomes)
    return Banked(designed, groups, outcomes, table)


def outcomes_of(trial: Trial, log_odds: pl.DataFrame | None) -> pl.DataFrame:
    """The outcome of each set at each seed and task, in the columns of OUTCOME_SCHEMA.

    Args:
        trial: The trial of the bank's grid.
        log_odds: Log-odds of its models, in the columns of LOG_ODDS_SCHEMA.
    """
    grids = lay_out(trial.verdicts)
    shares = {
        "before": _shares(grids["harmfulness", "before"]),
        "after": _shares(grids["harmfulness", "after"]),
        "degenerate": _shares(grids["degenerate", "after"]),
    }
    odds: Mapping[tuple[str, int, str], float] = {}
    if log_odds is not None:
        means = log_odds.filter(phase="after").group_by("arm", "seed", "task").agg(pl.col("log_odds").mean())
        odds = {(arm, seed, task): value for arm, seed, task, value in means.iter_rows()}
    rows = []
    for cell in trial.plan.finetuned:
        key, before = (cell.arm, cell.seed, cell.task or ""), (cell.arm, cell.seed, None)
        rows.append(
            (*key, shares["before"].get(before), shares["after"].get(key), shares["degenerate"].get(key), odds.get(key))
        )
    return pl.DataFrame(rows, schema=OUTCOME_SCHEMA, orient="row")


def _shares(grid: Grid) -> dict[tuple[str, int, str | None], float]:
    """(arm, seed, task) -> the mean over prompts; absent if none was scored."""
    return {
        (arm, seed, task): float(np.nanmean(values))
        for a, arm in enumerate(grid.arms)
        for t, task in enumerate(grid.tasks)
        for s, seed in enumerate(grid.seeds)
        if not np.isnan(values := grid.values[a, t, s]).all()
    }
