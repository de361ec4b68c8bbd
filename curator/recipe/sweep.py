"""Section of a recipe for several settings of fine-tuning on one task, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from curator.recipe.source import Count, Section, require_all
from curator.recipe.training import Training
from curator.wording import these

if TYPE_CHECKING:
    from curator.recipe import Recipe
    from curator.recipe.task import TaskSection

Method = Literal["lora", "full"]
Value = TypeVar("Value")

AT = "@"
"""Separates a task from a setting; names of tasks do not contain it."""


@dataclass(frozen=True)
class TaskSetting:
    """One setting of fine-tuning on a task; null means the recipe's own value."""

    learning_rate: float | None = None
    rows: int | None = None
    method: Method | None = None

    @property
    def name(self) -> str | None:
        """The setting's changes as a name, also for folders: `learning_rate=1e-4,rows=200`; null without changes."""
        rate = None if self.learning_rate is None else f"{Decimal(repr(self.learning_rate)).normalize():e}"
        parts = {"learning_rate": rate, "rows": self.rows, "method": self.method}
        return ",".join(f"{key}={value}" for key, value in parts.items() if value is not None) or None

    def training(self, finetune: Training) -> Training:
        """The training of this setting, from the recipe's `finetune`; full fine-tuning has neither rank nor alpha."""
        changes: dict[str, object] = {}
        if self.learning_rate is not None:
            changes["learning_rate"] = self.learning_rate
        if self.method is not None:
            changes["method"] = self.method
        if self.method == "full":
            changes |= {name: Training.model_fields[name].default for name in ("rank", "alpha")}
        return finetune.model_copy(update=changes)


class Sweep(Section):
    """Several fine-tuning settings of a task: every combination of these lists. Each is a row of its own in every
    table, and they share the task's weight. A list that is left out stands for the recipe's own setting.
    """

    learning_rate: Annotated[list[Annotated[float, Field(gt=0.0)]], Field(min_length=1)] | None = None
    """Learning rates, in place of that of `verify.finetune`."""
    rows: Annotated[list[Count], Field(min_length=1)] | None = None
    """Numbers of rows, in place of the task's own. A smaller setting's rows are among those of a larger one."""
    method: Annotated[list[Method], Field(min_length=1)] | None = None
    """Training methods, in place of that of `verify.finetune`."""

    @model_validator(mode="after")
    def _lists(self) -> Sweep:
        lists = {name: getattr(self, name) for name in type(self).model_fields}
        if all(values is None for values in lists.values()):
            raise ValueError(
                f"the sweep has no setting; give a list for at least one of {', '.join(lists)}, or remove the sweep"
            )
        self.refuse_repeated(*lists)
        return self

    def settings(self, finetune: Training, rows: int | None) -> tuple[TaskSetting, ...]:
        """The settings in the order of the lists, the last list's values changing first.

        Args:
            finetune: The recipe's `verify.finetune`.
            rows: The task's own number of rows.
        """
        return tuple(
            TaskSetting(*changed)
            for changed in product(
                _changes(self.learning_rate, finetune.learning_rate),
                _changes(self.rows, rows),
                _changes(self.method, finetune.method),
            )
        )


def _changes(values: Sequence[Value] | None, own: Value | None) -> list[Value | None]:
    """The values of a list, null for the recipe's own."""
    return [None] if values is None else [None if value == own else value for value in values]


def name_at(task: str, setting: str | None) -> str:
    """The name of a task at a setting, in the column `task` of answers and in every table."""
    return task if setting is None else f"{task}{AT}{setting}"


def split(name: str) -> tuple[str, str | None]:
    """The task and the setting of a name that `name_at` made."""
    task, _, setting = name.partition(AT)
    return task, setting or None


def task_of(name: str) -> str:
    """The task of a name that `name_at` made."""
    return split(name)[0]


def settings_of(recipe: Recipe, task: TaskSection) -> tuple[TaskSetting, ...]:
    """The settings of fine-tuning on a task; without a sweep a single one, the recipe's own."""
    return (TaskSetting(),) if task.sweep is None else task.sweep.settings(recipe.verify.finetune, task.rows)


def settings_by_name(recipe: Recipe) -> dict[str, TaskSetting]:
    """Every setting of fine-tuning in the experiment, by name: a task, or a task at a setting."""
    return {name_at(task.name, each.name): each for task in recipe.tasks for each in settings_of(recipe, task)}


def mix_of(recipe: Recipe) -> dict[str, float]:
    """The mass of each entry in `settings_by_name`: that of its task, divided equally among the task's settings."""
    mass = recipe.weights()
    sizes = {task.name: len(settings_of(recipe, task)) for task in recipe.tasks}
    return {name: mass[task_of(name)] / sizes[task_of(name)] for name in settings_by_name(recipe)}


def require_sense(recipe: Recipe) -> None:
    """Refuses sweeps that contradict another key of the recipe, and keys without effect.

    Raises:
        ValueError: There is such a mistake; the message names all of them.
    """
    checks = (_rows, _learning_rates, _forgetting, _whole_weights, _adapters)
    if any(task.sweep is not None for task in recipe.tasks):
        require_all(*(partial(check, recipe) for check in checks))


def _rows(recipe: Recipe) -> None:
    for task in recipe.tasks:
        most = max((task.sweep and task.sweep.rows) or [0])
        if most and task.rows is None:
            raise ValueError(
                f"tasks: {task.name}.sweep.rows takes the first of the task's rows, and the task does not set their "
                "number; set rows of the task"
            )
        if task.rows is not None and most > task.rows:
            raise ValueError(
                f"tasks: {task.name}.sweep.rows has {most:,}, and the task has {these(task.rows, 'row', 'rows')}; "
                "lower it, or raise the task's rows"
            )


def _learning_rates(recipe: Recipe) -> None:
    for task in recipe.tasks:
        if task.sweep is not None and task.sweep.learning_rate is not None and recipe.verify.finds_regime:
            raise ValueError(
                f"tasks: {task.name}.sweep.learning_rate sets learning rates, and verify.regime finds one; remove "
                "learning_rate, or set verify.regime.auto to false"
            )


def _forgetting(recipe: Recipe) -> None:
    for task in recipe.tasks:
        if recipe.verify.forgetting is None or not task.anticipated:
            continue
        if TaskSetting() not in settings_of(recipe, task):
            raise ValueError(
                "verify: forgetting reads models fine-tuned with the setting of verify.finetune, which the sweep of "
                f"task {task.name!r} leaves out; add that setting to the sweep, or set forgetting to null"
            )


def _whole_weights(recipe: Recipe) -> None:
    for task in recipe.tasks:
        if recipe.model.quantise is not None and task.sweep is not None and "full" in (task.sweep.method or ()):
            raise ValueError(
                f"tasks: {task.name}.sweep.method has 'full', and a model with model.quantise trains adapters only; "
                "remove it"
            )


def _adapters(recipe: Recipe) -> None:
    """Refuses rank or alpha if nothing reads them: full fine-tuning does not; the pilot and the search for the regime
    use the recipe's own settings, whatever is swept.
    """
    finetune = recipe.verify.finetune
    if recipe.select.weight == "auto" or recipe.verify.regime is not None:
        return
    if all(each.training(finetune).method == "full" for each in settings_by_name(recipe).values()):
        reason = "only method: lora reads it, and every setting of the sweeps is full"
        finetune.refuse_unread("rank", "alpha", reason=reason, prefix="verify: finetune.")
