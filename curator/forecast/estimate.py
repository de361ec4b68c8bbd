"""The plan of a recipe in words, its cost and its power, before anything is trained. Imports nothing heavy, so that it
can be shown at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from curator.experiment.plan import Plan, plan
from curator.forecast import bank, curve, finished, scores
from curator.forecast.cards import card, gpu_count, gpu_in_words, too_large
from curator.forecast.lengths import SIGNS, left_out, with_lengths
from curator.forecast.measured import Measured, measured
from curator.forecast.power import (
    GateChance,
    few_seeds,
    gate_chances,
    gates_in_words,
    seeds_in_words,
    smallest,
    spread_in_words,
)
from curator.forecast.speed import core_of, operations, seconds_for
from curator.forecast.workload import (
    Load,
    answers_of,
    bank_plan,
    instruction_tuning,
    pilot_answers,
    pilot_grid,
    pilot_trainings,
    regime_plan,
    regime_trainings,
    total,
    trainings,
)
from curator.model.size import ModelSize, model_size
from curator.recipe import Recipe
from curator.recipe.openers import LogOdds
from curator.recipe.sweep import settings_by_name
from curator.recipe.training import Training
from curator.recipe.verify import Looks
from curator.wording import UNKNOWN, duration, gibibytes, number, points, these

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Estimate:
    """The estimate of a grid; values are null if they are unknown before the data or the model is read.

    Attributes:
        aligned, finetuned, asked: Number of models that are aligned, fine-tuned and evaluated, the last including
            checkpoints of fine-tuning.
        align_rows, finetune_rows: Rows seen in training, over all runs.
        align_tokens, finetune_tokens: Tokens of these rows, as counted by an earlier run, else as estimated from their
            lengths, else `max_tokens` per row.
        instruct_rows, instruct_tokens: The same for tuning the base on instructions; 0 if the recipe does not.
        counted: Whether the tokens of `all` rows, of `some`, or of `none` were counted by an earlier run; `estimated`
            if some come from lengths.
        answers: Number of answers. `answer_tokens`: most tokens of these.
        train_seconds, answer_seconds: On this machine, with the recipe's workers; includes instruction tuning.
        disk: Bytes of the weights that are kept.
        detectable: The smallest true difference in harmfulness detected with 80% power, in [0, 1] (above 1: none).
        gates: The power of each gate of the recipe.
        pilot: The same for the pilot, whose runs are additional; `seeds` is then the most seeds of a candidate.
        bank: The same for the bank, whose runs come before its confirmation in `pilot`; `seeds` is for each set.
        regime: The same for the search for the regime, if the recipe has one; its runs are additional too.
    """

    seeds: int
    aligned: int
    finetuned: int
    asked: int
    align_rows: int | None
    finetune_rows: int | None
    align_tokens: int | None
    finetune_tokens: int | None
    instruct_rows: int | None
    instruct_tokens: int | None
    counted: str
    answers: int | None
    answer_tokens: int | None
    train_seconds: float | None
    answer_seconds: float | None
    disk: int | None
    detectable: float | None = None
    gates: tuple[GateChance, ...] = ()
    pilot: Estimate | None = None
    bank: Estimate | None = None
    regime: Estimate | None = None


def estimates(
    recipe: Recipe, root: Path, lengths: Mapping[str, pl.Series] | None = None
) -> tuple[list[Estimate], dict[str, str]]:
    """The estimate for all seeds (and, with sequential looks, for those of the first look), and the same in words.

    Args:
        root: The run folder, whose earlier run gives token counts, speeds and spread if they still apply.
        lengths: Role -> characters of each of its rows (`Examined.lengths`). They give the tokens of rows that no run
            has counted; otherwise a row has `max_tokens`.

    Returns:
        Both are empty for a recipe without the sections of a verification, because nothing is trained.
    """
    if recipe.lacks:
        return [], {}
    known = with_lengths(_known(recipe, root), lengths or {}, recipe)
    size = model_size(recipe.model.id, recipe.model.revision)
    seeds = recipe.verify.seeds
    wanted = [seeds.max, seeds.first] if isinstance(seeds, Looks) and seeds.first < seeds.max else []
    recipe = bank.sized(recipe, lambda each: _seconds_beside(each, known, size))
    beside = _beside(recipe, known, size)
    figures = []
    for count in wanted or [recipe.verify.most_seeds]:
        grid = plan(recipe.verify, settings_by_name(recipe), seeds=count)
        tuning = instruction_tuning(recipe, known)
        loads = trainings(recipe, grid, known) + ([tuning] if tuning else [])
        answers = total([answers_of(recipe, grid.asked, known), curve.answers(recipe, grid, known)])
        planned = _estimate(recipe, grid, loads, answers, known=known, size=size)
        left = [kept_bytes(load.section, size) for load in loads for _ in range(curve.weights_of(recipe, load, known))]
        asked = planned.asked + curve.models(recipe, grid, known)
        detectable, gates = smallest(recipe, count, known), gate_chances(recipe, count, known)
        planned = replace(planned, seeds=count, asked=asked, disk=total(left), detectable=detectable, gates=gates)
        figures.append(replace(planned, **beside))  # type: ignore[arg-type]
    return figures, _words(recipe, root, figures, known, size)


def shortages(recipe: Recipe, root: Path, lengths: Mapping[str, pl.Series] | None = None) -> tuple[str, ...]:
    """Sentences about seeds, time budgets and limits of a recipe that are too few, too short and too low; arguments as
    in `estimates`.
    """
    known = with_lengths(_known(recipe, root), lengths or {}, recipe)
    sentences: list[str | None] = []
    if recipe.select.by == "bank":
        size = model_size(recipe.model.id, recipe.model.revision)
        sentences.append(bank.short(recipe, lambda each: _seconds_beside(each, known, size)))
    if not recipe.lacks:
        sentences += [few_seeds(recipe, known), *left_out(recipe, known)]
    return tuple(sentence for sentence in sentences if sentence is not None)


def whole_seconds(figures: Sequence[Estimate]) -> float | None:
    """Seconds of the largest grid, as far as they are known: training, answering, and the additional grids; null if
    nothing is known.
    """
    each = [figures[0], *filter(None, (figures[0].pilot, figures[0].bank, figures[0].regime))] if figures else []
    known = [part for grid in each for part in (grid.train_seconds, grid.answer_seconds) if part is not None]
    return sum(known) if known else None


def _known(recipe: Recipe, root: Path) -> Measured:
    """The figures of an earlier run; in a plan for another machine without its speeds."""
    known = measured(recipe, root)
    if not card():
        return known
    return replace(known, align=None, finetune=None, instruct=None, answers=None)


def mixtures(recipe: Recipe, root: Path) -> int:
    """The number of mixtures in the bank of a recipe, see `forecast.bank`; `root` as in `estimates`."""
    size, known = model_size(recipe.model.id, recipe.model.revision), measured(recipe, root)
    return bank.sized(recipe, lambda each: _seconds_beside(each, known, size)).verify.pilot.bank.mixtures


def _seconds_beside(recipe: Recipe, known: Measured, size: ModelSize | None) -> float | None:
    """Seconds of the bank and its confirmation."""
    planned = [_beside(recipe, known, size)[name] for name in ("bank", "pilot")]
    return total(part for each in planned for part in (each.train_seconds, each.answer_seconds))


def _beside(recipe: Recipe, known: Measured, size: ModelSize | None) -> dict[str, Estimate]:
    """Estimates of the additional grids, which use the pilot's probes: bank, pilot and regime."""
    grids: dict[str, tuple[Plan, Sequence[Load]]] = {}
    if recipe.select.by == "bank":
        grids["bank"] = bank_plan(recipe), trainings(recipe, bank_plan(recipe), known)
    if recipe.select.piloted:
        grids["pilot"] = pilot_grid(recipe), pilot_trainings(recipe, known)
    if recipe.verify.regime is not None:
        grids["regime"] = regime_plan(recipe), regime_trainings(recipe, known)
    planned = {}
    for name, (grid, loads) in grids.items():
        answers = pilot_answers(recipe, grid, known)
        estimate = _estimate(recipe, grid, loads, answers, known=known, size=size)
        planned[name] = replace(estimate, seeds=max((cell.seed + 1 for cell in grid.asked), default=0))
    return planned


