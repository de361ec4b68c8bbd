"""Successive halving over invented verdicts: the best of each kind, at growing numbers of seeds."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.experiment.choice import winner
from curator.experiment.pilot import drawn, halve, scoring_name, tried
from curator.experiment.plan import Candidate, seeds_of
from curator.experiment.plan import candidates as planned
from curator.recipe.score import Score
from curator.recipe.select import Select
from curator.recipe.verify import Pilot
from curator.records import VERDICT_SCHEMA
from tests.small_run import recipe

TASKS = {"list": 1.0}
TWO = "represent=[{from: hidden-states}, {from: hidden-states, layer: 1, name: low}]"
MARGINS = {"harmfulness_before": 0.05, "degenerate": 0.05}


@dataclass(frozen=True)
class Gathered:
    arms: dict[str, tuple[str, ...]]
    pool: str = "rows"


class Stopped(Exception):
    """Stops before anything is trained."""


def test_an_arm_of_the_users_own_may_have_the_name_of_a_candidate(monkeypatch, tmp_path):
    def experiment_of(run, data, arms, **more):
        taken.append((data, arms))
        raise Stopped

    taken = []
    monkeypatch.setattr("curator.experiment.grid.experiment_of", experiment_of)
    monkeypatch.setattr("curator.experiment.grid.runner_of", lambda run: None)
    run, sets = SimpleNamespace(root=tmp_path, progress_of=lambda stage: None), {"w0": ("a",)}
    with pytest.raises(Stopped):
        tried(run, Gathered({"w0": ("mine",)}), "pilot", sets, ["w0"], seeds=1, tasks=["list"], first="w0", seed=0)
    assert taken == [(Gathered({}), {("w0", 0): ("a",)})]


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


def run(given_candidates, after, *, seeds=1, least=0, **world):
    asked = []

    def measure(alive, count):
        asked.append(([one.name for one in alive], count))
        return verdicts({one.name: after[one.name] for one in alive}, count, **world)

    found = halve(given_candidates, measure, seeds=seeds, weights=TASKS, margins=MARGINS, least=least)
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
        out = [f"r{number:02d}" for number in range(40)]
        without = drawn(rows, Select(k=7, exclude=out), 7, np.random.default_rng(seed))
        assert not set(without) & set(out)
    assert found != drawn(rows, Select(budget_tokens=200), 30, np.random.default_rng(0))
    out = [f"r{number:02d}" for number in range(40)]
    assert set(drawn(rows, Select(k=20, exclude=out), 20, np.random.default_rng(0))) == {*tokens} - {*out}
    assert not {*drawn(rows, Select(budget_tokens=200, exclude=out), 30, np.random.default_rng(0))} & {*out}


@pytest.mark.parametrize("cost", ["before", "degenerate"])
def test_a_set_that_breaks_the_model_does_not_win_by_it(cost):
    after = {"w0": 0.0, "w1": 0.3, "draw-0": 0.4, "draw-1": 0.5}
    found, _ = run(candidates([1, 2], 2), after, **{cost: {"w0": 0.2}})
    assert found.best.name == "w1"
    assert found.rounds["w0"][0].costly
    without, _ = run(candidates([1, 2], 2), after)
    assert without.best.name == "w0"


def test_a_draw_is_compared_with_the_other_draws_and_so_costly_where_a_set_would_be():
    after = {"w0": 0.1, "w1": 0.2, "draw-0": 0.1, "draw-1": 0.2}
    found, _ = run(candidates([1, 2], 2), after, degenerate={"draw-0": 0.08})
    # Above the mean of both draws, 4%, it is by less than the margin of 5%.
    assert found.rounds["draw-0"][0].costly
    assert found.best_draw is not None
    assert found.best_draw.name == "draw-1"


def test_draws_that_are_out_still_say_what_is_usual():
    after = {"w0": 0.1, "w1": 0.2, "w2": 0.3, "draw-0": 0.1, "draw-1": 0.4}
    costs = {"draw-0": 0.04, **dict.fromkeys(("w0", "w1", "w2"), 0.08)}
    found, asked = run(candidates([1, 2, 3], 2), after, degenerate=costs)
    assert [names for names, _ in asked][1] == ["w0", "w1", "draw-0"]
    # Above the mean of both draws, 2%, by more than the margin of 5%, and above draw-0 by less.
    assert [one.costly for one in found.rounds["w0"]] == [True, True]


def test_one_candidate_wins_unmeasured_and_draws_alone_are_no_pilot():
    found, asked = run(candidates([0.3], 1), {})
    assert (found.best.name, asked) == ("w0", [])
    with pytest.raises(ValueError, match="not a random draw"):
        run(candidates([], 2), {})


def test_a_single_set_of_a_bank_is_compared_with_a_random_draw_all_the_same():
    compared = [Candidate("observed-0", kind="observed"), Candidate("draw-0", kind="draw")]
    found, asked = run(compared, {"observed-0": 0.4, "draw-0": 0.2}, seeds=3, least=1)
    assert asked == [(["observed-0", "draw-0"], 3)]
    assert {name: [(one.seeds, one.kept) for one in own] for name, own in found.rounds.items()} == {
        "observed-0": [(3, True)], "draw-0": [(3, True)],
    }  # fmt: skip
    assert winner(found).name == "draw-0"


def test_a_candidate_of_which_nothing_was_scored_stands_last():
    after = {"w0": 0.9, "w1": 0.1}

    def measure(alive, count):
        frame = verdicts({one.name: after[one.name] for one in alive}, count)
        gone = pl.when(pl.col("arm") == "w1").then(pl.lit("unscored")).otherwise(pl.col("outcome"))
        return frame.with_columns(outcome=gone)

    found = halve(candidates([1, 2], 0), measure, seeds=1, weights=TASKS, margins=MARGINS)
    assert found.best.name == "w0"
    assert found.rounds["w1"][0].after is None


PILOTS = [
    (Pilot(), 1, 6, 6),
    (Pilot(weights=[-1, 0, 1], scores=[Score(), Score(aggregate="mean")], represent="every"), 3, 18, 18),
    (Pilot(weights=[0.3]), 2, 1, 1),
    (Pilot(random_draws=2), 1, 6, 2),
    (Pilot(random_draws=0), 1, 6, 0),
]


@pytest.mark.parametrize(("section", "representations", "optimised", "random"), PILOTS)
def test_as_many_sets_are_drawn_as_are_optimised_unless_the_recipe_says_otherwise(
    section, representations, optimised, random
):
    assert section.tries(representations) == (optimised, random)
    compared = planned(section, representations)
    assert [sum(each.drawn is kind for each in compared) for kind in (False, True)] == [optimised, random]


@pytest.mark.parametrize("weights", [[0.3], [0, 1], [-1, 0, 0.5], [-1, 0, 0.25, 0.5, 1, 2], list(range(9))])
def test_both_kinds_run_in_equal_numbers_on_equal_seeds_in_every_round(weights):
    compared = planned(Pilot(weights=weights, seeds=2), 1)
    rates = np.random.default_rng(1).random(len(compared))
    _, asked = run(compared, dict(zip((each.name for each in compared), rates, strict=True)), seeds=2)
    for names, _ in asked:
        assert sum(name.startswith("draw") for name in names) == sum(name.startswith("w") for name in names)
    ran = seeds_of(compared, 2)
    assert sorted(ran[name] for name in ran if name[0] == "d") == sorted(ran[name] for name in ran if name[0] == "w")


def difference_in_the_pilot(draws, seed):
    """The best candidate's rate minus that of the best draw, in their last round, where all sets are alike: a set's
    rate at a seed varies as two random draws do, by 0.15 around 0.4.
    """
    random = np.random.default_rng(seed)
    compared = candidates([0.1 * number for number in range(6)], draws)
    rates = {each.name: np.clip(random.normal(0.4, 0.15, size=16), 0, 1) for each in compared}

    def measure(alive, count):
        # One probe in 20, of which so many were harmful, is as good here as 20 probes.
        arms = [each.name for each in alive]
        cells = [(arm, number, probe) for arm in arms for number in range(count) for probe in range(20)]
        outcomes = ["harmful" if probe < round(20 * rates[arm][number]) else "safe" for arm, number, probe in cells]
        frame = pl.DataFrame(
            {"arm": [arm for arm, _, _ in cells], "seed": [number for _, number, _ in cells],
             "probe": [f"p{probe}" for _, _, probe in cells], "outcome": outcomes},
        ).with_columns(
            draw=pl.col("seed"), task=pl.lit("list"), phase=pl.lit("after"), kind=pl.lit("harmful"), at=pl.lit(1.0),
            prefill=pl.lit(0), sample=pl.lit(0), judge=pl.lit("exact"), refused=pl.lit(None, pl.Boolean),
            score=pl.lit(None, pl.Float64), reason=pl.lit(None, pl.String), raw=pl.lit(None, pl.String),
        )  # fmt: skip
        return frame.select(pl.col(name).cast(kind) for name, kind in VERDICT_SCHEMA.items())

    found = halve(compared, measure, seeds=2, weights=TASKS, margins={})
    assert found.best_draw is not None
    return found.rounds[found.best.name][-1].after - found.rounds[found.best_draw.name][-1].after


def test_a_score_of_the_pilot_is_called_as_in_the_table_of_scores():
    names = {
        "{from: cosine}": "cosine/top-mean-10",
        "{aggregate: max, by: low}": "cosine/max, low",
        "{from: format, n: 3}": "format/top-mean-3",
        "{from: content, aggregate: mean, embedder: {id: owner/other}}": "content/mean, owner/other",
        "{from: consensus, aggregate: per-example}": "consensus/per-example",
        "{from: interference, loss: whole}": "interference/sign-0.001-64/whole",
        "{from: rank-sum, of: [{from: format}, {from: content}]}": "rank-sum",
    }
    piloted = recipe("select.weight=auto", TWO, f"verify.pilot={{scores: [{', '.join(names)}]}}")
    run = SimpleNamespace(recipe=piloted)
    assert [scoring_name(run, number) for number in range(len(names))] == list(names.values())


def test_a_pilot_covers_by_the_representation_that_is_named():
    pilot = Pilot(weights=[0.0, 1.0], random_draws=0)
    assert [each.representation for each in planned(pilot, 3, 2)] == [2, 2]
    assert [each.representation for each in planned(pilot, 3)] == [0, 0]


@pytest.mark.slow
def test_equal_tries_leave_no_difference_between_equal_kinds_and_fewer_draws_make_one():
    """On the pilot's own data, where every candidate and draw is alike: the best of six against the best of six is
    centred at zero, and the best of six against the best of two is not, though nothing was gained by optimising.
    """
    fair, unfair = (np.array([difference_in_the_pilot(draws, seed) for seed in range(120)]) for draws in (6, 2))
    error = fair.std(ddof=1) / len(fair) ** 0.5
    assert abs(fair.mean()) < 3 * error
    assert unfair.mean() < -4 * unfair.std(ddof=1) / len(unfair) ** 0.5
    assert unfair.mean() < -0.02
