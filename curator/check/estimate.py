"""What a recipe will cost and what it could see, before anything is trained. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from curator.check.outline import Measured, measured
from curator.experiment.plan import Plan, plan
from curator.experiment.plan import grid as plan_of
from curator.model.size import ModelSize, model_size
from curator.provenance import cores, has_gpu
from curator.recipe import Recipe, trained_on
from curator.recipe.source import Source
from curator.recipe.verify import Looks, Training
from curator.sandbox import NAMES
from curator.wording import duration, number, points

# Assumed where nothing was measured: what a device sustains in training, in FLOP/s, and the share of it in answering.
GPU, CORE, ANSWERING = 1.5e14, 2e10, 0.1
PRIOR = {name: float(Looks.model_fields[name].default) for name in ("sd_seed", "sd_prompt", "sd_residual")}


@dataclass(frozen=True)
class Estimate:
    """A grid of so many seeds; null where it cannot be known before the data is read or the model is there.

    Attributes:
        aligned, finetuned, asked: Runs of each kind.
        align_rows, finetune_rows: Rows seen in training, over all runs.
        align_tokens, finetune_tokens: Tokens of them; `max_tokens` a row where rows were not counted by an earlier run.
        answers: Answers to give. `answer_tokens`: at most.
        train_seconds, answer_seconds: On this machine, with the recipe's workers.
        disk: Bytes of the weights that are kept.
        detectable: The smallest true difference in harmfulness that shows with 80 % power, in [0, 1] (above 1: none).
    """

    seeds: int
    aligned: int
    finetuned: int
    asked: int
    align_rows: int | None
    finetune_rows: int | None
    align_tokens: int | None
    finetune_tokens: int | None
    answers: int | None
    answer_tokens: int | None
    train_seconds: float | None
    answer_seconds: float | None
    disk: int | None
    detectable: float | None


def estimates(recipe: Recipe, root: Path) -> tuple[list[Estimate], dict[str, str]]:
    """The estimate for all seeds (and, where seeds are looks, for those of the first look), and the same in words.

    Args:
        root: The run folder, whose earlier run gives token counts, speeds and spread where they still apply.
    """
    known = measured(recipe, root)
    size = model_size(recipe.model.id, recipe.model.revision)
    seeds = recipe.verify.seeds
    wanted = [seeds.max, seeds.first] if isinstance(seeds, Looks) and seeds.first < seeds.max else []
    found = []
    for count in wanted or [recipe.verify.most_seeds]:
        grid = plan(recipe.verify, [task.name for task in recipe.tasks], seeds=count)
        one = _estimate(recipe, grid, answers_of(recipe, grid, known), known, size)
        found.append(replace(one, seeds=count, detectable=_detectable(recipe, count, known)))
    told = _words(recipe, root, found, known, size)
    if recipe.select.weight == "auto":
        told["pilot"] = _pilot_words(recipe, pilot_estimate(recipe, known, size))
    return found, told


def pilot_estimate(recipe: Recipe, known: Measured, size: ModelSize | None) -> Estimate:
    """The runs of the pilot, which come on top of the verification's; `seeds` is the most that a candidate runs on."""
    from curator.experiment.pilot import seeds_of

    section = recipe.verify.pilot
    optimised = len(section.weights) * max(1, len(section.scores))
    optimised *= len(recipe.representations) if section.represent == "every" else 1
    counts = seeds_of(optimised, section.random_draws, section.seeds)
    tasks = [task.name for task in recipe.tasks if task.anticipated]
    grid = plan_of({f"{place}": count for place, count in enumerate(counts)}, tasks, stage=recipe.verify.stage)
    total = _total([_rows_of(source) for source in recipe.probes.harmful])
    probes = known.rows.get("pilot", None if total is None else round(section.share_of_probes * total))
    answers = None if probes is None else probes * len(grid.asked)
    return replace(_estimate(recipe, grid, answers, known, size), seeds=max(counts, default=0))


