"""Access to a run folder: every stage reads the results of earlier stages through `Run` only.

A stage gets records from `Run` (`data`, `vectors`, `scores`, ...) and writes its own files; `run.names` has the names
of files, `run.files` their formats, and `run.folder` decides when a stage has to run. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from curator.errors import RunError
from curator.run import names
from curator.run.folder import AGAIN, Made, finished, read_json, shared_beside
from curator.run.names import FOLDERS as FOLDERS
from curator.run.names import STAGES as STAGES
from curator.run.ran import LIBRARIES, counted, mixture

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from curator.conclusions import FoundRegime, Stop
    from curator.recipe import Recipe
    from curator.recipe.training import Training
    from curator.records import Data, Scores, Selection, Trained, Vectors

ArmSets = dict[tuple[str, int], tuple[str, ...]]
"""(arm, seed) -> ids of its alignment set."""


class Progress(Protocol):
    """The receiver of a build's progress."""

    def progress(self, stage: str, done: int, total: int) -> None: ...

    def finished(self, stage: str, made: Made) -> None: ...


class Silent:
    """A receiver that shows nothing."""

    def progress(self, stage: str, done: int, total: int) -> None:
        pass

    def finished(self, stage: str, made: Made) -> None:
        pass


SILENT = Silent()


class Setting(NamedTuple):
    """The setting that rows are chosen by: lambda, the number of a score of `pilot.scores` (null for the recipe's own),
    and the number of its representation.
    """

    weight: float
    score: int | None = None
    representation: int = 0


class Model(NamedTuple):
    """A model of the grid as stage `train` left it. Paths are below the present run folder.

    `base` and `revision` name full weights, `adapters` are applied to them in order, and `key` is a hash of everything
    that made them.
    """

    base: str
    revision: str | None
    adapters: tuple[str, ...]
    key: str
    trained: Trained


def keys_of(root: Path) -> dict[str, str]:
    """Stage -> its key by the recipe now in the run folder.

    Raises:
        RunError: `root` is not a run folder.
    """
    if not (root / names.KEYS).exists():
        raise RunError(
            f"{root} is not a run folder; give one that `curator build` made, for example outputs/quickstart"
        )
    keys: dict[str, str] = read_json(root / names.KEYS, AGAIN)["stages"]
    return keys


def current(root: Path, stage: str) -> dict[str, Any] | None:
    """The `done.json` of a stage that is finished for the recipe now in the run folder, else null."""
    done = finished(root / FOLDERS[stage])
    return (
        done if done is not None and (root / names.KEYS).exists() and keys_of(root).get(stage) == done["key"] else None
    )


def require(root: Path, *stages: str) -> None:
    """Checks that these stages of a run folder are finished.

    Raises:
        RunError: `root` is not a run folder, or one of the stages is missing or of another recipe.
    """
    keys_of(root)
    for stage in stages:
        if current(root, stage) is None:
            from curator.run.readers import to_continue

            raise RunError(
                f"{root}: the stage `{stage}` is not finished for the current recipe; {to_continue(root, stage)}"
            )


