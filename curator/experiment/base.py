"""Instruction tuning of a base model before alignment; one model, shared by every arm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curator.experiment.answers import Rows, Weights, texts_of
from curator.experiment.jobs import TrainJob, run_train
from curator.recipe.verify import Training
from curator.run.files import relative, trained_record
from curator.run.folder import key_of
from curator.seeds import derive


def tune(
    rows: Path,
    *,
    root: Path,
    path: str,
    revision: str | None,
    chat_template: str | None,
    section: Training,
    seed: int,
    quantise: str | None = None,
) -> dict[str, Any]:
    """The tuned model's weights and training, for the base stage's record.

    Args:
        rows: Parquet file of instruction rows, all of which are used; the model goes beside it.
        root: The run folder, which paths are written relative to.
        path, revision, chat_template: The model to tune.
        section: How; the recipe's alignment settings.
        seed: The recipe's. `quantise`: as `model.load_model` takes it.
    """
    source = Rows(str(rows))
    texts = texts_of(source)
    steps = section.steps_over(len(texts))
    job = TrainJob(
        root=root,
        folder=str((rows.parent / "instruction").relative_to(root)),
        key=key_of(
            "instruction",
            path,
            revision,
            chat_template,
            section.model_dump(),
            texts,
            seed,
            *([quantise] if quantise else []),
        ),
        start=Weights(path, revision, (), "", quantise),
        chat_template=chat_template,
        tokenizer=path,
        tokenizer_revision=revision,
        rows=(source,),
        section=section,
        steps=steps,
        seed=derive(seed, "instruction"),
        names="model.instruction (verify.align)",
    )
    _, trained = run_train(job)
    tuned = job.start.after(trained, job.key)
    adapters = [relative(adapter, root) for adapter in tuned.adapters]
    weights = {"base": relative(tuned.base, root), "revision": tuned.revision, "adapters": adapters}
    return {"weights": weights, "trained": trained_record(trained, root)}
