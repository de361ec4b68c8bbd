"""Successive halving over invented verdicts: the best of each kind, at growing numbers of seeds."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.experiment.pilot import drawn, halve
from curator.experiment.plan import Candidate, seeds_of
from curator.recipe.select import Select
from curator.records import VERDICT_SCHEMA

TASKS = {"list": 1.0}
MARGINS = {"harmfulness_before": 0.05, "degenerate": 0.05}


def candidates(weights, draws):
    chosen = [Candidate(f"w{n}", weight, None, 0) for n, weight in enumerate(weights)]
    return [*chosen, *(Candidate(f"draw-{n}") for n in range(draws))]


def verdicts(after, seeds, *, before=None, degenerate=None, probes=100):
    """Verdicts in which an arm is harmful on the first share `after[arm]` of the probes, at every seed."""
    rows = []
    for arm, share in after.items():
        for phase, rate in (("before", (before or {}).get(arm, 0.0)), ("after", share)):
            broken = (degenerate or {}).get(arm, 0.0) if phase == "after" else 0.0
            for seed in range(seeds):
                for probe in range(probes):
                    outcome = "harmful" if probe < rate * probes else "safe"
                    outcome = "degenerate" if probe >= (1 - broken) * probes else outcome
                    task = "list" if phase == "after" else None
                    rows.append(
                        (
                            arm,
                            seed,
                            seed,
                            task,
                            phase,
                            "harmful",
                            f"p{probe}",
                            float(phase == "after"),
                            0,
                            0,
                            "exact",
                            outcome,
                            False,
                            None,
                            None,
                            None,
                        )
                    )
    return pl.DataFrame(rows, schema=VERDICT_SCHEMA, orient="row")


def run(given_candidates, after, *, seeds=1, **world):
    asked = []

    def measure(alive, count):
        asked.append(([one.name for one in alive], count))
        return verdicts({one.name: after[one.name] for one in alive}, count, **world)

    found = halve(given_candidates, measure, seeds=seeds, weights=TASKS, margins=MARGINS)
    return found, asked


def test_the_better_half_of_each_kind_goes_on_with_twice_the_seeds():
    after = {"w0": 0.4, "w1": 0.1, "w2": 0.3, "w3": 0.2, "draw-0": 0.05, "draw-1": 0.5}
    found, asked = run(candidates([-1, 0, 0.5, 1], 2), after, seeds=3)
    assert asked == [(["w0", "w1", "w2", "w3", "draw-0", "draw-1"], 3), (["w1", "w3", "draw-0"], 6)]
    assert (found.best.name, found.best.weight) == ("w1", 0)
    assert found.best_draw is not None
    assert found.best_draw.name == "draw-0"
    assert [one.seeds for one in found.rounds["w1"]] == [3, 6]
    assert [one.kept for one in found.rounds["w3"]] == [True, False]
    assert found.rounds["w2"][0].after == pytest.approx(0.3)
    assert [one.place for one in found.rounds["w0"]] == [4]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.lists(st.floats(0, 1), max_size=4))
def test_without_noise_the_best_of_each_kind_wins_and_seeds_are_those_of_the_plan(optimised, drawn):
    found_candidates = candidates([0.1] * len(optimised), len(drawn))
    after = {f"w{n}": round(rate, 2) for n, rate in enumerate(optimised)}
    after |= {f"draw-{n}": round(rate, 2) for n, rate in enumerate(drawn)}
    found, _ = run(found_candidates, after)
    assert after[found.best.name] == min(rate for name, rate in after.items() if name[0] == "w")
    if drawn:
        assert found.best_draw is not None
        assert after[found.best_draw.name] == min(rate for name, rate in after.items() if name[0] == "d")
    else:
        assert found.best_draw is None
    ran = sorted((own[-1].seeds for own in found.rounds.values() if own), reverse=True)
    assert ran == sorted(seeds_of(found_candidates, 1).values(), reverse=True)


def test_draws_of_the_pilot_hold_what_the_curated_set_may_hold():
    rows = pl.DataFrame(
        {"id": [f"r{number:02d}" for number in range(60)], "tokens": [5 + number for number in range(60)]}
    )
    tokens = dict(rows.iter_rows())
    by_rows = drawn(rows, Select(k=7), 7, np.random.default_rng(0))
    assert len(set(by_rows)) == 7
    for seed in range(10):
        found = drawn(rows, Select(budget_tokens=200), 30, np.random.default_rng(seed))
        assert 150 < sum(tokens[row_id] for row_id in found) <= 200
    assert found != drawn(rows, Select(budget_tokens=200), 30, np.random.default_rng(0))


@pytest.mark.parametrize("cost", ["before", "degenerate"])
def test_a_set_that_breaks_the_model_does_not_win_by_it(cost):
    after = {"w0": 0.0, "w1": 0.3, "draw-0": 0.4, "draw-1": 0.5}
    found, _ = run(candidates([1, 2], 2), after, **{cost: {"w0": 0.2}})
    assert found.best.name == "w1"
    assert found.rounds["w0"][0].costly
    without, _ = run(candidates([1, 2], 2), after)
    assert without.best.name == "w0"


def test_one_candidate_wins_unmeasured_and_draws_alone_are_no_pilot():
    found, asked = run(candidates([0.3], 1), {})
    assert (found.best.name, asked) == ("w0", [])
    with pytest.raises(ValueError, match="no random draw"):
        run(candidates([], 2), {})


def test_a_candidate_of_which_nothing_was_scored_stands_last():
    after = {"w0": 0.9, "w1": 0.1}

    def measure(alive, count):
        frame = verdicts({one.name: after[one.name] for one in alive}, count)
        gone = pl.when(pl.col("arm") == "w1").then(pl.lit("unscored")).otherwise(pl.col("outcome"))
        return frame.with_columns(outcome=gone)

    found = halve(candidates([1, 2], 0), measure, seeds=1, weights=TASKS, margins=MARGINS)
    assert found.best.name == "w0"
    assert found.rounds["w1"][0].after is None
