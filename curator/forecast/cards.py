"""Graphics cards that a plan can be made for without having one: their memory, and what they are assumed to sustain.

Imports nothing, since the command line names the cards.
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
"""What the GPU of this machine is assumed to sustain in training, in FLOP/s, before a run has measured it."""
SUSTAINED = 0.4
"""Of a card's peak: what training is assumed to sustain."""
LONG = 3 * 86400.0
"""Seconds of a plan from which another machine is suggested, where this one has no GPU."""
TRAINED = 16
"""Bytes a parameter that is trained: weights, gradient and the two moments of AdamW, each in fp32."""


@dataclass(frozen=True)
class Card:
    """One card.

    Attributes:
        words: What it is called.
        memory: GiB.
        bf16, fp32: Peak of its dense matrix products in FLOP/s; without bf16 it computes in fp32.
    """

    words: str
    memory: int
    bf16: float | None
    fp32: float

    @property
    def dtype(self) -> str:
        """What it is fastest in."""
        return "fp32" if self.bf16 is None else "bf16"

    def speed(self, dtype: str) -> float:
        """What it is assumed to sustain in training, in FLOP/s, of a model in `fp32`, `bf16` or `auto`."""
        return SUSTAINED * (self.fp32 if dtype == "fp32" or self.bf16 is None else self.bf16)


# Peaks of dense products without sparsity, as NVIDIA's data sheets (and for the A10G, AWS) state them.
CARDS = {
    "h100": Card("NVIDIA H100 SXM", 80, 9.89e14, 6.7e13),
    "a100": Card("NVIDIA A100", 80, 3.12e14, 1.95e13),
    "a10g": Card("NVIDIA A10G", 24, 7e13, 3.12e13),
    "l4": Card("NVIDIA L4", 24, 1.21e14, 3.03e13),
    "t4": Card("NVIDIA T4", 16, None, 8.1e12),
}
"""By the name that `curator check --on` takes."""

_assumed: ContextVar[Card | None] = ContextVar("card", default=None)


@contextmanager
def on(card: Card | None) -> Iterator[None]:
    """Plans as if this machine had one such card; as it is where null."""
    token = _assumed.set(card)
    try:
        yield
    finally:
        _assumed.reset(token)


def card() -> Card | None:
    """The card that is planned for, or null for this machine."""
    return _assumed.get()


def gpu_count() -> int:
    """How many GPUs the machine has that is planned for."""
    from curator import provenance

    return provenance.gpu_count() if card() is None else 1


def gpu_speed(dtype: str) -> float:
    """What one of them is assumed to sustain in training, in FLOP/s."""
    return GPU if (planned := card()) is None else planned.speed(dtype)


def gpu_in_words(dtype: str) -> str:
    """The same for a reader, with where it comes from."""
    if (planned := card()) is None:
        return f"{GPU / 1e12:g} TFLOP/s on the GPU, a tenth of it in answering"
    in_dtype = "fp32" if "fp32" in (dtype, planned.dtype) else "bf16"
    return (
        f"one {planned.words} sustains {planned.speed(dtype) / 1e12:.3g} TFLOP/s in training, {SUSTAINED:.0%} of its "
        f"{in_dtype} peak, and a tenth of that in answering"
    )


def too_large(recipe: Recipe, size: ModelSize | None) -> str | None:
    """Why the recipe's trainings cannot fit into the memory of the card that is planned for; null where they may.

    Counted are weights, gradients and optimiser states, and no activations.
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
    """Bytes that a training holds whatever its batch is; `weight` is what a parameter takes that is not trained."""
    if section.method == "full":
        return TRAINED * size.parameters
    return weight * size.parameters + TRAINED * section.rank * size.linear


def suggestion(recipe: str, seconds: float | None) -> str | None:
    """A sentence that names `--on`, where the plan takes longer than LONG on a machine without a GPU; else null."""
    if card() is not None or gpu_count() or seconds is None or seconds < LONG:
        return None
    days = these(round(seconds / 86400), "day", "days")
    return (
        f"This machine has no GPU, and the plan takes {days} here. To plan for a GPU: "
        f"curator check {recipe} --on h100 (or {', '.join(name for name in CARDS if name != 'h100')})"
    )
