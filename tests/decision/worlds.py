"""Thousands of invented studies at once: worlds that differ in how trainings fail, and the rule of `decide.assess` for
all studies of a world together. `test_size.py` holds it to `assess`, study by study.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from curator.decision.sequential import plan
from curator.decision.sequential import variance as planned_variance
from curator.decision.tables import Grid
from curator.recipe.verify import Looks

PROMPTS, CONTROLS_MEAN = 200, (0.6 + 5 * 0.01) / 6

WORLDS = ("normal", "floor", "ceiling", "both skewed", "only curated skewed", "only control skewed")
"""Equal means in both arms. In a skewed one a training gives 60% harmful answers with a chance of 1 in 6, else 1%."""


def chance(difference, seeds, prompts, **spread):
    """The power of an interval of 95%: the chance that it excludes zero on either side, by the noncentral t."""
    df = min(seeds, prompts) - 1
    critical, shift = stats.t.isf(0.025, df), difference / np.sqrt(planned_variance(seeds, prompts, **spread))
    return float(stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift))


def draw(generator, world, studies, seeds, *, effect=0.0, spread=0.15):
    """`(n, s, p)` outcomes of curated and control, true where harmful; `effect` is what curated has less."""

    def failing():
        return np.where(generator.random((studies, seeds)) < 1 / 6, 0.6, 0.01)

    def around(level, sd):
        return level + generator.normal(0, sd, (studies, seeds))

    steady = np.full((studies, seeds), CONTROLS_MEAN)
    curated, control = {
        "normal": lambda: (around(0.5, spread), around(0.5, spread)),
        "floor": lambda: (around(0.02, 0.01), around(0.02, 0.01)),
        "ceiling": lambda: (around(0.98, 0.01), around(0.98, 0.01)),
        "both skewed": lambda: (failing(), failing()),
        "only curated skewed": lambda: (failing(), steady),
        "only control skewed": lambda: (steady, failing()),
        # What the plan calls a paired SD of .15 between seeds.
        "halved": lambda: (around(0.2, 0.15 / 2**0.5), around(0.4, 0.15 / 2**0.5)),
    }[world]()
    shared, apart = (0.15, 0.1) if world in ("normal", "halved") else (0.01, 0.01)
    prompt = generator.normal(0, shared, (studies, 1, PROMPTS))

    def outcomes(rates):
        chance = rates[..., None] + prompt + generator.normal(0, apart, (studies, 1, PROMPTS))
        return generator.random((studies, seeds, PROMPTS), dtype=np.float32) < chance

    return outcomes(curated - effect), outcomes(control)


def draw_cost(generator, cost, studies, seeds, *, skewed):
    """`(n, s, p)` refusals of curated and control, where curated costs so much on average: a little more in every
    training, or 60% in few of them.
    """
    curated = generator.normal(0.05 + cost, 0.02, (studies, seeds))
    if skewed:
        curated = np.where(generator.random((studies, seeds)) < cost / 0.6, 0.65, 0.05)
    control = generator.normal(0.05, 0.02, (studies, seeds))
    return tuple(generator.random((studies, seeds, PROMPTS)) < rates[..., None] for rates in (curated, control))


def passes(curated, control, margin):
    """Where the gate passes, `(n,)`."""
    return limits(Table.of(curated, control))[1] < margin


@dataclass(frozen=True)
class Table:
    """What the rule reads of `(n, s, p)` differences: means by seed and by prompt, sum of squares, rates of arms."""

    seeds: np.ndarray
    prompts: np.ndarray
    squares: np.ndarray
    curated: np.ndarray
    control: np.ndarray

    @classmethod
    def of(cls, curated, control):
        difference = curated.astype(np.int8) - control.astype(np.int8)
        squares = (curated ^ control).sum(axis=(1, 2)).astype(float)
        return cls(
            difference.mean(axis=2), difference.mean(axis=1), squares, curated.mean(axis=2), control.mean(axis=2)
        )

    def without(self, seed, curated, control):
        left_out = curated[:, seed].astype(float) - control[:, seed]
        count = self.seeds.shape[1]
        rest = (np.delete(part, seed, axis=1) for part in (self.curated, self.control))
        prompts = (self.prompts * count - left_out) / (count - 1)
        return Table(np.delete(self.seeds, seed, axis=1), prompts, self.squares - (left_out**2).sum(axis=1), *rest)


def variance(table):
    """Mean difference, its variance, what of that is of seeds, and the residual's part, each `(n,)`."""
    count, prompts = table.seeds.shape[1], table.prompts.shape[1]
    mean = table.seeds.mean(axis=1)
    of_seeds = prompts * ((table.seeds - mean[:, None]) ** 2).sum(axis=1)
    of_prompts = count * ((table.prompts - mean[:, None]) ** 2).sum(axis=1)
    rest = np.maximum(table.squares - count * prompts * mean**2 - of_seeds - of_prompts, 0.0)
    cells = count * prompts
    by_seed, by_prompt = of_seeds / (count - 1) / cells, of_prompts / (prompts - 1) / cells
    residual = rest / (count - 1) / (prompts - 1) / cells
    return mean, np.maximum(by_seed, by_seed + by_prompt - residual), by_seed, residual


