"""How often the decision is wrong, and what the choices in it cost: the tables of .github/docs/statistics.md.

    python -m tests.benchmarks.decision [TABLE ...]

prints those named of size, gates, interval, leave-one-out and durable, or all. Each simulates 2,000 studies a cell,
and all of them take less than two minutes of one core.
"""

from __future__ import annotations

import sys
from itertools import product

import numpy as np
from scipy import special

from tests.decision import worlds
from tests.decision.worlds import PROMPTS, WORLDS, Table, draw, hall, limits, skewness, uneven, variance

STUDIES, SEEDS = 2000, (3, 6, 10, 20)


def studies(world, seeds):
    return draw(np.random.default_rng(seeds), world, STUDIES, seeds)


def shares(found):
    """Percent below and above zero."""
    return f"{100 * np.mean(found < 0):.1f} / {100 * np.mean(found > 0):.1f}"


def row(*cells):
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def head(*cells):
    row(*cells)
    row("---", *["--:"] * (len(cells) - 1))


def sized(world, seeds):
    """What the decision says of studies without a difference: percent durable and worse."""
    return shares(worlds.sides(*studies(world, seeds))[1])


def added(world):
    """The same where seeds are added up to 20, with the defaults of a recipe."""
    looks = worlds.looks_of()
    return shares(worlds.sequential(*studies(world, looks[-1].seeds), looks)[0])


def size():
    head("no true difference: durable / worse, %", *(f"{seeds} seeds" for seeds in SEEDS), "added, 6 to 20")
    for world in WORLDS:
        row(world, *(sized(world, seeds) for seeds in SEEDS), added(world))
    row("studies that see no bad seed, (5/6)^S", *(f"{100 * (5 / 6) ** seeds:.1f}" for seeds in SEEDS), "33.5 at 6")


def passed(cost, seeds, *, skewed):
    """Percent of studies in which a gate of 5 points passes."""
    generator = np.random.default_rng(seeds)
    return f"{100 * worlds.passes(*worlds.draw_cost(generator, cost, STUDIES, seeds, skewed=skewed), 0.05).mean():.1f}"


def gates():
    head("a gate of 5 points passes, %", *(f"{seeds} seeds" for seeds in SEEDS))
    for cost, skewed in product((0.0, 0.051, 0.1), (False, True)):
        if cost or not skewed:
            how = "60% in few trainings" if skewed else "alike in every training"
            row(f"true cost {100 * cost:.3g} points, {how}", *(passed(cost, seeds, skewed=skewed) for seeds in SEEDS))
        if skewed and cost:
            bound = (f"{100 * (1 - cost / 0.6) ** seeds:.1f}" for seeds in SEEDS)
            row("studies that see no such training", *bound)


def interval():
    """False `durable` by ways to make the interval, before it is asked whether one seed decides; power where halved."""
    designs = [
        *product(("normal", "both skewed", "only curated skewed", "only control skewed"), SEEDS),
        *product(("halved",), SEEDS),
    ]
    head("durable, %", *WAYS, "spreads differ")
    for world, seeds in designs:
        curated, control = studies(world, seeds)
        table = Table.of(curated, control)
        found = (f"{100 * np.mean(way(table)):.1f}" for way in WAYS.values())
        row(f"{world}, {seeds} seeds", *found, f"{100 * uneven(table).mean():.0f}")


def _parts(table):
    mean, spread, _, _ = variance(table)
    df = table.seeds.shape[1] - 1
    error = np.sqrt(np.maximum(spread, 1e-12))
    return mean, error, skewness(table, spread), -special.stdtrit(df, 0.025)


def _johnson(table):
    mean, error, skew, critical = _parts(table)
    t = mean / error
    return t + skew * (1 / 6 + t**2 / 3) < -critical


def _bootstrap(table, draws=399):
    """Upper limit of t bootstrapped over seeds (Efron 1979), with the crossed error."""
    mean, error, _, _ = _parts(table)
    generator, count = np.random.default_rng(0), table.seeds.shape[1]
    found = []
    for rates in table.seeds:
        drawn = rates[generator.integers(0, count, (draws, count))]
        spread = drawn.std(axis=1, ddof=1) / count**0.5
        change = drawn.mean(axis=1) - rates.mean()
        found.append(
            np.quantile(np.where(spread > 1e-9, change / np.maximum(spread, 1e-9), np.sign(change) * 1e6), 0.025)
        )
    return mean - np.array(found) * error