@dataclass(frozen=True)
class Run:
    """A recipe and its run folder.

    Attributes:
        progress: The receiver of progress.
        shelf: Folder in which run folders register pieces that they share; null for none.
    """

    recipe: Recipe
    root: Path
    progress: Progress = SILENT
    shelf: Path | None = None

    @classmethod
    def open(cls, root: Path, *stages: str, progress: Progress | None = None) -> Run:
        """A run folder with the recipe that it was made by, and these stages finished.

        Raises:
            RunError: See `require`.
            RecipeError: Its recipe has an incompatible version.
        """
        from curator.recipe.file import read

        require(root, *stages)
        return cls(read(root / names.RECIPE, whole=False), root, progress=progress or SILENT)

    def folder(self, stage: str) -> Path:
        """The folder of a stage."""
        return self.root / FOLDERS[stage]

    def done(self, stage: str) -> dict[str, Any]:
        """The `done.json` of a finished stage: its key, its record and its seconds."""
        done: dict[str, Any] = read_json(self.folder(stage) / names.DONE)
        return done

    def record(self, stage: str) -> dict[str, Any]:
        """The record of a finished stage."""
        record: dict[str, Any] = self.done(stage)["record"]
        return record

    def progress_of(self, stage: str) -> Callable[[int, int], None]:
        """A function that reports the progress of a stage."""
        return lambda done, total: self.progress.progress(stage, done, total)

    def dtype(self) -> tuple[str, str]:
        """The dtype of the recipe's model, `fp32` or `bf16`, and the reason, as the end of a sentence."""
        known = read_json(self.root / names.DTYPE, AGAIN)
        return known["dtype"], known["reason"]

    def vector_cache(self) -> Path | None:
        """The folder of the vectors that runs share, which may not exist yet if the recipe names it; null if the recipe
        wants none, or names none and the folder beside the run folder is not writable.
        """
        cache = self.recipe.engine.cache
        if isinstance(cache, str):
            from curator.recipe.package import at_home

            return at_home(cache)
        if not cache:
            return None
        return shared_beside(self.root)

    def data(self) -> Data:
        """The candidates, tasks, probes and keep rows of stage `pool`."""
        from curator.run.files import load_data

        return load_data(self.folder("pool"))

    def vectors(self, part: str, representation: int = 0) -> Vectors:
        """Vectors of `pool`, or of `task-<name>`, by a representation of the recipe; memory-mapped."""
        from curator.run.files import load_vectors

        return load_vectors(self.folder("represent") / names.part_below(representation), part)

    def scores_folder(self, setting: Setting) -> Path:
        """The folder of the score that a setting chooses by."""
        folder = self.folder("scores") / names.part_below(setting.representation)
        return folder if setting.score is None else folder / names.candidate(setting.score)

    def scores(self, setting: Setting) -> Scores:
        """The score that a setting chooses by."""
        from curator.run.files import load_scores

        return load_scores(self.scores_folder(setting))

    def mean_cosine(self, representation: int) -> NDArray[np.float64]:
        """`(n,)` the mean cosine of each candidate to the tasks' rows, in [-1, 1]."""
        import numpy as np

        cosines: NDArray[np.float64] = np.load(
            self.folder("scores") / names.part_below(representation) / names.MEAN_COSINE
        )
        return cosines

    def task_cover(self, representation: int) -> NDArray[np.float64] | None:
        """`(n,)` the cosine of each candidate to its nearest task row, clipped at 0; null if not needed."""
        import numpy as np

        path = self.folder("scores") / names.part_below(representation) / names.TASK_COVER
        return np.load(path) if path.exists() else None

    def _frame(self, stage: str, file: str) -> pl.DataFrame:
        from curator.run.files import load_frame

        return load_frame(self.folder(stage) / file)

    def traits(self) -> pl.DataFrame:
        """The kind of each candidate's answer, in the columns of TRAITS_SCHEMA."""
        return self._frame("pool", names.TRAITS)

    def every_score(self) -> pl.DataFrame:
        """All scores of all candidates: `id`, and a column `<score>:<task>` for each score and task."""
        return self._frame("scores", names.EVERY_SCORE)

    def selection(self) -> Selection:
        """The curated set."""
        from curator.run.files import load_selection

        return load_selection(self.folder("select"))

    def selected_by(self) -> Scores:
        """The score that the curated set was chosen by."""
        from curator.run.files import load_scores

        return load_scores(self.folder("select"))

    def representation(self) -> int:
        """The number of the representation that the curated set was chosen by."""
        number: int = self.record("select")["representation"]
        return number

    def stability(self) -> pl.DataFrame:
        """The overlap of sets chosen by other seeds, layers or embedders, in the columns of STABILITY_SCHEMA."""
        return self._frame("select", names.STABILITY)

    def frontier(self) -> pl.DataFrame | None:
        """The sets between coverage and similarity that were tried, and random ones, in the columns of FRONTIER_SCHEMA;
        null in a run of an earlier version that had no floor.
        """
        path = self.folder("select") / names.FRONTIER
        return self._frame("select", names.FRONTIER) if path.exists() else None

    def drawn(self) -> pl.DataFrame:
        """The alignment sets of all arms: a row for each `arm`, `seed` and `id`."""
        from curator.run.files import load_arms

        return load_arms(self.folder("select"))

    def arms(self) -> ArmSets:
        """The alignment set of every arm and seed."""
        return _by_arm(self.drawn())

    def dealt(self) -> ArmSets:
        """Like `arms`, with each row as often as a pass over its set trains on it."""
        from curator.run.files import load_dealt

        return _by_arm(load_dealt(self.folder("select")))

    def repeats(self) -> pl.DataFrame | None:
        """How often rows of the curated arm are trained on in a pass, in the columns of REPEATS_SCHEMA; null if each
        counts once.
        """
        return self._frame("select", names.REPEATS) if (self.folder("select") / names.REPEATS).exists() else None

    def curated_repeats(self) -> dict[str, int] | None:
        """How often a pass over the curated set trains on each of its rows; null if each counts once."""
        often = self.repeats()
        return None if often is None else dict(often.filter(arm="curated").select("id", "repeats").iter_rows())

    def opened(self) -> pl.DataFrame | None:
        """Which rows of the recovery arms are trained on behind an opener, in the columns of OPENED_SCHEMA; null if the
        recipe has no such arm.
        """
        return self._frame("select", names.OPENED) if (self.folder("select") / names.OPENED).exists() else None

    def pilot(self) -> dict[str, Any] | None:
        """The pilot's table of candidates; null without a pilot."""
        path = self.folder("select") / names.PILOT / names.CANDIDATES
        return read_json(path) if path.exists() else None

    def bank(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame] | None:
        """Subsets, groups, outcomes and features of the bank, for `decision.bank.read`; null without a bank."""
        below = self.folder("select") / names.BANK
        if not (below / names.OUTCOMES).exists():
            return None
        subsets, groups, outcomes, features = (
            self._frame("select", f"{names.BANK}/{file}")
            for file in (names.SUBSETS, names.GROUPS, names.OUTCOMES, names.FEATURES)
        )
        return subsets, groups, outcomes, features

    def regime(self) -> FoundRegime | None:
        """The result of the search for the regime; null if it is not finished."""
        done = finished(self.root / names.REGIME)
        return None if done is None else done["record"]

    def finetuning(self) -> Training:
        """The settings of fine-tuning for every arm: the recipe's, or those that were found if it says `auto`.

        Raises:
            RunError: None has been found yet.
        """
        verify = self.recipe.verify
        if not verify.finds_regime:
            return verify.finetune
        record = self.regime()
        if record is None or record["setting"] is None:
            raise RunError(
                f"{self.root}: no regime was found yet for the current recipe; run `curator build` to continue"
            )
        return verify.finetune.model_copy(update=record["setting"])

    def models(self) -> dict[tuple[str, int, str | None, str | None], Model]:
        """(arm, seed, task, or null before fine-tuning, setting, or null for the recipe's) -> the model of the grid."""
        from curator.run.files import absolute, trained_from

        root, models = self.root.absolute(), {}
        for record in self.record("train")["models"]:
            weights = record["weights"]
            models[record["arm"], record["seed"], record["task"], record.get("setting")] = Model(
                absolute(weights["base"], root),
                weights["revision"],
                tuple(absolute(adapter, root) for adapter in weights["adapters"]),
                weights["key"],
                trained_from(record["trained"], root),
            )
        return models

    def shared_trainings(self) -> list[bool]:
        """For each finished training, including the instruction stage, whether another run of a suite made it."""
        folders = [self.folder("base") / "instruction"]
        folders += [self.folder("train") / names.cell_folder(*cell) for cell in self.models()]
        return [
            any((piece / names.SHARED).exists() for piece in (folder, folder.parent))
            for folder in folders
            if (folder / names.DONE).exists()
        ]

    def mixture(self) -> str | None:
        """How the trainings and answers of the grid differ in device, dtype, threads or versions; null if they do
        not.
        """
        return mixture(self._wheres(self._pieces()))

    def _pieces(self) -> list[Path]:
        """Folders of the grid's trainings, including the base's, and of its answers and losses."""
        from curator.run.files import checkpoint_folders

        cells = [names.cell_folder(*cell) for cell in self.models()]
        answers, losses = self.folder("answer"), self.folder("answer") / "forgetting"
        pieces = [self.folder("base") / "instruction", answers / names.cell_folder("none", 0, None)]
        pieces += [folder / cell for folder in (self.folder("train"), answers, losses) for cell in cells]
        pieces += [answers / folder for folder in checkpoint_folders(self.models())]
        return list(dict.fromkeys(pieces))

    def _wheres(self, folders: Iterable[Path]) -> list[Mapping[str, Any]]:
        """The records in these folders' markers of where they were made."""
        markers = (finished(folder) for folder in folders)
        return [done["where"] for done in markers if done is not None and "where" in done]

    def computed_with(self) -> dict[str, Any]:
        """What this run was computed with, from the records of its stages and pieces, independent of this process.

        Returns:
            `versions` of all stages up to the judges; `device`, `dtype` and `threads` of the grid's models. If there
            are several, all are named, and `threads` is null; facts without a record are left out.
        """
        done = [stage for stage in names.STAGES if current(self.root, stage) is not None]
        stages = [self.folder(stage) for stage in done if stage not in ("train", "answer", "report", "publish")]
        pieces = self._wheres(self._pieces()) if "train" in done else []
        elsewhere = [where for stage in ("pool", "represent") for where in self.record(stage).get("places", ())]
        grid, every = counted(pieces), counted([*pieces, *self._wheres(stages), *elsewhere])
        values = {name: " and ".join(sorted(each)) for name, each in every.items()}
        versions = {name: values[name] for name in ("curator", "python", *LIBRARIES) if name in values}
        threads = [int(value) for value in grid.get("threads", ())]
        where = {name: " and ".join(sorted(grid.get(name, ()))) or None for name in ("device", "dtype")}
        return {
            "versions": versions,
            **where,
            "threads": threads[0] if len(threads) == 1 else None,
        }

    def stop(self) -> tuple[float, Stop | None, Mapping[str, Any] | None]:
        """The level of the primary interval, the look at which adding seeds ended, and all looks with their settings.

        With a fixed number of seeds the level is .05, without stop and looks.
        """
        from curator.conclusions import LEVEL, Stop
        from curator.recipe.verify import Looks

        section = self.recipe.verify.seeds
        if not isinstance(section, Looks):
            return LEVEL, None, None
        looks = self.record("train")["looks"]
        last = looks[-1]
        stop = Stop(last["action"], last["seeds"], section.max, len(looks), last["conditional_power"])
        return last["level"], stop, {**section.model_dump(), "stopped": last["action"], "looks": looks}

    def answers(self) -> pl.DataFrame:
        """The answers of every model, in the columns of ANSWER_SCHEMA."""
        from curator.run.files import load_answers

        return load_answers(self.folder("answer") / names.ANSWERS)

    def forgetting(self) -> pl.DataFrame:
        """Losses of rows left out, in the columns of FORGETTING_SCHEMA."""
        return self._frame("answer", names.FORGETTING)

    def log_odds(self) -> pl.DataFrame:
        """The log-odds of openers behind the harmful probes, in the columns of LOG_ODDS_SCHEMA."""
        return self._frame("answer", names.LOG_ODDS)

    def verdicts(self, judge: str) -> pl.DataFrame:
        """The verdicts of a judge of the panel on answers to probes, in the columns of VERDICT_SCHEMA."""
        from curator.run.files import load_answers

        return load_answers(self.folder("judge") / names.panel_file(judge))

    def panel(self) -> dict[str, pl.DataFrame]:
        """Judge of the panel -> its verdicts, in the recipe's order."""
        return {judge.name: self.verdicts(judge.name) for judge in self.recipe.judges.panel}

    def utility(self) -> pl.DataFrame:
        """The metrics of answers to the tasks' own rows, in the columns of VERDICT_SCHEMA."""
        from curator.run.files import load_answers

        return load_answers(self.folder("judge") / names.UTILITY)


def _by_arm(drawn: pl.DataFrame) -> ArmSets:
    groups = drawn.group_by("arm", "seed", maintain_order=True)
    return {(str(arm), int(seed)): tuple(part["id"]) for (arm, seed), part in groups}