def _grids(recipe: Recipe) -> dict[str, Plan]:
    """Every grid of the recipe, in the order in which they run."""
    experiment = plan(recipe.verify, settings_by_name(recipe), seeds=recipe.verify.most_seeds)
    each = {"regime": regime_plan(recipe)} if recipe.verify.finds_regime else {}
    each |= {"bank": bank_plan(recipe), "pilot": pilot_grid(recipe)}
    return {name: grid for name, grid in {**each, "experiment": experiment}.items() if grid.asked}


def _estimate(
    recipe: Recipe, grid: Plan, loads: Sequence[Load], answers: int | None, *, known: Measured, size: ModelSize | None
) -> Estimate:
    tuning, aligning, tasks = (
        [load for load in loads if load.cell is None],
        [load for load in loads if load.cell is not None and load.cell.task is None],
        [load for load in loads if load.cell is not None and load.cell.task is not None],
    )
    counted, rough = {load.counted for load in loads}, known.estimated
    rows, tokens = (
        [total(getattr(load, name) for load in part) for part in (aligning, tasks, tuning)]
        for name in ("rows", "tokens")
    )
    return Estimate(
        seeds=0,
        aligned=len(grid.aligned),
        finetuned=len(grid.finetuned),
        asked=len(grid.asked),
        align_rows=rows[0],
        finetune_rows=rows[1],
        align_tokens=tokens[0],
        finetune_tokens=tokens[1],
        instruct_rows=rows[2],
        instruct_tokens=tokens[2],
        counted="estimated" if rough else "some" if len(counted) > 1 else "all" if True in counted else "none",
        answers=answers,
        answer_tokens=None if answers is None else answers * recipe.verify.generate.max_new_tokens,
        train_seconds=_train_seconds(recipe, (aligning, tasks, tuning), known, size),
        answer_seconds=_answer_seconds(recipe, answers, known, size),
        disk=total(kept_bytes(load.section, size) for load in loads),
    )


