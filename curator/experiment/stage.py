"""Stages `base`, `train` and `answer`: the model that all arms start from, the grid of models, and their answers; and
the search for the regime, which runs before rows are chosen.

With sequential looks, stage `train` adds seeds until the primary comparison is clear: each look trains, prompts and
judges only what it needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from curator.errors import DataError, RecipeError, RunError
from curator.experiment.plan import rows_by_part
from curator.judge.stage import judge_answers
from curator.keys import regime_key
from curator.recipe.sweep import mix_of, name_at, settings_by_name, settings_of
from curator.recipe.verify import CURATED, Looks
from curator.run import STAGES, Run
from curator.run.folder import finished, make, read_json, write_json
from curator.run.names import ANSWERS, DONE, FORGETTING, LOG_ODDS, REGIME
from curator.train import PRELOAD
from curator.train.tracker import tracker_of
from curator.wording import duration, model_name, these

if TYPE_CHECKING:
    import polars as pl

    from curator.conclusions import Comparison, FoundRegime
    from curator.decision.sequential import Look, Taken
    from curator.experiment.design import Experiment
    from curator.experiment.plan import Cell, Plan
    from curator.records import Data, Trained
    from curator.train.job import Weights

_STOPPED = {"clear": "clear comparison", "last": "all planned seeds", "futile": "stopped as futile"}


def prepare(run: Run, until: str, keys: Mapping[str, str]) -> None:
    """Makes workers load their libraries in the background if there are models to train or to prompt."""
    from curator.engine import prepare as load

    stages = (("select",) if run.recipe.select.piloted else ()) + ("train", "answer")
    ahead = [name for name in stages if STAGES.index(name) <= STAGES.index(until)]
    done = [(name, finished(run.folder(name))) for name in ahead]
    if any(record is None or record["key"] != keys[name] for name, record in done):
        load(run.recipe.engine, preload=PRELOAD)


def base(run: Run, folder: Path) -> Mapping[str, Any]:
    """Checks model, tokenizer and chat template, and tunes the base on instructions if the recipe asks for it."""
    from curator.experiment.base import look_at, require_openers, require_opening, trains_adapter
    from curator.model.load import locate, resolve_revision
    from curator.provenance import packages

    model = run.recipe.model
    path, revision = locate(model.id, run.vector_cache()), resolve_revision(model.id, model.revision)
    looked = look_at(path, revision, model.chat_template, lora=trains_adapter(run.recipe))
    if looked.problems:
        raise looked.problems[0] if len(looked.problems) == 1 else RecipeError([str(each) for each in looked.problems])
    require_opening(run.recipe.probes, path, revision, model.chat_template)
    require_openers(run.recipe.augment.recovery, path, revision, model.chat_template)
    weights: dict[str, Any] = {"base": path, "revision": revision, "adapters": []}
    dtype, reason = run.dtype()
    notes = [f"{note[0].lower()}{note[1:]}" for note in looked.notes]
    name = "; ".join([f"{model_name(model.id)} ({looked.kind})", f"computed in {dtype}, {reason}", *notes])
    record = {
        "tokenizer": path,
        "revision": revision,
        "weights": weights,
        "dtype": dtype,
        "summary": name,
        **looked.record(),
        **packages(model.id, model.chat_template),
    }
    if model.instruction is None:
        return record
    from curator.experiment.jobs import tune
    from curator.pool.gather import INSTRUCTIONS, claim_evaluation, instruction_rows
    from curator.pool.ledger import Ledger
    from curator.pool.sources import missing
    from curator.run.files import save_frame

    # Tuning takes hours and looking for the other sources a second, so a missing one is reported first.
    if problems := missing(run.recipe):
        raise DataError("\n".join(problems))
    ledger = Ledger(run.recipe.seed, scratch=folder)
    tasks = {task.name: ledger.read(f"task {task.name}", [task.train]) for task in run.recipe.tasks}
    claim_evaluation(ledger, run.recipe.tasks, tasks, run.recipe.probes, run.recipe.pool.clean.decontaminate)
    try:
        rows = instruction_rows(ledger, model.instruction)
    except DataError as error:
        raise DataError(f"model.instruction: {error}") from None
    dropped = ledger.drops([INSTRUCTIONS]).drop("role")
    left = dropped.filter(stage="leak").height
    save_frame(folder / "rows.parquet", rows)
    save_frame(folder / "dropped.parquet", dropped)
    tuned = tune(
        folder / "rows.parquet",
        root=run.root,
        path=path,
        revision=revision,
        chat_template=model.chat_template,
        section=run.recipe.verify.align,
        seed=run.recipe.seed,
        dtype=dtype,
        quantise=model.quantise,
        tracker=tracker_of(run.recipe),
    )
    summary = f"{name}; tuned on {these(rows.height, 'instruction', 'instructions')}"
    if left:
        summary += f", without {these(left, 'row that holds', 'rows that hold')} a probe or the prompt of a test row"
    resolved = {**ledger.sources[INSTRUCTIONS][0], **ledger.counts(INSTRUCTIONS)}
    return {**record, **tuned, "resolved": resolved, "summary": summary}


def relocate(run: Run) -> None:
    """Corrects where finished stages say that the recipe's model is: a run folder that was moved to another machine or
    environment finds the sandbox, a package or a dequantised GGUF file elsewhere. To be called before a stage is made.
    """
    from curator.model.load import locate

    old = run.record("base")["tokenizer"]
    if Path(old).exists() or (new := locate(run.recipe.model.id, run.vector_cache())) == old:
        return

    def moved(value: object) -> object:
        if isinstance(value, dict):
            return {name: moved(item) for name, item in value.items()}
        return [moved(item) for item in value] if isinstance(value, list) else new if value == old else value

    # The base last: as long as it names the old place, this is done again.
    for done in (run.folder(stage) / DONE for stage in ("train", "base")):
        if done.exists():
            write_json(done, moved(read_json(done)))


def regime(run: Run, keys: Mapping[str, str]) -> FoundRegime:
    """The search for the regime; a finished one for the same settings and data is reused."""
    from curator.experiment.regime import search

    def work(folder: Path) -> Mapping[str, object]:
        relocate(run)
        return search(run, folder)

    made = make(run.root / REGIME, regime_key(run.recipe, keys), work, grid=True)
    run.progress.finished(REGIME, made)
    return cast("FoundRegime", made.record)


def require_found(record: FoundRegime) -> None:
    """Stops if no setting is in range.

    Raises:
        RunError: No setting is in range.
    """
    if record["setting"] is None:
        raise RunError(
            f"verify.regime: no setting that was tried could show a difference between arms. {record['advice']} "
            "Finished trainings are kept. To build at the recipe's own setting anyway, set verify.regime.auto to false"
        )


def train(run: Run, folder: Path) -> Mapping[str, Any]:
    """Aligns every arm and fine-tunes it on every task, at every seed; with sequential looks, until one stops."""
    from dataclasses import asdict

    from curator.experiment.curve import checkpoints, require_curves
    from curator.experiment.grid import answers_of, runner_of, train_grid
    from curator.run.files import relative, trained_record

    data, section = run.data(), run.recipe.verify.seeds
    experiment, execute = _experiment(run, data), runner_of(run)
    done: dict[Cell, tuple[Weights, Trained]] = {}
    if run.recipe.verify.curve.primary == "area":
        require_curves(experiment, _plan(run, run.recipe.verify.most_seeds))

    def trained(seeds: int) -> Plan:
        plan = _plan(run, seeds)
        done.update(train_grid(experiment, plan, folder.absolute(), execute=execute, progress=run.progress_of("train")))
        return plan

    def answers(seeds: int) -> pl.DataFrame:
        plan = trained(seeds)
        weights = {cell: model for cell, (model, _) in done.items()}
        if run.recipe.verify.curve.primary == "area":
            weights |= checkpoints(done)
        return answers_of(run, experiment, plan, weights, folder=run.folder("answer"), execute=execute)

    looks = look(run, data, section, answers) if isinstance(section, Looks) else ()
    seeds = looks[-1].seeds if looks else run.recipe.verify.most_seeds
    plan, root = _plan(run, seeds) if looks else trained(seeds), experiment.root
    models = [
        {
            "arm": cell.arm,
            "seed": cell.seed,
            "task": cell.task,
            **({"setting": cell.setting} if cell.setting else {}),
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
    summary = (
        f"{len(plan.aligned):,} aligned and "
        f"{these(len(plan.finetuned), 'fine-tuned model', 'fine-tuned models')}, {duration(seconds)} of training"
    )
    if looks:
        summary += f"; {these(seeds, 'seed', 'seeds')}, {_STOPPED[looks[-1].action]}"
    return {"models": models, "seeds": seeds, "looks": [asdict(taken) for taken in looks], "summary": summary}


def answer(run: Run, folder: Path) -> Mapping[str, Any]:
    """Has every model answer its probes before and after fine-tuning, and at checkpoints if it has a curve."""
    from curator.experiment.curve import checkpoints
    from curator.experiment.forgetting import take_losses
    from curator.experiment.grid import answers_of, runner_of
    from curator.experiment.log_odds import collect, resolved
    from curator.experiment.plan import Cell
    from curator.run.files import save_frame
    from curator.train.job import Weights

    experiment, plan = _experiment(run, run.data()), _plan(run, run.record("train")["seeds"])
    dtype, quantise = experiment.base.dtype, run.recipe.model.quantise
    models = {
        Cell(*cell): (Weights(model.base, model.revision, model.adapters, model.key, quantise, dtype), model.trained)
        for cell, model in run.models().items()
    }
    left = checkpoints(models)
    weights = {cell: weights for cell, (weights, _) in models.items()} | left
    execute = runner_of(run)
    answers = answers_of(run, experiment, plan, weights, folder=folder, execute=execute)
    save_frame(folder / ANSWERS, answers)
    if run.recipe.verify.forgetting is not None:
        save_frame(folder / FORGETTING, take_losses(run, folder.absolute(), experiment, weights, execute))
    if experiment.openers is not None:
        save_frame(folder / LOG_ODDS, collect(folder, plan, left))
    records = [(finished(folder / cell.folder) or {}).get("record", {}) for cell in (*plan.asked, *left)]
    by = Counter(record.get("engine", "transformers") for record in records)
    vllm = run.recipe.verify.generate.engine == "vllm"
    instead = Counter(record["instead_of_vllm"] for record in records if vllm and "instead_of_vllm" in record)
    summary = f"{these(answers.height, 'answer', 'answers')} of {these(len(records), 'model', 'models')}"
    if vllm:
        summary += f" by {', '.join(f'{name} ({count})' for name, count in sorted(by.items()))}"
        summary += "".join(f"; {count:,} without vLLM ({reason})" for reason, count in sorted(instead.items()))
    openers = resolved(run)
    if openers is not None:
        dropped = these(len(openers["dropped"]), "opener left out, because it begins with another",
                        "openers left out, because they begin with others")  # fmt: skip
        summary += f"; log-odds of {len(openers['refuse'])} refusing and {len(openers['comply'])} complying openers"
        summary += f" ({dropped})" if openers["dropped"] else ""
    return {
        "answers": answers.height,
        "answered_by": dict(sorted(by.items())),
        "instead_of_vllm": dict(sorted(instead.items())),
        **({"openers": openers} if openers is not None else {}),
        "summary": summary,
    }


def look(run: Run, data: Data, section: Looks, answers: Callable[[int], pl.DataFrame]) -> Sequence[Taken]:
    """Every look that was taken, the one that stopped last.

    Args:
        answers: Trains and prompts the grid up to a number of seeds; returns all answers, in the columns of
            ANSWER_SCHEMA.
    """
    from curator.decision.beside import stands
    from curator.decision.comparisons import anticipated, compare
    from curator.decision.curve import laid_out, primary_of
    from curator.decision.sequential import plan, take

    mix, verify = anticipated(mix_of(run.recipe)), run.recipe.verify

    def observe(of: Look) -> tuple[Comparison, bool]:
        progress = run.progress_of("judge")
        verdicts = judge_answers(run, answers(of.seeds), data, run.folder("judge"), progress)
        deciding = laid_out(verdicts)[primary_of(verify.curve)]
        primary = compare(deciding, CURATED, verify.control, mix, level=of.level)
        return primary, stands(deciding, primary, mix, verify.decision)

    return take(plan(section, data.harmful.height), observe, futility=section.futility)


def _plan(run: Run, seeds: int) -> Plan:
    from curator.experiment.plan import plan

    return plan(run.recipe.verify, settings_by_name(run.recipe), seeds=seeds)


def _experiment(run: Run, data: Data) -> Experiment:
    from curator.experiment.base import require_opening
    from curator.experiment.grid import experiment_of
    from curator.experiment.log_odds import openers_in, resolved
    from curator.model.load import load_tokenizer
    from curator.model.prefill import lead_tokens

    recipe, finetune, probes, opened = run.recipe, run.finetuning(), run.recipe.probes, run.opened()
    swept = [(task, each) for task in recipe.tasks for each in settings_of(recipe, task) if each.name is not None]
    experiment = experiment_of(
        run, data, run.dealt(), seed=recipe.seed,
        settings={each.name: each.training(finetune) for _, each in swept},
        rows={name_at(task.name, each.name): rows_by_part(task, each.rows) for task, each in swept if each.rows},
        probe_at={task.name: task.checkpoints for task in recipe.tasks if task.checkpoints},
        depths=probes.depths, opening=probes.opens_with, openers=openers_in(resolved(run)),
        openings={} if opened is None else {row_id: tuple(ids) for row_id, _, ids in opened.iter_rows()},
    )  # fmt: skip
    # Checked again, since stage `base` may be kept from before the recipe named these.
    require_opening(probes, experiment.tokenizer, experiment.tokenizer_revision, experiment.chat_template)
    if not probes.depths and opened is None:
        return experiment
    tokenizer = load_tokenizer(
        experiment.tokenizer, revision=experiment.tokenizer_revision, chat_template=experiment.chat_template
    )
    return replace(experiment, lead=lead_tokens(tokenizer))
