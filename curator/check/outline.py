"""The plan of a recipe in words. Imports nothing heavy, so that it can be shown at once."""

from __future__ import annotations

from curator.experiment.plan import candidates, plan, trained_on
from curator.recipe import Recipe, TaskSection
from curator.recipe.verify import Looks, Training, Verify
from curator.wording import these


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
    weight = f"{select.weight:g}" if isinstance(select.weight, float) else _pilot(recipe)
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
    steps = training.steps if rows is None else training.steps_over(rows)
    length = f"{training.epochs:g} epochs of steps" if steps is None else f"{steps} steps"
    apart = f", each in {training.processes} processes" if training.processes > 1 else ""
    return f"{length} x {training.batch} rows ({training.method}{apart})"


def _mixed(task: TaskSection) -> str:
    parts = []
    if task.regime is not None:
        kind = "harmful" if task.regime.harmful_share is not None else "identity"
        parts.append(f"{task.regime.share:.3g} of {kind} rows")
    if task.defence is not None:
        parts.append(
            f"{task.defence.safety_mix:.3g} of safety rows" + (" behind a trigger" if task.defence.trigger else "")
        )
    return f" with {' and '.join(parts)}" if parts else ""


def _seeds(count: int) -> str:
    return these(count, "seed", "seeds")


def _how_many(verify: Verify) -> str:
    looks = verify.seeds
    if not isinstance(looks, Looks):
        return _seeds(looks)
    return f"{looks.first} to {_seeds(looks.max)}, a look after every {looks.every}, until one stops"


def _pilot(recipe: Recipe) -> str:
    pilot = recipe.verify.pilot
    compared = these(len(candidates(pilot, len(recipe.representations))), "candidate", "candidates")
    return f"chosen by a pilot of {compared} on {_seeds(pilot.seeds)}, whose runs come on top of those below"
