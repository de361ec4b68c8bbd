"""A trainer for several processes, which deals out the rows of each step so that they are those of one process.

accelerate deals micro-batches out in turn, and would fill the end of an epoch with rows of its beginning. Here blank
rows fill it: no token of theirs bears a loss, so they weigh nothing in a mean that is taken over tokens.

Importing this module loads everything that a worker which trains and answers needs. So it is also what workers load
once, before they are forked (`experiment.plan.PRELOAD`): loading it takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from curator.model.load import quiet

quiet()  # peft imports bitsandbytes where it is installed, which at once says what it lacks on a CPU

from accelerate.data_loader import SeedableRandomSampler  # noqa: E402
from peft import get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402

import curator.train.generate  # noqa: E402
import curator.train.sft  # noqa: E402

__all__ = [
    "AutoModelForCausalLM", "AutoTokenizer", "DealtTrainer", "Order", "SFTConfig", "SFTTrainer", "curator",
    "get_peft_model",
]  # fmt: skip


class Order(SeedableRandomSampler):  # type: ignore[misc]
    """An epoch's order: of the real rows as in one process, then the blank ones, which stand behind them."""

    def __init__(self, rows: int, blank: int, seed: int) -> None:
        super().__init__(range(rows), data_seed=seed, generator=torch.Generator())
        self.rows, self.blank = rows, blank

    def __iter__(self) -> Iterator[int]:
        yield from super().__iter__()
        yield from range(self.rows, self.rows + self.blank)

    def __len__(self) -> int:
        return self.rows + self.blank


class DealtTrainer(SFTTrainer):  # type: ignore[misc]
    """Trains on a table whose last `blank` rows are blank, in processes that accelerate has joined."""

    def __init__(self, *, blank: int, **settings: Any) -> None:
        self.blank = blank
        super().__init__(**settings)

    def get_train_dataloader(self) -> Any:
        """As that of SFTTrainer, in the order of one process."""
        loader = super().get_train_dataloader()
        # Set on the loader that accelerate has made: it shards batches of this one order among the processes.
        loader.set_sampler(Order(len(self.train_dataset) - self.blank, self.blank, self.args.data_seed))
        return loader
