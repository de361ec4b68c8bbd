"""A set that is given: measured against the best of its size, and controls that are drawn without its own rows."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import SelectionError
from curator.selection.limits import limits
from curator.selection.matched import matched_random
from curator.selection.outcome import certified
from curator.selection.problem import prepare
from curator.selection.solve import solve


def world(seed, n):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, 4)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), rng.standard_normal(n), rng


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 9), st.floats(-2, 2))
def test_a_given_sets_value_is_the_objectives_and_no_set_of_its_size_beats_its_bound(seed, n, weight):
    vectors, score, rng = world(seed, n)
    k = int(rng.integers(1, n))
    problem = prepare(vectors, score, ids=[f"r{row:02}" for row in range(n)], neighbours=n)
    bounds = limits(problem, k)

    def measured(ids):
        return solve(problem, bounds, weight=weight, given=ids)

    values = {ids: measured(list(ids)).value for ids in combinations(problem.ids, k)}
    chosen = tuple(sorted(rng.permutation(problem.ids)[:k].tolist()))
    found = measured(list(chosen))
    assert found.ids == chosen
    assert found.gains.sum() == pytest.approx(found.value)
    assert found.bound is not None
    assert max(values.values()) <= found.bound + 1e-9
    assert found.gap == pytest.approx(found.bound - found.value)
    assert found.parameters["greedy"] == "given"
    assert measured(list(reversed(chosen))).value == pytest.approx(found.value)


def test_the_set_that_greedy_picks_is_measured_as_greedy_does():
    vectors, score, _ = world(3, 40)
    problem = prepare(vectors, score, neighbours=10)
    bounds = limits(problem, 8)
    picked = solve(problem, bounds, weight=0.4)
    again = solve(problem, bounds, weight=0.4, given=picked.ids)
    assert again.value == picked.value
    assert again.gains.tolist() == picked.gains.tolist()


def draw(chosen, drawable, groups, lengths, *, seed=0):
    ids = sorted(groups)
    return matched_random(
        ids, [groups[one] for one in ids], [lengths[one] for one in ids], chosen,
        drawable=frozenset(drawable), generator=np.random.default_rng(seed),
    )  # fmt: skip


def test_a_set_is_measured_by_coverage_alone_and_one_below_random_sets_says_so():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((30, 6)).astype(np.float32)
    x[:4] = x[0] + 0.01 * x[:4]  # four rows that hardly differ cover little
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    problem = prepare(x, rng.standard_normal(30), ids=[f"r{row:02}" for row in range(30)])
    found = solve(problem, limits(problem, 4), given=problem.ids[:4])
    assert found.weight == 0.0
    assert found.value == pytest.approx(np.clip(x @ x[:4].T, 0, None).max(axis=1).mean(), abs=1e-6)
    assert certified(found).endswith("random sets within the limits, below their mean")


GROUPS = {f"p{n:02}": "red" if n < 10 else "blue" for n in range(20)} | {f"x{n}": "red" for n in range(4)}
LENGTHS = {one: float(int(one[1:]) % 10) for one in GROUPS}


def test_a_matched_draw_for_a_given_set_takes_candidates_of_its_groups():
    chosen = ["x0", "x1", "x2", "x3"]
    for seed in range(10):
        found = draw(chosen, [one for one in GROUPS if one[0] == "p"], GROUPS, LENGTHS, seed=seed)
        assert len(set(found)) == 4
        assert {GROUPS[one] for one in found} == {"red"}
        assert all(one[0] == "p" for one in found)


def test_where_a_group_runs_short_the_nearest_lengths_and_then_other_groups_fill_it():
    few = ["p00", "p01", *(f"p{n}" for n in range(10, 20))]
    found = draw(["x0", "x1", "x2", "x3"], few, GROUPS, LENGTHS)
    assert Counter(GROUPS[one] for one in found) == {"red": 2, "blue": 2}
    assert {"p00", "p01"} <= set(found)
    with pytest.raises(SelectionError, match="the pool lacks"):
        draw(["x0", "x1", "x2", "x3"], ["p00", "p01"], GROUPS, LENGTHS)


def test_without_a_limit_on_what_is_drawn_the_match_is_exact():
    chosen = [f"p{n:02}" for n in (0, 3, 5, 11, 12, 19)]
    ids = sorted(GROUPS)
    lengths = [LENGTHS[one] for one in ids]
    found = matched_random(ids, [GROUPS[one] for one in ids], lengths, chosen, generator=np.random.default_rng(1))
    assert Counter(GROUPS[one] for one in found) == Counter(GROUPS[one] for one in chosen)
