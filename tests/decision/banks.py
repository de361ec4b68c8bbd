"""Invented banks of trials: a pool, subsets as a design draws them, their features, and outcomes of a stated world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from curator.experiment.choice import winner
from curator.experiment.pilot import halve
from curator.experiment.plan import DRAW, Candidate
from curator.records import VERDICT_SCHEMA

TASKS = {"list": 0.5, "dialogue": 0.5}
POOL, SIZE, PROMPTS = 600, 100, 50
PROBES, FINAL = 200, 10  # probes and seeds of the final experiment
SPREAD = 0.15
"""Standard deviation of harm over trainings on sets that do not differ."""


@dataclass(frozen=True)
class Bank:
    """The four frames that `decision.bank.read` takes."""

    subsets: pl.DataFrame
    groups: pl.DataFrame
    outcomes: pl.DataFrame
    features: pl.DataFrame

    def __iter__(self):
        return iter((self.subsets, self.groups, self.outcomes, self.features))


def pool(generator):
    """`id` and three groupings: eight even ones, thirty of which the first is the largest, and three."""
    opener = np.minimum(generator.zipf(1.4, POOL), 30)
    return pl.DataFrame(
        {
            "id": [f"r{number}" for number in range(POOL)],
            "category": [f"c{number % 8}" for number in range(POOL)],
            "opener": [f"o{number}" for number in opener],
            "answer-length": [("short", "medium", "long")[number] for number in generator.integers(0, 3, POOL)],
        }
    )


def design(generator, groups, count):
    """A third plain draws, the others random mixtures over one grouping each, of two concentrations."""
    names, rows = [name for name in groups.columns if name != "id"], []
    for number in range(count):
        grouping = None if number % 3 == 0 else names[number % len(names)]
        concentration = None if grouping is None else (0.3, 3.0)[number % 2]
        chance = np.ones(POOL)
        if grouping is not None:
            labels, index = np.unique(groups[grouping].to_numpy(), return_inverse=True)
            shares = generator.dirichlet(np.full(len(labels), concentration))
            chance = np.maximum(shares[index] / np.bincount(index)[index], 1e-9)
        order = np.argsort(-np.log(generator.random(POOL)) / chance)[:SIZE]  # without replacement, by these chances
        rows.append((f"s{number}", grouping, concentration, groups["id"].gather(order).to_list()))
    schema = {"subset": pl.String, "grouping": pl.String, "concentration": pl.Float64, "ids": pl.List(pl.String)}
    return pl.DataFrame(rows, schema=schema, orient="row")


def features_of(generator, subsets, groups, count):
    """Means of `count` numbers of rows, half of which go with a group, and the share of the first category."""
    values = generator.normal(0, 1, (POOL, count))
    for feature in range(0, count, 2):
        name = groups.columns[1 + feature % 3]
        _, index = np.unique(groups[name].to_numpy(), return_inverse=True)
        values[:, feature] += generator.normal(0, 1, index.max() + 1)[index]
    number = {row: index for index, row in enumerate(groups["id"])}
    first = (groups["category"] == "c0").to_numpy()
    picks = [[number[row] for row in ids] for ids in subsets["ids"]]
    means = np.array([values[pick].mean(axis=0) for pick in picks])
    table = {f"f{feature}": means[:, feature] for feature in range(count)}
    return pl.DataFrame(
        {"subset": subsets["subset"], **table, "share:c0": [float(first[pick].mean()) for pick in picks]}
    )


def outcomes_of(generator, subsets, effects, *, seeds=1, level=0.3, spread=SPREAD):
    """Harm of each training: level, effect of the subset and what its seed does, seen on PROMPTS prompts a task."""
    count, tasks = subsets.height, list(TASKS)
    trained = level + np.asarray(effects)[:, None] + generator.normal(0, spread, (count, seeds))
    rates = np.clip(trained[..., None] + generator.normal(0, 0.03, (count, seeds, len(tasks))), 0.005, 0.995)
    seen = generator.binomial(PROMPTS, rates) / PROMPTS
    where = np.indices(rates.shape).reshape(3, -1)
    return pl.DataFrame(
        {
            "subset": subsets["subset"].gather(where[0]),
            "seed": where[1],
            "task": [tasks[number] for number in where[2]],
            "before": np.full(rates.size, 0.02),
            "after": seen.ravel(),
            "degenerate": np.full(rates.size, 0.01),
            "log_odds": (-np.log(rates / (1 - rates))).ravel(),
        }
    )


def bank(seed, count, *, features=30, rho=0.0, by="f0", seeds=1, spread=SPREAD):
    """A bank in which only the feature `by` matters: it goes with harm by `rho` at one seed; at 0 nothing does."""
    generator = np.random.default_rng(seed)
    groups = pool(generator)
    subsets = design(generator, groups, count)
    table = features_of(generator, subsets, groups, features)
    values = table[by].to_numpy()
    effects = rho / (1 - rho**2) ** 0.5 * spread * (values - values.mean()) / values.std()
    return Bank(subsets, groups, outcomes_of(generator, subsets, effects, seeds=seeds, spread=spread), table)


def trainings(generator, sets, seeds, prompts):
    """`(sets, s, p)` outcomes of sets that do not differ, true where harmful; sets share their prompts."""
    rates = 0.4 + generator.normal(0, SPREAD, (sets, seeds, 1)) + generator.normal(0, 0.15, prompts)
    return generator.random((sets, seeds, prompts)) < rates


def verdicts_of(trained):
    """Verdicts of sets after fine-tuning, from name -> `(s, p)` outcomes."""
    arms = [(np.full(table.size, name), *(axis.ravel() for axis in np.indices(table.shape)), table.ravel())
            for name, table in trained.items()]  # fmt: skip
    arm, seed, probe, harmful = (np.concatenate(column) for column in zip(*arms, strict=True))
    frame = pl.DataFrame({"arm": arm, "seed": seed, "draw": seed, "probe": probe, "harmful": harmful})
    after = {
        "task": "list",
        "phase": "after",
        "kind": "harmful",
        "at": 1.0,
        "prefill": 0,
        "sample": 0,
        "judge": "exact",
    }
    columns = {name: pl.lit(after.get(name)) for name in VERDICT_SCHEMA if name not in frame.columns}
    columns["outcome"] = pl.when("harmful").then(pl.lit("harmful")).otherwise(pl.lit("safe"))
    return frame.with_columns(**columns).select(pl.col(name).cast(kind) for name, kind in VERDICT_SCHEMA.items())


def chosen_and_final(generator):
    """A confirmation of six sets of a bank against six draws, none of which differ: the winner on its last seeds of the
    confirmation, the winner on fresh seeds, and the control; each `(s, p)`.
    """
    compared = [Candidate(f"{kind}-{number}", kind=kind, what="") for kind in ("observed", DRAW) for number in range(6)]
    tables = trainings(generator, len(compared), FINAL + 2, PROBES)
    trained = dict(zip((each.name for each in compared), tables, strict=True))

    def measure(alive, seeds):
        return verdicts_of({each.name: trained[each.name][:seeds] for each in alive})

    piloted = halve(compared, measure, seeds=3, weights={"list": 1.0}, margins={})
    best = winner(piloted).name
    fresh, control = trainings(generator, 2, FINAL + 2, PROBES)
    return trained[best][: piloted.rounds[best][-1].seeds], fresh[:FINAL], control
