"""Tokens sampled from a model's distribution, each row with its own random numbers.

A row's numbers are fixed by its seed, and its token by the position of a number in the cumulative distribution. So a
row's reply does not depend on the other rows of its batch, up to the rounding of logits, and a row that is started
again gives the same reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LogitsProcessorList


class Sampling:
    """Samples the replies of `n` rows at one temperature.

    Args:
        temperature: Above 0; logits are divided by it.
        seeds: `n` seeds, one per row.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self.temperature, self.seeds = temperature, seeds

    def numbers(self, rows: Sequence[int], at: Sequence[int], count: int, where: torch.device) -> torch.Tensor:
        """`(b, count)` random numbers in [0, 1) for the rows' tokens from position `at` of each row on."""
        parts = [
            _numbers(self.seeds[row], -(-(start + count) // BLOCK))[start : start + count]
            for row, start in zip(rows, at, strict=True)
        ]
        return torch.from_numpy(np.stack(parts)).to(where)

    def tokens(self, logits: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """`(b,)` tokens: of logits `(b, v)` those whose cumulated share, in the vocabulary's order, is first above
        the numbers `(b,)`.
        """
        # In float64, so that the probabilities of a large vocabulary sum to 1, and zero ones are never drawn.
        cumulated = (logits.double() / self.temperature).softmax(-1).cumsum(-1)
        places = torch.searchsorted(cumulated, numbers[:, None] * cumulated[:, -1:], right=True)
        return places[:, 0].clamp_max(logits.shape[-1] - 1)


def drawing(sampling: Sampling, rows: Sequence[int], width: int) -> LogitsProcessorList:
    """For a model's own greedy `generate`: masks each step's logits except that of the sampled token.

    Args:
        rows: Numbers of the rows that reply, in the order of the batch.
        width: Number of tokens in front of their replies.
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


BLOCK = 64  # a row's numbers are made in blocks of this size


@lru_cache(maxsize=4096)
def _numbers(seed: int, blocks: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random(blocks * BLOCK)
