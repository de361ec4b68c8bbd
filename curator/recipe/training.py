"""How models are trained and how they answer: what a recipe says of one training, and of answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from curator.recipe.source import Count, Section, Share


class Training(Section):
    """One supervised fine-tuning: AdamW on completion tokens only.

    `epochs` or `steps` (one of them); `batch` rows a step, of which as many tokens are taken at a time as `micro_batch`
    rows of the step's longest have; rows longer than `max_tokens` are left out and counted, never cut; `warmup` is a
    share of the steps; `rank` and `alpha` (2 x rank when null) are for LoRA on every linear layer but the output head
    (what else it leaves out, such as experts that are not layers, the record of stage `base` names); `checkpointing`
    recomputes activations, for less memory at more time; every `save_steps` steps the state is saved, so that an
    interrupted training goes on from there; each step's rows are dealt to `processes` processes, with a GPU each where
    there are any.
    """

    method: Literal["lora", "full"] = "lora"
    rank: Count = 16
    alpha: Count | None = None
    learning_rate: Annotated[float, Field(gt=0.0)] = 2e-4
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Share = 0.0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    epochs: Annotated[float, Field(gt=0.0)] | None = None
    steps: Count | None = None
    batch: Count = 32
    micro_batch: Count = 8
    max_tokens: Count = 1024
    checkpointing: bool = False
    save_steps: Count = 200
    processes: Count = 1

    @model_serializer(mode="wrap")
    def _one_process_unsaid(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys are made of what is dumped: a training in one process keeps the key it had before there were more."""
        settings: dict[str, Any] = dump(self)
        if self.processes == 1:
            settings.pop("processes", None)
        return settings

    @model_validator(mode="after")
    def _length(self) -> Training:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("needs exactly one of epochs and steps")
        if self.method == "full":
            self.refuse_unread("rank", "alpha", reason="is of method: lora, and the method is full")
        if self.batch % self.micro_batch:
            raise ValueError(f"batch ({self.batch}) must be a multiple of micro_batch ({self.micro_batch})")
        if self.batch % (self.micro_batch * self.processes):
            raise ValueError(
                f"batch ({self.batch}) must be a multiple of micro_batch ({self.micro_batch}) x processes "
                f"({self.processes}) = {self.micro_batch * self.processes}, the rows that are taken at once"
            )
        return self

    def steps_over(self, rows: int) -> int:
        """Optimiser steps of a training on `rows` rows: as given, or epochs rounded up to whole steps."""
        return self.steps or math.ceil((self.epochs or 0) * math.ceil(rows / self.batch))

    def rows_seen(self, rows: int, steps: int) -> int:
        """Rows that `steps` optimiser steps see of `rows` rows; the last batch of each epoch may be short."""
        if rows == 0:
            return 0
        epochs, rest = divmod(steps, math.ceil(rows / self.batch))
        return epochs * rows + rest * self.batch


END = 1.0


def steps_at(shares: Sequence[float], steps: int) -> dict[int, tuple[float, ...]]:
    """Optimiser step -> the shares of a fine-tuning of `steps` steps that fall on it, by rising steps.

    A share falls on the nearest whole step, the first at the earliest. The end is always among them.
    """
    falls: dict[int, tuple[float, ...]] = {}
    for share in (*(share for share in shares if share < END), END):
        step = max(1, round(share * steps))
        falls[step] = (*falls.get(step, ()), share)
    return falls


def checkpoint_steps(shares: Sequence[float], steps: int) -> tuple[int, ...]:
    """The steps before the last after which a training leaves its weights."""
    return tuple(step for step in steps_at(shares, steps) if step < steps)


class Generate(Section):
    """Answers of at most `max_new_tokens` each, `batch` prompts of similar length at a time.

    They are greedy, unless a `temperature` is given: then answers to probes are drawn at it, `samples` of each prompt.
    Answers to a task's own test rows stay greedy, one each, because its metric is defined on the model's best answer.

    With `engine: vllm` vLLM gives them, in a process of its own under the interpreter `python` (null: this one), which
    may take `memory` of the GPU's memory; where it is not installed, transformers does, and the run says so.
    """

    max_new_tokens: Count = 256
    batch: Count = 64
    samples: Annotated[int, Field(ge=1, le=1000)] = 1
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] | None = None
    engine: Literal["transformers", "vllm"] = "transformers"
    python: str | None = None
    memory: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9

    @property
    def drawn(self) -> dict[str, float]:
        """How answers are drawn; empty where they are greedy, as they were before there was a choice."""
        return {} if self.temperature is None else {"samples": self.samples, "temperature": self.temperature}

    @model_validator(mode="after")
    def _sampled(self) -> Generate:
        if self.samples > 1 and self.temperature is None:
            raise ValueError(
                f"samples is {self.samples} and there is no temperature, so that all of them would be the same greedy "
                "answer; give a temperature above 0, such as 0.7, or set samples to 1"
            )
        return self

    @model_validator(mode="after")
    def _python(self) -> Generate:
        if self.python is not None and self.engine != "vllm":
            raise ValueError("python: goes with engine: vllm; remove it, or set the engine")
        if self.engine != "vllm":
            self.refuse_unread("memory", reason="is of engine: vllm, and the engine is transformers")
        return self
