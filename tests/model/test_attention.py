"""Attention in bf16 on a CPU against torch's own in fp32: states, gradients, and where torch's is used."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from curator.model.attention import NAME, attend, take_attention
from tests import fakes

MASKS = ("causal", "padding", "added", "none")


def given(groups: int, mask: str, *, width: int = 16):
    """Query, key, value of six heads, a module, and the mask for either dtype."""
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randn((2, heads, 33, width), generator=draw).bfloat16() for heads in (6, groups, groups)]
    seen = torch.ones((2, 1, 33, 33), dtype=torch.bool).tril()
    seen[0, ..., 20:, 20:] = False  # padding, which sees the row before it
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = 6 // groups, mask == "causal"
    exact = {"padding": seen, "added": torch.where(seen, 0.0, -1e9)}.get(mask)
    return parts, module, exact, exact.bfloat16() if mask == "added" else exact


@pytest.mark.parametrize("groups", [6, 2])
@pytest.mark.parametrize("mask", MASKS)
def test_states_and_gradients_are_torchs_own_in_fp32_up_to_rounding(groups: int, mask: str) -> None:
    parts, module, exactly, rounded = given(groups, mask)
    slope = torch.randn((2, 33, 6, 16), generator=torch.Generator().manual_seed(1)).bfloat16()
    both = []
    for some, mask_of, function in (
        ([part.clone().requires_grad_() for part in parts], rounded, attend),
        ([part.float().requires_grad_() for part in parts], exactly, sdpa_attention_forward),
    ):
        states, _ = function(module, *some, mask_of, scaling=0.3)
        states.backward(slope.to(states.dtype))
        both.append([states.detach(), *(part.grad for part in some)])
    for name, here, exact in zip(("states", "query", "key", "value"), *both, strict=True):
        assert here.dtype == torch.bfloat16
        assert here.shape == exact.shape
        # Relative to the largest number: each is a sum of products that are rounded to 8 bits.
        assert (here.float() - exact).abs().max() <= 0.02 * exact.abs().max(), name
    with torch.inference_mode():
        assert torch.equal(attend(module, *parts, rounded, scaling=0.3)[0], both[0][0])


def test_queries_in_fp32_get_their_gradients_in_fp32() -> None:
    (query, key, value), module, *_ = given(2, "causal")
    query, key = query.float().requires_grad_(), key.float().requires_grad_()
    attend(module, query, key, value, None)[0].sum().backward()
    assert (query.grad.dtype, key.grad.dtype) == (torch.float32, torch.float32)


def test_training_goes_on_with_what_inference_computed_before_it() -> None:
    """A mask is kept by its length, whoever needs it first."""
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = 1, True
    parts = [torch.randn((1, 2, 29, 16)).bfloat16() for _ in range(3)]
    with torch.inference_mode():
        before, _ = attend(module, *parts, None)
    states, _ = attend(module, *(part.requires_grad_() for part in parts), None)
    states.sum().backward()
    assert torch.equal(states.detach(), before)


@pytest.mark.parametrize("other", ["fp32", "one token", "cached", "dropout", "values of another width"])
def test_torchs_own_serves_where_this_is_not_made_for_it(other: str) -> None:
    (query, key, value), module, *_ = given(6, "none")
    more = {}
    if other == "fp32":
        query, key, value = query.float(), key.float(), value.float()
    elif other == "one token":
        query = query[:, :, :1]
    elif other == "cached":
        query = query[:, :, :5]
    elif other == "dropout":
        more["dropout"] = 0.5
    else:
        value = torch.cat([value, value], dim=-1)
    torch.manual_seed(0)
    here, _ = attend(module, query, key, value, None, **more)
    torch.manual_seed(0)
    assert torch.equal(here, sdpa_attention_forward(module, query, key, value, None, **more)[0])


@pytest.mark.parametrize("family", ["llama", "qwen", "gpt2"])
def test_a_model_s_gradients_are_those_of_torchs_attention(family: str) -> None:
    rows = torch.randint(5, 60, (3, 21), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(rows)
    mask[1, 15:] = 0
    slopes = []
    for taken in (False, True):
        model = deepcopy(fakes.model(family)).bfloat16()
        if taken:
            take_attention(model)
            assert model.config._attn_implementation == NAME
        logits = model(input_ids=rows, attention_mask=mask).logits
        logits.float().log_softmax(-1)[..., 7][mask.bool()].sum().backward()
        slopes.append(torch.cat([weight.grad.flatten().float() for weight in model.parameters()]))
    assert not torch.equal(*slopes)
    assert torch.nn.functional.cosine_similarity(*slopes, dim=0) >= 0.999
