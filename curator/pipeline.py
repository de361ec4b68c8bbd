"""The pipeline: the stages in their order, and what makes each.

Each stage is a function from what is on disk to its own folder; `run.folder.make` decides whether it has to run. A
stage imports heavy libraries when it runs, so that a finished run is skipped at once.
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
from curator.recipe.unverified import require_untrained, require_verifiable
from curator.report import stage as report
from curator.represent import stage as represent
from curator.run import STAGES, Progress, Run, Silent
from curator.run.folder import Made, make, opened, read_json, write_json, write_text
from curator.run.names import BANK, KEYS, RECIPE, SIZE, UNVERIFIED
from curator.run.readers import key_of_rows
from curator.score import stage as score
from curator.selection import stage as selection
from curator.train.tracker import tracker_of

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

CHOICE = STAGES[: STAGES.index("select") + 1]
"""Stages after which rows are chosen, and nothing is verified."""

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
        root: The run folder; created if missing.
        until: Last stage to run, one of STAGES.
        base: Folder that relative paths of sources start from.
        progress: Receives progress.
        shelf: A folder by which several run folders find what one of them has finished under an equal key.

    Returns:
        What was made or kept, by stage.

    Raises:
        CuratorError: Something that a user can fix: bad input, a full disk, a busy run folder.
    """
    if until not in CHOICE:
        require_verifiable(recipe)
    # A pilot fine-tunes at it, too.
    searches = recipe.verify.finds_regime and (recipe.select.piloted or until not in CHOICE)
    made: dict[str, Made] = {}
    with begun(recipe, root, base, progress, shelf) as (run, keys):
        experiment.prepare(run, until, keys)
        for stage in STAGES[: STAGES.index(until) + 1]:
            if stage == "select" and searches:
                experiment.require_found(experiment.regime(run, keys))
            made[stage] = make_stage(run, stage, keys)
            if stage == "report" and not made[stage].kept:
                report.track(run)
    return made


def select(recipe: Recipe, root: Path, *, base: Path = Path("."), progress: Progress | None = None) -> None:
    """Chooses rows without training, and writes them as a data set that says that nothing has verified it. A build of
    the same recipe goes on from there. Arguments and errors as of `build`; the recipe may lack what a verification
    needs.

    Raises:
        RecipeError: It trains models before rows are chosen.
    """
    require_untrained(recipe)
    with begun(recipe, root, base, progress) as (run, keys):
        for stage in CHOICE:
            make_stage(run, stage, keys)
        folder = root / UNVERIFIED
        made = make(folder, key_of_rows(keys, recipe.name), partial(publish.unverified, run))
        run.progress.finished(folder.name, made)


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
    tracker = tracker_of(recipe)
    if tracker is not None:
        tracker.require()
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
