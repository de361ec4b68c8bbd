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
    """Within it a model's linear layers in fp32 on a CPU compute by oneDNN; there are no gradients through them.

    Layers of other kinds, such as those of four bits or of adapters, stay as they are; the whole layer beneath an
    adapter is one of these.
    """
    # torch does not promise this product, and without it MKL's is as right.
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    layers = _fitting(model) if there and hasattr(torch.ops.mkldnn, "_linear_pointwise") else []
    for layer in layers:
        # An instance's own `forward`; taking it away brings the class's back.
        layer.forward = partial(_product, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _fitting(model: torch.nn.Module) -> list[torch.nn.Linear]:
    layers = (module for module in model.modules() if type(module) is torch.nn.Linear and "forward" not in vars(module))
    return [layer for layer in layers if layer.weight.dtype is torch.float32 and layer.weight.device.type == "cpu"]


def _product(layer: torch.nn.Linear, given: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(given, layer.weight, layer.bias, "none", [], "")
    return product
