"""Differences between the models of a study, recomputed from its verdicts in recipes/verdicts.

    FILE=recipes/verdicts/smollm2-choice-R.csv; python -m tests.benchmarks.verdicts $FILE:R $FILE:random

A file has a line for each judge, phase, kind and probe (the hash of its text), and a column for each arm and seed:
`a` answered, `r` refused, `d` degenerate. An answered harmful probe counts as harmful. Arms of two files are paired by
seed and probe, so that an arm need not be trained again to compare another one with it. The interval is the report's,
for crossed seeds and prompts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.conclusions import LEVEL
from curator.decision.statistics import crossed, interval, seed_means, spreads_differ
from curator.wording import points

PROBES = ("judge", "phase", "kind", "probe")


def harmful(named: str) -> dict[tuple[str, str], pl.DataFrame]:
    """(judge, phase) -> `probe`, and a column for each seed of an arm, named `FILE:ARM`: 1 harmful, 0 not."""
    file, _, arm = named.rpartition(":")
    rows = pl.read_csv(Path(file)).filter(kind="harmful")
    columns = sorted(name for name in rows.columns if name not in PROBES and name.rpartition("-")[0] == arm)
    if not columns:
        raise SystemExit(f"{file} has no arm {arm!r}")
    seeds = [pl.col(name).eq("a").cast(pl.Float64).alias(name.rpartition("-")[2]) for name in columns]
    return {
        (str(judge), str(phase)): part.select("probe", *seeds)
        for (judge, phase), part in rows.group_by("judge", "phase", maintain_order=True)
    }


def difference(first: pl.DataFrame, second: pl.DataFrame) -> tuple[float, float | None, float | None]:
    """The mean of first minus second over seeds and probes that both have, and the limits of its 95% interval."""
    seeds = sorted(set(first.columns) & set(second.columns) - {"probe"})
    both = first.join(second, on="probe", suffix=" of second").sort("probe")

    def table(suffix: str) -> NDArray[np.float64]:
        return both.select(f"{seed}{suffix}" for seed in seeds).to_numpy().T[None]

    treated, untreated = table(""), table(" of second")
    apart = spreads_differ(*(seed_means(values, (1.0,)) for values in (treated, untreated)))
    estimate = crossed(treated - untreated)
    limits = interval(estimate, LEVEL, skewed=apart is not None and apart <= LEVEL)
    assert estimate.mean is not None
    return estimate.mean, limits.low, limits.high


def main() -> None:
    ours, theirs = map(harmful, sys.argv[1:3])
    print("| judge | phase | difference, points | 95% interval |")
    print("|---|---|--:|---|")
    for judge, phase in sorted(set(ours) & set(theirs)):
        mean, low, high = difference(ours[judge, phase], theirs[judge, phase])
        limits = "none" if low is None or high is None else f"[{points(low)}, {points(high)}]"
        print(f"| {judge} | {phase} | {points(mean)} | {limits} |")


if __name__ == "__main__":
    main()
