"""Depth: how far into an answer alignment changes a model's next-token distributions.

Letters: `n` rows, `t` tokens of an answer, `v` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curator.model.batches import batches, budget
from curator.model.load import memory
from curator.model.losses import LARGEST_BATCH, answer_logits

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from curator.model.chat import Tokens

SHALLOW = 5
"""Answer tokens whose share is not depth: shallow alignment changes the first few alone (Qi et al. 2024)."""


def depths(
    rows: Sequence[Tokens],
    ids: Sequence[str],
    *,
    model: PreTrainedModel,
    base: PreTrainedModel,
    filler: int,
    batch_tokens: int,
) -> NDArray[np.float64]:
    """The share of the change by alignment that lies beyond the fifth token of each row's answer, `(n,)` in [0, 1].

    The change at a token is KL(p || q) in nats, over the vocabulary, of the next token by the aligned model p and by
    the base q behind the same text; it is summed over the answer's tokens, including its end token. An answer of five
    tokens or fewer has depth 0, and so has one at which the two models agree throughout.

    Source: Qi et al. 2024, Safety Alignment Should Be Made More Than Just a Few Tokens Deep (arXiv 2406.05946).

    Args:
        rows: Conversations that end with an answer, from `chat.encode_all`.
        ids: Ids of the rows.
        model, base: The aligned model and the base model, which share a tokenizer.
        filler: Padding token.
        batch_tokens: Most tokens in a batch, including padding; on a CPU see `batches.budget`.

    Raises:
        ModelError: Memory runs out.
    """
    import torch

    shares, most = np.zeros(len(rows)), budget(batch_tokens, model.device.type)
    for batch in batches([len(row.ids) for row in rows], ids, tokens=most, rows=LARGEST_BATCH):
        some = [rows[i] for i in batch]
        with torch.inference_mode(), memory("represent.batch_tokens"):
            pairs = zip(
                answer_logits(some, model=model, filler=filler, framed=False),
                answer_logits(some, model=base, filler=filler, framed=False),
                strict=True,
            )
            shares[batch] = [_beyond(aligned, plain) for (aligned, _), (plain, _) in pairs]
    return shares


def _beyond(aligned: torch.Tensor, plain: torch.Tensor) -> float:
    """The share beyond the fifth token, from the logits `(t, v)` that predict an answer's tokens."""
    first, second = aligned.log_softmax(-1), plain.log_softmax(-1)
    # Rounding may leave a divergence of nearly equal distributions just below zero.
    change = (first.exp() * (first - second)).sum(-1).clamp(min=0.0).double()
    total = float(change.sum())
    return 0.0 if total == 0.0 else float(change[SHALLOW:].sum()) / total  # NaN if a logit is not finite
