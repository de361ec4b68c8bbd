"""The grid of models over what lies in the run folder; the pilot's and the final verification's are the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.run import Site

if TYPE_CHECKING:
    import polars as pl

    from curator.engine import Runner
    from curator.experiment.answers import Weights
    from curator.experiment.design import Experiment
    from curator.experiment.plan import Cell, Plan
    from curator.records import Data, Trained

PRELOAD = "curator.train.warm"
Done = Mapping["Cell", tuple["Weights", "Trained"]]


def experiment_of(
    site: Site, data: Data, arms: Mapping[tuple[str, int], tuple[str, ...]], *, seed: int, **changes: Any
) -> Experiment:
    """The experiment of a recipe on these arms; `changes` are fields of Experiment that the pilot has otherwise."""
    from curator.experiment.answers import Weights
    from curator.experiment.design import Experiment
    from curator.run.files import absolute

    r, done = site.recipe, site.done("base")
    start, root = done["record"], site.root.absolute()
    weights = start["weights"]
    return Experiment(
        root=root,
        data=data,
        data_folder=site.folder("pool").absolute(),
        base=Weights(
            absolute(weights["base"], root),
            weights["revision"],
            tuple(absolute(adapter, root) for adapter in weights["adapters"]),
            done["key"],
            r.model.quantise,
        ),
        arms=arms,
        tokenizer=start["tokenizer"],
        tokenizer_revision=start["revision"],
        chat_template=r.model.chat_template,
        align=r.verify.align,
        finetune=r.verify.finetune,
        seed=seed,
        exposure=r.verify.exposure,
        rehearsal_share=r.verify.rehearsal_share,
        shelf=None if site.shelf is None else site.shelf.absolute(),
        **changes,
    )


def ask(
    site: Site,
    experiment: Experiment,
    plan: Plan,
    weights: Mapping[Cell, Weights],
    *,
    folder: Path,
    run: Runner,
    stage: str = "answer",
) -> pl.DataFrame:
    """Answers of every model of the plan; what is in the folder already is kept. `stage` is told of the progress."""
    from curator.experiment.grid import answer_grid
    from curator.experiment.plan import BASE

    return answer_grid(
        experiment,
        plan,
        {BASE: experiment.base, **weights},
        folder.absolute(),
        section=site.recipe.verify.generate,
        run=run,
        progress=site.progress(stage),
    )
