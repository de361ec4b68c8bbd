"""Forgetting: its losses taken on the random arm's models, and its correlation with every score of stage 3."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from curator.run import Site

if TYPE_CHECKING:
    import polars as pl

    from curator.engine import Runner
    from curator.experiment.answers import Weights
    from curator.experiment.design import Experiment
    from curator.experiment.forgetting import Forgotten, Prediction
    from curator.experiment.plan import Cell


def take_losses(
    site: Site, folder: Path, experiment: Experiment, weights: Mapping[Cell, Weights], run: Runner
) -> pl.DataFrame:
    """Losses of pool rows left out, in the columns of FORGETTING_SCHEMA, for a recipe that asks for them."""
    from curator.experiment.forgetting import forget, left_out
    from curator.experiment.plan import Cell
    from curator.model.load import load_config

    r, start = site.recipe, site.record("base")
    section, arm = r.verify.forgetting, r.verify.control
    assert section is not None
    tasks = [name for name, weight in r.weights().items() if weight > 0]
    seeds = [seed for seed in range(section.seeds) if all(Cell(arm, seed, task) in weights for task in (None, *tasks))]
    shape = load_config(start["tokenizer"], revision=start["revision"]).get_text_config()
    ids = left_out(
        experiment.data.pool.rows,
        [experiment.arms["curated", 0], *(experiment.arms[arm, seed] for seed in seeds)],
        rows=section.rows,
        longest=getattr(shape, "max_position_embeddings", None) or 2**31,
        seed=r.seed,
    )
    return forget(
        experiment, weights, folder, ids=ids, arm=arm, seeds=seeds, tasks=tasks,
        batch_tokens=r.representations[0].batch_tokens, run=run, progress=site.progress("answer"),
    )  # fmt: skip


def predicted(site: Site) -> tuple[list[Forgotten], list[Prediction]]:
    """Forgetting, and how every score goes with it; nothing where the recipe does not ask."""
    from curator.experiment.forgetting import forgotten, predictions
    from curator.run.files import load_frame

    if site.recipe.verify.forgetting is None:
        return [], []
    losses = load_frame(site.folder("answer") / "forgetting.parquet")
    scores = load_frame(site.folder("scores") / "all.parquet")
    return forgotten(losses), predictions(losses, scores, seed=site.recipe.seed)
