import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curator.errors import SelectionError
from curator.selection.certificate import best_rows, largest_sum, random_rows
from curator.selection.limits import limits
from curator.selection.problem import prepare
from curator.selection.solve import select
from tests.selection.selection_twins import facility, feasible, standard, unit_rows

CASES = settings(max_examples=70, deadline=None)
seeds = st.integers(0, 10**6)


def draw_limits(seed, n):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 3, n).tolist()
    quotas = {}
    for label in sorted(set(groups)):
        low = int(rng.integers(0, 3))
        quotas[label] = (
            low if rng.random() < 0.7 else None,
            low + int(rng.integers(0, 4)) if rng.random() < 0.7 else None,
        )
    rows = rng.permutation(n).tolist()
    include, exclude = tuple(rows[: rng.integers(0, 3)]), tuple(rows[n - rng.integers(0, 3) :])
    return groups, quotas, tuple(set(include) - set(exclude)), exclude


@CASES
@given(seeds, st.integers(3, 10), st.sampled_from([-1.0, 0.0, 0.4, 3.0]), st.data())
def test_quotas_include_and_exclude_hold_with_half_of_the_optimum_and_a_valid_bound(seed, n, weight, data):
    k = data.draw(st.integers(1, n))
    x = unit_rows(seed, n, copies=n // 4)
    score = np.random.default_rng(seed).standard_normal(n)
    groups, quotas, include, exclude = draw_limits(seed, n)
    sets = list(feasible(n, k, groups, quotas, include=include, exclude=exclude))
    where = {"groups": groups, "quotas": quotas, "include": include, "exclude": exclude}
    call = {"weight": weight, "neighbours": 4, **where}
    if not sets:
        with pytest.raises(SelectionError):
            select(x, score, k, **call)
        return
    found = select(x, score, k, **call)
    assert tuple(sorted(found.indices)) in sets
    cover, penalty = facility(x, 4), weight / k * standard(score)
    best = max(cover(rows) - penalty[list(rows)].sum() for rows in sets)
    assert best <= found.bound + 2e-6
    # With every cost shifted by C >= 0 the objective is monotone, and greedy over a matroid reaches half of the best
    # set that extends the must-include rows.
    c = max(0.0, float(penalty.max()))
    assert found.value + k * c >= 0.5 * (best + k * c) - 2e-6
    assert sum(found.group_counts.values()) == k


@CASES
@given(seeds, st.integers(3, 10), st.booleans())
@example(732, 3, True)  # the quotas allow no row at all
def test_the_largest_k_that_an_error_names_is_the_largest_possible(seed, n, use_quotas):
    groups, quotas, _, exclude = draw_limits(seed, n)
    quotas = {label: (None, high) for label, (_, high) in quotas.items()} if use_quotas else {}
    problem = prepare(unit_rows(seed, n), np.zeros(n))
    possible = [k for k in range(n + 1) if any(True for _ in feasible(n, k, groups, quotas, exclude=exclude))]
    says = f"lower k to at most {max(possible)}$" if max(possible) else "no smaller k is possible either$"
    for k in range(1, n + 1):
        if k in possible:
            limits(problem, k, groups=groups, quotas=quotas, exclude=exclude)
        else:
            with pytest.raises(SelectionError, match=says):
                limits(problem, k, groups=groups, quotas=quotas, exclude=exclude)


@CASES
@given(seeds, st.integers(3, 10), st.sampled_from([-1.0, 0.0, 0.4]), st.booleans())
@example(121937, 7, -1.0, True)  # only the empty set is within the quotas
def test_a_budget_is_kept_with_its_guarantee_and_a_valid_bound(seed, n, weight, limited):
    x = unit_rows(seed, n, copies=n // 4)
    rng = np.random.default_rng(seed)
    score, costs = rng.standard_normal(n), rng.integers(1, 9, n).astype(float)
    budget = float(rng.integers(8, 25))
    groups, quotas, include, exclude = draw_limits(seed, n) if limited else (None, None, (), ())
    sets = list(feasible(n, None, groups, quotas, costs, budget, include, exclude))
    where = {"groups": groups, "quotas": quotas, "include": include, "exclude": exclude}
    call = {"weight": weight, "neighbours": 4, **where}
    if not any(sets):
        with pytest.raises(SelectionError):
            select(x, score, budget=budget, costs=costs, **call)
        return
    found = select(x, score, budget=budget, costs=costs, **call)
    assert tuple(sorted(found.indices)) in sets
    assert found.budget_used == costs[found.indices].sum() <= budget
    cover, penalty = facility(x, 4), weight * costs / budget * standard(score)
    best = max(cover(rows) - penalty[list(rows)].sum() for rows in sets)
    assert best <= found.bound + 2e-6
    if not limited and penalty.max() <= 0:
        assert found.value >= (1 - 1 / np.e) / 2 * best - 2e-6
    if not limited:
        assert (found.gains > 0).all()
        left = [
            cover((*found.indices, s)) - cover(tuple(found.indices)) - penalty[s]
            for s in range(n)
            if s not in found.indices and costs[s] + found.budget_used <= budget
        ]
        assert max(left, default=0.0) <= 2e-6


@CASES
@given(seeds, st.integers(3, 10), st.data())
def test_the_largest_sum_within_limits_is_that_of_all_sets(seed, n, data):
    k = data.draw(st.integers(1, n))
    groups, quotas, include, exclude = draw_limits(seed, n)
    sets = list(feasible(n, k, groups, quotas, include=include, exclude=exclude))
    if not sets:
        return
    problem = prepare(unit_rows(seed, n), np.zeros(n))
    bounds = limits(problem, k, groups=groups, quotas=quotas, include=include, exclude=exclude)
    terms = np.random.default_rng(seed).standard_normal(n)
    assert tuple(sorted(best_rows(bounds, terms))) in sets
    assert largest_sum(bounds, terms) == pytest.approx(max(terms[list(rows)].sum() for rows in sets))
    assert tuple(sorted(random_rows(bounds, np.random.default_rng(seed)))) in sets


def test_a_budget_takes_a_row_without_value_only_for_a_minimum():
    x = np.eye(4, dtype=np.float32)
    call = {"weight": 10.0, "costs": np.ones(4), "budget": 4.0, "groups": list("aabb"), "include": [3]}
    score = np.array([1.0, 1.0, 1.0, -9.0])
    assert select(x, score, **call).ids == ("3",)
    assert select(x, score, quotas={"a": (1, None)}, **call).ids == ("3", "0")


def test_a_budget_below_every_row_that_may_be_chosen_is_refused():
    problem, costs = prepare(np.eye(4, dtype=np.float32), np.zeros(4)), np.array([1.0, 5.0, 5.0, 6.0])
    call = {"costs": costs, "budget": 3.0}
    limits(problem, **call)
    with pytest.raises(
        SelectionError, match="budget: found 3, but the cheapest row that may be chosen costs 5; raise it"
    ):
        limits(problem, **call, exclude=[0])
    with pytest.raises(SelectionError, match="exclude: names every row; name fewer"):
        limits(problem, **call, exclude=[0, 1, 2, 3])
    groups = ["a", "b", "b", "b"]
    with pytest.raises(SelectionError, match="the cheapest row that may be chosen costs 5"):
        limits(problem, groups=groups, quotas={"a": (None, 0)}, **call)
    with pytest.raises(SelectionError, match="every group that has rows may have at most 0 of them"):
        limits(problem, groups=groups, quotas={"a": (None, 0), "b": (None, 0)}, **call)


def test_groups_whose_labels_read_alike_are_counted_together():
    found = select(unit_rows(0, 12), np.zeros(12), 10, groups=[None, "None", "a"] * 4)
    assert sum(found.group_counts.values()) == 10
    assert set(found.group_counts) == {"None", "a"}


def test_unit_costs_and_a_budget_of_k_choose_what_k_chooses():
    x = unit_rows(2, 201)  # up to 200 rows, a budget is also tried from every single row
    score = np.zeros(201)
    by_k = select(x, score, 10)
    by_budget = select(x, score, costs=np.ones(201), budget=10)
    assert by_k.ids == by_budget.ids
    assert by_k.value == by_budget.value
    assert by_k.bound == pytest.approx(by_budget.bound, abs=1e-12)
