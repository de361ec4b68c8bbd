"""Numbers that models give for rows, one piece per model: a job that runs once under its key, on the recipe's
engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curator.errors import ModelError
from curator.model.chat import encode_all
from curator.model.dtype import TORCH
from curator.model.losses import EVERY_LOSS, answer_losses
from curator.recipe.training import Training
from curator.run.files import save_row_values
from curator.run.folder import make
from curator.run.ran import note_dtype
from curator.train.job import Job, Rows, Weights, shelf_of, texts_of
from curator.wording import these

if TYPE_CHECKING:
    from pathlib import Path

    from curator.model.chat import Tokens

BASE = "@base"  # a name among `others`; tasks cannot have it

Columns = Mapping[str, "NDArray[np.float64]"]
"""Name -> `(n,)`, one number per row."""


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
        columns = MEASURES[job.measure](job, encode_all(tokenizer, job.rows.messages()), ids, tokenizer.pad_token_id)
        _require_finite(columns, ids, job.measure)
        save_row_values(folder, {"id": ids, **columns})
        return {"rows": len(ids)}

    make(job.root / job.folder, job.key, work, shelf=shelf_of(job))
    return job.folder


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


def _losses(job: PassJob, rows: Sequence[Tokens], ids: Sequence[str], filler: int) -> Columns:
    losses = answer_losses(
        rows, ids, model=job.weights.load(), filler=filler, batch_tokens=job.batch_tokens, key="represent.batch_tokens"
    )
    return {loss: losses.named(loss) for loss in EVERY_LOSS}


def _depth(job: PassJob, rows: Sequence[Tokens], ids: Sequence[str], filler: int) -> Columns:
    from curator.score.depth import depths

    base = dict(job.others)[BASE]
    return {
        "depth": depths(
            rows, ids, model=job.weights.load(), base=base.load(), filler=filler, batch_tokens=job.batch_tokens
        )
    }


def _pulls(job: PassJob, rows: Sequence[Tokens], ids: Sequence[str], filler: int) -> Columns:
    from curator.score.geometry import pulls, step_between

    # In fp32 whatever the recipe's dtype is: bf16 rounds small steps away.
    model = replace(job.weights, dtype="fp32").load()
    others = ((name, replace(weights, dtype="fp32")) for name, weights in job.others)
    steps = {
        name: step_between(weights.load(), model) if name == BASE else step_between(model, weights.load())
        for name, weights in others
    }
    return pulls(rows, ids, model=model, steps=steps, filler=filler, batch_tokens=job.batch_tokens)


def _metagradient(job: PassJob, rows: Sequence[Tokens], _ids: Sequence[str], filler: int) -> Columns:
    from curator.score.metagradient import trial_of

    assert job.course is not None
    # Small steps vanish in bf16.
    return trial_of(job.course, rows, replace(job.weights, dtype="fp32").load(), job.load_tokenizer()).gradients()


MEASURES: dict[str, Callable[[PassJob, Sequence[Tokens], Sequence[str], int], Columns]] = {
    "losses": _losses,
    "depth": _depth,
    "pulls": _pulls,
    "metagradient": _metagradient,
}
"""The measures by name; each takes the job, the encoded rows, their ids and a padding token."""
