"""Differences between the models of a study, recomputed from its verdicts in recipes/verdicts.

    FILE=recipes/verdicts/smollm2-choice-R.csv; python -m tests.benchmarks.verdicts $FILE:R $FILE:random
    python -m tests.benchmarks.verdicts --of outputs/smollm2-choice-R R=curated random=random > $FILE

The second command writes such a file from a finished run, with names for its arms.

A file has a line for each judge, phase, kind and probe (the hash of its text), and a column for each arm and seed:
`a` answered, `r` refused, `d` degenerate. A phase after fine-tuning names the task, or the number of steps if the run
has checkpoints. An answered harmful probe counts as harmful. Arms of two files are paired by
seed and probe, so that an arm need not be trained again to compare another one with it. The interval is the report's,
for crossed seeds and prompts.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator import api
from curator.conclusions import LEVEL
from curator.decision.statistics import crossed, interval, seed_means, spreads_differ
from curator.recipe.file import read
from curator.run.readers import recipe_file
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


def written(root: Path, arms: Mapping[str, str]) -> pl.DataFrame:
    """The file of a finished run, in the format above; what a judge could not score is left empty.

    Args:
        arms: Name in the file -> arm of the run.
    """
    outcome = pl.col("outcome")
    rows = api.load(root).verdicts.filter(pl.col("kind").is_in(["harmful", "benign"]), outcome != "unscored")
    after, steps = pl.col("task"), read(recipe_file(root)).verify.finetune.steps
    if rows["at"].n_unique() > 2:
        assert steps is not None, "checkpoints are named by steps"
        after = (pl.col("at") * steps).round().cast(pl.Int64).cast(pl.String).str.zfill(2)
    refused = pl.when(kind="harmful").then(outcome == "safe").otherwise("refused")
    rows = rows.join(pl.DataFrame({"arm": list(arms.values()), "name": list(arms)}), on="arm").select(
        "judge",
        pl.when(at=0).then(pl.lit("before")).otherwise("after " + after).alias("phase"),
        "kind",
        "probe",
        pl.format("{}-{}", "name", "seed").alias("model"),
        pl.when(outcome == "degenerate").then(pl.lit("d")).when(refused).then(pl.lit("r")).otherwise(pl.lit("a")),
    )
    table = rows.pivot("model", index=PROBES, values="literal").sort(PROBES)
    return table.select(*PROBES, *sorted(set(table.columns) - set(PROBES)))


def main() -> None:
    if sys.argv[1:2] == ["--of"]:
        arms = dict(named.split("=") for named in sys.argv[3:])
        print(written(Path(sys.argv[2]), arms).write_csv(), end="")
        return
    ours, theirs = map(harmful, sys.argv[1:3])
    print("| judge | phase | difference, points | 95% interval |")
    print("|---|---|--:|---|")
    for judge, phase in sorted(set(ours) & set(theirs)):
        mean, low, high = difference(ours[judge, phase], theirs[judge, phase])
        limits = "none" if low is None or high is None else f"[{points(low)}, {points(high)}]"
        print(f"| {judge} | {phase} | {points(mean)} | {limits} |")


if __name__ == "__main__":
    main()
