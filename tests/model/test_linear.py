"""Linear layers by oneDNN: the same products, and the layers as they were afterwards."""

from __future__ import annotations

import pytest
import torch

from curator.model.linear import by_onednn
from tests import fakes


@pytest.mark.parametrize("shape", [(1, 24), (7, 24), (3, 5, 24), (0, 24), (4, 1, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_the_layer(shape, bias):
    torch.manual_seed(0)
    layer, given = torch.nn.Linear(24, 40, bias=bias), torch.randn(shape)
    with torch.inference_mode():
        expected = layer(given)
        with by_onednn(torch.nn.Sequential(layer)):
            assert "forward" in vars(layer)
            found = layer(given)
            slanted = layer(given.transpose(0, -1).contiguous().transpose(0, -1))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(slanted, expected)


def test_layers_of_another_kind_are_left_alone_and_all_are_as_before_even_after_an_error():
    half, whole = torch.nn.Linear(8, 8).to(torch.bfloat16), torch.nn.Linear(8, 8)
    model = torch.nn.ModuleList([half, whole, torch.nn.Embedding(4, 8)])
    with by_onednn(model):
        assert ["forward" in vars(module) for module in model] == [False, True, False]
    with pytest.raises(RuntimeError), by_onednn(model):
        whole(torch.randn(2, 5))  # of a width that does not fit
    assert not any("forward" in vars(module) for module in model)
    whole(torch.randn(2, 8)).sum().backward()
    assert whole.weight.grad is not None


def test_a_whole_model_says_the_same():
    model, ids = fakes.model("llama"), torch.arange(30).reshape(2, 15)
    with torch.inference_mode():
        expected = model(ids).logits
        with by_onednn(model):
            torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-4)
