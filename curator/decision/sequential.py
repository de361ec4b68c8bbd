"""Adding paired seeds until the primary comparison is clear, with looks fixed beforehand and alpha spent over them; and
the power of an experiment of a given size.

The statistic's information after S seeds is 1 / Var(S), including the variance of the prompts, so that the fraction
Var(most) / Var(S) starts high if prompts are few; estimates of successive looks then covary like a Brownian motion.
Levels follow Lan and DeMets (1983); each is applied to the p-value of t, and the printed interval is the repeated one
(Jennison and Turnbull 1989).

Power is computed from the exact noncentral t, with the variance between seeds and draws. Its functions take the spread
of the paired difference: `sd_seed` between seeds (a new control draw each), `sd_prompt` between prompts, `sd_residual`
of one cell; the mean's variance is sd_seed^2/S + sd_prompt^2/P + sd_residual^2/(S P).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from curator.conclusions import LEVEL, Comparison
from curator.recipe.verify import Looks

Density = tuple[NDArray[np.float64], NDArray[np.float64]]
_GRID = 100  # nodes over the continuation region; levels agree with those of 800 nodes to 1e-12


@dataclass(frozen=True)
class Look:
    """One planned look.

    Attributes:
        seeds: Paired seeds at this look.
        information: Fraction of the information at the last look, in (0, 1].
        spent: Two-sided error spent up to and including this look.
        level: Nominal two-sided level at this look, for `conclude`.
    """

    seeds: int
    information: float
    spent: float
    level: float


@dataclass(frozen=True)
class Step:
    """What to do after a look.

    Attributes:
        action: `clear` (stop: the interval excludes zero, and no single seed decides that), `last` (stop: there is no
            further look), `futile` (stopping is advised, but continuing does not affect validity) or `go on`.
        conditional_power: Probability that the last look will be clear, given the data so far.
    """

    action: str
    conditional_power: float


@dataclass(frozen=True)
class Taken(Look):
    """A look that was taken: the primary comparison at its level, and what followed (see `Step`)."""

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


def plan(section: Looks, prompts: int | None, *, alpha: float = LEVEL) -> tuple[Look, ...]:
    """The looks of a recipe and their levels, which must be fixed before the first seed is run: at `first` seeds, then
    after `every` more, and always at `max`.

    Args:
        section: Its spreads (see `variance`) come from a prior or an earlier run, never from the run itself.
        prompts: Number of prompts; null for a large number.
        alpha: Two-sided error over all looks.
    """
    seeds = (*range(section.first, section.max, section.every), section.max)
    spread = section.model_dump(include={"sd_seed", "sd_prompt", "sd_residual"})
    last = variance(section.max, prompts, **spread)
    # More seeds do not reduce the variance of the prompts, so the first look holds more information than its share of
    # seeds.
    information = [last / variance(size, prompts, **spread) for size in seeds]
    spent = [SPENDING[section.spending](fraction, alpha) for fraction in information]
    # Nominal levels add up to more than alpha: looks are correlated, and each spends only on what is new.
    return tuple(
        Look(size, fraction, total, float(2 * special.ndtr(-critical)))
        for size, fraction, total, critical in zip(
            seeds, information, spent, critical_values(information, spent), strict=True
        )
    )


def critical_values(information: Sequence[float], spent: Sequence[float]) -> list[float]:
    """The critical |z| of each look, such that without a true difference the error spent up to it is `spent`.

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
        # The error beyond |B| = 10 is negligible, so the root is bracketed whatever is spent.
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
    """The probability of leaving [-edge, edge] first at this look, minus `target`."""
    nodes, mass = inside
    tails = special.ndtr((nodes - edge) / step) + special.ndtr((-edge - nodes) / step)
    return float(mass @ tails) - target


