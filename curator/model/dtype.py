"""The dtype in which a model computes: fp32, or bf16 if that is faster.

bf16 has the range of fp32 and 8 bits of precision; fp16, whose range is small, is not used. Everything that accumulates
stays in fp32 either way: master weights and optimiser of full training, adapters, and the sums of weights and merged
adapters.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from curator.errors import ModelError
from curator.model.size import model_size
from curator.wording import number

if TYPE_CHECKING:
    import torch

Dtype = Literal["fp32", "bf16"]
TORCH: Mapping[str, str] = {"fp32": "float32", "bf16": "bfloat16"}
"""Their names in torch."""

FASTER = 1.5  # least speed-up of bf16 over fp32 for its use on a CPU
SECONDS = 0.5  # time for measuring both dtypes
SMALL = 10_000_000
"""Parameters below which a model on a CPU spends most time outside its products, so that bf16 would only add
rounding."""
_SIDE = 1024  # size of the square matrices that are multiplied


class Choice(NamedTuple):
    """A dtype, and why it was chosen, as the end of a sentence."""

    dtype: str
    reason: str


def chosen(wanted: str, model_id: str, *, where: str, revision: str | None = None) -> Choice:
    """The dtype that a model is computed in.

    Args:
        wanted: The recipe's `model.dtype`: `fp32`, `bf16`, or `auto`: bf16 on a GPU that supports it, and on a CPU if
            its matrix products are at least FASTER times as fast as those of fp32 and the model is not SMALL.
        model_id: The recipe's model.
        revision: Revision of a Hub id.
        where: The device, `cpu` or `cuda`.
    """
    if wanted != "auto":
        return Choice(wanted, "as the recipe says")
    if where == "cuda":
        import torch

        if not torch.cuda.is_available():  # GPUs of workers elsewhere, which refuse what they cannot do
            return Choice("bf16", "which the workers' GPUs are assumed to support")
        return (
            Choice("bf16", "which this GPU supports")
            if gpu_has_bf16()
            else Choice("fp32", "because this GPU has no bf16")
        )
    size = model_size(model_id, revision)
    if size is not None and size.parameters < SMALL:
        return Choice(
            "fp32", f"because bf16 does not speed up a model of {number(size.parameters)} parameters on a CPU"
        )
    rates = product_rates()
    times = rates["bf16"] / rates["fp32"]
    return Choice(faster(rates), f"because matrix products in bf16 are {times:.1f}x as fast as in fp32 on this machine")


def faster(rates: Mapping[Dtype, float]) -> Dtype:
    """The dtype to take on a CPU with these rates of products."""
    return "bf16" if rates["bf16"] >= FASTER * rates["fp32"] else "fp32"


def product_rates(seconds: float = SECONDS) -> dict[Dtype, float]:
    """Operations a second of matrix products on this process's CPU threads, by dtype; the best of several, since other
    processes can only slow them down.

    Args:
        seconds: Time for the measurement of both dtypes together.
    """
    import torch

    matrix, rates = torch.randn(_SIDE, _SIDE), dict[Dtype, float]()
    for dtype, factor in (("fp32", matrix), ("bf16", matrix.bfloat16())):
        factor @ factor  # the first product initialises the library's kernel
        best, end = float("inf"), time.perf_counter() + seconds / 2
        while time.perf_counter() < end:
            clock = time.perf_counter()
            factor @ factor
            best = min(best, time.perf_counter() - clock)
        rates["fp32" if dtype == "fp32" else "bf16"] = 2 * _SIDE**3 / best
    return rates


def gpu_has_bf16() -> bool:
    """Whether the GPU supports bf16 natively; older ones, such as T4 and V100, only emulate it."""
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def torch_dtype(dtype: str, where: str) -> torch.dtype:
    """The dtype as torch's own object.

    Raises:
        ModelError: The device is a GPU without bf16.
    """
    import torch

    if dtype == "bf16" and where == "cuda" and not gpu_has_bf16():
        raise ModelError(
            f"model.dtype: found bf16, but this machine's {torch.cuda.get_device_name()} does not support it; set it "
            "to fp32, or to auto in a new run folder"
        )
    return torch.bfloat16 if dtype == "bf16" else torch.float32
