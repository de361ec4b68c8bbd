"""The pipeline: the stages in their order, and what makes each.

Each stage is a function from what lies on disk to its own folder; `run.folder.make` decides whether it has to run. What
a stage needs of heavy libraries is imported when it runs, so that a finished run is passed over in no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.engine import engaged
from curator.experiment import stage as experiment
from curator.judge import stage as judge
from curator.keys import inputs_of, stage_keys
from curator.pool import stage as pool
from curator.publish import stage as publish
from curator.recipe import Recipe
from curator.recipe.file import dump
from curator.report import stage as report
from curator.represent import stage as represent
from curator.run import STAGES, Progress, Run, Silent
from curator.run.folder import Made, make, opened, read_json, write_json, write_text
from curator.run.names import BANK, KEYS, RECIPE, SIZE
from curator.score import stage as score
from curator.selection import stage as selection

if TYPE_CHECKING:
    from curator.conclusions import FoundRegime

Work = Callable[[Run, Path], Mapping[str, Any]]


def _select(run: Run, folder: Path) -> Mapping[str, Any]:
    from curator.experiment.choice import bank
    from curator.experiment.pilot import pilot

    if run.recipe.select.by == "bank":
        return selection.select(run, folder, pilot=partial(bank, mixtures=_mixtures(run, folder)))
    return selection.select(run, folder, pilot=pilot)


def _mixtures(run: Run, folder: Path) -> int:
    """How many mixtures the bank has, as was written down before it began: speeds measured since do not change it."""
    from curator.forecast.estimate import mixtures

    path = folder / BANK / SIZE
    if not path.exists():
        write_json(path, {"budget": run.recipe.verify.pilot.bank.budget, "mixtures": mixtures(run.recipe, run.root)})
    count: int = read_json(path)["mixtures"]
    return count


WORK: Mapping[str, Work] = {
    "base": experiment.base,
    "pool": pool.pool,
    "represent": represent.represent,
    "scores": score.scores,
    "select": _select,
    "train": experiment.train,
    "answer": experiment.answer,
    "judge": judge.judge,
    "report": report.report,
    "publish": publish.publish,
}
"""What makes each stage, in their order."""

GRIDS = ("train", "answer", "judge")
"""Stages whose folder holds pieces that have keys of their own."""

SHARED = ("base", "pool", "represent")
"""Stages that run folders of one suite take from each other as a whole."""


def build(
    recipe: Recipe,
    root: Path,
    *,
    until: str = STAGES[-1],
    base: Path = Path("."),
    progress: Progress | None = None,
    shelf: Path | None = None,
) -> dict[str, Made]:
    """Runs a recipe into its run folder, keeping every stage that is already there under the same key.

    Args:
        recipe: What to run.
        root: The run folder; made where missing.
        until: Last stage to run, one of STAGES.
        base: Folder that relative paths of sources start from.
        progress: Where to say how far it is.
        shelf: A folder by which several run folders find what one of them has finished under an equal key.

    Returns:
        What was made or kept, by stage.

    Raises:
        CuratorError: Something that a user can fix: bad input, a full disk, a busy run folder.
    """
    made: dict[str, Made] = {}
    with begun(recipe, root, base, progress, shelf) as (run, keys):
        experiment.prepare(run, until, keys)
        for stage in STAGES[: STAGES.index(until) + 1]:
            if stage == "select" and recipe.verify.finds_regime:  # which a pilot fine-tunes at, too
                experiment.require_found(experiment.regime(run, keys))
            made[stage] = make_stage(run, stage, keys)
    return made


def measure(recipe: Recipe, root: Path, *, base: Path = Path("."), progress: Progress | None = None) -> FoundRegime:
    """The search for the regime in a run folder, with the stages that it needs; a build takes over what it leaves.

    Args:
        recipe: With a section `verify.regime`. The others are as `build` takes them.

    Raises:
        CuratorError: As `build`.
    """
    with begun(recipe, root, base, progress) as (run, keys):
        for stage in ("base", "pool"):
            make_stage(run, stage, keys)
        return experiment.regime(run, keys)


@contextmanager
def begun(
    recipe: Recipe, root: Path, base: Path, progress: Progress | None, shelf: Path | None = None
) -> Iterator[tuple[Run, Mapping[str, str]]]:
    """The opened run folder of a recipe, and the key of every stage."""
    with opened(root), engaged(recipe.engine):
        run = Run(recipe, root, base, progress or Silent(), shelf)
        keys = stage_keys(recipe, inputs_of(recipe, root, base))
        # Written first: it says which of the finished stages belong to this recipe, and which to an earlier one.
        write_text(root / RECIPE, dump(recipe))
        write_json(root / KEYS, {"name": recipe.name, "stages": keys})
        yield run, keys


def make_stage(run: Run, stage: str, keys: Mapping[str, str]) -> Made:
    """One stage, made or kept."""
    folder = run.folder(stage)
    shelf = run.shelf / folder.name if run.shelf is not None and stage in SHARED else None
    made = make(folder, keys[stage], partial(WORK[stage], run), grid=stage in GRIDS, shelf=shelf)
    run.progress.finished(stage, made)
    return made
