import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import SelectionError
from curator.recipe.select import OBJECTIVES
from curator.selection.objectives import TERMS, coverage_term
from curator.selection.problem import prepare
from curator.selection.solve import select
from tests.selection.selection_twins import facility, feasible, graph_cut, log_det, plain_greedy, standard, unit_rows

seeds = st.integers(0, 10**6)
weights = st.sampled_from([-1.0, 0.0, 0.5, 4.0])
NAMES = ["conditional-gain", "graph-cut", "log-det"]


def arguments(name, seed, n, *, all_pairs=False):
    """Call and its slow twin for a random case; with all pairs, the twin sees no neighbours only."""
    rng = np.random.default_rng(seed)
    x = unit_rows(seed, n, d=int(rng.integers(2, 6)), copies=n // 4)
    neighbours = int(rng.integers(1, n + 1))
    if name == "conditional-gain":
        nu, cover = float(rng.choice([0.0, 0.5, 1.0])), rng.random(n).round(3)
        for i in range(n):  # copies have one task cover
            cover[i] = cover[[row.tobytes() for row in x].index(x[i].tobytes())]
        return (
            x,
            {"parameters": {"nu": nu}, "task_cover": cover, "neighbours": neighbours},
            facility(x, n if all_pairs else neighbours, floor=nu * cover),
        )
    if name == "graph-cut":
        theta = float(rng.choice([0.0, 0.3, 0.5]))
        twin = graph_cut(x, n if all_pairs else neighbours, theta)
        return x, {"parameters": {"theta": theta}, "neighbours": neighbours}, twin
    alpha = float(rng.choice([0.1, 1.0, 10.0]))
    return x, {"parameters": {"alpha": alpha}}, log_det(x, alpha)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 10), weights, st.data())
def test_value_bound_and_guarantee_hold_against_every_set(name, seed, n, weight, data):
    k = data.draw(st.integers(1, n))
    x, call, cover = arguments(name, seed, n)
    score = np.random.default_rng(seed).standard_normal(n)
    found = select(x, score, k, weight=weight, objective=name, **call)
    penalty = weight / k * standard(score)
    values = {rows: cover(rows) - penalty[list(rows)].sum() for rows in feasible(n, k)}
    best, c = max(values.values()), max(0.0, float(penalty.max()))
    assert found.value == pytest.approx(values[tuple(sorted(found.indices))], abs=3e-6)
    assert found.bound >= best - 3e-6
    assert found.value + k * c >= (1 - 1 / np.e) * (best + k * c) - 3e-6
    assert found.gains.sum() == pytest.approx(found.value, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(4, 9), weights)
def test_quotas_and_budgets_keep_the_bound(name, seed, n, weight):
    x, call, cover = arguments(name, seed, n)
    rng = np.random.default_rng(seed)
    score, groups = rng.standard_normal(n), [i % 2 for i in range(n)]
    quotas = {0: (1, 2), 1: (1, None)}
    found = select(x, score, 3, weight=weight, objective=name, groups=groups, quotas=quotas, **call)
    penalty = weight / 3 * standard(score)
    best = max(cover(s) - penalty[list(s)].sum() for s in feasible(n, 3, groups, quotas))
    c = max(0.0, float(penalty.max()))
    assert found.bound >= best - 3e-6
    assert found.value + 3 * c >= 0.5 * (best + 3 * c) - 3e-6
    costs = rng.integers(1, 6, n).astype(float)
    by_budget = select(x, score, weight=weight, objective=name, costs=costs, budget=10, **call)
    penalty = weight * costs / 10 * standard(score)
    best = max(cover(s) - penalty[list(s)].sum() for s in feasible(n, None, costs=costs, budget=10))
    assert best - 3e-6 <= by_budget.bound
    if weight <= 0 and penalty.max() <= 0:
        assert by_budget.value >= (1 - 1 / np.e) / 2 * best - 3e-6


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(3, 30), weights, st.data())
def test_lazy_greedy_reaches_what_plain_greedy_reaches(name, seed, n, weight, data):
    k = data.draw(st.integers(1, n))
    x, call, cover = arguments(name, seed, n)
    score = np.random.default_rng(seed).standard_normal(n)
    found = select(x, score, k, weight=weight, objective=name, **call)
    penalty = weight / k * standard(score)
    plain = plain_greedy(cover, penalty, n, k)
    assert cover(tuple(found.indices)) - penalty[found.indices].sum() == pytest.approx(
        cover(tuple(plain)) - penalty[plain].sum(), abs=1e-5
    )


