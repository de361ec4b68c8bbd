"""Gradient features: the direction in which each row's answer pulls the weights, projected to a few numbers.

Letters: `b` batch, `t` tokens, `m` dimensions; a linear layer has `i` inputs and `o` outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from curator.errors import ModelError
from curator.model.batches import batches, budget, mixed
from curator.model.chat import encode_all, own_begin
from curator.model.load import memory, window
from curator.model.losses import apart, token_losses
from curator.represent.encoder import LARGEST_BATCH, Encoded, Encoder, Texts, stored_together, unit
from curator.represent.hidden import blocks_of, body_of, cut
from curator.seeds import derive
from curator.wording import these

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BLOCK = 256  # rows of the projection that are in memory together


def gradients(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    of: str,
    rank: int,
    dimensions: int,
    seed: int,
    max_tokens: int,
    batch_tokens: int,
) -> Encoder:
    """Unit vectors of each row's gradient of the mean loss of its answer's tokens, projected to `dimensions` numbers.

    The gradient is taken with respect to, by `of`:

    - `lora`: the matrices B of LoRA on every linear layer of the blocks, at their start, where W x + B A x has B = 0
      and A seeded, uniform within 1/sqrt(i). The gradient of B is then the sum over tokens of d (A x)^T, with d the
      loss's gradient at the layer's output; that of A is zero, so it is left out.
    - `head`: the last layer's weights, the sum over the answer's tokens of d h^T, with d the gradient at the logits and
      h the last hidden state. No backward pass through the blocks.

    Both are sums of outer products of two factors, so the gradient G itself is never built: with signs a_j and c_j,
    drawn independently for every layer, number j of the feature is m^(-1/2) times the sum over layers and tokens of
    (a_j . d) (c_j . x'), with x' = A x or h. It equals m^(-1/2) a_j^T G c_j, is linear in G and keeps squared lengths,
    distances and products on average: for every G, whatever its rank, E |f|^2 = |G|^2, and the standard deviation of
    |f|^2 / |G|^2 is at most sqrt(8 / m); that of f . f' is at most 3 |G| |G'| / sqrt(m), since the fourth moment of a^T
    G c is at most 9 |G|^4. A dense projection would have sqrt(2 / m) and a width of o x i. Signs are drawn in blocks of
    256 of the m numbers when they are needed: memory holds the model, a batch's activations (`lora`), and one block.

    Source: Xia et al. 2024 (LESS, arXiv 2402.04333) use LoRA gradients projected to 8,192 numbers, after some training
    and with Adam's moments; here the weights are those of the base model, as for hidden states, and the gradient is
    plain. A row longer than `max_tokens` loses its beginning, except a begin token that the tokenizer writes by itself,
    and is counted.

    Raises:
        ModelError: The model has no head, or no linear layers in its blocks; the encoder raises it if memory runs out,
            or if a layer does not get every token.
    """
    layers = layers_of(model, of)
    limit, begin = max(2, min(max_tokens, window(model))), own_begin(tokenizer)
    most = budget(batch_tokens, next(model.parameters()).device.type)

    def encode(texts: Texts, numbers: Sequence[int], progress: Callable[[int], None]) -> list[Encoded]:
        import torch

        whole = encode_all(tokenizer, texts.rows)
        rows = [cut(row, limit, begin) for row in whole]
        matrix, done = np.zeros((len(rows), dimensions), dtype=np.float32), 0
        lengths = [len(row.ids) for row in rows]
        groups = batches(lengths, texts.ids, tokens=most, rows=LARGEST_BATCH)
        for batch in mixed(apart(groups, lengths, model=model)):
            features = torch.zeros((len(batch), dimensions), device=next(model.parameters()).device)
            # The head gets the answers' tokens only, and always by row.
            tokens = None if of == "head" else lengths[batch[0]]
            with (
                torch.enable_grad(),
                memory("represent.batch_tokens"),
                watched(
                    model,
                    layers,
                    of,
                    lambda number: _projecting_hook(number, rank, seed, features, tokens),  # noqa: B023 - used at once
                ),
            ):
                losses = token_losses([rows[i] for i in batch], model=model, filler=tokenizer.pad_token_id)
                # One backward pass for the batch: no row's loss depends on another row, so the gradient at a layer's
                # output is separate for each row.
                torch.stack([row.mean() for row in losses]).sum().backward()  # type: ignore[no-untyped-call]
            matrix[batch] = features.cpu().numpy()
            done += len(batch)
            progress(done)
        return [Encoded(unit(matrix), np.array([len(row.ids) > limit for row in whole], dtype=np.bool_))] * len(numbers)

    return Encoder((dimensions,), encode, stored_together(model))


def layers_of(model: PreTrainedModel, of: str) -> list[Any]:
    """The layers whose gradient is taken: every linear one of the blocks (`lora`), or the `head` alone.

    Raises:
        ModelError: There is no such layer.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    if of == "head":
        layers = [model.get_output_embeddings()]
    else:
        kinds = (torch.nn.Linear, Conv1D)
        layers = [
            module
            for block in blocks_of(body_of(model))
            for name, module in block.named_modules()
            if isinstance(module, kinds) and "lora_" not in name  # adapters beside quantised weights
        ]
    if not layers or layers[0] is None:
        raise ModelError(
            f"represent.of: {type(model).__name__} has no layers for {of!r}; use the other of lora and head, or "
            "represent: {from: hidden-states}"
        )
    return layers


@contextmanager
def watched(
    model: PreTrainedModel, layers: Sequence[Any], of: str, hook_of: Callable[[int], Callable[..., None]]
) -> Iterator[None]:
    """Attaches the hook `hook_of(n)` to layer n while the block runs, in which weights get no gradients."""
    flags = [weight.requires_grad for weight in model.parameters()]
    model.requires_grad_(False)
    with ExitStack() as hooks:
        if of == "head":
            # Without weights a graph needs an input that requires a gradient. Here it starts at the head, so that the
            # backward pass does not go through the blocks.
            start = layers[0].register_forward_pre_hook(lambda _, args: (args[0].detach().requires_grad_(), *args[1:]))
        else:
            start = model.get_input_embeddings().register_forward_hook(lambda *call: call[2].requires_grad_())
        hooks.callback(start.remove)
        for number, layer in enumerate(layers):
            hook = layer.register_forward_hook(hook_of(number))
            hooks.callback(hook.remove)
        try:
            yield
        finally:
            for weight, flag in zip(model.parameters(), flags, strict=True):
                weight.requires_grad_(flag)


def _projecting_hook(number: int, rank: int, seed: int, out: torch.Tensor, tokens: int | None) -> Callable[..., None]:
    """A hook on layer `number` that adds the projection of its gradient to `out` during the backward pass; `tokens` is
    the length of the batch's rows, or null for the head.
    """

    def hook(_module: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        # Kept until the backward pass: for `lora` only the `rank` numbers of A x, not the whole input.
        factor = args[0].detach().float()
        if tokens is None:
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda slope: project(slope.float(), factor, number, seed, out)
            )
            return
        shape = len(out), tokens
        factor = by_row(factor @ lora_a(rank, factor.shape[-1], seed, number).to(factor.device).T, shape)
        output.register_hook(  # type: ignore[no-untyped-call]
            lambda slope: project(by_row(slope.float(), shape), factor, number, seed, out)
        )

    return hook


def by_row(states: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """States of a layer as `(b, t, d)`; some models flatten those of a batch to `(b * t, d)` for a layer.

    Args:
        shape: `b` and `t`.

    Raises:
        ModelError: The layer does not get all tokens of the batch, such as one of several experts, so that the states
            cannot be told apart by row.
    """
    if states.shape[:-1] not in {shape, (shape[0] * shape[1],)}:
        raise ModelError(
            "represent, score: gradients need layers that every token passes, and a layer of this model gets "
            f"{these(math.prod(states.shape[:-1]), 'state', 'states')} of {shape[0] * shape[1]:,}, as the experts of a "
            "mixture do; use represent: {from: hidden-states}, or another score than geometry"
        )
    return states.reshape(*shape, -1)


def lora_a(rank: int, width: int, seed: int, number: int) -> torch.Tensor:
    """A of the LoRA on layer `number`, `(rank, width)`, uniform within 1/sqrt(width)."""
    import torch

    draw = torch.Generator().manual_seed(derive(seed, "lora", number))
    return (2 * torch.rand((rank, width), generator=draw) - 1) / math.sqrt(width)


def project(slope: torch.Tensor, factor: torch.Tensor, number: int, seed: int, out: torch.Tensor) -> None:
    """Adds the projection of one layer's gradient to `out` `(b, m)`.

    Args:
        slope: `(b, t, o)` the loss's gradient at the layer's output.
        factor: `(b, t, i)` the layer's input; for LoRA A times the input, `(b, t, rank)`.
        number: Number of the layer; each layer has its own signs.
        seed: Random seed of the signs.
    """
    dimensions = out.shape[1]
    for start in range(0, dimensions, BLOCK):
        rows = min(BLOCK, dimensions - start)
        a = signs(rows, slope.shape[-1], derive(seed, "out", number, start), out.device)
        c = signs(rows, factor.shape[-1], derive(seed, "in", number, start), out.device)
        # (a . d)(c . x') for every token and number, then the sum over tokens: (b, t, rows) -> (b, rows)
        out[:, start : start + rows] += ((slope @ a.T) * (factor @ c.T)).sum(dim=1) / math.sqrt(dimensions)


def signs(rows: int, width: int, seed: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """`(rows, width)` float32 of -1 and 1, the same on every device: a bit of a hash of the seed, the row and the
    column divided by 32, in integers below 2**63.
    """
    import torch

    row = _hashed(torch.arange(rows, device=device) * 0x9E3779B1 + seed)
    word = _hashed(torch.arange(-(-width // 32), device=device) * 0x85EBCA77 + ~seed)
    drawn = _hashed(row[:, None] + word[None, :] * 5).int()  # its lower 32 bits
    bits = (drawn[:, :, None] >> torch.arange(32, dtype=torch.int32, device=device)) & 1
    return bits.reshape(rows, -1)[:, :width].float().mul_(-2.0).add_(1.0)


def _hashed(numbers: torch.Tensor) -> torch.Tensor:
    """Each number's lower 32 bits, mixed so that every bit of the result depends on all of them."""
    for _ in range(3):
        numbers = numbers & 0xFFFFFFFF
        # The factor is below 2**31, so that no product overflows.
        numbers = ((numbers >> 16) ^ numbers) * 0x45D9F3B
    numbers = numbers & 0xFFFFFFFF
    return (numbers >> 16) ^ numbers
