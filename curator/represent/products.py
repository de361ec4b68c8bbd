"""A model in bf16 on a CPU: its products in bf16, attention among them, and what adds up over its blocks in fp32.

torch's kernel of attention multiplies in fp32, so that up to a quarter of a pass in bf16 went into it. transformers
lets a model take another function by name; this one leaves to torch's what it is not made for: other dtypes and
devices, passes that keep a graph, and tokens that follow on cached ones.

The states that each block adds to are what loses most in bf16: of 80 real rows by SmolLM2 the least cosine to fp32 was
.9984 with states in bf16 and .9994 with states in fp32, which took 2% more time; weights in bf16 alone gave .9999.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache as once
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

NAME = "curator-bf16"
LONGEST = 2048  # tokens of a row; the scores of all pairs of its tokens lie in memory


def take_products(model: PreTrainedModel) -> None:
    """Makes a model in bf16 on a CPU ready for `summing`; it attends by `attend` where it attends by torch's kernel."""
    import torch

    if not _is_rounded(model):
        return
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):  # which takes states in fp32 by such weights alone
            module.float()
    if model.config._attn_implementation == "sdpa":
        _register()
        model.set_attn_implementation(NAME)


def _is_rounded(model: PreTrainedModel) -> bool:
    import torch

    weight = next(model.parameters())
    return bool(weight.dtype == torch.bfloat16 and weight.device.type == "cpu")


@contextmanager
def summing(body: PreTrainedModel) -> Iterator[None]:
    """While the block runs, states between the products are in fp32, in a model that `take_products` made ready."""
    import torch

    if not _is_rounded(body):
        yield
        return
    hook = body.get_input_embeddings().register_forward_hook(lambda *call: call[2].float())
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            yield
    finally:
        hook.remove()


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
    """What transformers' `sdpa_attention_forward` gives, up to rounding.

    Args:
        query: `(b, h, t, w)`. `key`, `value`: `(b, g, t, w)`, where `h / g` heads share one. Rotated in fp32, query and
            key may be in fp32 beside a value in bf16.
        attention_mask: Null; or bool, or numbers to be added, of a shape that `(b, h, t, t)` takes.

    Returns:
        `(b, t, h, w)`, and no weights.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    batch, heads, tokens, width = query.shape
    made_for = value.dtype == torch.bfloat16 and value.device.type == "cpu" and 1 < tokens <= LONGEST
    if not made_for or key.shape[2] != tokens or torch.is_grad_enabled():
        kept = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal, **others}
        states, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kept)
        return states, None
    query, key = query.bfloat16(), key.bfloat16()
    groups, lowest = key.shape[1], torch.finfo(query.dtype).min
    together = (batch * groups, heads // groups * tokens, width)
    scores = torch.bmm(query.reshape(together), key.reshape(batch * groups, tokens, width).transpose(1, 2))
    scores = scores.view(batch, heads, tokens, tokens).mul_(width**-0.5 if scaling is None else scaling)
    if attention_mask is None:
        if getattr(module, "is_causal", True) if is_causal is None else is_causal:
            scores.add_(_later(tokens))
    elif attention_mask.dtype == torch.bool:
        scores.masked_fill_(~attention_mask, lowest)
    else:
        scores.add_(attention_mask)
    shares = scores.softmax(dim=-1).view(batch * groups, -1, tokens)
    states = torch.bmm(shares, value.reshape(batch * groups, tokens, width))
    return states.view(batch, heads, tokens, width).transpose(1, 2).contiguous(), None


@lru_cache(maxsize=8)
def _later(tokens: int) -> torch.Tensor:
    """`(t, t)`, minus infinity where a token would see a later one."""
    import torch

    return torch.full((tokens, tokens), float("-inf"), dtype=torch.bfloat16).triu(1)
