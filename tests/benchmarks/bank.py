"""What a bank of trials finds where nothing matters and where something does, and how good its intervals are.

    python -m tests.benchmarks.bank [TABLE ...]

prints those named of null, choice, power and coverage, or all. A row of null and power is of 200 and 100 invented banks
(`tests.decision.banks`) of 31 features and three groupings, one seed a subset. All take about half an hour of one core.
"""

from __future__ import annotations

import sys
from itertools import product

import numpy as np
import polars as pl
from scipy import special

from curator.decision import bank
from curator.decision.statistics import holm, spearman
from tests.benchmarks.decision import head, row
from tests.decision import banks, worlds

BANKS, SUBSETS = 200, (24, 60)
COVERED, DRAWS = 1000, 800


def percent(values):
    return f"{100 * np.mean(values):.1f}"


def reading_of(seed, count, **world):
    """Without intervals of features, which have a table of their own."""
    bank.DRAWS = 1
    return bank.read(*banks.bank(seed, count, **world), weights=banks.TASKS, seed=seed)


def by_t(predictors):
    """Holm-adjusted p-values by the t-approximation, in the order of the table."""
    known = predictors.drop_nulls("rho")
    rho, df = known["rho"].to_numpy(), known["n"].to_numpy() - 2
    return holm((2 * special.stdtr(df, -np.abs(rho) * np.sqrt(df / (1 - rho**2)))).tolist())


def null():
    head(
        "nothing matters, % of banks", "a predictor, permutations (chosen)", "a predictor, t", "features with p < .05",
        *(f"usable: {name}" for name in ("category", "opener", "answer-length")),
        "any usable",
    )  # fmt: skip
    for count in SUBSETS:
        found, t, raw, usable = [], [], [], []
        for seed in range(BANKS):
            reading = reading_of(10_000 * count + seed, count)
            table = reading.predictors
            found.append(table["p_holm"].min() <= 0.05)
            t.append(min(by_t(table)) <= 0.05)
            raw.append((table["p"] <= 0.05).mean())
            usable.append([each.usable for each in reading.mixtures.values()])
        each = (percent(values) for values in np.transpose(usable))
        row(f"{count} subsets", *map(percent, (found, t, raw)), *each, percent(np.any(usable, axis=1)))


def choice():
    generator, studies = np.random.default_rng(0), 2000
    head("nothing matters, % of choices", "durable", "worse")
    ended = [banks.chosen_and_final(generator) for _ in range(studies)]
    winner, fresh, control = (np.stack([each[number] for each in ended]) for number in range(3))
    for name, curated in ((f"{banks.FINAL} fresh seeds", fresh), ("the seeds that it was chosen by", winner)):
        stands = worlds.sides(curated, control[:, : curated.shape[1]])[1]
        row(f"the winner on {name}", percent(stands < 0), percent(stands > 0))


def power():
    head("one thing matters: the share of a category; % of banks", *(f"{count} subsets" for count in SUBSETS))
    cells = {}
    for rho, count in product((0.3, 0.5, 0.65), SUBSETS):
        found, first, usable, less = [], [], [], []
        for seed in range(BANKS // 2):
            reading = reading_of(10_000 * count + seed, count, rho=rho, by="share:c0")
            table = reading.predictors
            found.append(table.row(by_predicate=pl.col("feature") == "share:c0", named=True)["p_holm"] <= 0.05)
            first.append(table["feature"][0] == "share:c0")
            category = reading.mixtures["category"]
            usable.append(category.usable)
            if category.best:
                less.append(next(each.share for each in category.best if each.group == "c0") < 0.125)
        cells[rho, count] = found, first, usable, less
    what = "found (Holm)", "stands first", "ridge on categories usable", "its best mixture has less of it than the pool"
    for rho, (number, name) in product((0.3, 0.5, 0.65), enumerate(what)):
        row(f"rho {rho:g}: {name}", *(percent(cells[rho, count][number]) for count in SUBSETS))


def draw_pairs(generator, rho, count, level, spread):
    """A feature, and shares of 100 prompts that go with it."""
    x = generator.normal(size=count)
    z = rho * x + (1 - rho**2) ** 0.5 * generator.normal(size=count)
    return x, generator.binomial(100, np.clip(level + spread * z, 0.0, 1.0)) / 100


def limits(x, y, generator):
    """Limits by percentiles, by BCa (Efron 1987), and by Fisher's z with the variance of Bonett and Wright (2000)."""
    count, rho = len(x), spearman(x[None], y[None])[0]
    picks = generator.integers(0, count, (DRAWS, count))
    drawn = spearman(x[picks], y[picks])
    drawn = drawn[np.isfinite(drawn)]
    percentiles = np.quantile(drawn, [0.025, 0.975])
    share = np.clip((drawn < rho).mean() + 0.5 * (drawn == rho).mean(), 1e-3, 1 - 1e-3)
    rest = np.array([np.delete(np.arange(count), left) for left in range(count)])
    jackknife = spearman(x[rest], y[rest])
    change = jackknife.mean() - jackknife
    acceleration = (change**3).sum() / 6 / ((change**2).sum() ** 1.5 + 1e-12)
    z = special.ndtri(share) + special.ndtri([0.025, 0.975])
    bca = np.quantile(drawn, special.ndtr(special.ndtri(share) + z / (1 - acceleration * z)))
    error = np.sqrt((1 + rho**2 / 2) / (count - 3))
    return percentiles, bca, np.tanh(np.arctanh(np.clip(rho, -0.9999, 0.9999)) + np.array([-1.96, 1.96]) * error)


def coverage():
    head("a 95% interval of Spearman's rho covers, %", "true rho", "percentile (chosen)", "BCa", "Bonett and Wright")
    for (where, level, spread), rho, count in product(
        (("harm near .3", 0.3, 0.15), ("harm near 0, many ties", 0.03, 0.08)), (0.0, 0.3, 0.6, 0.8), SUBSETS
    ):
        many = draw_pairs(np.random.default_rng(1), rho, 400_000, level, spread)
        true = spearman(many[0][None], many[1][None])[0]
        generator, covered = np.random.default_rng(count), []
        for _ in range(COVERED):
            pairs = draw_pairs(generator, rho, count, level, spread)
            covered.append([low <= true <= high for low, high in limits(*pairs, generator)])
        row(f"{where}, {count} subsets", f"{true:.2f}", *map(percent, np.transpose(covered)))


TABLES = {"null": null, "choice": choice, "power": power, "coverage": coverage}

if __name__ == "__main__":
    for name in sys.argv[1:] or TABLES:
        TABLES[name]()
        print()
