"""Experiment trackers: losses and learning rates of trainings, and the figures of a run, by transformers' integrations.

A tracker gets only numbers and settings of trainings: no prompts, no answers, and nothing that is printed.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from curator.errors import RunError
from curator.recipe import Recipe

_VARIABLES: Mapping[str, Mapping[str, str]] = {
    "trackio": {},
    # Neither what is printed nor code is sent, and weights never are. It prints nothing of its own for every training.
    "wandb": {
        "WANDB_PROJECT": "{project}",
        "WANDB_CONSOLE": "off",
        "WANDB_DISABLE_CODE": "true",
        "WANDB_SILENT": "true",
    },
    "mlflow": {"MLFLOW_EXPERIMENT_NAME": "{project}"},
}
"""Tracker -> environment variables for its integration; a user's own values are kept."""
_NEVER = {"WANDB_LOG_MODEL": "false", "WANDB_WATCH": "false", "HF_MLFLOW_LOG_ARTIFACTS": "false"}


@dataclass(frozen=True)
class Tracker:
    """Where a run is reported to.

    Attributes:
        name: Name of the tracker. `project`: project in the tracker, the recipe's name. `run`: run in the project; for
            a training, its folder.
    """

    name: str
    project: str
    run: str = ""

    def require(self) -> None:
        """Checks that the tracker is installed.

        Raises:
            RunError: It is not installed.
        """
        found = find_spec(self.name)
        if found is None or found.origin is None:  # a folder of this name, which trackers may leave, is not the library
            raise RunError(
                f"engine.report_to: {self.name} is not installed; install it with `pip install {self.name}`, or set "
                "report_to to null"
            )

    @property
    def arguments(self) -> dict[str, object]:
        """The arguments of a training that concern the tracker."""
        return {"report_to": [self.name], "run_name": self.run, "project": self.project}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Wraps one training and closes its run at the end, since workers make many.

        Raises:
            RunError: The tracker is not installed here, or it failed.
        """
        self.require()
        settings = {name: text.format(project=self.project) for name, text in _VARIABLES[self.name].items()}
        before = dict(os.environ)
        os.environ.update({**settings, **{name: before[name] for name in settings if name in before}, **_NEVER})
        try:
            yield
        except Exception as error:
            if type(error).__module__.partition(".")[0] != self.name:
                raise
            raise RunError(
                f"engine.report_to: {self.name} failed ({type(error).__name__}: {error}); correct its settings and run "
                "the same command again, or set report_to to null"
            ) from error
        finally:
            if self.name == "wandb":
                importlib.import_module("wandb").finish()
            for name in (*settings, *_NEVER):
                os.environ.pop(name, None)
                if name in before:
                    os.environ[name] = before[name]

    def report(self, figures: Mapping[str, float]) -> None:
        """Reports figures that belong to no training, under a separate run.

        Raises:
            RunError: The tracker is not installed.
        """
        with self.open(), tempfile.TemporaryDirectory() as folder:
            from transformers import TrainerControl, TrainerState, TrainingArguments
            from transformers.integrations import get_reporting_integration_callbacks

            arguments = TrainingArguments(
                output_dir=folder, use_cpu=True, report_to=[self.name], run_name=self.run, project=self.project
            )
            (kind,) = get_reporting_integration_callbacks(arguments.report_to)
            callback, state, control = kind(), TrainerState(), TrainerControl()
            callback.on_train_begin(arguments, state, control, model=None)
            callback.on_log(arguments, state, control, logs=dict(figures), model=None)
            callback.on_train_end(arguments, state, control, model=None)


def tracker_of(recipe: Recipe) -> Tracker | None:
    """The tracker that a recipe names; null if it names none."""
    name = recipe.engine.report_to
    return None if name is None else Tracker(name, recipe.name)
