"""From a chosen subset to verdicts: train, answer, judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.run import finished, key_of, make
from curator.steps.site import STAGES, Site

if TYPE_CHECKING:
    from curator.records import Data, Messages
    from curator.verify.experiment import Experiment
    from curator.verify.plan import Plan

JUDGE_VERSION = 1


PRELOAD = "curator.train.warm"


def prepare(site: Site, until: str, keys: Mapping[str, str]) -> None:
    """Lets the workers load their libraries in the background, where there are models to train or to ask."""
    from curator.engine import prepare as load

    ahead = [name for name in ("train", "answer") if STAGES.index(name) <= STAGES.index(until)]
    done = {name: finished(site.folder(name)) for name in ahead}
    if any(one is None or one["key"] != keys[name] for name, one in done.items()):
        load(site.recipe.engine, preload=PRELOAD)


def train(site: Site, folder: Path) -> Mapping[str, Any]:
    """Aligns every arm and fine-tunes it on every task, at every seed."""
    from curator.engine import runner
    from curator.store import load_data, relative, trained_record
    from curator.verify.experiment import train_grid

    experiment, plan = _experiment(site, load_data(site.folder("pool"))), _plan(site)
    run = runner(site.recipe.engine, preload=PRELOAD)
    done = train_grid(experiment, plan, folder.absolute(), run=run, progress=site.progress("train"))
    root = experiment.root
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
    return {"models": models, "summary": summary}


def answer(site: Site, folder: Path) -> Mapping[str, Any]:
    """Asks every model its probes before and after fine-tuning."""
    from curator.engine import runner
    from curator.store import absolute, load_data, save_frame
    from curator.verify.experiment import Weights, answer_grid
    from curator.verify.plan import NONE, Cell

    experiment, plan = _experiment(site, load_data(site.folder("pool"))), _plan(site)
    weights = {Cell(NONE, 0): experiment.base}
    for model in site.record("train")["models"]:
        found = model["weights"]
        weights[Cell(model["arm"], model["seed"], model["task"])] = Weights(
            absolute(found["base"], experiment.root),
            found["revision"],
            tuple(absolute(adapter, experiment.root) for adapter in found["adapters"]),
            found["key"],
        )
    generate = site.recipe.verify.generate
    answers = answer_grid(
        experiment,
        plan,
        weights,
        folder.absolute(),
        max_new_tokens=generate.max_new_tokens,
        batch=generate.batch,
        run=runner(site.recipe.engine, preload=PRELOAD),
        progress=site.progress("answer"),
    )
    save_frame(folder / "answers.parquet", answers)
    return {"answers": answers.height, "summary": f"{answers.height} answers of {len(plan.asked)} models"}


def judge(site: Site, folder: Path) -> Mapping[str, Any]:
    """Gives every judge of the panel every answer to a probe, and every metric its task's own test rows."""
    from curator.judge import judging
    from curator.judge.asking import asked_of, verdict_frame
    from curator.judge.metrics import measure
    from curator.store import load_data, load_frame, save_frame

    data = load_data(site.folder("pool"))
    answers = load_frame(site.folder("answer") / "answers.parquet")
    probes = answers.filter(answers["kind"] != "utility")
    asked = asked_of(probes, data)
    after = site.done("answer")["key"]
    site.progress("judge")(0, len(site.recipe.judges.panel))
    for number, section in enumerate(site.recipe.judges.panel, start=1):

        def work(piece: Path, section: Any = section) -> Mapping[str, Any]:
            verdicts = judging(section, answer=_answering)(asked)
            save_frame(piece / "verdicts.parquet", verdict_frame(probes, section.name, verdicts))
            return {"verdicts": len(verdicts)}

        make(folder / section.name, key_of("judge", JUDGE_VERSION, section.model_dump(), after), work)
        site.progress("judge")(number, len(site.recipe.judges.panel))
    parts = []
    for task in data.tasks:
        own = answers.filter((answers["kind"] == "utility") & (answers["task"] == task.name))
        parts.append(verdict_frame(own, task.metric, measure(task.metric, asked_of(own, data))))
    import polars as pl

    save_frame(folder / "utility.parquet", pl.concat(parts))
    headline = load_frame(folder / site.recipe.judges.headline / "verdicts.parquet")
    counts = dict(headline.group_by("outcome").len().sort("outcome").iter_rows())
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return {"outcomes": counts, "summary": f"{site.recipe.judges.headline}: {told}"}


def _plan(site: Site) -> Plan:
    from curator.verify.plan import plan

    return plan(site.recipe.verify, [task.name for task in site.recipe.tasks])


def _experiment(site: Site, data: Data) -> Experiment:
    from curator.store import absolute, load_frame
    from curator.verify.experiment import Experiment, Weights

    r, done = site.recipe, site.done("base")
    start, root = done["record"], site.root.absolute()
    weights = start["weights"]
    drawn = load_frame(site.folder("select") / "arms.parquet")
    return Experiment(
        root=root,
        data=data,
        data_folder=site.folder("pool").absolute(),
        base=Weights(
            absolute(weights["base"], root),
            weights["revision"],
            tuple(absolute(adapter, root) for adapter in weights["adapters"]),
            done["key"],
        ),
        arms={
            (arm, seed): tuple(part["id"]) for (arm, seed), part in drawn.group_by("arm", "seed", maintain_order=True)
        },
        tokenizer=start["tokenizer"],
        tokenizer_revision=start["revision"],
        chat_template=r.model.chat_template,
        align=r.verify.align,
        finetune=r.verify.finetune,
        seed=r.seed,
    )


def _answering(
    prompts: Sequence[Messages], ids: Sequence[str], model_id: str, revision: str | None, max_new_tokens: int
) -> list[tuple[str, str]]:
    """How a guard model is asked: greedy, with the tokenizer's own chat template."""
    from curator.model import load_model, load_tokenizer, resolve_revision
    from curator.train.generate import generate

    key = "judges.panel.guard"
    exact = resolve_revision(model_id, revision, key)
    tokenizer = load_tokenizer(model_id, revision=exact, key=key)
    model = load_model(model_id, revision=exact, key=key)
    return generate(prompts, ids, model=model, tokenizer=tokenizer, max_new_tokens=max_new_tokens, batch=32)
