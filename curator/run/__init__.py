"""What every stage may look at while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from curator.run.folder import DONE, Made, finished, read_json

if TYPE_CHECKING:
    import polars as pl

    from curator.conclusions import Stop
    from curator.recipe import Recipe


STAGES = ("base", "pool", "represent", "scores", "select", "train", "answer", "judge", "report", "publish")

FOLDERS = {name: f"{number}-{name}" for number, name in enumerate(STAGES)}


def current(root: Path, stage: str) -> dict[str, Any] | None:
    """The `done.json` of a stage that is finished for the recipe which the run folder holds now, else null."""
    run, done = root / "run.json", finished(root / FOLDERS[stage])
    return done if done is not None and run.exists() and read_json(run)["stages"].get(stage) == done["key"] else None


class Tell(Protocol):
    """Where a build says what it does."""

    def progress(self, stage: str, done: int, total: int) -> None: ...

    def finished(self, stage: str, made: Made) -> None: ...


class Silent:
    """Says nothing."""

    def progress(self, stage: str, done: int, total: int) -> None:
        pass

    def finished(self, stage: str, made: Made) -> None:
        pass


@dataclass(frozen=True)
class Site:
    """The recipe, the run folder, the folder that relative paths of sources start from, and whom to tell.

    `shelf` is where run folders that share pieces tell each other of them, null for a run of its own.
    """

    recipe: Recipe
    root: Path
    base: Path
    tell: Tell
    shelf: Path | None = None

    def folder(self, stage: str) -> Path:
        return self.root / FOLDERS[stage]

    def done(self, stage: str) -> dict[str, Any]:
        """The `done.json` of a finished stage: its key, its record and its seconds."""
        done: dict[str, Any] = read_json(self.folder(stage) / DONE)
        return done

    def record(self, stage: str) -> dict[str, Any]:
        """What a finished stage wrote down of itself."""
        record: dict[str, Any] = self.done(stage)["record"]
        return record

    @property
    def cache(self) -> Path | None:
        """Folder of the vectors that runs share; null where the recipe wants none."""
        cache = self.recipe.engine.cache
        if isinstance(cache, str):
            return self.base / Path(cache).expanduser()
        return self.root.absolute().parent / ".vectors" if cache else None

    def progress(self, stage: str) -> Callable[[int, int], None]:
        return lambda done, total: self.tell.progress(stage, done, total)


class Setting(NamedTuple):
    """What rows are chosen by: lambda, the number of a score of `pilot.scores` (null: the recipe's own), and that of
    the representation it is taken from.
    """

    weight: float
    score: int | None = None
    representation: int = 0


def scores_folder(site: Site, setting: Setting) -> Path:
    """Where the score is that a setting chooses by."""
    own = below(site.folder("scores"), setting.representation)
    return own if setting.score is None else own / f"candidate-{setting.score}"


def below(folder: Path, number: int) -> Path:
    """Where a stage keeps what belongs to a representation: the first in the stage's folder, others below it."""
    return folder if number == 0 else folder / f"also-{number}"


def shared_cache(site: Site) -> Path | None:
    """The folder of the vectors that runs share, made where missing; null where the recipe wants none, or names none
    and the place beside the run folder cannot be written.
    """
    import os

    root = site.cache
    if root is None or isinstance(site.recipe.engine.cache, str):
        return root
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return root if os.access(root, os.W_OK) else None


def _verdicts(site: Site) -> dict[str, pl.DataFrame]:
    """Judge -> its verdicts on answers to probes."""
    from curator.run.files import load_frame

    panel = site.folder("judge") / "panel"
    return {one.name: load_frame(panel / one.name / "verdicts.parquet") for one in site.recipe.judges.panel}


def stopped(site: Site) -> tuple[float, Stop | None, Mapping[str, Any] | None]:
    """For the report: the level of the primary interval, where adding seeds ended, and all looks with what fixed them.

    A number of seeds has level .05, no stop and no looks.
    """
    from curator.conclusions import Stop
    from curator.recipe.verify import Looks

    section = site.recipe.verify.seeds
    if not isinstance(section, Looks):
        return 0.05, None, None
    looks = site.record("train")["looks"]
    last = looks[-1]
    stop = Stop(last["action"], last["seeds"], section.max, len(looks), last["conditional_power"])
    return last["level"], stop, {**section.model_dump(), "stopped": last["action"], "looks": looks}
