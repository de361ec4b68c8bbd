"""Paired seeds added until the primary comparison is clear: looks fixed beforehand, alpha spent over them; and what an
experiment of a given size can see.

The statistic's information after S seeds is 1 / Var(S), with what comes of the prompts in it, so that the fraction
Var(most) / Var(S) starts high where prompts are few; estimates of successive looks then covary as a Brownian motion
does. Levels follow Lan and DeMets (1983); each is applied to the p-value of t, and the printed interval is the repeated
one (Jennison and Turnbull 1989).

Power is by the exact noncentral t, with the variance between seeds and draws in it. Its functions take the spread of
the paired difference: `sd_seed` between seeds (a new control draw each), `sd_prompt` between prompts, `sd_residual` of
one cell; the mean's variance is sd_seed^2/S + sd_prompt^2/P + sd_residual^2/(S P).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from curator.conclusions import LEVEL, Comparison

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
        action: `clear` (the interval excludes zero, and no single seed makes it so: stop), `last` (no look is left:
            stop), `futile` (stopping is advised, going on costs no validity) or `go on`.
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


# Both have spent alpha at full information (Lan and DeMets 1983): Pocock's type about evenly over the looks, O'Brien
# and Fleming's mostly at the last ones, so that it hardly ever stops before 10 seeds.
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
    alpha: float = LEVEL,
    spending: str = "pocock",
) -> tuple[Look, ...]:
    """The looks of `{max: most}` and their levels; to be written down before the first seed is run.

    Args:
        sd_seed, sd_prompt, sd_residual: Spread of the paired difference (see `variance`), from a prior or an earlier
            run, never from the run itself.
        spending: `pocock` or `obrien-fleming` (which hardly ever stops before 10 seeds).
    """
    seeds = sizes(most, first=first, every=every)
    spread = {"sd_seed": sd_seed, "sd_prompt": sd_prompt, "sd_residual": sd_residual}
    last = variance(most, prompts, **spread)
    # More seeds do not remove what the prompts add, so the first look already holds more than its share of seeds.
    information = [last / variance(size, prompts, **spread) for size in seeds]
    spent = [SPENDING[spending](fraction, alpha) for fraction in information]
    # Nominal levels add up to more than alpha: looks are correlated, and only what is new at each is spent.
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
    # On the scale B = z sqrt(information) the increments between looks are independent normals with the increment of
    # information as their variance, so the density of B is carried from look to look by one convolution.
    critical: list[float] = []
    inside: Density = np.zeros(1), np.ones(1)  # where B is, if no look was clear: nodes and their mass
    known = used = 0.0
    for fraction, total in zip(information, spent, strict=True):
        step = math.sqrt(fraction - known)
        # No error of any use is left beyond |B| = 10, so that the root is bracketed whatever is to be spent.
        edge = float(optimize.brentq(_excess, 0.0, 10.0, args=(inside, step, total - used), xtol=1e-10))
        critical.append(edge / math.sqrt(fraction))
        # Only what stays within the edge goes on to the next look: Gauss-Legendre over [-edge, edge].
        points, weights = np.polynomial.legendre.leggauss(_GRID)
        nodes = edge * points
        density = (
            np.exp(-(((nodes[:, None] - inside[0]) / step) ** 2) / 2) @ inside[1] / (step * math.sqrt(2 * math.pi))
        )
        inside, known, used = (nodes, edge * weights * density), fraction, total
    return critical


def _excess(edge: float, inside: Density, step: float, target: float) -> float:
    """By how much the chance to leave [-edge, edge] at this look, not having left it before, is above `target`."""
    nodes, mass = inside
    tails = special.ndtr((nodes - edge) / step) + special.ndtr((-edge - nodes) / step)
    return float(mass @ tails) - target


def take(
    looks: Sequence[Look], observe: Callable[[Look], tuple[Comparison, bool]], *, futility: float | None = 0.1
) -> tuple[Taken, ...]:
    """Takes one look after the other until one stops.

    Args:
        observe: Gives the primary comparison at a look's number of seeds and at its level, and whether it stands
            (`beside.stands`).
        futility: As `advise` takes it; its advice is followed.
    """
    taken: list[Taken] = []
    for look in looks:
        primary, stands = observe(look)
        step = advise(primary, look, looks, futility=futility, stands=stands)
        seen = primary.difference, primary.low, primary.high, primary.p
        taken.append(
            Taken(look.seeds, look.information, look.spent, look.level, *seen, step.conditional_power, step.action)
        )
        if step.action != "go on":
            break
    return tuple(taken)


def advise(
    primary: Comparison, look: Look, looks: Sequence[Look], *, futility: float | None = 0.1, stands: bool = True
) -> Step:
    """What to do after `look`, from the primary comparison at that look's level.

    Args:
        primary: The primary comparison of `conclude(..., level=look.level)`.
        futility: Conditional power below which stopping is advised; null never advises it.
        stands: Whether no single seed makes it. One that a seed makes is not clear, so more seeds are run; going on
            where one could have stopped costs no validity.
    """
    last = looks[-1]
    power = conditional_power(primary, look, last)
    # Levels are of a normal statistic; with each applied to the p-value of t the tails of few seeds are paid as well.
    if stands and primary.p is not None and primary.p <= look.level:
        return Step("clear", power)
    if look.seeds >= last.seeds:
        return Step("last", power)
    # Futility is not binding: no level was raised in return for it, so going on against the advice costs no validity.
    return Step("futile" if futility is not None and power < futility else "go on", power)


def conditional_power(primary: Comparison, look: Look, last: Look, planned: float = 0.8) -> float:
    """Chance that the last look is clear, given what was seen: the larger of two.

    One takes the difference seen for the true one; early on that is mostly noise, and stopping by it alone cost 9
    points of power at 20 seeds (simulated). The other goes on with the benefit that the plan sees with power `planned`.
    Both are chances that B at the end, normal about its present value plus the drift ahead, passes its edge (the
    B-value of Lan and Wittes 1988).
    """
    # The z that has the p-value of t, so that few degrees of freedom are paid for once. A p of 0 has no finite z.
    score = 0.0 if primary.p is None else -float(special.ndtri(max(primary.p, 1e-300) / 2))
    critical = -float(special.ndtri(last.level / 2))
    ahead = 1 - look.information
    if ahead <= 0:  # the last look itself: nothing is left to chance
        return float(score >= critical)
    seen = score * math.sqrt(look.information)  # B, whatever its direction
    trend = seen + ahead * score / math.sqrt(look.information)
    # A benefit is a negative difference. Where harm was seen, what is hoped for has that much further to go.
    benefit = -math.copysign(seen, primary.difference or 0.0)
    hoped = benefit + ahead * (critical + float(special.ndtri(planned)))
    return float(special.ndtr((max(trend, hoped) - critical) / math.sqrt(ahead)))


def variance(
    seeds: int, prompts: int | None = None, *, sd_seed: float, sd_prompt: float = 0.0, sd_residual: float = 0.0
) -> float:
    """Variance of the mean difference; `prompts=None` leaves out what comes of the prompts."""
    # Only the first term falls with seeds alone: with few prompts no number of seeds gets below sd_prompt^2 / P.
    of_prompts = 0.0 if prompts is None else sd_prompt**2 / prompts + sd_residual**2 / (seeds * prompts)
    return sd_seed**2 / seeds + of_prompts


def chance(
    difference: float,
    seeds: int,
    prompts: int | None = None,
    *,
    sd_seed: float,
    sd_prompt: float = 0.0,
    sd_residual: float = 0.0,
    alpha: float = LEVEL,
) -> float:
    """Chance that a true `difference` gives an interval clear of zero; 0 for fewer than two seeds or prompts."""
    df = min(seeds, seeds if prompts is None else prompts) - 1
    if df < 1:
        return 0.0
    spread = variance(seeds, prompts, sd_seed=sd_seed, sd_prompt=sd_prompt, sd_residual=sd_residual)
    if difference == 0:  # clear of zero as often as the interval errs
        return alpha
    if spread == 0:
        return 1.0
    # t squared is F: both tails in one exact term, and stable where the noncentral t of scipy gives NaN.
    critical = float(stats.t.isf(alpha / 2, df))
    return float(stats.ncf.sf(critical**2, 1, df, difference**2 / spread))


def detectable(
    seeds: int,
    prompts: int | None = None,
    *,
    sd_seed: float,
    sd_prompt: float = 0.0,
    sd_residual: float = 0.0,
    alpha: float = LEVEL,
    power: float = 0.8,
) -> float | None:
    """The smallest true difference that shows with chance `power`, null for fewer than two seeds or prompts.

    A value above 1 means that no difference between two shares can show.
    """
    df = min(seeds, seeds if prompts is None else prompts) - 1
    if df < 1:
        return None
    error = math.sqrt(variance(seeds, prompts, sd_seed=sd_seed, sd_prompt=sd_prompt, sd_residual=sd_residual))
    critical = float(stats.t.isf(alpha / 2, df))

    def missing(shift: float) -> float:
        return float(stats.ncf.sf(critical**2, 1, df, shift**2)) - power

    # Power rises with the shift, from alpha at none, so there is one root; with 1 or 2 df it lies far above `critical`.
    top = critical + 1.0
    while missing(top) < 0:
        top *= 2
    return error * float(optimize.brentq(missing, 1e-6, top))


def seeds_needed(
    difference: float,
    prompts: int | None = None,
    *,
    sd_seed: float,
    sd_prompt: float = 0.0,
    sd_residual: float = 0.0,
    alpha: float = LEVEL,
    power: float = 0.8,
    minimum: int = 3,
    most: int = 10_000,
) -> int | None:
    """The fewest paired seeds at which a true `difference` shows with chance `power`.

    Null when `most` seeds would not do: the difference is zero, or the prompts are too few for any number of seeds.
    """

    def enough(seeds: int) -> bool:
        smallest = detectable(
            seeds, prompts, sd_seed=sd_seed, sd_prompt=sd_prompt, sd_residual=sd_residual, alpha=alpha, power=power
        )
        return smallest is not None and smallest <= abs(difference)

    if difference == 0 or not enough(most):
        return None
    # What is detectable only falls as seeds are added, so the first number that is enough can be bisected.
    low, high = minimum - 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
