"""The pipeline: the stages in their order, and the function of each.

Each stage is a function from files on disk to its own folder; `run.folder.make` decides whether it has to run. A stage
imports heavy libraries when it runs, so that a finished run is skipped at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.engine import engaged
from curator.errors import CuratorError, RunError
from curator.experiment import stage as experiment
from curator.judge import stage as judge
from curator.keys import AFTER, inputs_of, stage_keys, trials_key
from curator.pool import stage as pool
from curator.publish import stage as publish
from curator.recipe import Recipe
from curator.recipe.file import dump, read
from curator.recipe.unverified import require_untrained, require_verifiable
from curator.recipe.verify import Looks
from curator.report import stage as report
from curator.represent import stage as represent
from curator.run import STAGES, Progress, Run, Silent
from curator.run.folder import AGAIN, Made, kept, make, opened, read_json, write_json, write_text
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
        return selection.select(run, folder, pilot=partial(bank, mixtures=_mixtures(run)))
    return selection.select(run, folder, pilot=pilot)


def _mixtures(run: Run) -> int:
    """The number of mixtures in the bank, as recorded before it began: neither speeds measured later nor settings that
    change no trial, such as the seeds of the experiment, change it.
    """
    from curator.forecast.estimate import mixtures

    recipe, path = run.recipe, run.root / BANK / SIZE
    key = trials_key(recipe, {stage: run.done(stage)["key"] for stage in AFTER["select"]})
    known = read_json(path, AGAIN) if path.exists() else {}
    if known.get("key") != key:
        known = {"key": key, "budget": recipe.verify.pilot.bank.budget, "mixtures": mixtures(recipe, run.root)}
        write_json(path, known)
    count: int = known["mixtures"]
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
"""The function of each stage, in order."""

GRIDS = ("train", "answer", "judge")
"""Stages whose folder holds pieces with their own keys."""

CHOICE = STAGES[: STAGES.index("select") + 1]
"""The stages of a selection without verification."""

SHARED = ("base", "pool", "represent")
"""Stages that run folders of one suite share as a whole."""


def build(
    recipe: Recipe,
    root: Path,
    *,
    until: str = STAGES[-1],
    progress: Progress | None = None,
    shelf: Path | None = None,
) -> dict[str, Made]:
    """Runs a recipe into its run folder, keeping every stage that already exists under the same key.

    Args:
        recipe: The recipe to run.
        root: The run folder; created if missing.
        until: Last stage to run, one of STAGES.
        progress: Receives progress.
        shelf: A folder through which several run folders share finished pieces with equal keys.

    Returns:
        What was made or kept, by stage.

    Raises:
        CuratorError: Something that a user can fix: bad input, a full disk, a busy run folder.
    """
    if until not in CHOICE:
        require_verifiable(recipe)
    # A pilot fine-tunes at this setting too.
    searches = recipe.verify.finds_regime and (recipe.select.piloted or until not in CHOICE)
    made: dict[str, Made] = {}
    check = partial(_require_judges, until=until)
    with begun(recipe, root, progress, shelf, check=check) as (run, keys):
        experiment.prepare(run, until, keys)
        for stage in STAGES[: STAGES.index(until) + 1]:
            if stage == "represent":
                _require_possible(run, keys)
            if stage == "select" and searches:
                experiment.require_found(experiment.regime(run, keys))
            made[stage] = make_stage(run, stage, keys)
            if stage == "report" and not made[stage].kept:
                report.track(run)
    return made


def select(recipe: Recipe, root: Path, *, progress: Progress | None = None) -> None:
    """Chooses rows without training, and writes them as a data set that is marked as not verified. A build of the same
    recipe continues from there. Arguments and errors are as in `build`; the recipe may lack sections for verification.

    Raises:
        RecipeError: The recipe trains models before rows are chosen.
    """
    require_untrained(recipe)
    with begun(recipe, root, progress) as (run, keys):
        for stage in CHOICE:
            if stage == "represent":
                _require_possible(run, keys)
            make_stage(run, stage, keys)
        folder = root / UNVERIFIED
        made = make(folder, key_of_rows(keys, recipe.name), partial(publish.unverified, run))
        run.progress.finished(folder.name, made)


def measure(recipe: Recipe, root: Path, *, progress: Progress | None = None) -> FoundRegime:
    """The search for the regime in a run folder, with the stages that it needs; a build reuses its pieces.

    Args:
        recipe: A recipe with a section `verify.regime`.
        root, progress: As in `build`.

    Raises:
        CuratorError: See `build`.
    """
    check = partial(_require_judges, until="pool", searches=True)
    with begun(recipe, root, progress, check=check) as (run, keys):
        for stage in ("base", "pool"):
            make_stage(run, stage, keys)
        _require_possible(run, keys)
        return experiment.regime(run, keys)


def _require_judges(run: Run, keys: Mapping[str, str], *, until: str, searches: bool = False) -> None:
    """Checks that the judges that will be used have what they read, and metrics too; see `forecast.panel.require`.

    Args:
        run, keys: The run, and the keys of its stages.
        until: Last stage that runs.
        searches: Whether a regime is searched for by itself.
    """
    ahead = {stage for stage in STAGES[: STAGES.index(until) + 1] if not kept(run.folder(stage), keys[stage])}
    recipe, decided = run.recipe, "judge" in ahead
    looks = recipe.verify.finds_regime or isinstance(recipe.verify.seeds, Looks)
    if decided or (recipe.select.piloted and "select" in ahead) or (looks and "train" in ahead) or searches:
        from curator.forecast.panel import require

        judges = recipe.judges.panel if decided else recipe.judges.voters
        require(run, judges, metrics=decided, error="report" in ahead)


def _require_possible(run: Run, keys: Mapping[str, str]) -> None:
    """Checks before anything is embedded or trained that some set meets the recipe's limits."""
    if not kept(run.folder("select"), keys["select"]):
        selection.require_possible(run)


