"""From a chosen subset to answers: train and answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.recipe.verify import Looks
from curator.run import STAGES, Site
from curator.run.folder import finished
from curator.steps import grid
from curator.steps.forgetting import take_losses
from curator.steps.looking import look

if TYPE_CHECKING:
    import polars as pl

    from curator.experiment.answers import Weights
    from curator.experiment.design import Experiment
    from curator.experiment.plan import Cell, Plan
    from curator.records import Data, Trained


def prepare(site: Site, until: str, keys: Mapping[str, str]) -> None:
    """Lets the workers load their libraries in the background, where there are models to train or to ask."""
    from curator.engine import prepare as load

    wanted = (("select",) if site.recipe.select.weight == "auto" else ()) + ("train", "answer")
    ahead = [name for name in wanted if STAGES.index(name) <= STAGES.index(until)]
    done = {name: finished(site.folder(name)) for name in ahead}
    if any(one is None or one["key"] != keys[name] for name, one in done.items()):
        load(site.recipe.engine, preload=grid.PRELOAD)


def train(site: Site, folder: Path) -> Mapping[str, Any]:
    """Aligns every arm and fine-tunes it on every task, at every seed; where seeds are looks, until one stops."""
    from dataclasses import asdict

    from curator.engine import runner
    from curator.experiment.grid import train_grid
    from curator.run.files import load_data, relative, trained_record

    data, section = load_data(site.folder("pool")), site.recipe.verify.seeds
    experiment, run = _experiment(site, data), runner(site.recipe.engine, preload=grid.PRELOAD, folder=site.root)
    done: dict[Cell, tuple[Weights, Trained]] = {}

    def trained(seeds: int) -> Plan:
        plan = _plan(site, seeds)
        done.update(train_grid(experiment, plan, folder.absolute(), run=run, progress=site.progress("train")))
        return plan

    def answers(seeds: int) -> pl.DataFrame:
        plan = trained(seeds)
        weights = {cell: own for cell, (own, _) in done.items()}
        return grid.ask(site, experiment, plan, weights, folder=site.folder("answer"), run=run)

    looks = look(site, data, section, answers) if isinstance(section, Looks) else ()
    seeds = looks[-1].seeds if looks else site.recipe.verify.most_seeds
    plan, root = _plan(site, seeds) if looks else trained(seeds), experiment.root
    models = [
        {
            "arm": cell.arm,
            "seed": cell.seed,
            "task": cell.task,
            "weights": {
                "base": relative(weights.base, root),
                "revision": weights.revision,
                "adapters": [relative(adapter, root) for adapter in weights.adapters],
                "key": weights.key,
            },
            "trained": trained_record(trained, root),
        }
        for cell, (weights, trained) in sorted(done.items(), key=lambda item: str(item[0]))
    ]
    seconds = sum(trained.seconds for _, trained in done.values())
    summary = f"{len(plan.aligned)} aligned and {len(plan.finetuned)} fine-tuned models, {seconds:.0f} s of training"
    if looks:
        summary += f"; {seeds} seeds, {looks[-1].action}"
    return {"models": models, "seeds": seeds, "looks": [asdict(one) for one in looks], "summary": summary}


def answer(site: Site, folder: Path) -> Mapping[str, Any]:
    """Asks every model its probes before and after fine-tuning."""
    from curator.engine import runner
    from curator.experiment.answers import Weights
    from curator.experiment.plan import Cell
    from curator.run.files import absolute, load_data, save_frame

    experiment, plan = _experiment(site, load_data(site.folder("pool"))), _plan(site, site.record("train")["seeds"])
    weights = {}
    for model in site.record("train")["models"]:
        found = model["weights"]
        weights[Cell(model["arm"], model["seed"], model["task"])] = Weights(
            absolute(found["base"], experiment.root),
            found["revision"],
            tuple(absolute(adapter, experiment.root) for adapter in found["adapters"]),
            found["key"],
            site.recipe.model.quantise,
        )
    run = runner(site.recipe.engine, preload=grid.PRELOAD, folder=site.root)
    answers = grid.ask(site, experiment, plan, weights, folder=folder, run=run)
    save_frame(folder / "answers.parquet", answers)
    if site.recipe.verify.forgetting is not None:
        save_frame(folder / "forgetting.parquet", take_losses(site, folder.absolute(), experiment, weights, run))
    made = [(finished(folder / cell.folder) or {}).get("record", {}) for cell in plan.asked]
    by = Counter(one.get("engine", "transformers") for one in made)
    wanted = site.recipe.verify.generate.engine == "vllm"
    instead = Counter(one["instead_of_vllm"] for one in made if wanted and "instead_of_vllm" in one)
    summary = f"{answers.height} answers of {len(plan.asked)} models"
    if wanted:
        summary += f" by {', '.join(f'{name} ({count})' for name, count in sorted(by.items()))}"
        summary += "".join(f"; no vLLM for {count} of them: {reason}" for reason, count in sorted(instead.items()))
    return {
        "answers": answers.height,
        "answered_by": dict(sorted(by.items())),
        "instead_of_vllm": dict(sorted(instead.items())),
        "summary": summary,
    }


def _plan(site: Site, seeds: int) -> Plan:
    from curator.experiment.plan import plan

    return plan(site.recipe.verify, [task.name for task in site.recipe.tasks], seeds=seeds)


def _experiment(site: Site, data: Data) -> Experiment:
    from curator.run.files import load_arms

    drawn = load_arms(site.folder("select"))
    arms = {(arm, seed): tuple(part["id"]) for (arm, seed), part in drawn.group_by("arm", "seed", maintain_order=True)}
    return grid.experiment_of(site, data, arms, seed=site.recipe.seed)