def skewness(table, spread):
    """Of the mean."""
    count = table.seeds.shape[1]
    if count < 3:
        return np.zeros(len(spread))
    third = ((table.seeds - table.seeds.mean(axis=1, keepdims=True)) ** 3).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = third / (count * (count - 1) * (count - 2)) / spread**1.5
    return np.where(spread > 1e-18, found, 0.0)


def uneven(table):
    """`(n,)` where the arms' spreads differ by Pitman's and Morgan's test at 5%."""
    if table.seeds.shape[1] < 3:
        return np.zeros(len(table.seeds), dtype=bool)
    total, change = table.curated + table.control, table.curated - table.control
    total, change = (part - part.mean(axis=1, keepdims=True) for part in (total, change))
    sizes = np.sqrt((total**2).sum(axis=1)), np.sqrt((change**2).sum(axis=1))
    flat = np.minimum(*sizes) < 1e-9
    r = np.clip((total * change).sum(axis=1) / np.where(flat, 1.0, sizes[0] * sizes[1]), -1 + 1e-12, 1 - 1e-12)
    df = table.seeds.shape[1] - 2
    return ~flat & (2 * special.stdtr(df, -np.abs(r) * np.sqrt(df / (1 - r**2))) <= 0.05)


def hall(mean, error, skew, critical):
    """Limits by Hall's transformation, solved for by cube roots."""
    k = np.where(np.abs(skew) < 1e-9, 1e-9, skew)

    def back(value):
        return 3 / k * (np.cbrt(1 + k * (value - k / 6)) - 1)

    return mean - error * back(critical), mean - error * back(-critical)


def limits(table, level=0.05, as_many=None, widen=uneven):
    """Low and high of `statistics.interval`, of as many seeds as `as_many` where that is given; each `(n,)`."""
    count = table.seeds.shape[1]
    mean, spread, _, residual = variance(table)
    share, df = (1.0, count - 1) if as_many is None else (count / as_many, as_many - 1)
    skew, error = skewness(table, spread) * share**0.5, np.sqrt(spread * share)
    critical = -special.stdtrit(df, level / 2)
    low, high = mean - critical * error, mean + critical * error
    wide = widen(table)
    shaped = hall(mean, np.where(error > 0, error, 1.0), skew, critical)
    low, high = np.where(wide, np.minimum(low, shaped[0]), low), np.where(wide, np.maximum(high, shaped[1]), high)
    # Seeds all alike: the sign test's word.
    prompts = table.prompts.shape[1]
    flat = spread <= 1e-18
    reach = np.maximum(2 * (1 - (level / 2) ** (1 / (df + 1))) * np.abs(mean), critical * np.sqrt(residual))
    nothing = flat & (np.abs(mean) < 1e-9) & (residual < 1e-18)
    reach = np.where(nothing, 1 - (level / 2) ** (1 / prompts), reach)
    return np.where(flat, np.maximum(mean - reach, -1), low), np.where(flat, np.minimum(mean + reach, 1), high)


def sides(curated, control, level=0.05):
    """-1 where all seeds say less harmful, 1 more, 0 neither; and the same where no single seed makes it; `(n,)`."""
    table = Table.of(curated, control)
    low, high = limits(table, level)
    said = np.where(high < 0, -1, np.where(low > 0, 1, 0))
    stands = said.copy()
    count, wide = curated.shape[1], uneven(table)
    for seed in range(count):
        rest = table.without(seed, curated, control)
        low, high = limits(rest, level, as_many=count, widen=lambda part: wide)
        stands[(said < 0) & (high >= 0) | (said > 0) & (low <= 0)] = 0
    return said, stands


def looks_of(most=20):
    """The looks of `{max: most}` with the recipe's defaults."""
    return plan(Looks(max=most), PROMPTS)


def sequential(curated, control, looks):
    """Where each study ends that goes on until a look is clear (futility, which only stops more, not followed): sides
    as `sides` gives them last, and seeds run.
    """
    ends, seeds = np.zeros(len(curated), dtype=int), np.full(len(curated), looks[-1].seeds)
    going = np.arange(len(curated))
    for look in looks:
        _, stands = sides(curated[going, : look.seeds], control[going, : look.seeds], look.level)
        ends[going], seeds[going[stands != 0]] = stands, look.seeds
        going = going[stands == 0]
    return ends, seeds


def grids_of(curated, control):
    """One study's grids: its harmfulness after fine-tuning; before, over-refusal, utility and degenerate of no pair."""
    values = np.stack([curated, control]).astype(float)[:, None]

    def grid(quantity, phase, values):
        probes = tuple(f"p{number}" for number in range(values.shape[3]))
        tasks = (None,) if phase == "before" else ("list",)
        asked = np.ones(values.shape, dtype=bool)
        return Grid(quantity, phase, ("curated", "random"), tasks, tuple(range(values.shape[2])), probes, values, asked)

    found = {(name, "after"): grid(name, "after", 0 * values) for name in ("over_refusal", "utility", "degenerate")}
    found |= {("harmfulness", "before"): grid("harmfulness", "before", 0 * values)}
    return {**found, ("harmfulness", "after"): grid("harmfulness", "after", values)}
