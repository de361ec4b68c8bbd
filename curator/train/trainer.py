"""The trainer: how the rows of a step are distributed over processes, and split into the passes of each.

A step's gradient is a mean over the tokens of its rows, so distribution and splitting change only rounding.

accelerate distributes batches in turn, and would fill the end of an epoch with rows from its beginning. Here blank rows
fill it: none of their tokens bears a loss, so they do not contribute.

Importing this module loads everything that a worker needs to train and answer, which takes seconds. So workers load it
once, before they are forked (`curator.train.PRELOAD`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from curator.model.load import quiet

quiet()  # peft imports bitsandbytes if it is installed, which warns about a missing GPU

from accelerate.data_loader import SeedableRandomSampler  # noqa: E402
from peft import PeftModel, get_peft_model  # noqa: E402
from peft.helpers import disable_input_dtype_casting  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402

import curator.train.generate  # noqa: E402
import curator.train.sft  # noqa: E402
from curator.train.loss import UNLABELLED, LabelledLoss  # noqa: E402

if TYPE_CHECKING:
    from transformers import TrainerState

__all__ = [
    "AfterSteps", "AutoModelForCausalLM", "AutoTokenizer", "Order", "PassTrainer", "SFTConfig", "SFTTrainer", "curator",
    "get_peft_model", "passes",
]  # fmt: skip


PASS_TOKENS = {"cpu": 64, "cuda": 1024}
"""Number of tokens whose computation takes about as long as the fixed cost of a pass: reading weights, starting
kernels. Up to this much padding is cheaper than another pass."""


def passes(lengths: Sequence[int], *, rows: int, extra: int) -> list[tuple[int, int]]:
    """Start and stop of the rows of each pass, minimising padded tokens plus `extra` per pass.

    Args:
        lengths: Number of tokens of each row, the longest first.
        rows: A pass has at most as many padded tokens as this many rows of the longest length.
        extra: Cost of a pass, in tokens.
    """
    most = rows * lengths[0]
    cost, start = [0.0], [0]
    for stop in range(1, len(lengths) + 1):
        sizes = ((first, lengths[first] * (stop - first)) for first in range(stop))
        best, first = min((cost[first] + size + extra, first) for first, size in sizes if size <= most)
        cost.append(best)
        start.append(first)
    cuts, stop = list[tuple[int, int]](), len(lengths)
    while stop > 0:
        cuts.append((start[stop], stop))
        stop = start[stop]
    return cuts[::-1]


class Order(SeedableRandomSampler):  # type: ignore[misc]
    """An epoch's order: that of the real rows in one process, followed by the blank ones.

    Each step's rows are distributed by length, so that no process waits long for another.
    """

    def __init__(self, lengths: Sequence[int], *, blank: int, batch: int, processes: int, seed: int) -> None:
        super().__init__(range(len(lengths) - blank), data_seed=seed, generator=torch.Generator())
        self.lengths, self.blank, self.batch, self.processes = lengths, blank, batch, processes

    def __iter__(self) -> Iterator[int]:
        rows = [*super().__iter__(), *range(len(self) - self.blank, len(self))]
        for start in range(0, len(rows), self.batch):
            step = sorted(rows[start : start + self.batch], key=lambda row: -self.lengths[row])
            for process in range(self.processes):
                yield from step[process :: self.processes]

    def __len__(self) -> int:
        return len(self.lengths)


class AfterSteps(TrainerCallback):  # type: ignore[misc]
    """Calls `work(step)` after each of these optimiser steps, before the trainer saves its own state of that step."""

    def __init__(self, steps: Collection[int], work: Callable[[int], None]) -> None:
        self.steps, self.work = steps, work

    def on_step_end(self, _args: object, state: TrainerState, _control: object, **_more: object) -> None:
        """Called by the trainer."""
        if state.global_step in self.steps:
            self.work(state.global_step)


class PassTrainer(SFTTrainer):  # type: ignore[misc]
    """Trains on a table whose last `blank` rows are blank, in one process or in several that accelerate has joined.

    A batch of the loader holds all of this process's rows of a step. `micro_batch` bounds the tokens of a pass.
    """

    def __init__(self, *, blank: int, micro_batch: int, **settings: Any) -> None:
        self.blank, self.micro_batch = blank, micro_batch
        super().__init__(**settings)
        # trl rounds adapters beside quantised weights to bf16, in which small steps vanish.
        for weight in self.model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
        inner = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        self.labelled_loss = LabelledLoss(inner, router=self.router_aux_loss_coef if self.aux_loss_enabled else 0.0)

    def get_train_dataloader(self) -> Any:
        """SFTTrainer's data loader, in the order of one process."""
        loader = super().get_train_dataloader()
        processes = self.accelerator.num_processes
        if processes > 1:
            lengths = [len(ids) for ids in self.train_dataset["input_ids"]]
            batch = self.args.per_device_train_batch_size * processes
            # Set on the loader that accelerate has made, which shards batches of this one order among the processes.
            loader.set_sampler(
                Order(lengths, blank=self.blank, batch=batch, processes=processes, seed=self.args.data_seed)
            )
        return loader

    def training_step(self, model: torch.nn.Module, inputs: Any, num_items_in_batch: object = None) -> torch.Tensor:
        """The loss of this process's rows, a share of the step's mean over tokens; its gradient is accumulated."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        widths = inputs["attention_mask"].sum(1)
        order = widths.argsort(descending=True, stable=True)
        lengths = widths[order].tolist()
        of_row = (inputs["labels"][:, 1:] != UNLABELLED).sum(1)[order]
        # Blank rows, which have no label, count neither here nor for the router.
        real = (widths[order] * (of_row > 0)).tolist()
        labelled, tokens = self.accelerator.reduce(torch.stack([of_row.sum(), of_row.new_tensor(sum(real))]), "sum")
        kind = self.accelerator.device.type
        cuts = passes(lengths, rows=self.micro_batch, extra=PASS_TOKENS[kind])
        total = torch.zeros((), device=self.accelerator.device)
        inner = self.accelerator.unwrap_model(model)
        # accelerate has wrapped it to cast logits to fp32 whole, which the loss does slice by slice.
        inner.forward = getattr(inner, "_original_forward", inner.forward)
        # Around all passes, so that weights are cast once per step. peft would cast an adapter's input to fp32 as well.
        with self.accelerator.autocast(), disable_input_dtype_casting(model, active=self.args.bf16):
            for start, stop in cuts:
                some = {
                    name: inputs[name][order[start:stop], : lengths[start]]
                    for name in ("input_ids", "attention_mask", "labels")
                }
                with nullcontext() if stop == len(lengths) else self.accelerator.no_sync(model):
                    summed, router = self.labelled_loss(
                        model, some["input_ids"], some["attention_mask"], some["labels"]
                    )
                    # Gradients of processes are averaged, and their losses for the log.
                    loss = summed / labelled.clamp(min=1) * self.accelerator.num_processes
                    loss = loss + router * (sum(real[start:stop]) / tokens * self.accelerator.num_processes)
                    with torch.autocast(kind, enabled=False):
                        self.accelerator.backward(loss)
                total += loss.detach()
        return total