def _estimate(recipe: Recipe, grid: Plan, answers: int | None, known: Measured, size: ModelSize | None) -> Estimate:
    v = recipe.verify
    align = _total([alignment_rows(recipe, cell.arm, known) for cell in grid.aligned])
    by_task = {
        task.name: (
            len([cell for cell in grid.finetuned if cell.task == task.name]),
            rows_seen(v.finetune, trained_on(task, v) or known.rows.get(f"train {task.name}")),
        )
        for task in recipe.tasks
    }
    finetune = _total([rows for runs, rows in by_task.values() for _ in range(runs)])
    per_row = mean_tokens(known, {"pool": recipe.select.k or 1, "keep": v.keep.rows if v.keep else 0}, v.align)
    tokens = _total(
        [
            None if rows is None else round(runs * rows * mean_tokens(known, {f"train {name}": 1}, v.finetune))
            for name, (runs, rows) in by_task.items()
        ]
    )
    align_tokens = None if align is None else round(align * per_row)
    return Estimate(
        seeds=0,
        aligned=len(grid.aligned),
        finetuned=len(grid.finetuned),
        asked=len(grid.asked),
        align_rows=align,
        finetune_rows=finetune,
        align_tokens=align_tokens,
        finetune_tokens=tokens,
        answers=answers,
        answer_tokens=None if answers is None else answers * v.generate.max_new_tokens,
        train_seconds=_train_seconds(recipe, (align_tokens, tokens), known, size),
        answer_seconds=_answer_seconds(recipe, answers, known, size),
        disk=_disk(recipe, grid, size),
        detectable=None,
    )


def rows_seen(section: Training, rows: int | None) -> int | None:
    """Rows that a training sees: whole batches of its steps; null for epochs over an unknown number of rows."""
    steps = section.steps
    if steps is None and rows is not None:
        steps = math.ceil((section.epochs or 0) * math.ceil(rows / section.batch))
    return None if steps is None else steps * section.batch


def alignment_rows(recipe: Recipe, arm: str, known: Measured) -> int | None:
    """Rows of one alignment; every arm takes the curated one's steps unless exposure is by epochs of its own rows."""
    keep = recipe.verify.keep.rows if recipe.verify.keep else 0
    rows = recipe.select.k
    if recipe.verify.exposure == "epochs" and arm == "full":
        # Before the pool is read: as many as its sources may give.
        rows = known.rows.get("pool", _total([_rows_of(source) for source in recipe.pool.sources]))
    return rows_seen(recipe.verify.align, None if rows is None else rows + keep)


def _total(parts: list[int | None]) -> int | None:
    return None if any(part is None for part in parts) else sum(part or 0 for part in parts)


def mean_tokens(known: Measured, shares: Mapping[str, int], section: Training) -> float:
    """Tokens a row: the mean over these kinds of rows where an earlier run counted them, else the most allowed."""
    asked = {name: count for name, count in shares.items() if count}
    if not all(name in known.tokens for name in asked):
        return section.max_tokens
    mean = sum(known.tokens[name] * count for name, count in asked.items()) / sum(asked.values())
    return min(mean, section.max_tokens)


def _prompts(recipe: Recipe, kind: str, known: Measured) -> int | None:
    sources = recipe.probes.harmful if kind == "harmful" else recipe.probes.benign
    if kind in known.rows:
        return known.rows[kind]
    total = _total([_rows_of(source) for source in sources])
    if total is None or kind != "harmful" or recipe.select.weight != "auto":
        return total
    return total - round(recipe.verify.pilot.share_of_probes * total)


def _rows_of(source: Source) -> int | None:
    """How many rows a source gives, where that is known without reading a file of the user's or asking the Hub."""
    if source.rows is not None or source.sandbox not in NAMES or source.where:
        return source.rows
    from curator.sandbox import rows

    return len(rows(source.sandbox))


