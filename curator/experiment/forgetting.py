"""Forgetting: how much fine-tuning raises the loss of each safe answer, and which score predicts it.

Letters: `s` seeds, `n` rows, `b` bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.conclusions.secondary import Forgetting, Prediction
from curator.decision.statistics import spearman
from curator.experiment.design import Experiment
from curator.experiment.grid import Progress
from curator.experiment.plan import Cell
from curator.keys.pieces import losses_key
from curator.model.load import load_config
from curator.model.losses import LOSSES
from curator.pool.roles import defended
from curator.run import Run
from curator.run.files import load_frame
from curator.run.names import POOL, ROW_LOSSES
from curator.score.passes import PassJob, run_pass
from curator.seeds import by_hash, generator
from curator.train.job import Rows, Weights, executed, texts_of

if TYPE_CHECKING:
    from curator.engine import Runner

FORGETTING_SCHEMA: dict[str, Any] = {
    "task": pl.String,
    "seed": pl.Int64,
    "id": pl.String,
    "loss": pl.String,
    "before": pl.Float64,
    "after": pl.Float64,
}

LEAST_ROWS = 10
"""Fewest left-out rows for a rank correlation."""

DRAWS = 1000  # bootstrap resamples

Column = NDArray[np.float64]


def take_losses(
    run: Run, folder: Path, experiment: Experiment, weights: Mapping[Cell, Weights], execute: Runner
) -> pl.DataFrame:
    """Losses of left-out pool rows, in the columns of FORGETTING_SCHEMA, for a recipe with this measurement."""
    recipe, start = run.recipe, run.record("base")
    section, arm = recipe.verify.forgetting, recipe.verify.control
    assert section is not None
    tasks = [name for name, weight in recipe.weights().items() if weight > 0]
    seeds = [seed for seed in range(section.seeds) if all(Cell(arm, seed, task) in weights for task in (None, *tasks))]
    shape = load_config(start["tokenizer"], revision=start["revision"]).get_text_config()
    ids = left_out(
        experiment.data.pool.rows,
        [
            experiment.arms["curated", 0],
            *(experiment.arms[arm, seed] for seed in seeds),
            *(defended(experiment.data.pool.rows, task.defence, task.trigger) for task in experiment.data.tasks),
        ],
        rows=section.rows,
        longest=getattr(shape, "max_position_embeddings", None) or 2**31,
        seed=recipe.seed,
    )
    return forget(
        experiment, weights, folder, ids=ids, arm=arm, seeds=seeds, tasks=tasks,
        batch_tokens=recipe.representations[0].batch_tokens, execute=execute, progress=run.progress_of("answer"),
    )  # fmt: skip


def left_out(
    pool: pl.DataFrame, sets: Iterable[Iterable[str]], *, rows: int, longest: int, seed: int
) -> tuple[str, ...]:
    """At most `rows` ids, by hash and sorted, of pool rows in none of the sets and of at most `longest` tokens."""
    used = {row_id for ids in sets for row_id in ids}
    short = pool.filter(pl.col("tokens") <= longest)["id"]
    unused = (row_id for row_id in short if row_id not in used)
    return tuple(sorted(by_hash(unused, rows, seed=seed, purpose="forgetting")))


def forget(
    experiment: Experiment,
    weights: Mapping[Cell, Weights],
    stage: Path,
    *,
    ids: Sequence[str],
    arm: str,
    seeds: Sequence[int],
    tasks: Sequence[str],
    batch_tokens: int,
    execute: Runner,
    progress: Progress,
) -> pl.DataFrame:
    """Losses of the rows before and after fine-tuning an arm's models on each task, in the columns of
    FORGETTING_SCHEMA, sorted.

    Args:
        weights: Weights of at least the arm's aligned and fine-tuned models.
        ids: Pool rows on which none of these models was aligned.
        batch_tokens: Most tokens in a batch, including padding.
    """
    rows = Rows(str(experiment.data_folder / POOL), tuple(ids))
    texts = texts_of(rows)
    cells = [Cell(arm, seed, task) for seed in seeds for task in (None, *tasks)]
    jobs = {
        cell: PassJob(
            root=experiment.root,
            folder=str((stage / "forgetting" / cell.folder).relative_to(experiment.root)),
            key=losses_key(weights[cell].key, experiment.chat_template, texts, batch_tokens),
            weights=weights[cell],
            chat_template=experiment.chat_template,
            tokenizer=experiment.tokenizer,
            tokenizer_revision=experiment.tokenizer_revision,
            rows=rows,
            batch_tokens=batch_tokens,
        )
        for cell in cells
    }
    progress(0, len(jobs))
    for done, _ in enumerate(executed(run_pass, list(jobs.values()), execute, mix=experiment.mix), start=1):
        progress(done, len(jobs))
    losses = {cell: load_frame(experiment.root / job.folder / ROW_LOSSES) for cell, job in jobs.items()}
    parts = [
        pl.DataFrame(
            {
                "task": cell.task,
                "seed": cell.seed,
                "id": after["id"],
                "loss": loss,
                "before": losses[Cell(arm, cell.seed)][loss],
                "after": after[loss],
            },
            schema=FORGETTING_SCHEMA,
        )
        for cell, after in losses.items()
        if cell.task is not None
        for loss in LOSSES
    ]
    return pl.concat([pl.DataFrame(schema=FORGETTING_SCHEMA), *parts]).sort("task", "seed", "loss", "id")


def predicted(run: Run) -> tuple[list[Forgetting], list[Prediction]]:
    """Forgetting, and its correlation with every score; both empty if the recipe does not measure it."""
    if run.recipe.verify.forgetting is None:
        return [], []
    losses = run.forgetting()
    return forgotten(losses), predictions(losses, run.every_score(), seed=run.recipe.seed)


def forgotten(losses: pl.DataFrame) -> list[Forgetting]:
    """Forgetting by task and loss, from the columns of FORGETTING_SCHEMA; empty without rows."""
    by_kind = []
    for task, loss in _kinds(losses):
        rows = losses.filter(task=task, loss=loss)
        _, rises = rises_of(rows)
        pairs = [spearman(first[None], second[None])[0] for first, second in combinations(rises, 2)]
        known = [float(rho) for rho in pairs if np.isfinite(rho)]
        mean = rises.mean(axis=0)
        by_kind.append(
            Forgetting(
                task=task,
                loss=loss,
                rows=rises.shape[1],
                seeds=rises.shape[0],
                before=float(np.mean(rows["before"].to_numpy())),
                mean=float(mean.mean()),
                sd=float(mean.std(ddof=1)) if len(mean) > 1 else 0.0,
                agreement=fmean(known) if known else None,
            )
        )
    return by_kind


def predictions(losses: pl.DataFrame, scores: pl.DataFrame, *, seed: int, draws: int = DRAWS) -> list[Prediction]:
    """Spearman's rho of forgetting with every score, by falling absolute value.

    The interval resamples rows and seeds independently of each other, with the same draws for every score. It applies
    to these rows and this pool's sets. With few seeds it understates the variance of seeds and is biased towards zero,
    since a resample holds fewer distinct seeds and its mean is noisier.

    Args:
        losses: In the columns of FORGETTING_SCHEMA.
        scores: `id`, and a column `<score>:<task>` for every score on every task; other rows are ignored.
        seed: The recipe's seed.
        draws: Number of bootstrap resamples.

    Returns:
        One entry per task, loss and score; none for a task and loss with fewer than LEAST_ROWS rows.
    """
    by_score = []
    for task, loss in _kinds(losses):
        ids, rises = rises_of(losses.filter(task=task, loss=loss))
        seeds, rows = rises.shape
        if rows < LEAST_ROWS:
            continue
        # Seeded by the task alone: all scores and losses are compared on the same draws.
        random = generator(seed, "forgetting", "bootstrap", task)
        # Drawing seeds with replacement is equivalent to weighting each by its number of draws.
        shares = random.multinomial(seeds, [1 / seeds] * seeds, size=draws) / seeds  # (b, s)
        picks = random.integers(0, rows, size=(draws, rows))  # (b, n)
        resampled = np.take_along_axis(shares @ rises, picks, axis=1)  # (b, n)
        known = pl.DataFrame({"id": ids}).join(scores, on="id", how="left", maintain_order="left")
        for column in scores.columns:
            score, _, of_task = column.rpartition(":")
            if of_task != task:
                continue
            values = known[column].to_numpy()
            rho = float(spearman(values[None], rises.mean(axis=0)[None])[0])
            spread = spearman(values[picks], resampled)
            spread = spread[np.isfinite(spread)]  # equal scores have no rank correlation
            limits = np.percentile(spread, [2.5, 97.5]) if len(spread) and np.isfinite(rho) else [None, None]
            low, high = (None if limit is None else float(limit) for limit in limits)
            by_score.append(
                Prediction(score=score, task=task, loss=loss, rho=rho, low=low, high=high, rows=rows, seeds=seeds)
            )
    return sorted(by_score, key=lambda each: (-abs(each.rho or 0.0), each.score, each.task, each.loss))


def rises_of(losses: pl.DataFrame) -> tuple[list[str], Column]:
    """Ids and the `(s, n)` rise of each row's loss at each seed, for one task and loss."""
    ids = losses["id"].unique().sort().to_list()
    seeds = losses["seed"].unique().sort().to_list()
    ordered = losses.sort("seed", "id")
    return ids, (ordered["after"] - ordered["before"]).to_numpy().reshape(len(seeds), len(ids))


def _kinds(losses: pl.DataFrame) -> list[tuple[str, str]]:
    return [(task, loss) for task, loss in losses.select("task", "loss").unique().sort("task", "loss").iter_rows()]