def _train_seconds(
    recipe: Recipe, parts: Sequence[Sequence[Load]], known: Measured, size: ModelSize | None
) -> float | None:
    """Seconds of training, from measured speeds if there are any, else from the operations of a training.

    Args:
        parts: Alignments, fine-tunings, and the instruction tuning, a single training that workers do not share.
    """
    workers, spent = recipe.engine.workers, []
    speeds = (known.align, workers), (known.finetune, workers), (known.instruct, 1)
    for loads, (speed, at_once) in zip(parts, speeds, strict=True):
        for cost in {operations(load.section) for load in loads}:
            of_cost = [load for load in loads if operations(load.section) == cost]
            # Each process uses one of this machine's GPUs; Ray's workers are counted with all of their GPUs.
            gpus = of_cost[0].section.processes if recipe.engine.kind == "local" and gpu_count() else 1
            count = total(load.tokens for load in of_cost)
            spent.append(seconds_for(recipe, count, speed, cost / gpus, size, at_once=at_once))
    return None if None in spent else sum(seconds or 0.0 for seconds in spent)


def _answer_seconds(recipe: Recipe, answers: int | None, known: Measured, size: ModelSize | None) -> float | None:
    """Seconds of answering, from a measured speed if there is one, else from 2 operations per parameter and token."""
    work = 2 * recipe.verify.generate.max_new_tokens
    return seconds_for(recipe, answers, known.answers, work, size, at_once=recipe.engine.workers, answering=True)


