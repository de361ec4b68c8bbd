"""Sets of given shares: their size, their shares, the limits they keep, and the rows that cover most within them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import SelectionError
from curator.selection.limits import limits
from curator.selection.mixture import covering, dirichlet, drawn, filled, in_turn, numbered
from curator.selection.objectives import coverage_term
from curator.selection.problem import prepare


def pool(n: int, seed: int = 0, order: np.ndarray | None = None):
    """A pool of n rows whose ids do not follow their order, and the labels of three groups of very different sizes."""
    vectors = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.array([f"r{(number * 7919) % 100003:06d}" for number in range(n)])
    labels = np.array(["a" if number % 10 else "b" if number % 20 else "c" for number in range(n)])
    order = np.arange(n) if order is None else order
    problem = prepare(vectors[order], np.zeros(n), ids=ids[order].tolist(), neighbours=8)
    by_id = dict(zip(ids, labels, strict=True))
    return problem, [by_id[row_id] for row_id in problem.ids]


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 120), st.floats(0.05, 1.0), st.floats(0.1, 10.0), st.integers(0, 10**6))
def test_a_drawn_set_has_its_size_and_its_shares_and_no_row_twice(n, part, concentration, seed):
    problem, labels = pool(n)
    names, group = numbered(labels)
    k, random = max(1, int(n * part)), np.random.default_rng(seed)
    shares = dirichlet(len(names), concentration, random)
    rows = drawn(limits(problem, k), shares, group, random)
    assert len(rows) == len(set(rows)) == k
    # What a group cannot give is the others' in proportion to their shares; whoever is full then passes on the rest.
    sizes, wanted = np.bincount(group, minlength=len(names)), shares * k
    for _ in names:
        full = wanted >= sizes
        rest = k - sizes[full].sum()
        wanted = np.where(full, sizes, shares * rest / max(shares[~full].sum(), 1e-300))
    assert np.abs(np.bincount(group[rows], minlength=len(names)) - wanted).max() <= 1.5


def test_the_order_of_the_pool_changes_no_set_and_the_seed_does():
    order = np.random.default_rng(5).permutation(80)
    sets = []
    for problem, labels in (pool(80), pool(80, order=order)):
        _, group = numbered(labels)
        rows = drawn(limits(problem, 20), np.array([0.2, 0.5, 0.3]), group, np.random.default_rng(1))
        sets.append([problem.ids[row] for row in rows])
    assert sets[0] == sets[1]
    other = drawn(limits(problem, 20), np.array([0.2, 0.5, 0.3]), group, np.random.default_rng(2))
    assert [problem.ids[row] for row in other] != sets[0]


def test_within_a_group_every_row_is_as_likely():
    problem, labels = pool(40)
    names, group = numbered(labels)
    counts = Counter[int]()
    for seed in range(400):
        counts.update(drawn(limits(problem, 8), np.array([1.0, 0.0, 0.0]), group, np.random.default_rng(seed)))
    of_group = np.array([counts[row] for row in np.flatnonzero(group == names.index("a"))])
    assert of_group.sum() == 400 * 8
    expected = of_group.sum() / len(of_group)
    assert ((of_group - expected) ** 2 / expected).sum() < 2 * len(of_group)  # chi-square, about its mean


def test_quotas_includes_and_excludes_hold_whatever_the_shares():
    problem, labels = pool(100)
    _, group = numbered(labels)
    other = ["even" if number % 2 else "odd" for number in range(100)]
    must, never = problem.ids[3], problem.ids[4]
    callers = [other[problem.rows.tolist().index(row)] for row in range(100)]
    bounds = limits(problem, 30, groups=callers, quotas={"even": (None, 9)}, include=[must], exclude=[never])
    for seed in range(20):
        random = np.random.default_rng(seed)
        rows = drawn(bounds, dirichlet(3, 0.3, random), group, random)
        ids = [problem.ids[row] for row in rows]
        assert len(ids) == 30
        assert must in ids
        assert never not in ids
        assert sum(other[row] == "even" for row in rows) <= 9


def test_a_budget_of_tokens_is_filled_by_rows_of_about_these_shares():
    problem, labels = pool(200)
    names, group = numbered(labels)
    costs = np.random.default_rng(2).integers(5, 30, size=200).astype(float)
    bounds = limits(problem, None, costs=costs, budget=300.0)
    rows = drawn(bounds, np.array([0.5, 0.5, 0.0]), group, np.random.default_rng(3))
    spent = costs[problem.rows[rows]].sum()
    assert 300 - costs.min() < spent <= 300
    counts = np.bincount(group[rows], minlength=3)
    assert abs(counts[0] - counts[1]) <= 3, dict(zip(names, counts, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_the_covering_set_takes_in_turn_the_row_of_a_group_that_adds_most(seed):
    problem, labels = pool(60, seed)
    names, group = numbered(labels)
    bounds, random = limits(problem, 12), np.random.default_rng(seed)
    shares, penalty = dirichlet(3, 2.0, random), random.normal(size=60) / 200
    found = covering(bounds, shares, group, coverage_term("facility-location", problem, {}), penalty)
    term, plain, taken = coverage_term("facility-location", problem, {}), [], [0, 0, 0]
    while len(plain) < 12:  # the slow, obvious twin
        left = [number for number in range(3) if taken[number] < (group == number).sum()]
        number = min(left, key=lambda at: ((taken[at] + 0.5) / shares[at], at))
        rows = [row for row in range(60) if group[row] == number and row not in plain]
        best = min(rows, key=lambda row: (penalty[row] - term.gain(row), row))
        term.add(best)
        plain.append(best)
        taken[number] += 1
    assert found == plain, names


@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("groups", [7, 30])
def test_coverage_decides_between_groups_that_are_equally_behind(groups, penalised):
    problem, _ = pool(90, groups)
    group = np.arange(90) % groups
    bounds, shares = limits(problem, 12), np.full(groups, 1.0 / groups)
    penalty = np.random.default_rng(1).normal(size=90) / 200 * penalised
    made = covering(bounds, shares, group, coverage_term("facility-location", problem, {}), penalty)
    term, plain, taken = coverage_term("facility-location", problem, {}), [], [0] * groups
    while len(plain) < 12:  # every row of every group that is furthest behind is compared
        rows = [row for row in range(90) if taken[group[row]] == min(taken) and row not in plain]
        best = min(rows, key=lambda row: (penalty[row] - term.gain(row), row))
        term.add(best)
        plain.append(best)
        taken[group[best]] += 1
    assert made == plain
    # The names of the groups decide nothing.
    term = coverage_term("facility-location", problem, {})
    assert covering(bounds, shares, groups - 1 - group, term, penalty) == made


def test_of_groups_equally_behind_one_that_has_no_row_left_that_fits_is_passed_over():
    problem, _ = pool(40)
    group = np.arange(40) % 20
    callers = ["full" if number < 10 else "free" for number in group]
    bounds = limits(problem, 8, groups=[callers[at] for at in np.argsort(problem.rows)], quotas={"full": (None, 2)})
    term = coverage_term("facility-location", problem, {})
    made = covering(bounds, np.full(20, 1 / 20), group, term, np.zeros(40))
    assert len({int(group[row]) for row in made}) == 8
    assert sum(callers[row] == "full" for row in made) <= 2


def test_covering_rows_cover_more_than_random_ones_of_the_same_shares():
    problem, labels = pool(150)
    _, group = numbered(labels)
    bounds, shares = limits(problem, 15), np.array([0.4, 0.4, 0.2])
    term = coverage_term("facility-location", problem, {})
    covering(bounds, shares, group, term, np.zeros(150))
    most = term.value()
    for seed in range(10):
        term.clear()
        term.add_all(drawn(bounds, shares, group, np.random.default_rng(seed)))
        assert term.value() < most


def test_a_set_that_cannot_be_filled_says_how_far_it_came():
    problem, labels = pool(30)
    _, group = numbered(labels)
    left = iter(range(5))
    with pytest.raises(SelectionError, match=r"^k: found 6, but a random set within the limits has at most 5 rows"):
        filled(limits(problem, 6), np.ones(3) / 3, group, lambda *_: next(left, None))


def test_groupings_come_in_turn_and_each_concentration_once_round():
    assert list(in_turn(["x", "y"], [0.3, 5.0], 5)) == [("x", 0.3), ("y", 0.3), ("x", 5.0), ("y", 5.0), ("x", 0.3)]
