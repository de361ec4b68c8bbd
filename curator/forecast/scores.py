"""The cost of scores that use models: trainings on halves of the pool, and passes over its rows. Interference, which
takes its steps on the base itself, is one of them.

Imports nothing heavy.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from curator.experiment.plan import Tally
from curator.experiment.plan import grid as plan_of
from curator.forecast.measured import Measured
from curator.forecast.speed import operations, seconds_for
from curator.forecast.workload import Load, source_rows, total, trainings
from curator.model.size import ModelSize
from curator.recipe import Recipe, steps_taken
from curator.recipe.halves import HALVES, alignments_of, scores_of_models
from curator.recipe.score import KINDS, Score
from curator.wording import duration, these

FORWARD = 2  # operations per parameter and token in a pass without gradients


class Extra(NamedTuple):
    """The cost in addition to the experiment.

    Attributes:
        aligned, finetuned: The trainings. `passes`: how often each row of the pool is read; a pass with gradients
            counts as three.
        seconds: Total time on this machine; null if unknown.
    """

    aligned: list[Load]
    finetuned: list[Load]
    passes: int
    seconds: float | None


def extra(recipe: Recipe, known: Measured, size: ModelSize | None) -> Extra:
    """The trainings and passes of the scores of models; empty and 0 without such scores."""
    loads = _trainings(recipe, known)
    aligned = [load for load in loads if load.cell is not None and load.cell.task is None]
    finetuned = [load for load in loads if load.cell is not None and load.cell.task is not None]
    pool = known.tallies.get("pool")
    if pool is None:
        rows = source_rows(recipe.pool.sources)
        pool = None if rows is None else Tally.at_most(rows, recipe.verify.align)
    passes = sum(_passes_of(recipe, part, pool) for part in scores_of_models(recipe))
    # Before all steps, and after each on each task. The steps themselves take a few rows.
    steps = steps_taken(recipe)
    passes += 1 + len(recipe.tasks) * len(steps) if steps else 0
    workers = recipe.engine.workers
    read = None if pool is None else round(pool.tokens) * passes
    spent = [
        seconds_for(recipe, load.tokens, speed, operations(load.section), size, at_once=workers)
        for part, speed in ((aligned, known.align), (finetuned, known.finetune))
        for load in part
    ]
    spent.append(seconds_for(recipe, read, None, FORWARD, size, at_once=workers))
    return Extra(aligned, finetuned, passes, None if None in spent else sum(each or 0.0 for each in spent))


def _trainings(recipe: Recipe, known: Measured) -> list[Load]:
    """The trainings, each on its rows of a half and the keep rows, with the steps that these need, whatever the curated
    arm has.
    """
    verify, pool, loads = recipe.verify, known.tallies.get("pool"), list[Load]()
    alike = recipe.model_copy(update={"verify": verify.model_copy(update={"exposure": "epochs"})})
    tasks = [task.name for task in recipe.tasks if task.anticipated]
    for each in alignments_of(recipe):
        names, arms = [each.arm(half) for half in HALVES], dict(known.arms)
        if each.rows is not None:
            rows = Tally.at_most(each.rows, verify.align) if pool is None else pool.sample(each.rows)
            arms |= {(name, 0): rows for name in names}
        plan = plan_of(dict.fromkeys(names, each.seeds), tasks if each.tuned else (), stage=verify.stage)
        loads += trainings(alike, plan, replace(known, arms=arms))
    return loads


def _passes_of(recipe: Recipe, part: Score, pool: Tally | None) -> int:
    """How often each row of the pool is read."""
    tasks = [task for task in recipe.tasks if task.anticipated]
    by_kind = {
        "own-distribution": 1,
        "depth": 2,
        "forgetting": 1 + sum(1 + len(task.checkpoints) for task in tasks),
        "geometry": 3,
        # For each task two forward epochs, which count as three passes each, and backward with second derivatives.
        "metagradient": 15 * len(tasks) * _epochs(recipe, pool),
    }
    return by_kind[part.kind] * (part.seeds if KINDS[part.kind].aligns else 1)


def _epochs(recipe: Recipe, pool: Tally | None) -> int:
    """Whole epochs of an alignment on the pool and the keep rows; one if the number of rows is unknown."""
    verify = recipe.verify
    if pool is None:
        return 1
    rows = pool.rows + (verify.keep.rows if verify.keep else 0)
    return math.ceil(verify.align.steps_over(rows) / math.ceil(rows / verify.align.batch))


def in_words(recipe: Recipe, root: Path, known: Measured, size: ModelSize | None) -> dict[str, str]:
    """The line of a plan, by its name; empty if the recipe has no such score."""
    wanted = list(dict.fromkeys(part.kind for part in (*scores_of_models(recipe), *steps_taken(recipe))))
    if not wanted:
        return {}
    more = extra(recipe, known, size)
    trained = [
        f"{what} {these(len(loads), 'run', 'runs')}, {_tokens(loads)}"
        for what, loads in (("alignment", more.aligned), ("fine-tuning", more.finetuned))
        if loads
    ]
    all_counted = all(load.counted for load in (*more.aligned, *more.finetuned))
    counted = f"counted in {root}" if all_counted else "estimated" if known.estimated else "at most"
    time = "unknown" if more.seconds is None else f"about {duration(more.seconds)}"
    parts = [*trained, f"{these(more.passes, 'pass', 'passes')} over the pool", f"time {time}"]
    tokens = f" (tokens {counted})" if trained else ""
    return {"scores of models": f"{', '.join(wanted)}; in addition to the figures above: {'; '.join(parts)}{tokens}"}


def _tokens(loads: list[Load]) -> str:
    tokens = total(load.tokens for load in loads)
    return "tokens known when rows are read" if tokens is None else these(tokens, "token", "tokens")
