"""Paired seeds added until the primary comparison is clear: looks fixed beforehand, alpha spent over them.

The statistic's information after S seeds is 1 / Var(S), with what comes of the prompts in it, so that the fraction
Var(most) / Var(S) starts high where prompts are few; estimates of successive looks then covary as a Brownian motion does.
Levels follow Lan and DeMets (1983); each is applied to the p-value of t, and the printed interval is the repeated one
(Jennison and Turnbull 1989).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from curator.records import Comparison
from curator.verify.power import variance

Density = tuple[NDArray[np.float64], NDArray[np.float64]]
_GRID = 400  # nodes of the integration over the continuation region; levels are stable to 1e-8 from 100 on


@dataclass(frozen=True)
class Look:
    """One planned look.

    Attributes:
        seeds: Paired seeds at this look.
        information: Fraction of the information at the last look, in (0, 1].
        spent: Two-sided error spent up to and with this look.
        level: Nominal two-sided level at this look: what `conclude` takes.
    """

    seeds: int
    information: float
    spent: float
    level: float


@dataclass(frozen=True)
class Step:
    """What to do after a look.

    Attributes:
        action: `clear` (the interval excludes zero: stop), `last` (no look is left: stop), `futile` (stopping is advised,
            going on costs no validity) or `go on`.
        conditional_power: Chance that the last look will be clear, given what was seen.
    """

    action: str
    conditional_power: float


def _pocock(information: float, alpha: float) -> float:
    return alpha * math.log(1 + (math.e - 1) * information)


def _obrien_fleming(information: float, alpha: float) -> float:
    return 4 * float(stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt(information)))


SPENDING = {"pocock": _pocock, "obrien-fleming": _obrien_fleming}


def sizes(most: int, *, first: int = 6, every: int = 2) -> tuple[int, ...]:
    """Paired seeds at each look: `first`, then `every` more, and always `most` at the end."""
    return (*range(first, most, every), most)


def plan(
    most: int,
    prompts: int | None = None,
    *,
    sd_seed: float,
    sd_prompt: float = 0.0,
    sd_residual: float = 0.0,
    first: int = 6,
    every: int = 2,
    alpha: float = 0.05,
    spending: str = "pocock",
) -> tuple[Look, ...]:
    """The looks of `{max: most}` and their levels; to be written down before the first seed is run.

    Args:
        sd_seed, sd_prompt, sd_residual: Spread of the paired difference (see `power`), from a prior or an earlier run,
            never from the run itself.
        spending: `pocock` or `obrien-fleming` (which hardly ever stops before 10 seeds).
    """
    seeds = sizes(most, first=first, every=every)
    spread = {"sd_seed": sd_seed, "sd_prompt": sd_prompt, "sd_residual": sd_residual}
    last = variance(most, prompts, **spread)
    information = [last / variance(size, prompts, **spread) for size in seeds]
    spent = [SPENDING[spending](fraction, alpha) for fraction in information]
    return tuple(
        Look(size, fraction, total, float(2 * stats.norm.sf(critical)))
        for size, fraction, total, critical in zip(
            seeds, information, spent, critical_values(information, spent), strict=True
        )
    )


def critical_values(information: Sequence[float], spent: Sequence[float]) -> list[float]:
    """The |z| to reach at each look so that, with no true difference, the error spent up to it is `spent`.

    By recursive integration over the continuation region (Armitage, McPherson and Rowe 1969).

    Args:
        information: Fractions, increasing, the last one 1.
        spent: Cumulative two-sided error at each look.
    """
    found: list[float] = []
    inside: Density = np.zeros(1), np.ones(1)  # where the score is, if no look was clear: nodes and their mass
    before = used = 0.0
    for fraction, total in zip(information, spent, strict=True):
        step = math.sqrt(fraction - before)
        nodes, mass = inside

        def crossing(edge: float, nodes=nodes, mass=mass, step=step) -> float:  # type: ignore[no-untyped-def]
            tails = stats.norm.sf((edge - nodes) / step) + stats.norm.cdf((-edge - nodes) / step)
            return float(mass @ tails)

        edge = float(optimize.brentq(lambda x: crossing(x) - (total - used), 0.0, 10.0, xtol=1e-10))
        found.append(edge / math.sqrt(fraction))
        places, weights = np.polynomial.legendre.leggauss(_GRID)
        reached = edge * places
        density = stats.norm.pdf((reached[:, None] - nodes) / step) @ mass / step
        inside, before, used = (reached, edge * weights * density), fraction, total
    return found


def advise(primary: Comparison, look: Look, looks: Sequence[Look], *, futility: float | None = 0.1) -> Step:
    """What to do after `look`, from the primary comparison at that look's level.

    Conditional power goes by the trend seen so far (a true difference as large as the one observed).

    Args:
        primary: The primary comparison of `conclude(..., level=look.level)`.
        futility: Conditional power below which stopping is advised; null never advises it.
    """
    last = looks[-1]
    clear = primary.p is not None and primary.p <= look.level
    power = conditional_power(primary.p, look, last)
    if clear:
        return Step("clear", power)
    if look.seeds >= last.seeds:
        return Step("last", power)
    return Step("futile" if futility is not None and power < futility else "go on", power)


def conditional_power(p: float | None, look: Look, last: Look) -> float:
    """Chance that the last look is clear in the direction seen, if the difference seen is the true one."""
    score = 0.0 if p is None else float(stats.norm.isf(max(p, 1e-300) / 2))
    critical = float(stats.norm.isf(last.level / 2))
    ahead = 1 - look.information
    if ahead <= 0:
        return float(score >= critical)
    expected = score / math.sqrt(look.information)
    return float(stats.norm.sf((critical - expected) / math.sqrt(ahead)))