@contextmanager
def begun(
    recipe: Recipe,
    root: Path,
    progress: Progress | None,
    shelf: Path | None = None,
    *,
    check: Callable[[Run, Mapping[str, str]], None] | None = None,
) -> Iterator[tuple[Run, Mapping[str, str]]]:
    """The opened run folder of a recipe, and the key of every stage.

    Args:
        check: Called with the run and its keys before anything is written, so that a recipe that it refuses does not
            take the place of an earlier one.
    """
    tracker = tracker_of(recipe)
    if tracker is not None:
        tracker.require()
    with opened(root), engaged(recipe.engine):
        _require_place(recipe, root)
        run = Run(recipe, root, progress or Silent(), shelf)
        keys = stage_keys(recipe, inputs_of(recipe, root, shelf))
        if check is not None:
            check(run, keys)
        # Written first: it shows which of the finished stages belong to this recipe, and which to an earlier one. Keys
        # of an earlier recipe must never lie beside it.
        if not (root / RECIPE).exists() or (root / RECIPE).read_text(encoding="utf-8") != dump(recipe):
            (root / KEYS).unlink(missing_ok=True)
        text = dump(recipe)
        write_text(root / RECIPE, text)
        write_json(root / KEYS, {"name": recipe.name, "stages": keys, "recipe": _digest(text)})
        yield run, keys


def _require_place(recipe: Recipe, root: Path) -> None:
    """Checks that no file of the user's and no run of another recipe would be overwritten.

    Raises:
        RunError: The folder holds a recipe.yaml that no run wrote, or a run of a recipe with another name.
    """
    keys = read_json(root / KEYS, AGAIN) if (root / KEYS).exists() else {"name": recipe.name}
    if keys["name"] != recipe.name:
        name = keys["name"]
        raise RunError(
            f"{root}: this folder holds a run of the recipe {name!r}, and this recipe is called {recipe.name!r}; "
            f"choose another folder with --out, or call the recipe {name!r} to go on in this one"
        )
    file = root / RECIPE
    if file.exists() and not _is_dump(file, keys):
        raise RunError(
            f"{file}: no run wrote this file as it is, and a run would replace it; move it somewhere else, or choose "
            "another folder with --out"
        )


def make_way(recipe: Recipe, root: Path) -> None:
    """Lets a recipe use a run folder of a recipe with another name. What that one finished is kept under its keys."""
    if (root / KEYS).exists() and read_json(root / KEYS, AGAIN)["name"] != recipe.name:
        for name in (KEYS, RECIPE):
            (root / name).unlink(missing_ok=True)


def _is_dump(file: Path, keys: Mapping[str, Any]) -> bool:
    """Whether a run wrote a recipe. One that was cut off has no keys beside it, and one of an earlier version has no
    digest there.
    """
    if "recipe" not in keys and "stages" in keys:
        return True
    try:
        text = file.read_text(encoding="utf-8")
        return _digest(text) == keys["recipe"] if "recipe" in keys else dump(read(file, whole=False)) == text
    except (CuratorError, UnicodeDecodeError):
        return False


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def make_stage(run: Run, stage: str, keys: Mapping[str, str]) -> Made:
    """One stage, made or kept."""
    folder = run.folder(stage)
    shelf = run.shelf / folder.name if run.shelf is not None and stage in SHARED else None

    def work(folder: Path) -> Mapping[str, object]:
        if stage != "base":
            experiment.relocate(run)
        return WORK[stage](run, folder)

    made = make(folder, keys[stage], work, grid=stage in GRIDS, shelf=shelf)
    run.progress.finished(stage, made)
    return made