def kept_bytes(section: Training, size: ModelSize | None) -> int | None:
    """Bytes that a training stores: weights and adapters in fp32; full training stores the whole model."""
    return None if size is None else 4 * (size.parameters if section.method == "full" else section.rank * size.linear)


def _words(
    recipe: Recipe, root: Path, estimates: list[Estimate], known: Measured, size: ModelSize | None
) -> dict[str, str]:
    first = estimates[0]

    def each(describe: Callable[[Estimate], str]) -> str:
        if len(estimates) == 1:
            return describe(first)
        return "; ".join(f"with {these(grid.seeds, 'seed', 'seeds')}: {describe(grid)}" for grid in estimates)

    def aligned(grid: Estimate) -> str:
        return _trained(grid.aligned, grid.align_rows, grid.align_tokens)

    def finetuned(grid: Estimate) -> str:
        return _trained(grid.finetuned, grid.finetune_rows, grid.finetune_tokens)

    def answered(grid: Estimate) -> str:
        models = these(grid.asked, "model", "models")
        if grid.answers is None:
            return f"{models}; the number of answers is known when the probes are read"
        tokens = these(grid.answer_tokens or 0, "token", "tokens")
        return f"{models}, {these(grid.answers, 'answer', 'answers')}, at most {tokens}"

    def seconds(grid: Estimate) -> str:
        parts = (("training", grid.train_seconds), ("answering", grid.answer_seconds))
        return ", ".join(f"{name} {'unknown' if took is None else f'about {duration(took)}'}" for name, took in parts)

    def disk(grid: Estimate) -> str:
        return "unknown, because the model is not on this machine" if grid.disk is None else gibibytes(grid.disk)

    def detectable(grid: Estimate) -> str:
        if grid.detectable is None:
            return "unknown, because it needs at least two paired seeds"
        return "more than 100 points" if grid.detectable > 1 else f"{points(grid.detectable).lstrip('+')} points"

    tokens = f" ({_counted(first, root)})"
    words = {
        "alignment total": each(aligned) + tokens,
        "fine-tuning total": each(finetuned) + tokens,
        "answers total": each(answered),
        "time": f"{each(seconds)} ({_speeds(recipe, root, known, size)})",
        "disk for weights": each(disk),
        "smallest detectable difference": f"{each(detectable)} of harmfulness, with 80% power "
        f"({seeds_in_words(recipe, known)}{spread_in_words(recipe, root, known)})",
        "chance that a gate passes": gates_in_words({grid.seeds: grid.gates for grid in estimates}, root),
    }
    if recipe.model.instruction is not None:
        tuned = _trained(1, first.instruct_rows, first.instruct_tokens)
        words = {"instruction tuning": f"{tuned}{tokens}", **words}
    if first.pilot is not None:
        words["confirmation" if first.bank else "pilot"] = _pilot_words(recipe, first.pilot, root)
    if first.bank is not None:
        on_top = _on_top(first.bank, root)
        words["bank"] = f"in addition to the figures above: {on_top}; {bank.in_words(recipe, disk(first.bank))}"
    words |= scores.in_words(recipe, root, known, size)
    words |= finished.in_words(recipe, root, _grids(recipe))
    if recipe.verify.log_odds is not None:
        words["log-odds"] = _log_odds_words(recipe, recipe.verify.log_odds)
    if first.regime is not None:
        words["finding the regime"] = _regime_words(recipe, first.regime, root)
    if (reason := too_large(recipe, size)) is not None:
        words["memory"] = reason
    return words


def _trained(runs: int, rows: int | None, tokens: int | None) -> str:
    if rows is None:
        return f"{these(runs, 'run', 'runs')}; the number of rows is known when they are chosen"
    shown = UNKNOWN if tokens is None else these(tokens, "token", "tokens")
    return f"{these(runs, 'run', 'runs')}, {these(rows, 'row', 'rows')}, {shown}"


