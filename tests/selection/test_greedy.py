import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import SelectionError
from curator.selection.greedy import lazy_greedy, objective_value, stochastic_greedy
from curator.selection.limits import Tally, limits
from curator.selection.objectives import TERMS, coverage_term
from curator.selection.problem import prepare
from curator.selection.solve import penalties, select
from tests.selection.selection_twins import unit_rows


def every_step(term, penalty, bounds):
    """Greedy that values every row that fits at every step, with the engine's own gains."""
    term.clear()
    tally, rows = Tally(bounds), []
    for must in (True, False):
        while not tally.full():
            pool = bounds.include if must else bounds.free
            fitting = [r for r in pool.tolist() if r not in rows and tally.fits(r)]
            if not fitting:
                break
            best = min(fitting, key=lambda r: (penalty[r] - term.gain(r), r))
            term.add(best)
            tally.take(best)
            rows.append(best)
    return rows


def every_step_within_a_budget(term, penalty, bounds, *, per_cost):
    """The same under a budget: only rows of positive value, or of a group that still lacks some, are taken."""
    term.clear()
    tally, rows = Tally(bounds), []
    for must in (True, False):
        pool = bounds.include if must else bounds.free
        while not tally.full():
            worth = {r: term.gain(r) - float(penalty[r]) for r in pool.tolist() if r not in rows and tally.fits(r)}
            wanted = [r for r, value in worth.items() if must or value > 0 or tally.needed(r)]
            if not wanted:
                break
            best = min(wanted, key=lambda r: (-worth[r] / (bounds.cost[r] if per_cost else 1.0), r))
            term.add(best)
            tally.take(best)
            rows.append(best)
    return rows


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(3, 30),
    st.sampled_from([-1.0, 0.0, 0.3, 2.0]),
    st.sampled_from(list(TERMS)),
    st.booleans(),
)
def test_lazy_picks_under_a_budget_are_those_of_valuing_every_row_at_every_step(seed, n, weight, objective, per_cost):
    rng = np.random.default_rng(seed)
    x = np.concatenate([np.eye(4)[rng.integers(0, 4, n // 2)], unit_rows(seed, n - n // 2, d=4, copies=n // 8)])
    problem = prepare(x, rng.integers(0, 3, n), neighbours=int(rng.integers(1, n + 1)), task_cover=np.zeros(n))
    groups, costs = [i % 3 for i in range(n)], rng.integers(1, 6, n).astype(float)
    limited = bool(rng.integers(0, 2))
    quotas = {0: (1, 2), 1: (None, 3)} if limited else None
    call = {"groups": groups, "quotas": quotas, "include": ["1"] if limited else []}
    bounds = limits(problem, costs=costs, budget=float(rng.integers(12, 40)), **call)
    term, penalty = coverage_term(objective, problem, {}), penalties(problem, bounds, weight)
    found = lazy_greedy(term, penalty, bounds, per_cost=per_cost)[0]
    assert found == every_step_within_a_budget(term, penalty, bounds, per_cost=per_cost)


@settings(max_examples=160, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(3, 40),
    st.sampled_from([-1.0, 0.0, 2.0]),
    st.sampled_from(list(TERMS)),
    st.data(),
)
def test_lazy_picks_are_those_of_valuing_every_row_at_every_step(seed, n, weight, objective, data):
    rng = np.random.default_rng(seed)
    # Rows on a coarse grid: equal gains abound, so ties are met.
    x = np.concatenate([np.eye(4)[rng.integers(0, 4, n // 2)], unit_rows(seed, n - n // 2, d=4, copies=n // 8)])
    problem = prepare(x, rng.integers(0, 3, n), neighbours=data.draw(st.integers(1, n)), task_cover=rng.random(n))
    limited = data.draw(st.booleans())
    k = data.draw(st.integers(2, n))
    quotas = {0: (1, n), 1: (None, max(1, k // 2))} if limited else None
    groups = [i % 3 for i in range(n)]
    bounds = limits(problem, min(k, n // 2 + 1), groups=groups, quotas=quotas, include=["1"] if limited else [])
    term = coverage_term(objective, problem, {})
    penalty = penalties(problem, bounds, weight)
    assert lazy_greedy(term, penalty, bounds)[0] == every_step(term, penalty, bounds)


def test_stochastic_greedy_with_a_sample_of_everything_is_greedy():
    problem = prepare(unit_rows(0, 50), np.arange(50.0), neighbours=10)
    bounds = limits(problem, 10)
    term, penalty = coverage_term("facility-location", problem, {}), penalties(problem, bounds, 0.5)
    greedy = lazy_greedy(term, penalty, bounds)
    found = stochastic_greedy(term, penalty, bounds, 1e-300, np.random.default_rng(0))
    assert found[0] == greedy[0]
    assert found[1] == pytest.approx(greedy[1])


def test_stochastic_greedy_comes_close_keeps_quotas_and_repeats_with_its_seed():
    x, score = unit_rows(1, 600, d=12), np.zeros(600)
    groups = [i % 2 for i in range(600)]
    call = {"groups": groups, "quotas": {0: (50, None)}, "include": [5, 7], "neighbours": 20}
    plain = select(x, score, 60, **call)
    found = select(x, score, 60, stochastic=0.1, seed=3, **call)
    assert found.parameters["greedy"] == "stochastic"
    assert 0.93 * plain.value < found.value <= plain.bound
    assert len(set(found.ids)) == 60
    assert found.ids[:2] == ("5", "7")
    assert found.group_counts["0"] >= 50
    assert found.ids == select(x, score, 60, stochastic=0.1, seed=3, **call).ids
    assert found.ids != select(x, score, 60, stochastic=0.1, seed=4, **call).ids


@pytest.mark.parametrize("call", [{"k": 2, "stochastic": 1.0}, {"budget": 2.0, "costs": np.ones(4), "stochastic": 0.1}])
def test_stochastic_is_between_0_and_1_and_for_k_only(call):
    with pytest.raises(SelectionError, match="stochastic: found"):
        select(np.eye(4), np.zeros(4), **call)


def test_starting_from_single_rows_mends_what_greedy_gets_wrong_under_a_budget():
    # By cost the cheap row comes first and leaves no room for the large one; by value the large one is dear.
    x = np.eye(3, dtype=np.float32)
    found = select(x, np.zeros(3), costs=[2.0, 2.0, 3.0], budget=4.0, row_weights=[1.0, 1.0, 1.2], neighbours=1)
    assert set(found.ids) == {"0", "1"}


def test_the_value_of_a_set_does_not_depend_on_its_order():
    problem = prepare(unit_rows(0, 30), np.arange(30.0), neighbours=9)
    term = coverage_term("facility-location", problem, {})
    penalty = np.zeros(30)
    assert objective_value(term, penalty, [3, 9, 1]) == objective_value(term, penalty, [9, 1, 3])
