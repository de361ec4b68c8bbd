"""Stages `base`, `train` and `answer`: the model that all arms start from, the grid of models, and their answers.

Where seeds are looks, stage `train` adds seeds until the primary comparison is clear: each look trains, asks and judges
what it needs, and no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import DataError
from curator.experiment.plan import PRELOAD
from curator.judge.stage import decided
from curator.recipe.verify import CURATED, Looks
from curator.run import STAGES, Site
from curator.run.folder import finished

if TYPE_CHECKING:
    import polars as pl

    from curator.conclusions import Comparison
    from curator.decision.sequential import Look, Taken
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
        load(site.recipe.engine, preload=PRELOAD)


def base(site: Site, folder: Path) -> Mapping[str, Any]:
    """Checks model, tokenizer and chat template, and tunes the base on instructions where the recipe asks for it."""
    from curator.model.chat import check_template
    from curator.model.load import load_config, load_tokenizer, locate, resolve_revision

    model = site.recipe.model
    path, revision = locate(model.id), resolve_revision(model.id, model.revision)
    tokenizer = load_tokenizer(path, revision=revision, chat_template=model.chat_template)
    check_template(tokenizer)
    kind = load_config(path, revision=revision).model_type
    weights: dict[str, Any] = {"base": path, "revision": revision, "adapters": []}
    record = {"tokenizer": path, "revision": revision, "weights": weights, "summary": f"{model.id} ({kind})"}
    if model.instruction is None:
        return record
    from curator.experiment.jobs import tune
    from curator.pool.sources import missing, read
    from curator.run.files import save_frame

    # Tuning takes hours, and looking at what comes after it a second.
    if problems := missing(site.recipe, site.base):
        raise DataError("\n".join(problems))
    rows, dropped, resolved = read(
        model.instruction.data.model_copy(update={"rows": model.instruction.rows}),
        base=site.base,
        seed=site.recipe.seed,
    )
    save_frame(folder / "rows.parquet", rows)
    save_frame(folder / "dropped.parquet", dropped)
    tuned = tune(
        folder / "rows.parquet",
        root=site.root,
        path=path,
        revision=revision,
        chat_template=model.chat_template,
        section=site.recipe.verify.align,
        seed=site.recipe.seed,
        quantise=model.quantise,
    )
    summary = f"{model.id} ({kind}), tuned on {rows.height} instructions"
    return {**record, **tuned, "resolved": resolved, "summary": summary}


def train(site: Site, folder: Path) -> Mapping[str, Any]:
    """Aligns every arm and fine-tunes it on every task, at every seed; where seeds are looks, until one stops."""
    from dataclasses import asdict

    from curator.engine import runner
    from curator.experiment.grid import ask, train_grid
    from curator.run.files import load_data, relative, trained_record

    data, section = load_data(site.folder("pool")), site.recipe.verify.seeds
    experiment, run = _experiment(site, data), runner(site.recipe.engine, preload=PRELOAD, folder=site.root)
    done: dict[Cell, tuple[Weights, Trained]] = {}

    def trained(seeds: int) -> Plan:
        plan = _plan(site, seeds)
        done.update(train_grid(experiment, plan, folder.absolute(), run=run, progress=site.progress("train")))
        return plan

    def answers(seeds: int) -> pl.DataFrame:
        plan = trained(seeds)
        weights = {cell: own for cell, (own, _) in done.items()}
        return ask(site, experiment, plan, weights, folder=site.folder("answer"), run=run)

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
    from curator.experiment.forgetting import take_losses
    from curator.experiment.grid import ask
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
    run = runner(site.recipe.engine, preload=PRELOAD, folder=site.root)
    answers = ask(site, experiment, plan, weights, folder=folder, run=run)
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
    from curator.experiment.grid import experiment_of
    from curator.run.files import load_arms

    drawn = load_arms(site.folder("select"))
    arms = {(arm, seed): tuple(part["id"]) for (arm, seed), part in drawn.group_by("arm", "seed", maintain_order=True)}
    return experiment_of(site, data, arms, seed=site.recipe.seed)


def look(site: Site, data: Data, section: Looks, answers: Callable[[int], pl.DataFrame]) -> Sequence[Taken]:
    """Every look that was taken, the one that stopped last.

    Args:
        answers: Trains and asks the grid up to so many seeds, and gives all answers, in the columns of ANSWER_SCHEMA.
    """
    from curator.decision.comparisons import anticipated, compare
    from curator.decision.sequential import take
    from curator.decision.tables import lay_out

    mix = anticipated(site.recipe.weights())

    def observe(one: Look) -> Comparison:
        said, told = answers(one.seeds), site.progress("judge")
        after = lay_out(decided(site, said, data, site.folder("judge"), told))["harmfulness", "after"]
        return compare(after, CURATED, site.recipe.verify.control, mix, level=one.level)

    return take(planned(section, data.harmful.height), observe, futility=section.futility)


def planned(section: Looks, prompts: int | None) -> Sequence[Look]:
    """The looks of a recipe and their levels, fixed by the recipe and the number of harmful probes (null: many)."""
    from curator.decision.sequential import plan

    return plan(
        section.max,
        prompts,
        sd_seed=section.sd_seed,
        sd_prompt=section.sd_prompt,
        sd_residual=section.sd_residual,
        first=section.first,
        every=section.every,
        spending=section.spending,
    )
