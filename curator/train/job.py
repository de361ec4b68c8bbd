"""A training as a job small enough to send to another process, and its inputs: rows of the run folder and a model's
weights.

A job names files and folders but holds no rows or weights, and its result is made once under its key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from curator.model.load import load_config, load_model, load_tokenizer
from curator.recipe.training import Training
from curator.records import Conversations, Trained
from curator.run.files import absolute, load_frame, relative, trained_from, trained_record
from curator.run.folder import finished, kept, key_of, make, repeat
from curator.run.ran import computed_with, require_alike
from curator.train.adapter import drops
from curator.train.sft import train
from curator.train.tracker import Tracker

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from curator.run import Run

AnyJob = TypeVar("AnyJob", bound="Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Rows:
    """Rows of a stored frame by id, in this order and as often as an id occurs there; `ids` null takes all. `openings`
    are the tokens behind which the answer of each id is trained, empty for none; null if no row has any.
    """

    file: str
    ids: tuple[str, ...] | None = None
    openings: tuple[tuple[int, ...], ...] = ()

    def messages(self) -> list[list[dict[str, str]]]:
        frame = load_frame(Path(self.file))
        if self.ids is not None:
            order = pl.DataFrame({"id": self.ids}, schema={"id": pl.String})
            frame = order.join(frame, on="id", how="left", maintain_order="left")
        return frame["messages"].to_list()


def texts_of(rows: Rows) -> list[str]:
    """Hashes of the rows' exact text, in order, for keys, since texts that differ only in white space share an id. The
    hash of a row with an opening covers both.
    """
    hashes = _hashes(rows.file, Path(rows.file).stat().st_mtime_ns)
    texts = [hashes[row_id] for row_id in (hashes if rows.ids is None else rows.ids)]
    for number, opening in enumerate(rows.openings):
        texts[number] = key_of(texts[number], opening) if opening else texts[number]
    return texts


@lru_cache(maxsize=8)
def _drops(path: str, revision: str | None) -> bool:
    return drops(load_config(path, revision=revision))


def dropout_part(path: str, revision: str | None) -> list[list[str]]:
    """A part of the key of a training: empty for a model without dropout; earlier trainings of others had theirs."""
    return [["no dropout"]] if _drops(path, revision) else []


# The time of the last change is part of the cache's key, so that a rewritten file is read again.
@lru_cache(maxsize=32)
def _hashes(file: str, _changed: int) -> dict[str, str]:
    frame = load_frame(Path(file))
    return {row_id: key_of(messages) for row_id, messages in zip(frame["id"], Conversations(frame), strict=True)}


@dataclass(frozen=True)
class Weights:
    """The location of a model's weights: a folder or Hub id, and LoRA folders to merge in order. Paths may be relative
    to the run folder, so that the folder can be moved; `key` is a hash of everything that made them, and `quantise` and
    `dtype` are as in `model.load_model`.
    """

    base: str
    revision: str | None
    adapters: tuple[str, ...]
    key: str
    quantise: str | None = None
    dtype: str = "fp32"

    def load(self) -> Any:
        """The model; see `model.load_model`."""
        return load_model(
            self.base, revision=self.revision, adapters=self.adapters, dtype=self.dtype, quantise=self.quantise
        )

    def after(self, trained: Trained, key: str) -> Weights:
        """The weights that a training which started here has left."""
        if trained.method == "full":
            return Weights(trained.path, None, (), key, dtype=self.dtype)
        return replace(self, adapters=(*self.adapters, trained.path), key=key)

    def on_the_way(self, trained: Trained, step: int, path: str) -> Weights:
        """The checkpoint that the training behind these weights left after an earlier step, in the folder `path`."""
        start = () if trained.method == "full" else (*self.adapters[:-1], path)
        base = path if trained.method == "full" else self.base
        return replace(self, base=base, adapters=start, key=f"{self.key}@{step}")


def start_of(run: Run) -> Weights:
    """The weights that every arm starts from, as left by stage `base`."""
    done, root = run.done("base"), run.root.absolute()
    start = done["record"]
    weights = start["weights"]
    return Weights(
        absolute(weights["base"], root),
        weights["revision"],
        tuple(absolute(adapter, root) for adapter in weights["adapters"]),
        done["key"],
        run.recipe.model.quantise,
        start.get("dtype", "fp32"),
    )


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every job names: the piece that it makes, and the model that it uses.

    Attributes:
        root: The run folder. `folder`: the piece's folder, relative to it. `key`: the piece's key.
        weights: The model before the job.
        tokenizer, tokenizer_revision, chat_template: As in `model.load_tokenizer`.
        shelf: Folder in which run folders register pieces that they share; null for none.
        beside: Folder of a finished piece of the same grid -> what it was computed with, if this one must be computed
            in the same way.
    """

    root: Path
    folder: str
    key: str
    weights: Weights
    tokenizer: str
    tokenizer_revision: str | None
    chat_template: str | None
    shelf: Path | None = None
    beside: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def require_alike(self) -> None:
        """Checks that this process computes in the same way as the grid's finished pieces; see `run.ran`.

        Raises:
            RunError: It computes in another way.
        """
        import torch  # noqa: F401 - without it the process cannot say where it computes

        require_alike(self.beside, computed_with())

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer; see `model.load_tokenizer`."""
        return load_tokenizer(self.tokenizer, revision=self.tokenizer_revision, chat_template=self.chat_template)


@dataclass(frozen=True, kw_only=True)
class TrainJob(Job):
    """One training. `names` is the recipe's key in error messages, `checkpoints` are steps after which weights are
    saved, and `tracker` is where it reports to, which does not affect the training.
    """

    rows: tuple[Rows, ...]
    section: Training
    steps: int
    seed: int
    names: str
    checkpoints: tuple[int, ...] = ()
    tracker: Tracker | None = None


def run_train(job: TrainJob) -> tuple[str, Trained]:
    """Trains one model, unless its folder already holds it; returns the folder and the training's record."""

    def work(folder: Path) -> Mapping[str, object]:
        job.require_alike()
        given = [(rows, rows.messages()) for rows in job.rows]
        openings = [opening for rows, each in given for opening in rows.openings or [()] * len(each)]
        trained = train(
            [messages for _, each in given for messages in each],
            openings=openings if any(openings) else None,
            base=job.weights.base,
            revision=job.weights.revision,
            adapters=job.weights.adapters,
            dtype=job.weights.dtype,
            quantise=job.weights.quantise,
            tokenizer=job.load_tokenizer(),
            section=job.section,
            steps=job.steps,
            seed=job.seed,
            folder=folder,
            key=job.names,
            checkpoints=job.checkpoints,
            tracker=job.tracker and replace(job.tracker, run=job.folder),
        )
        return trained_record(trained, job.root)

    made = make(job.root / job.folder, job.key, work, shelf=shelf_of(job))
    # A model that was taken from an equal training names the parent of that one.
    parent = [job.weights.base, *job.weights.adapters][-1]
    return job.folder, replace(trained_from(made.record, job.root), parent=parent)


