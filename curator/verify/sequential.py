"""Paired seeds added until the primary comparison is clear: looks fixed beforehand, alpha spent over them.

The statistic's information after S seeds is 1 / Var(S), with what comes of the prompts in it, so that the fraction
Var(most) / Var(S) starts high where prompts are few; estimates of successive looks then covary as a Brownian motion
does. Levels follow Lan and DeMets (1983); each is applied to the p-value of t, and the printed interval is the repeated
one (Jennison and Turnbull 1989).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from curator.conclusions import Comparison
from curator.verify.power import variance

Density = tuple[NDArray[np.float64], NDArray[np.float64]]
_GRID = 100  # nodes over the continuation region; levels agree with those of 800 nodes to 1e-12


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
        action: `clear` (the interval excludes zero: stop), `last` (no look is left: stop), `futile` (stopping is
            advised, going on costs no validity) or `go on`.
        conditional_power: Chance that the last look will be clear, given what was seen.
    """

    action: str
    conditional_power: float


@dataclass(frozen=True)
class Taken(Look):
    """A look that was taken: what the primary comparison said at its level, and what followed (see `Step`)."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    conditional_power: float
    action: str


def _pocock(information: float, alpha: float) -> float:
    return alpha * math.log(1 + (math.e - 1) * information)


def _obrien_fleming(information: float, alpha: float) -> float:
    return 4 * float(special.ndtr(special.ndtri(alpha / 4) / math.sqrt(information)))


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
        Look(size, fraction, total, float(2 * special.ndtr(-critical)))
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
        edge = float(optimize.brentq(_excess, 0.0, 10.0, args=(inside, step, total - used), xtol=1e-10))
        found.append(edge / math.sqrt(fraction))
        places, weights = np.polynomial.legendre.leggauss(_GRID)
        reached = edge * places
        density = (
            np.exp(-(((reached[:, None] - inside[0]) / step) ** 2) / 2) @ inside[1] / (step * math.sqrt(2 * math.pi))
        )
        inside, before, used = (reached, edge * weights * density), fraction, total
    return found


def _excess(edge: float, inside: Density, step: float, target: float) -> float:
    nodes, mass = inside
    tails = special.ndtr((nodes - edge) / step) + special.ndtr((-edge - nodes) / step)
    return float(mass @ tails) - target


def take(
    looks: Sequence[Look], observe: Callable[[Look], Comparison], *, futility: float | None = 0.1
) -> tuple[Taken, ...]:
    """Takes one look after the other until one stops.

    Args:
        observe: Gives the primary comparison at a look's number of seeds and at its level.
        futility: As `advise` takes it; its advice is followed.
    """
    taken: list[Taken] = []
    for look in looks:
        primary = observe(look)
        step = advise(primary, look, looks, futility=futility)
        seen = primary.difference, primary.low, primary.high, primary.p
        taken.append(
            Taken(look.seeds, look.information, look.spent, look.level, *seen, step.conditional_power, step.action)
        )
        if step.action != "go on":
            break
    return tuple(taken)


def advise(primary: Comparison, look: Look, looks: Sequence[Look], *, futility: float | None = 0.1) -> Step:
    """What to do after `look`, from the primary comparison at that look's level.

    Args:
        primary: The primary comparison of `conclude(..., level=look.level)`.
        futility: Conditional power below which stopping is advised; null never advises it.
    """
    last = looks[-1]
    power = conditional_power(primary, look, last)
    if primary.p is not None and primary.p <= look.level:
        return Step("clear", power)
    if look.seeds >= last.seeds:
        return Step("last", power)
    return Step("futile" if futility is not None and power < futility else "go on", power)


def conditional_power(primary: Comparison, look: Look, last: Look, planned: float = 0.8) -> float:
    """Chance that the last look is clear, given what was seen: the larger of two.

    One takes the difference seen for the true one; early on that is mostly noise, and stopping by it alone cost 9
    points of power at 20 seeds (simulated). The other goes on with the benefit that the plan sees with power `planned`.
    """
    score = 0.0 if primary.p is None else -float(special.ndtri(max(primary.p, 1e-300) / 2))
    critical = -float(special.ndtri(last.level / 2))
    ahead = 1 - look.information
    if ahead <= 0:
        return float(score >= critical)
    seen = score * math.sqrt(look.information)
    trend = seen + ahead * score / math.sqrt(look.information)
    benefit = -math.copysign(seen, primary.difference or 0.0)
    hoped = benefit + ahead * (critical + float(special.ndtri(planned)))
    return float(special.ndtr((max(trend, hoped) - critical) / math.sqrt(ahead)))
