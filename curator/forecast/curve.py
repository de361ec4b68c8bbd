"""The cost of evaluating models during fine-tuning: answers and weights, but no training. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from curator.experiment.curve import together, without_curve
from curator.experiment.plan import Plan
from curator.forecast.measured import Measured
from curator.forecast.workload import Load, finetuning_steps, prompts
from curator.recipe import Recipe
from curator.recipe.sweep import TaskSetting, settings_by_name, settings_of, task_of
from curator.recipe.task import TaskSection
from curator.recipe.training import checkpoint_steps
from curator.wording import number


def checkpoints(recipe: Recipe, task: TaskSection, setting: TaskSetting, known: Measured) -> int:
    """Number of checkpoints of each training on a task; an upper limit if its number of steps is not known yet."""
    steps = finetuning_steps(recipe, task, setting, known)
    return len(task.checkpoints if steps is None else checkpoint_steps(task.checkpoints, steps))


def models(recipe: Recipe, grid: Plan, known: Measured) -> int:
    """Number of checkpoints in a grid."""
    left = _left(recipe, known)
    return sum(left[cell.tuned or ""] for cell in grid.finetuned)


def _left(recipe: Recipe, known: Measured) -> dict[str, int]:
    """Checkpoints of each training on a task, by the name of the task at a setting."""
    tasks = {task.name: task for task in recipe.tasks}
    return {
        name: checkpoints(recipe, tasks[task_of(name)], setting, known)
        for name, setting in settings_by_name(recipe).items()
    }


def answers(recipe: Recipe, grid: Plan, known: Measured) -> int | None:
    """Number of answers of checkpoints, to harmful probes only, as often as the recipe says; null if the number of
    probes is unknown.
    """
    count, probes = models(recipe, grid, known), prompts(recipe, "harmful", known)
    return count and (None if probes is None else count * probes * recipe.verify.generate.samples)


def weights_of(recipe: Recipe, load: Load, known: Measured) -> int:
    """Number of times that trainings of the grid write weights: at the end, and at each checkpoint."""
    tuned = None if load.cell is None else load.cell.tuned
    return 1 if tuned is None else 1 + _left(recipe, known).get(tuned, 0)


def in_words(recipe: Recipe, task: TaskSection, setting: TaskSetting) -> str:
    """Words for the points during fine-tuning at which a task's models are evaluated; empty if there are none."""
    if not task.checkpoints:
        return ""
    steps = _known_steps(recipe, task, setting)
    if steps is None:
        return f", also evaluated after {_listed(f'{share:g}' for share in task.checkpoints)} of it"
    taken = checkpoint_steps(task.checkpoints, steps)
    after = _listed(number(step, 9) for step in taken)
    return f", also evaluated after {'step' if len(taken) == 1 else 'steps'} {after}" if after else ""


def merged(recipe: Recipe) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Shares of a task's fine-tuning that are rounded to one step, by the key."""
    for position, task in enumerate(recipe.tasks):
        lengths = dict.fromkeys(_known_steps(recipe, task, setting) for setting in settings_of(recipe, task))
        for steps in lengths:
            if steps is not None:
                for sentence in together(task.checkpoints, steps):
                    yield ("tasks", position, "probe_at"), sentence


def flat(recipe: Recipe) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Anticipated tasks without a point of the curve before its end, by the key, where the area decides."""
    if recipe.lacks or recipe.verify.curve.primary != "area":
        return
    for position, task in enumerate(recipe.tasks):
        lengths = dict.fromkeys(_known_steps(recipe, task, setting) for setting in settings_of(recipe, task))
        for steps in lengths:
            if task.anticipated and task.checkpoints and steps is not None:
                sentence = without_curve(task.checkpoints, steps)
                if sentence is not None:
                    yield ("tasks", position, "probe_at"), sentence


def _known_steps(recipe: Recipe, task: TaskSection, setting: TaskSetting) -> int | None:
    """Steps of each fine-tuning; null if the build finds them, or if they are unknown before rows are read."""
    return None if recipe.verify.finds_regime else finetuning_steps(recipe, task, setting, Measured())


def _listed(words: Iterator[str] | Sequence[str]) -> str:
    *first, last = [*words] or [""]
    return f"{', '.join(first)} and {last}" if first else last
