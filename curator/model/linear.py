"""The products of linear layers in fp32 on a CPU, by oneDNN.

torch gives them to MKL, which uses half of what an AMD processor can do; oneDNN, which torch takes in bf16 anyway, uses
all of it. Both round in fp32, each in its own order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch


@contextmanager
def by_onednn(model: torch.nn.Module) -> Iterator[None]:
    """Within it a model's linear layers in fp32 on a CPU compute by oneDNN; there are no gradients through them."""
    layers = [module for module in model.modules() if _fits(module)] if torch.backends.mkldnn.is_available() else []
    for layer in layers:
        # An instance's own `forward`; taking it away brings the class's back.
        layer.forward = partial(_product, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _fits(module: torch.nn.Module) -> bool:
    if type(module) is not torch.nn.Linear or "forward" in vars(module):
        return False
    return module.weight.dtype is torch.float32 and module.weight.device.type == "cpu"


def _product(layer: torch.nn.Linear, given: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(given, layer.weight, layer.bias, "none", [], "")
    return product