def shelf_of(job: Job) -> Path | None:
    """The shelf for pieces with this path in a run folder: the paths in a piece's record are valid only there."""
    return None if job.shelf is None else job.shelf / job.folder


def _is_kept(job: Job) -> bool:
    return kept(job.root / job.folder, job.key, shelf=shelf_of(job))


class Count:
    """Counts the finished pieces of a step. Those that are kept from before are counted when the step begins, so that
    speed and time left are those of the others.
    """

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        """`progress` takes the numbers of finished and of all pieces; `total` is the latter."""
        self._progress, self._total = progress, total
        self._done, self._kept = 0, frozenset[str]()

    def begin(self, jobs: Iterable[Job]) -> None:
        """Counts those of the jobs, which have not been begun, whose pieces are kept."""
        there = {job.folder for job in jobs if _is_kept(job)}
        self._kept |= there
        self._add(len(there))

    def tick(self, folder: str) -> None:
        """Counts a piece that is now finished, unless it was kept."""
        if folder not in self._kept:
            self._add(1)

    def _add(self, number: int) -> None:
        self._done += number
        self._progress(self._done, self._total)


def _makers(jobs: Sequence[AnyJob]) -> dict[str, AnyJob]:
    """For each key the job that makes its piece: one whose piece is kept if there is any, else the first."""
    makers: dict[str, AnyJob] = {}
    for job in jobs:
        if job.key not in makers or (_is_kept(job) and not _is_kept(makers[job.key])):
            makers[job.key] = job
    return makers


def executed(
    work: Callable[[AnyJob], Result],
    jobs: Sequence[AnyJob],
    execute: Callable[[Callable[[AnyJob], Result], Sequence[AnyJob]], Iterator[Result]],
    later: Sequence[AnyJob] = (),
    *,
    mix: bool,
) -> Iterator[Result]:
    """Results of the jobs of one run folder, as they finish. Jobs with equal keys would make the same piece, so one of
    them is done and the others take its files. Unless the recipe allows it (`mix`), no job starts that would be
    computed in another way than the finished pieces, or than the models that the jobs start from.

    Args:
        execute: The engine, from `engine.runner`.
        later: Later jobs of the same grid; the finished ones among them count too.

    Raises:
        RunError: Finished or new pieces were computed in different ways.
    """
    if not jobs:
        return
    root = jobs[0].root

    def known(folders: Iterable[Path], keys: Mapping[Path, str]) -> dict[str, Mapping[str, object]]:
        markers = {folder: finished(folder) for folder in folders}
        return {
            relative(str(folder), root): done["where"]
            for folder, done in markers.items()
            if done is not None and "where" in done and keys.get(folder, done["key"]) == done["key"]
        }

    keys = {root / job.folder: job.key for job in (*jobs, *later)}
    # The folder of weights lies in that of the training that saved them.
    models = [Path([job.weights.base, *job.weights.adapters][-1]).parent for job in jobs]
    models = [folder for folder in dict.fromkeys(models) if folder.is_relative_to(root)]
    before = known([*models, *keys], keys)
    unfinished = any(job.folder not in before for job in jobs)
    if unfinished and not mix:
        require_alike(before)
        jobs = [replace(job, beside=dict(list(before.items())[:1])) for job in jobs]
    makers = _makers(jobs)
    yield from execute(work, [job for job in jobs if makers[job.key] is job])
    for job in jobs:
        if makers[job.key] is not job:
            repeat(root, makers[job.key].folder, job.folder, job.key)
            yield work(job)
    if unfinished and not mix:
        require_alike(known([*models, *keys], keys))
