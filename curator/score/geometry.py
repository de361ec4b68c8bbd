"""Geometry: whether a row pulls the weights in the direction of alignment rather than in that of a task.

Letters: `n` rows, `b` batch, `t` tokens; a linear layer has `i` inputs and `o` outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curator.model.batches import batches, budget
from curator.model.load import memory
from curator.model.losses import apart, token_losses
from curator.represent.encoder import LARGEST_BATCH
from curator.represent.gradients import by_row, layers_of, watched

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from curator.model.chat import Tokens


def step_between(before: PreTrainedModel, after: PreTrainedModel) -> list[torch.Tensor]:
    """How every linear layer of the blocks has moved, `(o, i)` each, in the order of `layers_of`."""
    pairs = zip(layers_of(before, "lora"), layers_of(after, "lora"), strict=True)
    return [_matrix(new, new.weight.detach() - old.weight.detach()) for old, new in pairs]


def pulls(
    rows: Sequence[Tokens],
    ids: Sequence[str],
    *,
    model: PreTrainedModel,
    steps: Mapping[str, Sequence[torch.Tensor]],
    filler: int,
    batch_tokens: int,
) -> dict[str, NDArray[np.float64]]:
    """How far training on each row would move the weights along each step, `(n,)` in [-1, 1].

    With g_m the gradient of the row's mean loss over its answer's tokens by the weights of linear layer m, and D_m that
    layer's step, it is the mean over layers of cos(-g_m, D_m). Every layer has the same weight, however long its
    gradient: otherwise the few layers with long gradients would decide (SQSD, arXiv 2605.04572). A layer whose gradient
    or step is zero counts as 0, and so does one whose weights the model reads without calling it, such as `dt_proj` of
    Mamba. No gradient is built: g_m is the sum over tokens of d x^T, with d the loss's gradient
    at the layer's output and x its input, so that (g_m . D_m) is the sum of d . D_m x, and |g_m|^2 the sum over pairs
    of tokens of (d . d')(x . x').

    Args:
        rows: Conversations that end with an answer, from `chat.encode_all`.
        ids: Ids of the rows.
        model: The model in fp32 whose gradients are taken; its weights do not change.
        steps: Name -> one matrix `(o, i)` per layer, see `step_between`.
        filler: Padding token.
        batch_tokens: Most tokens in a batch, including padding; on a CPU see `batches.budget`.

    Raises:
        ModelError: The model has no linear layers in its blocks, or one that only some tokens reach, or memory runs
            out.
    """
    import torch

    layers = layers_of(model, "lora")
    lengths = {name: [float(matrix.norm()) for matrix in step] for name, step in steps.items()}
    sums = {name: np.zeros(len(rows)) for name in steps}
    widths, most = [len(row.ids) for row in rows], budget(batch_tokens, model.device.type)
    for batch in apart(batches(widths, ids, tokens=most, rows=LARGEST_BATCH), widths, model=model):
        shape = len(batch), widths[batch[0]]
        totals = {name: torch.zeros(len(batch), dtype=torch.float64) for name in steps}

        def hook_of(
            number: int, totals: dict[str, torch.Tensor] = totals, shape: tuple[int, int] = shape
        ) -> Callable[..., None]:
            def take(slope: torch.Tensor, given: torch.Tensor) -> None:
                squared = ((slope @ slope.mT) * (given @ given.mT)).sum(dim=(1, 2)).clamp(min=0.0)
                for name, step in steps.items():
                    along = (slope * (given @ step[number].T)).sum(dim=(1, 2))
                    length = squared.sqrt() * lengths[name][number]
                    cosine = torch.where(length == 0.0, torch.zeros_like(along), -along / length)
                    totals[name] += cosine.double().cpu()

            def hook(_module: torch.nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
                given = by_row(args[0].detach(), shape)
                output.register_hook(lambda slope: take(by_row(slope, shape), given))  # type: ignore[no-untyped-call]

            return hook

        with torch.enable_grad(), memory("represent.batch_tokens"), watched(model, layers, "lora", hook_of):
            losses = token_losses([rows[i] for i in batch], model=model, filler=filler)
            # One backward pass for the batch: no row's loss depends on another row.
            torch.stack([row.mean() for row in losses]).sum().backward()  # type: ignore[no-untyped-call]
        for name, total in totals.items():
            sums[name][batch] = total.numpy() / len(layers)
    return sums


def _matrix(layer: torch.nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """The weight of a layer as `(o, i)`: transformers' Conv1D holds it the other way round."""
    from transformers.pytorch_utils import Conv1D

    return weight.T if isinstance(layer, Conv1D) else weight
