"""Numbers that models give for rows, one piece per model: a job that runs once under its key, on the recipe's
engine.

A pass goes through its rows in slices, each a piece of its own until the pass is finished, so an interrupted pass goes
on with the slices that are missing. Slices depend on the rows alone, never on what is left: results are the same bits
with and without an interruption.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curator.errors import ModelError
from curator.model.chat import encode_all
from curator.model.dtype import TORCH
from curator.model.losses import EVERY_LOSS, answer_losses
from curator.recipe.training import Training
from curator.run.files import load_row_values, save_row_values
from curator.run.folder import key_of, make
from curator.run.ran import REFUSED, computed_with, note_dtype, versions
from curator.train.job import Job, Rows, Weights, shelf_of, texts_of
from curator.wording import these

if TYPE_CHECKING:
    from pathlib import Path

    from curator.model.chat import Tokens

BASE = "@base"  # a name among `others`; tasks cannot have it

SLICE = 512
"""Rows that are measured and kept together: an interruption loses at most so many, and batches hardly fill worse."""

PARTS = "parts"  # folder of the slices in that of the pass

Columns = Mapping[str, "NDArray[np.float64]"]
"""Name -> `(n,)`, one number per row."""

Measure = Callable[[Sequence["Tokens"], Sequence[str]], Columns]
"""Takes encoded rows and their ids."""


@dataclass(frozen=True)
class Course:
    """Both trainings that a metagradient goes through, and their outcome.

    Attributes:
        keep: Rows beside the pool's. `tasks`: name and rows of each. `probes`: the probes whose log-odds are the
            outcome.
        refuse, comply: Texts that answers open with. `seed`: seed of the orders of rows.
    """

    align: Training
    finetune: Training
    keep: tuple[Rows, ...]
    tasks: tuple[tuple[str, tuple[Rows, ...]], ...]
    probes: tuple[Rows, ...]
    refuse: tuple[str, ...]
    comply: tuple[str, ...]
    seed: int

    def facts(self) -> tuple[object, ...]:
        """Everything that decides the result, for keys."""
        sets = [self.keep, self.probes, *(parts for _, parts in self.tasks)]
        rows = [[texts_of(part) for part in parts] for parts in sets]
        settings = self.align.model_dump(), self.finetune.model_dump()
        return *settings, rows, [name for name, _ in self.tasks], self.refuse, self.comply, self.seed


@dataclass(frozen=True, kw_only=True)
class PassJob(Job):
    """A job that evaluates a model on rows, beside other models if the measure compares some.

    Attributes:
        measure: A name in MEASURES. `others`: the models that it takes beside `weights`, by name.
        batch_tokens: Most tokens in a batch, including padding.
        course: The trainings of a metagradient.
    """

    rows: Rows
    batch_tokens: int
    measure: str = "losses"
    others: tuple[tuple[str, Weights], ...] = ()
    course: Course | None = None


def run_pass(job: PassJob) -> str:
    """Evaluates the job's models on its rows, unless its folder already holds the results; returns the folder.

    Raises:
        ModelError: A number is not finite, or see the measures.
    """

    def work(folder: Path) -> Mapping[str, object]:
        job.require_alike()
        tokenizer = job.load_tokenizer()
        note_dtype(str(TORCH[job.weights.dtype]))
        ids = job.rows.ids
        assert ids is not None
        rows = encode_all(tokenizer, job.rows.messages())
        # Models are loaded with the first slice that is missing, if there is one.
        measure = cache(partial(MEASURES[job.measure], job, tokenizer.pad_token_id))
        columns = _in_slices(job, folder / PARTS, rows, ids, measure)
        _require_finite(columns, ids, job.measure)
        save_row_values(folder, {"id": ids, **columns})
        return {"rows": len(ids)}

    made = make(job.root / job.folder, job.key, work, shelf=shelf_of(job))
    # Not before the pass is done: a lost worker that still runs leaves the slices to the attempt in its place.
    shutil.rmtree(made.folder / PARTS, ignore_errors=True)
    return job.folder


def _in_slices(
    job: PassJob, folder: Path, rows: Sequence[Tokens], ids: Sequence[str], measure: Callable[[], Measure]
) -> Columns:
    """The columns of all rows. Each slice is a piece in `folder`, kept if an earlier attempt has finished it.

    Args:
        measure: Gives the measure, which holds the loaded models.
    """
    size = max(1, len(ids)) if job.measure in WHOLE else SLICE
    starts = range(0, max(1, len(ids)), size)
    # Slices of another device, dtype or library are made again, so that all numbers of a pass are computed alike.
    facts: dict[str, object] = {**versions(), **computed_with()}
    alike = {name: facts.get(name) for name in REFUSED}

    def taken(start: int) -> dict[str, NDArray[np.float64]]:
        some = slice(start, start + size)

        def work(part: Path) -> Mapping[str, object]:
            save_row_values(part, {"id": ids[some], **measure()(rows[some], ids[some])})
            return {"rows": len(ids[some])}

        number = start // size
        made = make(folder / f"{number:04d}", key_of(job.key, "part", number, size, alike), work)
        frame = load_row_values(made.folder)
        return {name: frame[name].to_numpy() for name in frame.columns if name != "id"}

    # The longest rows come first, so that memory runs out at once if at all.
    longest = {start: max((len(row.ids) for row in rows[start : start + size]), default=0) for start in starts}
    parts = {start: taken(start) for start in sorted(starts, key=lambda start: -longest[start])}
    return {name: np.concatenate([parts[start][name] for start in starts]) for name in parts[0]}


def _require_finite(columns: Columns, ids: Sequence[str], measure: str) -> None:
    """Refuses numbers that are not finite before they are stored as a result.

    Raises:
        ModelError: There is one.
    """
    for name, values in columns.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise ModelError(
                f"score.from: {measure} ({name}) is not a finite number for {these(bad.size, 'row', 'rows')} (first: "
                f"{ids[bad[0]]!r}), probably because the model's training diverged at its last step; lower the "
                "learning rate of verify.align or verify.finetune, or use another score"
            )


def _losses(job: PassJob, filler: int) -> Measure:
    model = job.weights.load()

    def measure(rows: Sequence[Tokens], ids: Sequence[str]) -> Columns:
        losses = answer_losses(
            rows, ids, model=model, filler=filler, batch_tokens=job.batch_tokens, key="represent.batch_tokens"
        )
        return {loss: losses.named(loss) for loss in EVERY_LOSS}

    return measure


def _depth(job: PassJob, filler: int) -> Measure:
    from curator.score.depth import depths

    take = partial(
        depths, model=job.weights.load(), base=dict(job.others)[BASE].load(), filler=filler,
        batch_tokens=job.batch_tokens,
    )  # fmt: skip
    return lambda rows, ids: {"depth": take(rows, ids)}


def _pulls(job: PassJob, filler: int) -> Measure:
    from curator.score.geometry import pulls, step_between

    # In fp32 whatever the recipe's dtype is: bf16 rounds small steps away.
    model = replace(job.weights, dtype="fp32").load()
    others = ((name, replace(weights, dtype="fp32")) for name, weights in job.others)
    steps = {
        name: step_between(weights.load(), model) if name == BASE else step_between(model, weights.load())
        for name, weights in others
    }
    return partial(pulls, model=model, steps=steps, filler=filler, batch_tokens=job.batch_tokens)


def _metagradient(job: PassJob, _filler: int) -> Measure:
    from curator.score.metagradient import trial_of

    course = job.course
    assert course is not None
    # Small steps vanish in bf16.
    model = replace(job.weights, dtype="fp32").load()
    return lambda rows, _ids: trial_of(course, rows, model, job.load_tokenizer()).gradients()


MEASURES: dict[str, Callable[[PassJob, int], Measure]] = {
    "losses": _losses,
    "depth": _depth,
    "pulls": _pulls,
    "metagradient": _metagradient,
}
"""The measures by name; each takes the job and a padding token, and loads its models."""

WHOLE = {"metagradient"}  # in which the number of a row depends on the other rows, so all are one slice
