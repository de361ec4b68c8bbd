"""The products of linear layers in fp32 on a CPU, by oneDNN.

torch uses MKL for them, which reaches half of an AMD processor's speed; oneDNN, which torch uses in bf16 anyway,
reaches all of it. Both round in fp32, each in its own order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch


@contextmanager
def by_onednn(model: torch.nn.Module) -> Iterator[None]:
    """Lets a model's linear layers in fp32 on a CPU compute by oneDNN while the block runs, without gradients.

    Other kinds of layers, such as 4-bit layers or adapters, do not change; the full layer beneath an adapter uses
    oneDNN.
    """
    # torch does not guarantee this product; without it, MKL's is equally correct.
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    layers = _fitting(model) if there and hasattr(torch.ops.mkldnn, "_linear_pointwise") else []
    for layer in layers:
        # The instance's own `forward`; deleting it restores the class's.
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
