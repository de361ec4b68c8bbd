"""Attention of a model in bf16 on a CPU, with its products in bf16.

torch's kernel multiplies in fp32 there, which took a quarter of the time of a pass and of a training. transformers lets
a model use another function by name; the function here falls back to torch's for other dtypes and devices, for dropout,
and for tokens that follow cached ones. Shares of attention are computed again for gradients, so that none are kept.

Letters: `b` rows, `t` tokens, `h` heads, `g` heads of keys and values, `w` width of a head.
"""

from __future__ import annotations

from functools import cache as once
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.autograd.function import BackwardCFunction, FunctionCtx
    from transformers import PreTrainedModel

NAME = "curator-bf16"
LONGEST = 2048  # tokens of a row; scores of all pairs of its tokens are held in memory


def take_attention(model: PreTrainedModel) -> None:
    """Lets a model that uses torch's attention use `attend` in its place."""
    if model.config._attn_implementation == "sdpa":
        _register()
        model.set_attn_implementation(NAME)


@once
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def attend(  # noqa: PLR0917 - as transformers calls it
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **others: object,
) -> tuple[torch.Tensor, None]:
    """The result of transformers' `sdpa_attention_forward`, up to rounding; differentiable once.

    Args:
        query: `(b, h, t, w)`. If it is rotated in fp32, query and key may be in fp32 beside a value in bf16.
        key, value: `(b, g, t, w)`; `h / g` heads share one.
        attention_mask: Null, or bool or numbers to add, of a shape that broadcasts to `(b, h, t, t)`.

    Returns:
        `(b, t, h, w)`, and null in place of weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    tokens = query.shape[2]
    made_for = value.dtype == torch.bfloat16 and value.device.type == "cpu" and 1 < tokens <= LONGEST
    if not made_for or key.shape[2] != tokens or value.shape[3] != query.shape[3] or dropout:
        kept = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal, **others}
        states, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kept)
        return states, None
    query = query * (query.shape[3] ** -0.5 if scaling is None else scaling)  # fewer numbers than there are scores
    if attention_mask is None:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        attention_mask = _later(tokens) if causal else None
    elif attention_mask.dtype == torch.bool:
        # Added to the scores of every head, which is quicker than filling them.
        lowest = torch.finfo(torch.bfloat16).min
        attention_mask = torch.zeros(attention_mask.shape, dtype=torch.bfloat16).masked_fill_(~attention_mask, lowest)
    some = (part.bfloat16() for part in (query, key, value))
    states = _Attention.apply(*some, attention_mask)  # type: ignore[no-untyped-call]
    return states.transpose(1, 2).contiguous(), None


class _Attention(torch.autograd.Function):
    """States `(b, h, t, w)` of queries, keys and values in bf16, with a mask that is added to scores, or null."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value, mask)  # type: ignore[arg-type]
        return torch.bmm(_shares(query, key, mask), _flat(value, value)).view_as(query)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: BackwardCFunction, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, mask = ctx.saved_tensors  # type: ignore[misc]
        shares, slope = _shares(query, key, mask), _flat(slope, value)
        of_shares = torch.bmm(slope, _flat(value, value).transpose(1, 2))
        of_scores = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype)
        of_query = torch.bmm(of_scores, _flat(key, key))
        of_key = torch.bmm(of_scores.transpose(1, 2), _flat(query, key))
        of_value = torch.bmm(shares.transpose(1, 2), slope)
        return of_query.view_as(query), of_key.view_as(key), of_value.view_as(value), None


def _flat(part: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """`(b g, h/g t, w)`: the heads that share a key lie behind each other, so that their products with it are one, and
    its gradient is their sum.
    """
    return part.reshape(key.shape[0] * key.shape[1], -1, part.shape[3])


def _shares(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Shares of attention `(b g, h/g t, t)`."""
    scores = torch.bmm(_flat(query, key), _flat(key, key).transpose(1, 2))
    if mask is not None:
        scores.view(*query.shape[:3], -1).add_(mask)
    return scores.softmax(dim=-1)


@lru_cache(maxsize=8)
def _later(tokens: int) -> torch.Tensor:
    """`(t, t)` with minus infinity where a token would see a later one."""
    # It is kept, and what inference made cannot be saved for gradients.
    with torch.inference_mode(False):
        return torch.full((tokens, tokens), float("-inf"), dtype=torch.bfloat16).triu(1)