@pytest.mark.parametrize("name", [*NAMES, "facility-location"])
def test_gains_of_one_row_and_of_all_rows_agree_at_every_step(name):
    x, call, _ = arguments(name, 7, 30) if name != "facility-location" else (unit_rows(7, 30, copies=5), {}, None)
    problem = prepare(x, np.zeros(30), neighbours=6, task_cover=call.get("task_cover"))
    term = coverage_term(name, problem, call.get("parameters", {}))
    for row in np.random.default_rng(0).permutation(30):
        gains = term.gains()
        assert gains[row] == pytest.approx(term.gain(row), abs=1e-9)
        before = term.value()
        term.add(row)
        assert term.value() - before == pytest.approx(gains[row], abs=1e-9)
        assert (term.gains() <= gains + 1e-9).all()
        assert term.gains()[row] == 0.0
    term.clear()
    assert term.value() == 0.0
    some = [3, 29, 7, 0]
    for row in some:
        term.add(row)
    value, gains = term.value(), term.gains()
    term.clear()
    term.add_all([])
    assert term.value() == 0.0
    term.add_all(some)
    assert term.value() == value
    assert term.gains().tolist() == gains.tolist()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(2, 30), weights, st.data())
def test_what_truncation_to_neighbours_costs_is_told_by_the_value_of_all_pairs(name, seed, n, weight, data):
    k = data.draw(st.integers(1, n))
    x, call, cover = arguments(name, seed, n, all_pairs=True)
    score = np.random.default_rng(seed).standard_normal(n)
    found = select(x, score, k, weight=weight, objective=name, **call)
    penalty = (weight / k * standard(score))[found.indices].sum()
    if name == "log-det":  # has no neighbours: its value is that of all pairs
        assert (found.all_pairs_value, found.all_pairs_bound) == (None, None)
        assert found.value == pytest.approx(cover(tuple(found.indices)) - penalty, abs=3e-6)
        return
    assert found.all_pairs_value == pytest.approx(cover(tuple(found.indices)) - penalty, abs=3e-6)
    assert (found.all_pairs_bound is None) == (name == "graph-cut")
    if found.all_pairs_bound is not None and n <= 9:
        each = weight / k * standard(score)
        best = max(cover(rows) - each[list(rows)].sum() for rows in feasible(n, k))
        assert found.all_pairs_bound >= best - 3e-6
    if call["neighbours"] >= n:
        assert found.all_pairs_value == pytest.approx(found.value, abs=3e-6)


@pytest.mark.parametrize("name", [*NAMES, "facility-location"])
@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(4, 40), weights, st.data())
def test_a_set_is_a_prefix_of_the_next_larger_at_constant_weight_per_row_for_every_objective(
    name, seed, n, weight, data
):
    k = data.draw(st.integers(1, n - 1))
    x, call, _ = arguments(name, seed, n) if name != "facility-location" else (unit_rows(seed, n), {}, None)
    score = np.random.default_rng(seed).standard_normal(n)
    sets = [select(x, score, size, weight=weight * size, objective=name, **call) for size in (k, k + 1)]
    assert sets[1].ids[:-1] == sets[0].ids
    assert sets[1].gains[:-1] == pytest.approx(sets[0].gains, abs=1e-9)


def test_log_det_crosses_from_cholesky_to_the_square_form_at_the_width():
    x = unit_rows(0, 40, d=6)
    found = select(x, np.zeros(40), 25, objective="log-det", parameters={"alpha": 3.0})
    for size in (1, 5, 6, 7, 8, 25):
        assert found.gains[:size].sum() == pytest.approx(log_det(x, 3.0)(tuple(found.indices[:size])), rel=1e-9)


def test_graph_cut_above_one_half_has_no_certificate_and_says_so_with_null():
    x = unit_rows(0, 30)
    found = select(x, np.zeros(30), 5, objective="graph-cut", parameters={"theta": 0.6})
    assert (found.bound, found.gap, found.relative_gap) == (None, None, None)
    even = select(x, np.zeros(30), 5, objective="graph-cut", row_weights=np.full(30, 7.0))
    assert even.bound is not None
    uneven = select(x, np.zeros(30), 5, objective="graph-cut", row_weights=np.arange(1.0, 31))
    assert uneven.bound is None


