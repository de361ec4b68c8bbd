"""GPUs for which a plan can be made without having one: their memory and assumed speed.

Imports nothing, since the command line lists the cards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curator.wording import these

if TYPE_CHECKING:
    from curator.model.size import ModelSize
    from curator.recipe import Recipe
    from curator.recipe.training import Training

GPU = 1.5e14
"""Assumed speed of this machine's GPU in training, in FLOP/s, before a run has measured it."""
SUSTAINED = 0.4
"""Assumed speed of training as a share of a card's peak."""
LONG = 3 * 86400.0
"""Least seconds of a plan for which another machine is suggested, if this one has no GPU."""
TRAINED = 16
"""Bytes per trained parameter: weights, gradient and the two moments of AdamW, each in fp32."""


@dataclass(frozen=True)
class Card:
    """One card.

    Attributes:
        words: Name of the card.
        memory: Memory in GiB.
        bf16, fp32: Peak of its dense matrix products in FLOP/s; without bf16 it computes in fp32.
    """

    words: str
    memory: int
    bf16: float | None
    fp32: float

    @property
    def dtype(self) -> str:
        """The fastest dtype of the card."""
        return "fp32" if self.bf16 is None else "bf16"

    def speed(self, dtype: str) -> float:
        """Assumed speed in training, in FLOP/s, for a model in `fp32`, `bf16` or `auto`."""
        return SUSTAINED * (self.fp32 if dtype == "fp32" or self.bf16 is None else self.bf16)


# Peaks of dense products without sparsity, from NVIDIA's data sheets (and AWS for the A10G).
CARDS = {
    "h100": Card("NVIDIA H100 SXM", 80, 9.89e14, 6.7e13),
    "a100": Card("NVIDIA A100", 80, 3.12e14, 1.95e13),
    "a10g": Card("NVIDIA A10G", 24, 7e13, 3.12e13),
    "l4": Card("NVIDIA L4", 24, 1.21e14, 3.03e13),
    "t4": Card("NVIDIA T4", 16, None, 8.1e12),
}
"""The cards by the name that `curator check --on` takes."""

_assumed: ContextVar[Card | None] = ContextVar("card", default=None)


@contextmanager
def on(card: Card | None) -> Iterator[None]:
    """Plans as if this machine had one such card while the block runs; null plans for this machine."""
    token = _assumed.set(card)
    try:
        yield
    finally:
        _assumed.reset(token)


def card() -> Card | None:
    """The card of the plan, or null for this machine."""
    return _assumed.get()


def gpu_count() -> int:
    """Number of GPUs of the plan's machine."""
    from curator import provenance

    return provenance.gpu_count() if card() is None else 1


def gpu_speed(dtype: str) -> float:
    """Assumed speed of one of these GPUs in training, in FLOP/s."""
    return GPU if (planned := card()) is None else planned.speed(dtype)


def gpu_in_words(dtype: str) -> str:
    """The speed of these GPUs in words, with its source."""
    if (planned := card()) is None:
        return f"{GPU / 1e12:g} TFLOP/s on the GPU, a tenth of it in answering"
    in_dtype = "fp32" if "fp32" in (dtype, planned.dtype) else "bf16"
    return (
        f"one {planned.words} sustains {planned.speed(dtype) / 1e12:.3g} TFLOP/s in training, {SUSTAINED:.0%} of its "
        f"{in_dtype} peak, and a tenth of that in answering"
    )


def too_large(recipe: Recipe, size: ModelSize | None) -> str | None:
    """Why the recipe's trainings cannot fit into the memory of the plan's card; null if they may.

    It counts weights, gradients and optimiser states, but not activations.
    """
    planned, sections = card(), (recipe.verify.align, recipe.verify.finetune)
    if planned is None or size is None:
        return None
    weight = 0.5 if recipe.model.quantise else 4 if "fp32" in (recipe.model.dtype, planned.dtype) else 2
    need = max(_state(section, size, weight) for section in sections) / 2**30
    if need <= planned.memory:
        return None
    return (
        f"Training needs at least {need:,.0f} GiB for weights, gradients and optimiser states, and one {planned.words} "
        f"has {planned.memory} GiB; use LoRA, model.quantise, a smaller model, or a larger card."
    )


def _state(section: Training, size: ModelSize, weight: float) -> float:
    """Bytes that a training holds whatever its batch; `weight` is the size of a parameter that is not trained."""
    if section.method == "full":
        return TRAINED * size.parameters
    return weight * size.parameters + TRAINED * section.rank * size.linear


def suggestion(recipe: str, seconds: float | None) -> str | None:
    """A sentence that suggests `--on` if the plan takes longer than LONG on a machine without a GPU; else null."""
    if card() is not None or gpu_count() or seconds is None or seconds < LONG:
        return None
    days = these(round(seconds / 86400), "day", "days")
    return (
        f"This machine has no GPU, and the plan takes {days} here. To plan for a GPU: "
        f"curator check {recipe} --on h100 (or {', '.join(name for name in CARDS if name != 'h100')})"
    )