def take(
    looks: Sequence[Look], observe: Callable[[Look], tuple[Comparison, bool]], *, futility: float | None = 0.1
) -> tuple[Taken, ...]:
    """Takes one look after the other until one stops.

    Args:
        observe: Returns the primary comparison at a look's number of seeds and at its level, and whether it stands
            (`beside.stands`).
        futility: As in `advise`, whose advice is followed.
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
        stands: Whether it does not depend on a single seed. If it does, the look is not clear and more seeds are run;
            continuing instead of stopping does not affect validity.
    """
    last = looks[-1]
    power = conditional_power(primary, look, last)
    # Levels are of a normal statistic; applied to the p-value of t they account for the tails of few seeds.
    if stands and primary.p is not None and primary.p <= look.level:
        return Step("clear", power)
    if look.seeds >= last.seeds:
        return Step("last", power)
    # Futility is not binding: no level was raised in return, so continuing against the advice does not affect validity.
    return Step("futile" if futility is not None and power < futility else "go on", power)


def conditional_power(primary: Comparison, look: Look, last: Look, planned: float = 0.8) -> float:
    """Probability, in [0, 1], that the last look is clear, given the data so far: the larger of two.

    The first takes the observed difference for the true one; early on that is mostly noise, and stopping by it alone
    cost 9 points of power at 20 seeds (simulated). The second assumes the benefit that the plan detects with power
    `planned`. Both are probabilities that B at the end, normal about its present value plus the remaining drift, passes
    its edge (the B-value of Lan and Wittes 1988).
    """
    # The z that has the p-value of t, so that few degrees of freedom are accounted for once. A p of 0 has no finite z.
    score = 0.0 if primary.p is None else -float(special.ndtri(max(primary.p, 1e-300) / 2))
    critical = -float(special.ndtri(last.level / 2))
    ahead = 1 - look.information
    if ahead <= 0:  # the last look itself: the outcome is known
        return float(score >= critical)
    seen = score * math.sqrt(look.information)  # B, whatever its direction
    trend = seen + ahead * score / math.sqrt(look.information)
    # A benefit is a negative difference. If harm was observed, the benefit has that much further to go.
    benefit = -math.copysign(seen, primary.difference or 0.0)
    hoped = benefit + ahead * (critical + float(special.ndtri(planned)))
    return float(special.ndtr((max(trend, hoped) - critical) / math.sqrt(ahead)))


def variance(
    seeds: int, prompts: int | None = None, *, sd_seed: float, sd_prompt: float = 0.0, sd_residual: float = 0.0
) -> float:
    """Variance of the mean difference; `prompts=None` leaves out the terms of the prompts.

    Args:
        seeds, prompts: Number of paired seeds, and of prompts.
        sd_seed, sd_prompt, sd_residual: Spread of the paired difference, as shares; see this module.
    """
    # Only the first term falls with seeds alone: sd_prompt^2 / P remains however many seeds there are.
    of_prompts = 0.0 if prompts is None else sd_prompt**2 / prompts + sd_residual**2 / (seeds * prompts)
    return sd_seed**2 / seeds + of_prompts


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
    """The smallest true difference detected with probability `power`; null for fewer than two seeds or prompts.

    A value above 1 means that no difference between two shares can be detected. `alpha` is the two-sided
    error of the interval; other arguments are as in `variance`.
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
    """The fewest paired seeds at which a true `difference` is detected with probability `power`.

    Null if `most` seeds are not enough: the difference is zero, or the prompts are too few for any number of seeds. At
    least `minimum` seeds are returned; other arguments are as in `detectable`.
    """

    def enough(seeds: int) -> bool:
        smallest = detectable(
            seeds, prompts, sd_seed=sd_seed, sd_prompt=sd_prompt, sd_residual=sd_residual, alpha=alpha, power=power
        )
        return smallest is not None and smallest <= abs(difference)

    if difference == 0 or not enough(most):
        return None
    # The detectable difference falls as seeds are added, so the smallest sufficient number can be bisected.
    low, high = minimum - 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
