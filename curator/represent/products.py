"""A model in bf16 on a CPU: its products, including attention, in bf16, and the sums over its blocks in fp32.

torch's attention kernel multiplies in fp32, which took up to a quarter of a pass in bf16. transformers lets a model use
another function by name; the function here falls back to torch's for other dtypes and devices, passes that keep a
graph, and tokens that follow cached ones.

The states that each block adds to lose most in bf16: for 80 real rows with SmolLM2 the least cosine to fp32 was .9984
with states in bf16 and .9994 with states in fp32, which took 2% more time; weights in bf16 alone gave .9999.
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
LONGEST = 2048  # tokens of a row; scores of all pairs of its tokens are held in memory


def take_products(model: PreTrainedModel) -> None:
    """Prepares a model in bf16 on a CPU for `summing`; it uses `attend` in place of torch's attention kernel."""
    import torch

    if not _is_rounded(model):
        return
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):  # only such weights accept states in fp32
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
    """Keeps states between the products in fp32 while the block runs, in a model prepared by `take_products`."""
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
    """The result of transformers' `sdpa_attention_forward`, up to rounding.

    Args:
        query: `(b, h, t, w)`. If it is rotated in fp32, query and key may be in fp32 beside a value in bf16.
        key, value: `(b, g, t, w)`; `h / g` heads share one.
        attention_mask: Null, or bool or numbers to add, of a shape that broadcasts to `(b, h, t, t)`.

    Returns:
        `(b, t, h, w)`, and null in place of weights.
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
    """`(t, t)` with minus infinity where a token would see a later one."""
    import torch

    return torch.full((tokens, tokens), float("-inf"), dtype=torch.bfloat16).triu(1)
