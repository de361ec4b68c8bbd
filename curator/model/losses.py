"""Losses of given answers under a model: whole, at the first token, and over the first 16 tokens.

Letters: `n` rows, `b` batch, `t` tokens, `v` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curator.errors import ModelError
from curator.model.batches import batches, budget, by_length, mixed, pad, positions
from curator.model.chat import Tokens
from curator.model.load import memory, window
from curator.wording import these

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LOSSES = ("whole", "first-token")
EARLY = 16  # number of answer tokens in the loss `first-16`
EVERY_LOSS = (*LOSSES, "first-16")
LARGEST_BATCH = 256  # rows; larger batches gain nothing and only grow in padding


@dataclass(frozen=True)
class Losses:
    """Loss of each answer in nats a token, at least 0.

    The tokens that a template writes before every answer are not the answer's, see `chat.Tokens.first`.

    Attributes:
        whole: `(n,)` float64, the mean over the answer's tokens, including its end token.
        first: `(n,)` float64, the loss of the answer's first token (the end token if the answer is empty).
        early: `(n,)` float64, the mean over its first 16 tokens, or over all if it has fewer.
    """

    whole: NDArray[np.float64]
    first: NDArray[np.float64]
    early: NDArray[np.float64]

    def named(self, loss: str) -> NDArray[np.float64]:
        """The loss of this name, one of LOSSES or `first-16`, `(n,)`."""
        return {"whole": self.whole, "first-token": self.first, "first-16": self.early}[loss]


def answer_losses(
    rows: Sequence[Tokens],
    ids: Sequence[str],
    *,
    model: PreTrainedModel,
    filler: int,
    batch_tokens: int,
    key: str,
    progress: Callable[[int], None] = lambda done: None,
) -> Losses:
    """Loss of the last answer of every row, as in training, but without the template's tokens in front of it.

    Batches are composed from lengths and ids, so the order of the rows changes nothing; padding changes only rounding.
    It takes one forward pass per row, and logits of the answers' tokens only.

    Args:
        rows: Conversations that end with an answer, from `chat.encode_all`.
        ids: Ids of the rows.
        model: From `model.load_model`.
        filler: Padding token.
        batch_tokens: Most tokens in a batch, including padding; on a CPU see `batches.budget`.
        key: The recipe key of `batch_tokens`, for messages.
        progress: Called with the number of rows done.

    Raises:
        ModelError: A row is longer than the model has positions for, or memory runs out.
    """
    import torch

    longest = max((len(row.ids) for row in rows), default=0)
    if longest > window(model):
        raise ModelError(too_long(longest, window(model)))
    whole, first, early = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
    done, most = 0, budget(batch_tokens, model.device.type)
    for batch in mixed(batches([len(row.ids) for row in rows], ids, tokens=most, rows=LARGEST_BATCH)):
        with torch.inference_mode(), memory(key):
            losses = token_losses([rows[i] for i in batch], model=model, filler=filler, framed=False)
            whole[batch] = torch.stack([row.mean() for row in losses]).cpu().numpy()
            first[batch] = torch.stack([row[0] for row in losses]).cpu().numpy()
            early[batch] = torch.stack([row[:EARLY].mean() for row in losses]).cpu().numpy()
        done += len(batch)
        progress(done)
    return Losses(whole, first, early)


def too_long(longest: int, most: int) -> str:
    """What is said of a row of `longest` tokens if the model has positions for `most`."""
    return (
        f"pool.clean.max_tokens: a row has {these(longest, 'token', 'tokens')}, more than the model's context of "
        f"{most:,}; set it to {most} or less"
    )


def token_losses(
    rows: Sequence[Tokens], *, model: PreTrainedModel, filler: int, framed: bool = True
) -> list[torch.Tensor]:
    """Cross entropy of every answer token of a batch, in nats: a `(t,)` tensor per row, in fp32 or better. `framed` as
    in `answer_logits`.
    """
    import torch

    return [
        torch.nn.functional.cross_entropy(logits, words, reduction="none")
        for logits, words in answer_logits(rows, model=model, filler=filler, framed=framed)
    ]


def apart(groups: Sequence[Sequence[int]], lengths: Sequence[int], *, model: PreTrainedModel) -> list[list[int]]:
    """The batches for a model whose layers are watched: each in parts of one length if the model reads padding.

    `answer_logits` would split such a batch itself, in the middle of what is watched, and before that it may try the
    model on a few tokens (`greedy.reads_mask`). Hooks on layers would take those passes for passes of the batch. After
    this function it does neither.
    """
    from curator.model.greedy import reads_mask

    if reads_mask(model):
        return [list(group) for group in groups]
    return [part for group in groups for part in by_length(group, lengths)]


def answer_logits(
    rows: Sequence[Tokens], *, model: PreTrainedModel, filler: int, framed: bool = True
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """For each row of a batch the logits in front of its answer's tokens, `(t, v)` in fp32 or better, and the tokens'
    ids `(t,)`. With `framed`, as in training, the template's tokens in front of the answer count too.
    """
    import torch

    from curator.model.greedy import reads_mask

    groups = by_length(range(len(rows)), [len(row.ids) for row in rows])
    # Other weights do not change what kind of model it is.
    if len(groups) > 1 and not reads_mask(getattr(model, "placed", model)):
        pairs = {
            number: pair
            for group in groups
            for number, pair in zip(
                group,
                answer_logits([rows[number] for number in group], model=model, filler=filler, framed=framed),
                strict=True,
            )
        }
        yield from (pairs[number] for number in range(len(rows)))
        return
    ids, mask = pad([row.ids for row in rows], filler, side="left")
    where = next(model.parameters()).device
    ids, mask = ids.to(where), mask.to(where)
    # The first token of a row has no predecessor that could predict it; training leaves it out too.
    lengths = [len(row.ids) - max(row.start if framed else row.first, 1) for row in rows]
    # With padding on the left all answers end at the last token, so the last few logits suffice: logits of whole rows
    # would hold a vocabulary for every token of every prompt.
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions(mask),
        use_cache=False,
        logits_to_keep=max(lengths) + 1,
    ).logits
    wide = torch.promote_types(logits.dtype, torch.float32)
    yield from ((logits[i, -length - 1 : -1].to(wide), ids[i, -length:]) for i, length in enumerate(lengths))