def test_conditional_gain_with_nu_zero_is_facility_location_and_with_nu_one_leaves_what_tasks_cover():
    x = unit_rows(4, 60)
    none = select(x, np.zeros(60), 8, objective="conditional-gain", parameters={"nu": 0}, task_cover=np.ones(60))
    assert none.ids == select(x, np.zeros(60), 8).ids
    cover = np.where(np.arange(60) < 50, 1.0, 0.0)
    found = select(x, np.zeros(60), 3, objective="conditional-gain", task_cover=cover, neighbours=1)
    assert (found.indices >= 50).all()


def test_every_objective_of_the_recipe_has_a_term_and_uses_all_its_parameters():
    assert TERMS.keys() == OBJECTIVES.keys()
    x = unit_rows(6, 40)
    problem = prepare(x, np.zeros(40), neighbours=9, task_cover=np.random.default_rng(0).random(40))
    for name, objective in OBJECTIVES.items():
        plain = coverage_term(name, problem, {}).gains()
        for parameter, settings_of in objective.parameters.items():
            assert coverage_term(name, problem, {parameter: settings_of.default}).gains().tolist() == plain.tolist()
            assert coverage_term(name, problem, {parameter: settings_of.default / 2}).gains().tolist() != plain.tolist()


@pytest.mark.parametrize(("n", "weight"), [(20, 0.1), (30, 0.7), (49, 0.3)])
def test_equal_row_weights_leave_graph_cut_as_monotone_as_none(n, weight):
    x = unit_rows(0, n)
    weighted, plain = (
        coverage_term("graph-cut", prepare(x, np.zeros(n), row_weights=weights), {})
        for weights in (np.full(n, weight), None)
    )
    assert weighted.monotone
    assert plain.monotone


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_needs_what_its_record_says_and_is_monotone_up_to_where_it_says(name):
    objective, x = OBJECTIVES[name], unit_rows(8, 30)
    bare = prepare(x, np.zeros(30), neighbours=5)
    if objective.task_cover:
        with pytest.raises(SelectionError, match="task_cover: missing"):
            coverage_term(name, bare, {})
    cover = np.full(30, 0.2)
    uneven = prepare(x, np.zeros(30), neighbours=5, task_cover=cover, row_weights=np.arange(1.0, 31))
    even = prepare(x, np.zeros(30), neighbours=5, task_cover=cover)
    if objective.row_weights:
        assert coverage_term(name, uneven, {}).gains().tolist() != coverage_term(name, even, {}).gains().tolist()
    else:
        with pytest.raises(SelectionError, match="row_weights: objective"):
            coverage_term(name, uneven, {})
    few, all_rows = (prepare(x, np.zeros(30), neighbours=size, task_cover=cover) for size in (2, 30))
    truncated = coverage_term(name, few, {}).gains().tolist() != coverage_term(name, all_rows, {}).gains().tolist()
    assert truncated == objective.neighbours == ("graph" in few.__dict__)
    for parameter, settings_of in objective.parameters.items():
        top = min(settings_of.monotone_to, 100.0)
        assert coverage_term(name, even, {parameter: top}).monotone
        assert coverage_term(name, even, {parameter: top + 0.01}).monotone == (settings_of.monotone_to > top)
    if not objective.parameters:
        assert coverage_term(name, even, {}).monotone


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"objective": "conditional-gain"}, "task_cover: missing"),
        ({"objective": "graph-cut", "parameters": {"theta": -1}}, "parameters['theta']: found -1; it must be a finite"),
        (
            {"objective": "graph-cut", "parameters": {"nu": 1}},
            "parameters: objective 'graph-cut' has no parameter 'nu'; allowed: theta",
        ),
        ({"objective": "log-det", "parameters": {"alpha": 0}}, "parameters['alpha']: found 0"),
        ({"objective": "log-det", "parameters": {"alpha": "x"}}, "parameters['alpha']: found 'x'"),
        ({"objective": "log-det", "row_weights": np.arange(4.0)}, "row_weights: objective 'log-det' cannot use them"),
    ],
)
def test_wrong_parameters_are_named(call, says):
    with pytest.raises(SelectionError) as caught:
        select(np.eye(4), np.zeros(4), 2, **call)
    assert says in str(caught.value)
