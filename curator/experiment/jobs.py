"""All answers of one model as a job (see `train.job`), and instruction tuning of the base model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from curator.experiment.answers import Prompts, answer_prompts
from curator.experiment.log_odds import opened_of, taken
from curator.keys.pieces import instruction_key
from curator.model.chat import prompt_of
from curator.model.prefill import opening_tokens
from curator.provenance import return_freed
from curator.recipe.training import Generate, Training
from curator.records import ANSWER_SCHEMA, PREFILLED
from curator.run.files import load_frame, relative, save_frame, trained_record
from curator.run.folder import make
from curator.run.names import ANSWERS, LOG_ODDS
from curator.seeds import derive
from curator.train.generate import parted
from curator.train.job import Job, Rows, TrainJob, Weights, run_train, shelf_of, texts_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from curator.model.openers import Openers
    from curator.train.tracker import Tracker


@dataclass(frozen=True, kw_only=True)
class AnswerJob(Job):
    """Every prompt of one model.

    Attributes:
        questions: Kind, task and rows of each set. `trigger`: text in front of the user's message.
        depths: For each of these numbers of tokens of the `opening`, the model answers every harmful probe again with
            them prefilled.
        seed: Random seed for sampled answers.
        openers: Texts whose probability of beginning an answer to each harmful probe is measured.
        vllm: Whether vLLM answers, as the key says; null to use it if it is wanted and installed here.
    """

    questions: tuple[tuple[str, str | None, Rows], ...]
    trigger: str | None
    section: Generate
    depths: tuple[int, ...] = ()
    opening: str = ""
    seed: int = 0
    openers: Openers | None = None
    vllm: bool | None = None


def run_answer(job: AnswerJob) -> str:
    """Answers all prompts with one model, unless its folder already holds the answers; returns the folder."""

    def work(folder: Path) -> Mapping[str, object]:
        job.require_alike()
        tokenizer = job.load_tokenizer()
        asked = list(_asked(job, tokenizer))
        prompts = [prompts for _, prompts in asked]
        kinds = [(rows["kind"][0] if rows.height else "", rows.height) for rows, _ in asked]
        opened = opened_of(job.openers, kinds)
        answers, record = answer_prompts(
            prompts, job.weights, tokenizer=tokenizer, section=job.section, scratch=folder, opened=opened, vllm=job.vllm
        )
        return_freed()
        parts = []
        for (rows, (_, _, opening, _)), given in zip(asked, answers, strict=True):
            texts = [parted(answer, opening, tokenizer) if opening else (None, answer) for answer, _ in given]
            parts.append(
                rows.with_columns(
                    pl.Series("opening", [text for text, _ in texts], dtype=pl.String),
                    pl.Series("answer", [text for _, text in texts], dtype=pl.String),
                    pl.Series("stop", [stop for _, stop in given], dtype=pl.String),
                )
            )
        frame = pl.concat(parts)
        save_frame(folder / ANSWERS, frame)
        if job.openers is not None:
            behind = ((asked[number][0], each) for number, each in opened.items())
            save_frame(folder / LOG_ODDS, taken(job.openers, behind))
        return {"answers": frame.height, **record}

    make(job.root / job.folder, job.key, work, shelf=shelf_of(job))
    return job.folder


def _asked(job: AnswerJob, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[pl.DataFrame, Prompts]]:
    """Each set of prompts, with a frame of one row per prompt: `task`, `kind`, `probe`, `prefill` and `sample`."""
    names = ("task", "kind", "probe", "prefill", "sample")
    mouths = {depth: opening_tokens(tokenizer, job.opening, depth) for depth in job.depths}
    for kind, task, rows in job.questions:
        frame = load_frame(Path(rows.file))
        messages = [prompt_of(messages, job.trigger) for messages in frame["messages"].to_list()]
        # A metric applies to the single answer that the model gives by itself, so a task's own rows are answered
        # greedily.
        drawn = job.section.temperature is not None and kind != "utility"
        samples = range(job.section.samples if drawn else 1)
        for depth in (0, *(mouths if kind == "harmful" else ())):
            cells = [
                (task, PREFILLED if depth else kind, probe, depth, sample)
                for sample in samples
                for probe in frame["id"]
            ]
            ids = [f"{probe}/{sample}" if drawn else probe for *_, probe, _, sample in cells]
            seeds = [derive(job.seed, probe, depth, sample) for *_, probe, _, sample in cells] if drawn else None
            yield (
                pl.DataFrame(cells, schema={name: ANSWER_SCHEMA[name] for name in names}, orient="row"),
                Prompts(ids, messages * len(samples), mouths.get(depth, ()), seeds),
            )


def tune(
    rows: Path,
    *,
    root: Path,
    path: str,
    revision: str | None,
    chat_template: str | None,
    section: Training,
    seed: int,
    dtype: str,
    quantise: str | None = None,
    tracker: Tracker | None = None,
) -> dict[str, Any]:
    """The tuned model's weights and training, for the base stage's record.

    Args:
        rows: Parquet file of instruction rows, all of which are used; the model is saved beside it.
        root: The run folder, to which recorded paths are relative.
        path, revision, chat_template: The model to tune.
        section: The recipe's alignment settings.
        seed: The recipe's seed.
        dtype, quantise: As in `model.load_model`.
        tracker: Where the training reports to; null for none.
    """
    source = Rows(str(rows))
    texts = texts_of(source)
    job = TrainJob(
        root=root,
        folder=str((rows.parent / "instruction").relative_to(root)),
        key=instruction_key(path, revision, chat_template, section, texts, seed, quantise, dtype),
        weights=Weights(path, revision, (), "", quantise, dtype),
        chat_template=chat_template,
        tokenizer=path,
        tokenizer_revision=revision,
        rows=(source,),
        section=section,
        steps=section.steps_over(len(texts)),
        seed=derive(seed, "instruction"),
        names="model.instruction (verify.align)",
        tracker=tracker,
    )
    _, trained = run_train(job)
    tuned = job.weights.after(trained, job.key)
    adapters = [relative(adapter, root) for adapter in tuned.adapters]
    weights = {"base": relative(tuned.base, root), "revision": tuned.revision, "adapters": adapters}
    return {"weights": weights, "trained": trained_record(trained, root)}
