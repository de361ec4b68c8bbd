"""What every stage may look at while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from curator.recipe import Recipe
from curator.run.folder import DONE, Made, read_json

STAGES = ("base", "pool", "represent", "scores", "select", "train", "answer", "judge", "report", "publish")
FOLDERS = {name: f"{number}-{name}" for number, name in enumerate(STAGES)}


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
