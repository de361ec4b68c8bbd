"""Attention of a model in bf16 on a CPU, with its products in bf16.

torch's kernel multiplies in fp32 there, which took a quarter of the time of a pass and of a training. transformers lets
a model use another function by name; the function here falls back to torch's for other dtypes and devices, for dropout,
and for tokens that follow cached ones. Shares of attention are computed again for gradients, so that none are kept.

Letters: `b` rows, `t` tokens, `h` heads, `g` heads of keys and values, `w` width of a head.
"""

from __future__ import annotations

from functools import cache as once
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
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
    batch, heads, tokens, width = query.shape
    query = query * (width**-0.5 if scaling is None else scaling)  # fewer numbers than there are scores
    causal = attention_mask is None and (getattr(module, "is_causal", True) if is_causal is None else is_causal)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        # Added to the scores of every head, which is quicker than filling them.
        lowest = torch.finfo(torch.bfloat16).min
        attention_mask = torch.zeros(attention_mask.shape, dtype=torch.bfloat16).masked_fill_(~attention_mask, lowest)
    together = batch * key.shape[1], -1, width
    some = (part.bfloat16().reshape(together) for part in (query, key, value))
    states = _Attention.apply(  # type: ignore[no-untyped-call]
        *some, attention_mask, causal, (batch, heads, tokens, tokens)
    )
    return states.view(batch, heads, tokens, width).transpose(1, 2).contiguous(), None


class _Attention(torch.autograd.Function):
    """States `(b g, h/g t, w)` of queries of that shape, and keys and values `(b g, t, w)`, all in bf16. Heads that
    share a key lie behind each other, so their products are one, and its gradient is their sum.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - as torch calls it
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        causal: bool,
        shape: tuple[int, int, int, int],
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value, mask)
        ctx.rest = causal, shape
        return torch.bmm(_shares(query, key, mask, *ctx.rest), value)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, mask = ctx.saved_tensors
        shares = _shares(query, key, mask, *ctx.rest)
        of_value = torch.bmm(shares.transpose(1, 2), slope)
        of_shares = torch.bmm(slope, value.transpose(1, 2))
        of_scores = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype)
        return torch.bmm(of_scores, key), torch.bmm(of_scores.transpose(1, 2), query), of_value, None, None, None


def _shares(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    shape: tuple[int, int, int, int],
) -> torch.Tensor:
    """Shares `(b g, h/g t, t)` of attention. `shape`: that of scores by row and head, `(b, h, t, t)`."""
    scores = torch.bmm(query, key.transpose(1, 2)).view(shape)
    if causal:
        scores.add_(_later(shape[2]))
    elif mask is not None:
        scores.add_(mask)
    return scores.softmax(dim=-1).view(len(query), -1, shape[3])


@lru_cache(maxsize=8)
def _later(tokens: int) -> torch.Tensor:
    """`(t, t)` with minus infinity where a token would see a later one."""
    return torch.full((tokens, tokens), float("-inf"), dtype=torch.bfloat16).triu(1)
