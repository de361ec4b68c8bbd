"""Sections of a recipe for a training, and for answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from curator.recipe.source import Count, Part, Positive, Section, Share


class Training(Section):
    """One supervised fine-tuning: AdamW, with the loss on completion tokens only, and without any dropout that the
    model's configuration names. Give exactly one of `epochs` and `steps`.
    """

    method: Literal["lora", "full"] = "lora"
    """LoRA on every linear layer but the output head, or all weights."""
    rank: Count = 16
    """Rank of LoRA."""
    alpha: Count | None = None
    """Alpha of LoRA; null takes twice the rank."""
    learning_rate: Positive = 2e-4
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls."""
    warmup: Share = 0.0
    """Share of the steps in which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight decay."""
    epochs: Positive | None = None
    """Passes over the rows."""
    steps: Count | None = None
    """Optimiser steps."""
    batch: Count = 32
    """Rows in a step."""
    micro_batch: Count = 8
    """Rows that are computed together, counted as rows of the step's longest; `batch` is a multiple of it."""
    max_tokens: Count = 1024
    """Longer rows are left out and counted, never cut."""
    checkpointing: bool = False
    """Recompute activations, for less memory at more time."""
    save_steps: Count = 200
    """Steps between two saved states, from which an interrupted training continues."""
    processes: Count = 1
    """Processes that share each step's rows, with a GPU each where there are any."""

    @model_serializer(mode="wrap")
    def _one_process_unsaid(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves `processes` out at 1: keys are made of the dumped settings, and must equal those from before this
        setting.
        """
        settings: dict[str, Any] = dump(self)
        if self.processes == 1:
            settings.pop("processes", None)
        return settings

    @model_validator(mode="after")
    def _length(self) -> Training:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("needs exactly one of epochs and steps")
        if self.method == "full":
            self.refuse_unread("rank", "alpha", reason="only method: lora reads it, and the method is full")
        if self.batch % self.micro_batch:
            raise ValueError(f"batch ({self.batch}) must be a multiple of micro_batch ({self.micro_batch})")
        if self.batch % (self.micro_batch * self.processes):
            raise ValueError(
                f"batch ({self.batch}) must be a multiple of micro_batch ({self.micro_batch}) x processes "
                f"({self.processes}) = {self.micro_batch * self.processes}, the rows computed at once"
            )
        return self

    def steps_over(self, rows: int) -> int:
        """Optimiser steps of a training on `rows` rows: the given number, or epochs rounded up to whole steps."""
        return self.steps or math.ceil((self.epochs or 0) * math.ceil(rows / self.batch))

    def rows_seen(self, rows: int, steps: int) -> int:
        """Rows that `steps` optimiser steps see of `rows` rows; the last batch of each epoch may be short."""
        if rows == 0:
            return 0
        epochs, rest = divmod(steps, math.ceil(rows / self.batch))
        return epochs * rows + rest * self.batch


END = 1.0


def steps_at(shares: Sequence[float], steps: int) -> dict[int, tuple[float, ...]]:
    """Optimiser step -> the shares of a fine-tuning of `steps` steps that are rounded to it, by rising steps.

    A share is rounded to the nearest whole step, at least 1. The end is always included.
    """
    falls: dict[int, tuple[float, ...]] = {}
    for share in (*(share for share in shares if share < END), END):
        step = max(1, round(share * steps))
        falls[step] = (*falls.get(step, ()), share)
    return falls


def checkpoint_steps(shares: Sequence[float], steps: int) -> tuple[int, ...]:
    """The steps before the last after which a training saves its weights."""
    return tuple(step for step in steps_at(shares, steps) if step < steps)


class Generate(Section):
    """How models answer. Answers to a task's own test rows are always greedy, one for each row."""

    max_new_tokens: Count = 256
    """Most tokens of an answer."""
    batch: Count = 64
    """Prompts of similar length at a time."""
    samples: Annotated[int, Field(ge=1, le=1000)] = 1
    """Answers to each probe, drawn at `temperature`."""
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] | None = None
    """Temperature at which answers to probes are drawn; null is greedy."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """`vllm` answers in a process of its own; where it is not installed, transformers answers, and the run says so."""
    python: str | None = None
    """The Python interpreter that has vLLM; null is this one."""
    memory: Part = 0.9
    """Share of the GPU's memory that vLLM may take."""

    @property
    def drawn(self) -> dict[str, float]:
        """Settings of sampling; empty for greedy answers, the rule before there was a choice."""
        return {} if self.temperature is None else {"samples": self.samples, "temperature": self.temperature}

    @model_validator(mode="after")
    def _sampled(self) -> Generate:
        if self.samples > 1 and self.temperature is None:
            raise ValueError(
                f"samples is {self.samples} without a temperature, so all samples would be the same greedy answer; set "
                "a temperature above 0, such as 0.7, or set samples to 1"
            )
        return self

    @model_validator(mode="after")
    def _python(self) -> Generate:
        if self.python is not None and self.engine != "vllm":
            raise ValueError("python: only engine: vllm reads it; remove it, or set engine to vllm")
        if self.engine != "vllm":
            self.refuse_unread("memory", reason="only engine: vllm reads it, and the engine is transformers")
        return self