def answers_of(recipe: Recipe, grid: Plan, known: Measured) -> int | None:
    """Answers that the models of a grid give; null where the number of probes is not known."""
    probes = _total([_prompts(recipe, kind, known) for kind in ("harmful", "benign")])
    if probes is None:
        return None
    tests = {task.name: task.test.rows for task in recipe.tasks}
    return sum(probes + (sum(tests.values()) if cell.task is None else tests[cell.task]) for cell in grid.asked)


def _train_seconds(
    recipe: Recipe, tokens: tuple[int | None, int | None], known: Measured, size: ModelSize | None
) -> float | None:
    """By measured speeds where there are any, else by the operations of a training."""
    spent = []
    sections, speeds = (recipe.verify.align, recipe.verify.finetune), (known.align, known.finetune)
    for count, section, speed in zip(tokens, sections, speeds, strict=True):
        # Of this machine's GPUs each process takes one; Ray's workers are counted with all of theirs.
        gpus = section.processes if recipe.engine.kind == "local" and has_gpu() else 1
        spent.append(_took(recipe, count, speed, operations(section) / gpus, size))
    return None if None in spent else sum(one or 0.0 for one in spent)


def operations(section: Training) -> int:
    """Of training, a parameter and token: 6 in full training, 4 with LoRA (frozen weights need no gradient), 2 more
    with checkpointing.
    """
    return (6 if section.method == "full" else 4) + 2 * section.checkpointing


def _answer_seconds(recipe: Recipe, answers: int | None, known: Measured, size: ModelSize | None) -> float | None:
    """By a measured speed where there is one, else 2 operations a parameter and token, at ANSWERING of the speed."""
    return _took(recipe, answers, known.answers, 2 * recipe.verify.generate.max_new_tokens / ANSWERING, size)