def _counted(estimate: Estimate, root: Path) -> str:
    """Words for the origin of the token counts."""
    counts = {
        "all": f"tokens counted in {root}",
        "some": f"tokens counted in {root}, or at most max_tokens per row where they were not counted",
        "estimated": f"tokens estimated from the number of characters, {SIGNS:g} a token; at most max_tokens per row "
        "where the text is not on this machine",
        "none": "upper limit: max_tokens per row",
    }
    return counts[estimate.counted]


def _pilot_words(recipe: Recipe, pilot: Estimate, root: Path) -> str:
    if pilot.seeds == 0:
        return "no training, because there is only one candidate"
    first = recipe.verify.pilot.seeds
    return (
        f"in addition to the figures above: {_on_top(pilot, root)}. Each candidate runs on "
        f"{these(first, 'seed', 'seeds')}, the finalists on {pilot.seeds}"
    )


def _log_odds_words(recipe: Recipe, section: LogOdds) -> str:
    counts = (
        f"up to {section.openers} refusing and {section.openers} complying openers of at most "
        f"{these(section.tokens, 'token', 'tokens')}, learned from the pilot"
        if section.kind == "pilot"
        else f"{len(section.refuse)} refusing and {len(section.comply)} complying openers"
    )
    again = "; vLLM does not give them, so transformers loads every model once more" * (
        recipe.verify.generate.engine == "vllm"
    )
    models = "every model"
    if recipe.select.by == "bank":
        models += " of the experiment" if section.kind == "pilot" else " of the bank and of the experiment"
    unmeasured = (
        ". The bank runs before these openers are known and measures no log-odds; give log_odds the texts refuse and "
        "comply to measure them there too"
    ) * (recipe.select.by == "bank" and section.kind == "pilot")
    return (
        f"{counts}, after every harmful probe of {models}{unmeasured}. Openers of at most 3 tokens add at most about "
        f"5% to the time of answering, longer ones more{again}"
    )


def _regime_words(recipe: Recipe, regime: Estimate, root: Path) -> str:
    section = recipe.verify.regime
    assert section is not None
    tried = these(len(section.settings(recipe.verify.finetune)), "setting", "settings")
    when = "in addition to the figures above" if section.auto else "only with `curator check --measure`"
    return (
        f"{when}: {_on_top(regime, root)}. The control alone is trained at {tried} of length and learning rate on "
        f"{these(regime.seeds, 'seed', 'seeds')}; to try fewer, set verify.regime.steps and "
        "verify.regime.learning_rates"
    )


def _on_top(grid: Estimate, root: Path) -> str:
    """Words for what is trained and answered before the experiment, and how long that takes."""
    aligned = _trained(grid.aligned, grid.align_rows, grid.align_tokens)
    finetuned = _trained(grid.finetuned, grid.finetune_rows, grid.finetune_tokens)
    answers = "known when the probes are read" if grid.answers is None else number(grid.answers)
    took = [grid.train_seconds, grid.answer_seconds]
    time = "unknown" if None in took else f"about {duration(sum(each or 0.0 for each in took))}"
    return f"alignment {aligned}; fine-tuning {finetuned} ({_counted(grid, root)}); answers {answers}; time {time}"


def _speeds(recipe: Recipe, root: Path, known: Measured, size: ModelSize | None) -> str:
    speeds = known.align, known.finetune, known.answers
    if size is None:
        name = recipe.model.id
        assumed = f"{name} is not on this machine; run `hf download {name}`, or name a model that is: a folder, or "
        assumed += "package:NAME/PATH"
    else:
        dtype = recipe.model.dtype
        device = gpu_in_words(dtype) if gpu_count() else core_of(dtype, size).words
        assumed = f"assumed: {device}; {number(size.parameters)} parameters by {size.source}"
    measured = f"measured in {root}"
    how = measured if all(speeds) else f"{measured}; otherwise {assumed}" if any(speeds) else assumed
    guards = any(judge.model for judge in recipe.judges.panel)
    return how + ("; excludes the time of judge models" if guards else "")
