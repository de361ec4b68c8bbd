"""Supervised fine-tuning on completions, full or LoRA; the only file that knows trl."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import DataError, ModelError
from curator.model.attention import take_attention
from curator.model.chat import encode_all
from curator.model.dtype import TORCH
from curator.model.load import device, load_model, memory, window
from curator.model.prefill import encode_opened
from curator.provenance import keep_freed, peak_gib, release_memory
from curator.recipe.training import Training
from curator.records import Messages, Trained
from curator.run.folder import replacing_folder
from curator.run.ran import note_dtype
from curator.train.adapter import NEW, with_adapter, without_dropout
from curator.train.tracker import Tracker
from curator.wording import these

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from curator.train.trainer import PassTrainer

WEIGHTS, CHECKPOINTS = "weights", "checkpoints"
BLANK = 2  # tokens of a blank row: one to predict from, and one that bears no loss


def train(
    rows: Sequence[Messages],
    *,
    base: str,
    revision: str | None,
    adapters: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    section: Training,
    steps: int,
    seed: int,
    folder: Path,
    key: str,
    dtype: str = "fp32",
    quantise: str | None = None,
    checkpoints: Collection[int] = (),
    openings: Sequence[Sequence[int]] | None = None,
    tracker: Tracker | None = None,
) -> Trained:
    """A model fine-tuned on the rows, written to `folder/weights`.

    The loss covers only the last answer and its end token. The seed is set before an adapter is initialised, and also
    decides the order of the rows. Rows are reshuffled each epoch; the last batch of an epoch may be short.

    Every `section.save_steps` steps the whole state is saved beside the weights. If an interrupted training has left
    one in `folder`, this training resumes from it and ends with the same weights. This does not apply to adapters
    beside quantised weights: transformers would load the state without them.

    Args:
        rows: Conversations that end with an answer. Those of more tokens than `section.max_tokens`, or than the model
            has positions for, are left out and counted.
        base, revision, adapters: Weights to start from, and LoRA folders merged into them first.
        tokenizer: From `model.load_tokenizer`.
        section: The recipe's training section.
        steps: Number of optimiser steps.
        seed: Random seed of this training.
        folder: Folder for the weights: the whole model, or only the new adapter.
        key: The recipe key that messages name, e.g. `verify.align`.
        dtype: dtype of the products, `fp32` or `bf16`. Trained weights (all, or an adapter), their gradients and the
            optimiser's moments are fp32 either way.
        quantise: As in `model.load_model`; only with LoRA.
        checkpoints: Steps before the last after which the weights are also saved in `folder`. They do not change the
            training.
        openings: For each row the tokens that its answer begins with and that bear no loss, empty for none; null if no
            row has any. They do not count towards `section.max_tokens`, so that the same rows are left out as without
            them.
        tracker: Where losses and learning rates are reported to; null for none.

    Raises:
        DataError: All rows are too long.
        ModelError: The weights cannot be loaded, the loss is no longer finite, or memory runs out.
        RunError: One of several processes was killed, there is no GPU for each, or the tracker is not installed.
    """
    settings = {
        "rows": rows,
        "base": base,
        "revision": revision,
        "adapters": adapters,
        "tokenizer": tokenizer,
        "section": section,
        "steps": steps,
        "seed": seed,
        "folder": folder,
        "key": key,
        "dtype": dtype,
        "quantise": quantise,
        "checkpoints": checkpoints,
        "openings": openings,
        "tracker": tracker,
    }
    if section.processes > 1:
        from curator.train.parallel import train_apart

        return train_apart(settings, processes=section.processes, key=key)
    return train_here(**settings)


@contextmanager
def _memory_of_its_own() -> Iterator[None]:
    """Wraps a training: measures its peak memory, and frees everything of the model's size afterwards.

    Trainer, optimiser and schedule refer to each other, so that without this they would wait for a garbage collection,
    and the next model would not fit beside them.
    """
    import torch

    if device() == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        torch.cuda.reset_peak_memory_stats()
    try:
        yield
    finally:
        release_memory()


@_memory_of_its_own()
def train_here(
    rows: Sequence[Messages],
    *,
    base: str,
    revision: str | None,
    adapters: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    section: Training,
    steps: int,
    seed: int,
    folder: Path,
    key: str,
    dtype: str = "fp32",
    quantise: str | None = None,
    checkpoints: Collection[int] = (),
    openings: Sequence[Sequence[int]] | None = None,
    tracker: Tracker | None = None,
) -> Trained:
    """`train` in this process: all of it, or this process's share if it is one of `section.processes`."""
    from accelerate.utils import gather_object
    from datasets import Dataset
    from transformers import set_seed

    from curator.train.trainer import AfterSteps, PassTrainer

    clock = time.perf_counter()
    weights_in = "fp32" if section.method == "full" else dtype
    model = load_model(base, revision=revision, adapters=adapters, dtype=weights_in, quantise=quantise)
    without_dropout(model)
    if device() == "cpu":
        keep_freed()
        if dtype == "bf16":
            take_attention(model)
    mouths = [()] * len(rows) if openings is None else openings
    encoded = encode_all(tokenizer, rows) if openings is None else encode_opened(tokenizer, rows, openings)
    positions = window(model)
    limit = min(section.max_tokens, positions)
    short = [
        row
        for row, mouth in zip(encoded, mouths, strict=True)
        if len(row.ids) - len(mouth) <= limit and len(row.ids) <= positions
    ]
    if not short:
        raise DataError(
            f"{key}.max_tokens: found {limit:,}, and each of {these(len(encoded), 'row', 'rows')} is longer "
            f"(the shortest has {min((len(row.ids) for row in encoded), default=0):,}); raise it, or use shorter rows"
        )
    # Then every process has the same number of full batches.
    blank = -len(short) % section.batch if section.processes > 1 else 0
    filler = [[tokenizer.eos_token_id] * BLANK] * blank
    table = Dataset.from_dict(
        {
            "input_ids": [list(row.ids) for row in short] + filler,
            # torch's cross entropy ignores labels of -100.
            "labels": [[-100] * row.start + list(row.ids[row.start :]) for row in short] + [[-100] * BLANK] * blank,
        }
    )
    with nullcontext() if tracker is None else tracker.open(), memory(f"{key}.micro_batch"):
        set_seed(seed)
        if section.method == "lora":
            model = with_adapter(model, section)
        trainer = PassTrainer(
            blank=blank,
            micro_batch=section.micro_batch,
            model=model,
            args=_arguments(
                section, steps, seed, folder, dtype=dtype, saves=not (quantise and adapters), tracker=tracker
            ),
            train_dataset=table,
            processing_class=tokenizer,
        )
        for callback in ("PrinterCallback", "ProgressCallback"):
            for installed in list(trainer.callback_handler.callbacks):
                if type(installed).__name__ == callback:
                    trainer.remove_callback(installed)
        left = {step: folder / f"{WEIGHTS}-{step}" for step in sorted(checkpoints)}
        trainer.add_callback(AfterSteps(left, lambda step: _leave(trainer, section, left[step])))
        note_dtype(TORCH[dtype])
        trainer.train(resume_from_checkpoint=_unfinished(folder, left))
    losses = tuple(round(float(entry["loss"]), 6) for entry in trainer.state.log_history if "loss" in entry)
    broken = next((step for step, loss in enumerate(losses, start=1) if not math.isfinite(loss)), None)
    if broken is not None:
        # Otherwise a later training would resume from a state with NaN.
        if trainer.is_world_process_zero():
            for broken_off in (folder / CHECKPOINTS, *left.values()):
                shutil.rmtree(broken_off, ignore_errors=True)
        raise ModelError(
            f"{key}.learning_rate: training diverged at {section.learning_rate:g} (the loss of step {broken:,} is not "
            "finite); lower it, or set a warmup"
        )
    _leave(trainer, section, folder / WEIGHTS)
    if trainer.is_world_process_zero():
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    done = int(trainer.state.global_step)
    # Blank rows are in the last step of every epoch, and were counted as tokens seen.
    blank_tokens = BLANK * blank * (done // math.ceil(len(short) / section.batch))
    return Trained(
        path=str(folder / WEIGHTS),
        method=section.method,
        parent=adapters[-1] if adapters else base,
        rows=len(short),
        tokens=round(float(trainer.state.num_input_tokens_seen)) - blank_tokens,
        steps=done,
        losses=losses,
        seconds=time.perf_counter() - clock,
        peak_gib=max(gather_object([_peak()])),
        dropped=len(encoded) - len(short),
        checkpoints=tuple((step, str(target)) for step, target in left.items()),
    )


def _leave(trainer: PassTrainer, section: Training, target: Path) -> None:
    """Saves the trained weights, the whole model or only the new adapter, in the first process."""
    if trainer.is_world_process_zero():
        with replacing_folder(target) as temporary:
            options = {"selected_adapters": [NEW]} if section.method == "lora" else {}
            trainer.model.save_pretrained(temporary, **options)


def _unfinished(folder: Path, left: Mapping[int, Path]) -> str | None:
    """The newest completely saved state: `trainer_state.json` is written last, and may itself be truncated. Earlier
    checkpoints must exist too.
    """
    for state in sorted((folder / CHECKPOINTS).glob("checkpoint-*/trainer_state.json"), key=_step, reverse=True):
        if any(step <= _step(state) and not target.exists() for step, target in left.items()):
            continue
        try:
            json.loads(state.read_text(encoding="utf-8"))
        except ValueError:
            continue
        return str(state.parent)
    return None


def _step(state: Path) -> int:
    return int(state.parent.name.rpartition("-")[2])


def _arguments(
    section: Training, steps: int, seed: int, folder: Path, *, dtype: str, saves: bool, tracker: Tracker | None
) -> Any:
    from trl import SFTConfig

    schedules = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
    settings = SFTConfig(
        output_dir=str(folder / CHECKPOINTS),
        max_steps=steps,
        per_device_train_batch_size=section.batch // section.processes,
        learning_rate=section.learning_rate,
        lr_scheduler_type=schedules[section.schedule],
        warmup_steps=round(section.warmup * steps),
        weight_decay=section.weight_decay,
        max_grad_norm=1.0,
        activation_checkpointing=section.checkpointing,
        bf16=dtype == "bf16",
        use_cpu=device() == "cpu",
        seed=seed,
        data_seed=seed,
        max_length=None,  # nothing is truncated: rows that are too long were left out above
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        include_num_input_tokens_seen="non_padding",
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would report a diverged training as a normal one
        save_strategy="steps" if saves and section.save_steps < steps else "no",
        save_steps=section.save_steps,
        save_total_limit=1,
        **({"report_to": "none"} if tracker is None else tracker.arguments),
        disable_tqdm=True,
        dataloader_pin_memory=device() == "cuda",
        log_level="error",
    )
    # If a process sees several GPUs, Trainer would put a micro-batch on each, and so multiply the batch size.
    settings._n_gpu = min(settings.n_gpu, 1)
    return settings


def _peak() -> float:
    """Peak memory in GiB: the device's, or the process's on a CPU."""
    if device() == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated()) / 2**30
    return peak_gib()
