"""Tokens drawn from a model's distribution, each row by numbers of its own.

A row's numbers are fixed by its seed, and its token by where a number falls in the cumulated distribution. So what a
row says depends on nothing that is at work beside it, but for the rounding of logits, and a row that is begun again
says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LogitsProcessorList


class Sampling:
    """Draws the replies of `n` rows at one temperature.

    Args:
        temperature: Above 0; logits are divided by it.
        seeds: `n` seeds, one a row.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self.temperature, self.seeds = temperature, seeds

    def numbers(self, rows: Sequence[int], at: Sequence[int], count: int, where: torch.device) -> torch.Tensor:
        """`(b, count)` numbers in [0, 1) of the rows' tokens from number `at` on, of each row its own."""
        parts = [
            _numbers(self.seeds[row], -(-(start + count) // BLOCK))[start : start + count]
            for row, start in zip(rows, at, strict=True)
        ]
        return torch.from_numpy(np.stack(parts)).to(where)

    def tokens(self, logits: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """`(b,)` tokens: of logits `(b, v)` those whose cumulated share, in the vocabulary's order, is first above
        the numbers `(b,)`.
        """
        # In float64, so that the shares of a large vocabulary add up, and one that is zero is never drawn.
        cumulated = (logits.double() / self.temperature).softmax(-1).cumsum(-1)
        places = torch.searchsorted(cumulated, numbers[:, None] * cumulated[:, -1:], right=True)
        return places[:, 0].clamp_max(logits.shape[-1] - 1)


def drawing(sampling: Sampling, rows: Sequence[int], width: int) -> LogitsProcessorList:
    """For a model's own greedy `generate`: leaves of each step's logits the token alone that is drawn.

    Args:
        rows: Numbers of the rows that reply, in the order of the batch. `width`: tokens in front of their replies.
    """
    return LogitsProcessorList([_Drawing(sampling, rows, width)])


class _Drawing:
    def __init__(self, sampling: Sampling, rows: Sequence[int], width: int) -> None:
        self.sampling, self.rows, self.width = sampling, rows, width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        at = [input_ids.shape[1] - self.width] * len(self.rows)
        numbers = self.sampling.numbers(self.rows, at, 1, scores.device)[:, 0]
        drawn = self.sampling.tokens(scores, numbers)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn[:, None], 0.0)


BLOCK = 64  # a row's numbers are made so many at a time


@lru_cache(maxsize=4096)
def _numbers(seed: int, blocks: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random(blocks * BLOCK)
