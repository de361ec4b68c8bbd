"""The speed of a device in training and answering, assumed or measured briefly, before a run has measured it. Imports
nothing heavy for small models.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from curator.forecast.cards import gpu_count, gpu_speed
from curator.model.size import ModelSize
from curator.provenance import cores
from curator.recipe import Recipe
from curator.recipe.training import Training

# Assumed without a measurement: the speed of a device in training, in FLOP/s, and the share of it in answering.
CORE, ANSWERING = 2e10, 0.1
SUSTAINED, REPLYING = 0.4, 0.1  # shares of the speed of a core's matrix products in training and in answering


class Core(NamedTuple):
    """Operations per second of a core in training and in answering, and the former in words."""

    training: float
    answering: float
    words: str


def core_of(asked: str, size: ModelSize) -> Core:
    """The speed of a core; measured if most of the model's time goes into products."""
    from curator.model.dtype import SMALL

    if size.parameters >= SMALL:
        return _measured_core(asked)
    return Core(CORE, ANSWERING * CORE, f"{CORE / 1e9:g} GFLOP/s per core, a tenth of that when answering")


@lru_cache(maxsize=3)
def _measured_core(asked: str) -> Core:
    from curator.model.dtype import faster, product_rates

    rates = product_rates()
    dtype = faster(rates) if asked == "auto" else asked
    rate = rates["bf16" if dtype == "bf16" else "fp32"] / cores()
    speed = f"{SUSTAINED * rate / 1e9:.0f} GFLOP/s per core in {dtype}"
    words = f"{speed}, which is {SUSTAINED:.0%} of the measured matrix products, and a quarter of that when answering"
    return Core(SUSTAINED * rate, REPLYING * rate, words)


def operations(section: Training) -> int:
    """Operations of training per parameter and token: 6 in full training, 4 with LoRA (frozen weights need no
    gradient), and 2 more with checkpointing.
    """
    return (6 if section.method == "full" else 4) + 2 * section.checkpointing


def seconds_for(
    recipe: Recipe,
    count: int | None,
    speed: float | None,
    operations: float,
    size: ModelSize | None,
    *,
    at_once: int,
    answering: bool = False,
) -> float | None:
    """Seconds for `count` tokens or answers by `at_once` workers; `speed` is that of one worker. Workers of this
    machine's CPU are together no faster than its cores.
    """
    engine = recipe.engine
    threads = engine.threads or max(1, cores() // engine.workers)
    here = engine.kind == "local" and not gpu_count()
    if not count or speed:
        most = min(at_once, max(1.0, cores() / threads)) if here else at_once
        return None if count is None else count / (speed or 1.0) / most
    if size is None:
        return None
    # Ray's workers have their own GPUs. Local ones share this machine's, one for each process.
    shown = gpu_count()
    shared = min(at_once, max(1, shown // recipe.verify.processes), shown)
    gpus = at_once * engine.gpus_per_worker if engine.kind == "ray" else float(shared)
    if gpus:
        speed_of_one = gpu_speed(recipe.model.dtype)
        device = gpus * (ANSWERING * speed_of_one if answering else speed_of_one)
    else:
        core = core_of(recipe.model.dtype, size)
        busy = min(threads * at_once, cores()) if here else threads * at_once
        device = busy * (core.answering if answering else core.training)
    return count * operations * size.parameters / device