def _flips(table):
    """Both arms swapped within seeds, as if they were two draws of one arm: all swaps, or 2,000 of them."""
    rates, count = table.seeds, table.seeds.shape[1]
    if count <= 10:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = np.vstack([np.ones(count), np.random.default_rng(0).choice([-1, 1], (1999, count))])
    total = np.abs(rates @ signs.T)
    p = (total >= np.abs(rates.sum(axis=1, keepdims=True)) - 1e-12).mean(axis=1)
    return (p <= 0.05) & (rates.mean(axis=1) < 0)


def never(table):
    return np.zeros(len(table.seeds), dtype=bool)


WAYS = {
    "t": lambda table: limits(table, widen=never)[1] < 0,
    "Johnson": _johnson,
    "Hall": lambda table: hall(*_parts(table))[1] < 0,
    "wider of t and Hall": lambda table: limits(table, widen=lambda part: ~never(part))[1] < 0,
    "the same where spreads differ (chosen)": lambda table: limits(table)[1] < 0,
    "bootstrap of t": lambda table: _bootstrap(table) < 0,
    "wider of t and bootstrap": lambda table: np.maximum(_bootstrap(table), limits(table, widen=never)[1]) < 0,
    "arms swapped within seeds": _flips,
}


def leave_one_out():
    """Durable by ways to leave one seed out."""
    ways = ("all seeds", "sign stays", "as many seeds (chosen)", "same critical value", "full rule")
    head("durable, %", *ways)
    for world, seeds in product(("normal", "only curated skewed", "halved"), SEEDS):
        curated, control = studies(world, seeds)
        table = Table.of(curated, control)
        kept = {name: limits(table)[1] < 0 for name in ways}
        wide = uneven(table)
        for seed in range(seeds):
            rest = table.without(seed, curated, control)
            high, mean = limits(rest, as_many=seeds, widen=lambda part, wide=wide: wide)[1], rest.seeds.mean(axis=1)
            kept["sign stays"] &= rest.seeds.mean(axis=1) < 0
            kept["as many seeds (chosen)"] &= high < 0
            kept["full rule"] &= limits(rest)[1] < 0
            # As many degrees of freedom as before, but the error of one seed fewer.
            kept["same critical value"] &= mean + (high - mean) * (seeds / (seeds - 1)) ** 0.5 < 0
        row(f"{world}, {seeds} seeds", *(f"{100 * kept[name].mean():.1f}" for name in ways))


def durable():
    """The chance of `durable` for a set that halves the harm, from 40 to 20%, at no cost."""
    counts = (6, 8, 10, 12, 16, 20)
    head("durable, % (gates: seed SD, margin)", *(f"{seeds} seeds" for seeds in counts), "added, 6 to 20")
    looks, found, ends = worlds.looks_of(), {}, {}
    for seeds in counts:
        found[seeds] = worlds.sides(*studies("halved", seeds))[1] < 0
    ends["sides"], ends["seeds"] = worlds.sequential(*studies("halved", 20), looks)
    for spread, margin in product((0.02, 0.03, 0.05), (0.05, 0.08, 0.1)):
        cells = []
        for seeds in counts:
            passing = all_pass(spread, margin, seeds)
            cells.append(f"{100 * (found[seeds] & passing[seeds]).mean():.0f}")
        passing = all_pass(spread, margin, *(look.seeds for look in looks))
        at_end = np.select([ends["seeds"] == look.seeds for look in looks], [passing[look.seeds] for look in looks])
        row(f"{spread:g}, {margin:g}", *cells, f"{100 * ((ends['sides'] < 0) & at_end).mean():.0f}")
    row(
        "the comparison alone",
        *(f"{100 * found[s].mean():.0f}" for s in counts),
        f"{100 * (ends['sides'] < 0).mean():.0f}",
    )
    print(f"\nSeeds added until a look is clear: {ends['seeds'].mean():.1f} on average.")


def all_pass(spread, margin, *seeds):
    """By number of seeds, the studies in which four gates without a cost all pass."""
    generator, most = np.random.default_rng(int(1000 * spread)), max(seeds)
    passing = {count: np.ones(STUDIES, dtype=bool) for count in seeds}
    for _ in range(4):
        prompt = generator.normal(0, 0.08 / 2**0.5, (2, STUDIES, 1, PROMPTS))
        rates = 0.05 + generator.normal(0, spread / 2**0.5, (2, STUDIES, most, 1)) + prompt
        arms = generator.random(rates.shape, dtype=np.float32) < rates
        for count in seeds:
            passing[count] &= worlds.passes(*arms[:, :, :count], margin)
    return passing


TABLES = {"size": size, "gates": gates, "interval": interval, "leave-one-out": leave_one_out, "durable": durable}

if __name__ == "__main__":
    for name in sys.argv[1:] or TABLES:
        TABLES[name]()
        print()
