"""The plan of a recipe in words. Imports nothing heavy, so that it can be shown at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curator.errors import RecipeError
from curator.experiment.plan import plan
from curator.recipe import Recipe, TaskSection, trained_on
from curator.recipe.verify import Looks, Pilot, Training, Verify
from curator.run import FOLDERS
from curator.run.folder import DONE, finished, read_json


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


def _size(training: Training, rows: int | None) -> str:
    steps = training.steps
    if steps is None and rows is not None:
        steps = math.ceil((training.epochs or 0) * math.ceil(rows / training.batch))
    length = f"{training.epochs:g} epochs of steps" if steps is None else f"{steps} steps"
    apart = f", each in {training.processes} processes" if training.processes > 1 else ""
    return f"{length} x {training.batch} rows ({training.method}{apart})"


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


SPREAD = ("sd_seed", "sd_prompt", "sd_residual")


@dataclass(frozen=True)
class Measured:
    """Figures of an earlier run.

    Attributes:
        rows: `pool`, `keep`, `harmful`, `benign`, `pilot`, `train <task>`, `test <task>` -> rows.
        tokens: Of the same names, where they were counted: mean tokens a row.
        align, finetune: Tokens a second of one process; null where nothing was trained like this.
        answers: Answers a second of one process; null where none was given like this.
        spread: Of the paired difference: sd_seed, sd_prompt, sd_residual; null without a comparison.
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, float] = field(default_factory=dict)
    align: float | None = None
    finetune: float | None = None
    answers: float | None = None
    spread: Mapping[str, float] | None = None


def measured(recipe: Recipe, root: Path) -> Measured:
    """What the run in `root` says about this recipe: rows where it reads the same data, speeds where it trains or asks
    the same model in the same way, the spread where model, tasks and training are the same.
    """
    former = _former(root)
    if former is None or former.model != recipe.model:
        return Measured()
    ours, theirs = recipe.verify, former.verify
    same_data = (recipe.pool, recipe.tasks, recipe.probes, ours.keep, recipe.seed) == (
        former.pool, former.tasks, former.probes, theirs.keep, former.seed,
    )  # fmt: skip
    rows, tokens = _data(root, recipe) if same_data else ({}, {})
    same_engine = recipe.engine.threads == former.engine.threads
    same_training = (recipe.tasks, ours.align, ours.finetune) == (former.tasks, theirs.align, theirs.finetune)
    return Measured(
        rows=rows,
        tokens=tokens,
        align=_speed(root, "before/*") if same_engine and _alike(ours.align, theirs.align) else None,
        finetune=_speed(root, "after/*/*") if same_engine and _alike(ours.finetune, theirs.finetune) else None,
        answers=_answers(root) if same_engine and ours.generate == theirs.generate else None,
        spread=_spread(root) if same_training else None,
    )


def _former(root: Path) -> Recipe | None:
    from curator.recipe.file import read

    try:
        return read(root / "recipe.yaml") if (root / "recipe.yaml").exists() else None
    except RecipeError:  # of another version of ours: nothing of it can be compared
        return None


def _alike(first: Training, second: Training) -> bool:
    """Whether a token costs the same."""
    names = ("method", "rank", "micro_batch", "max_tokens", "checkpointing", "processes")
    return all(getattr(first, name) == getattr(second, name) for name in names)


def _data(root: Path, recipe: Recipe) -> tuple[dict[str, int], dict[str, float]]:
    folder = root / FOLDERS["pool"]
    if finished(folder) is None:
        return {}, {}
    import polars as pl

    files = {"pool": "pool", "keep": "keep", "harmful": "probes-harmful", "benign": "probes-benign"}
    files["pilot"] = "probes-pilot"
    for task in recipe.tasks:
        files |= {f"{part} {task.name}": f"tasks/{task.name}-{part}" for part in ("train", "test")}
    rows, tokens = {}, {}
    for name, file in files.items():
        if not (folder / f"{file}.parquet").exists():  # a run of an earlier version, which wrote fewer
            continue
        found = pl.scan_parquet(folder / f"{file}.parquet").select(pl.len(), pl.col("tokens").mean()).collect()
        rows[name], mean = found.row(0)
        if mean and name not in ("harmful", "benign", "pilot"):
            tokens[name] = float(mean)
    return rows, tokens


def _pieces(folder: Path, pattern: str) -> Iterable[dict[str, Any]]:
    found = (finished(path.parent) for path in sorted(folder.glob(f"{pattern}/{DONE}")))
    return (one for one in found if one is not None)


def _speed(root: Path, pattern: str) -> float | None:
    trained = [one["record"] for one in _pieces(root / FOLDERS["train"], pattern)]
    seconds = sum(one["seconds"] for one in trained)
    return sum(one["tokens"] for one in trained) / seconds if seconds else None


def _answers(root: Path) -> float | None:
    asked = [one for pattern in ("before/*", "after/*/*") for one in _pieces(root / FOLDERS["answer"], pattern)]
    seconds = sum(one["seconds"] for one in asked)
    return sum(one["record"]["answers"] for one in asked) / seconds if seconds else None


def _spread(root: Path) -> dict[str, float] | None:
    folder = root / FOLDERS["report"]
    if finished(folder) is None:
        return None
    primary = read_json(folder / "report.json")["decision"]["primary"] or {}
    found = {name: float(primary[name]) for name in SPREAD if primary.get(name) is not None}
    return found if len(found) == len(SPREAD) else None
