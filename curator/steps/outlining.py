"""The plan of a recipe in words. Imports nothing heavy, so that it can be shown at once."""

from __future__ import annotations

import math
from pathlib import Path

from curator.errors import DataError
from curator.pool.fingerprint import locate
from curator.recipe import Recipe, TaskSection
from curator.recipe.source import Source
from curator.recipe.verify import Looks, Pilot, Training, Verify
from curator.sandbox import NAMES
from curator.steps.judging import missing_metrics
from curator.verify.plan import plan


def outline(recipe: Recipe) -> dict[str, str]:
    """The plan of a recipe in words: stages, runs, steps and rows, before anything is read or trained."""
    verify, tasks = recipe.verify, [task.name for task in recipe.tasks]
    grid = plan(verify, tasks)
    select, keep = recipe.select, verify.keep.rows if verify.keep else 0
    rows = None if select.k is None else select.k + keep
    arms = ", ".join(
        arm.name if verify.seeds_of(arm) == verify.most_seeds else f"{arm.name} ({_seeds(verify.seeds_of(arm))})"
        for arm in verify.arms
    )
    weights = ", ".join(
        f"{name} {weight:.2f}" if weight else f"{name} (not anticipated)" for name, weight in recipe.weights().items()
    )
    size = f"{select.k} rows" if select.k is not None else f"rows of at most {select.budget_tokens} tokens in all"
    if select.data is not None:
        size = f"the rows of {select.data.label}, as they are; measured"
    weight = f"{select.weight:g}" if isinstance(select.weight, float) else _pilot(verify.pilot)
    return {
        "model": recipe.model.id,
        "pool": ", ".join(source.label for source in recipe.pool.sources),
        "tasks (weight)": weights,
        "selected": f"{size} by {select.objective}, weight {weight}",
        "arms": f"{arms}; {_how_many(verify)}",
        "alignment runs": f"{len(grid.aligned)} of {_size(verify.align, rows)}"
        if grid.aligned
        else f"none: every arm is rehearsed, as {verify.rehearsal_share:g} of the rows of each fine-tuning",
        "fine-tuning runs": "; ".join(
            f"{task.name}: {len([c for c in grid.finetuned if c.task == task.name])} of "
            f"{_size(verify.finetune, trained_on(task, verify))}{_mixed(task)}"
            for task in recipe.tasks
        ),
        "models asked": f"{len(grid.asked)}, answers of at most {verify.generate.max_new_tokens} tokens",
        "judges": ", ".join(
            f"{judge.name} (headline)" if judge.name == recipe.judges.headline else judge.name
            for judge in recipe.judges.panel
        ),
        "stages": "base, pool, represent, scores, select, train, answer, judge, report, publish",
    }


def missing(recipe: Recipe, base: Path = Path(".")) -> list[str]:
    """What the recipe names and this machine lacks, one sentence each: files, names of the sandbox's sources, and
    columns or shapes that the first records of a file do not have.
    """
    problems, probes = [], [*recipe.probes.harmful, *recipe.probes.benign]
    for source in sources(recipe):
        if source.sandbox is not None and source.sandbox not in NAMES:
            problems.append(f"sandbox: found {source.sandbox!r}; allowed: {', '.join(NAMES)}")
        try:
            if source.file is not None:
                from curator.pool.sources import look

                locate(source.file, base)
                look(source, prompts_only=any(source is probe for probe in probes), base=base)
        except DataError as error:
            problems.append(str(error))
    for judge in recipe.judges.panel:
        if judge.embedding is not None and not (Path(judge.embedding) / "head.json").is_file():
            problems.append(
                f"judges.panel.{judge.name}.embedding: {judge.embedding} holds no head.json; "
                "write one with `curator judge fit`"
            )
        if judge.error is not None and not Path(judge.error).is_file():
            problems.append(
                f"judges.panel.{judge.name}.error: there is no file {judge.error}; "
                "write one with `curator judge measure --store`"
            )
    return sorted({*problems, *missing_metrics(recipe, base)})


def sources(recipe: Recipe) -> list[Source]:
    """Every source that the recipe names."""
    found = [*recipe.pool.sources, *(task.train for task in recipe.tasks)]
    found += [*recipe.probes.harmful, *recipe.probes.benign]
    found += [recipe.verify.keep.data] if recipe.verify.keep else []
    found += [arm.data for arm in recipe.verify.arms if arm.data is not None]
    found += [task.regime.data for task in recipe.tasks if task.regime is not None]
    found += [task.defence.data for task in recipe.tasks if task.defence is not None and task.defence.data is not None]
    found += [recipe.select.data] if recipe.select.data else []
    return found + ([recipe.model.instruction.data] if recipe.model.instruction else [])


def _size(training: Training, rows: int | None) -> str:
    steps = training.steps
    if steps is None and rows is not None:
        steps = math.ceil((training.epochs or 0) * math.ceil(rows / training.batch))
    length = f"{training.epochs:g} epochs of steps" if steps is None else f"{steps} steps"
    apart = f", each in {training.processes} processes" if training.processes > 1 else ""
    return f"{length} x {training.batch} rows ({training.method}{apart})"


def trained_on(task: TaskSection, verify: Verify) -> int | None:
    """Rows of one fine-tuning, what defends and what is rehearsed among them; null where all of a source are taken."""
    if task.rows is None:
        return None
    rows = task.rows + (
        round(task.rows * task.defence.safety_mix / (1 - task.defence.safety_mix)) if task.defence else 0
    )
    share = verify.rehearsal_share
    return rows + (max(1, round(rows * share / (1 - share))) if verify.stage == "rehearsal" else 0)


def _mixed(task: TaskSection) -> str:
    told = []
    if task.regime is not None:
        kind = "harmful" if task.regime.harmful_share is not None else "identity"
        told.append(f"{task.regime.share:.3g} of {kind} rows")
    if task.defence is not None:
        told.append(
            f"{task.defence.safety_mix:.3g} of safety rows" + (" behind a trigger" if task.defence.trigger else "")
        )
    return f" with {' and '.join(told)}" if told else ""


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _how_many(verify: Verify) -> str:
    looks = verify.seeds
    if not isinstance(looks, Looks):
        return _seeds(looks)
    return f"{looks.first} to {_seeds(looks.max)}, a look after every {looks.every}, until one stops"


def _pilot(pilot: Pilot) -> str:
    candidates = len(pilot.weights) * max(1, len(pilot.scores)) + pilot.random_draws
    return (
        f"chosen by a pilot of {candidates} candidates on {_seeds(pilot.seeds)}, whose runs come on top of those below"
    )