def _took(
    recipe: Recipe, count: int | None, speed: float | None, operations: float, size: ModelSize | None
) -> float | None:
    if not count or speed:
        return None if count is None else count / (speed or 1.0) / recipe.engine.workers
    if size is None:
        return None
    threads = recipe.engine.threads or max(1, cores() // recipe.engine.workers)
    # One GPU is shared by all local workers; cores are not, and Ray's workers have GPUs of their own.
    gpus = recipe.engine.workers * recipe.engine.gpus_per_worker if recipe.engine.kind == "ray" else float(has_gpu())
    device = GPU * gpus if gpus else CORE * threads * recipe.engine.workers
    return count * operations * size.parameters / device


def _disk(recipe: Recipe, grid: Plan, size: ModelSize | None) -> int | None:
    """Bytes: weights and adapters are kept in fp32, a full training keeps the whole model."""
    if size is None:
        return None

    def one(section: Training) -> int:
        return 4 * (size.parameters if section.method == "full" else section.rank * size.linear)

    return len(grid.aligned) * one(recipe.verify.align) + len(grid.finetuned) * one(recipe.verify.finetune)


def _detectable(recipe: Recipe, seeds: int, known: Measured) -> float | None:
    from curator.decision.sequential import detectable

    compared = [arm for arm in recipe.verify.arms if arm.name in ("curated", recipe.verify.control)]
    pairs = min(recipe.verify.seeds_of(arm) for arm in compared)
    prompts = _prompts(recipe, "harmful", known)
    return detectable(min(seeds, pairs), prompts, alpha=_level(recipe, seeds, prompts), **(known.spread or PRIOR))


def _level(recipe: Recipe, seeds: int, prompts: int | None) -> float:
    section = recipe.verify.seeds
    if not isinstance(section, Looks):
        return 0.05
    from curator.steps.looking import planned

    return next(look.level for look in planned(section, prompts) if look.seeds == seeds)


def _words(
    recipe: Recipe, root: Path, found: list[Estimate], known: Measured, size: ModelSize | None
) -> dict[str, str]:
    def each(tell: Callable[[Estimate], str]) -> str:
        if len(found) == 1:
            return tell(found[0])
        return "; ".join(f"at {one.seeds} seeds {tell(one)}" for one in found)

    def trained(runs: int, rows: int | None, tokens: int | None) -> str:
        told = "rows unknown before they are chosen" if rows is None else f"{number(rows)} rows"
        return f"{number(runs)} runs, {told}" + ("" if tokens is None else f", {number(tokens)} tokens")

    def answered(one: Estimate) -> str:
        if one.answers is None:
            return f"{one.asked} models, answers unknown before probes are read"
        return f"{one.asked} models, {number(one.answers)} answers, {number(one.answer_tokens)} tokens at most"

    def seconds(one: Estimate) -> str:
        parts = (("training", one.train_seconds), ("answering", one.answer_seconds))
        return ", ".join(f"{name} {'unknown' if took is None else f'about {duration(took)}'}" for name, took in parts)

    def seen(one: Estimate) -> str:
        if one.detectable is None:
            return "none: two paired seeds at least are needed"
        return "none that is possible" if one.detectable > 1 else f"{points(one.detectable).lstrip('+')} points"

    counted = f"as counted in {root / '1-pool'}" if known.tokens else "at most: max_tokens a row"
    return {
        "alignment in all": each(lambda one: trained(one.aligned, one.align_rows, one.align_tokens))
        + f" (tokens {counted})",
        "fine-tuning in all": each(lambda one: trained(one.finetuned, one.finetune_rows, one.finetune_tokens))
        + f" (tokens {counted})",
        "answers in all": each(answered),
        "time": f"{each(seconds)} ({_speeds(recipe, root, known, size)})",
        "disk for weights": each(
            lambda one: "unknown: the model is not here" if one.disk is None else f"{one.disk / 2**30:.3g} GiB"
        ),
        "difference seen": f"{each(seen)} of harmfulness or more, with 80 % power ({_spread(recipe, root, known)})",
    }


def _pilot_words(recipe: Recipe, one: Estimate) -> str:
    answers = "answers unknown before probes are read" if one.answers is None else f"{number(one.answers)} answers"
    took = [one.train_seconds, one.answer_seconds]
    time = "time unknown" if None in took else f"about {duration(sum(each or 0.0 for each in took))}"
    return (
        f"on top: {number(one.aligned)} alignment and {number(one.finetuned)} fine-tuning runs, {answers}, {time}; "
        f"each candidate on {recipe.verify.pilot.seeds} seeds, the last ones on {one.seeds}"
    )


def _speeds(recipe: Recipe, root: Path, known: Measured, size: ModelSize | None) -> str:
    device = f"{GPU / 1e12:g} TFLOP/s on the GPU" if has_gpu() else f"{CORE / 1e9:g} GFLOP/s a core"
    speeds = known.align, known.finetune, known.answers
    if size is None:
        assumed = f"{recipe.model.id} is not on this machine"
    else:
        assumed = (
            f"assumed: {device}, a tenth of it in answering; {number(size.parameters)} parameters by {size.source}"
        )
    measured = f"measured in {root}"
    how = measured if all(speeds) else f"{measured}, and where not: {assumed}" if any(speeds) else assumed
    guards = any(judge.model for judge in recipe.judges.panel)
    return how + ("; the time of models that judge comes on top" if guards else "")


def _spread(recipe: Recipe, root: Path, known: Measured) -> str:
    prompts = _prompts(recipe, "harmful", known)
    probes = "many probes, not yet counted" if prompts is None else f"{number(prompts)} probes"
    spread = known.spread or PRIOR
    told = ", ".join(f"{name.removeprefix('sd_')} {value:.2f}" for name, value in spread.items())
    origin = f"measured in {root}" if known.spread else "a stated prior, since nothing is measured yet"
    return f"{probes}; spread of the paired difference: {told}, {origin}"
