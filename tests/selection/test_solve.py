import inspect
import pydoc
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curator
from curator.errors import SelectionError
from curator.recipe.select import OBJECTIVES
from curator.selection.limits import limits
from curator.selection.problem import prepare, standardise
from curator.selection.solve import select, solve
from tests.selection.selection_twins import facility, feasible, plain_greedy, standard, unit_rows

CASES = settings(max_examples=80, deadline=None)
seeds = st.integers(0, 10**6)
weights = st.sampled_from([-2.0, -0.5, 0.0, 0.3, 1.0, 5.0])


@CASES
@given(seeds, st.integers(2, 11), st.data(), weights)
def test_value_bound_and_guarantee_hold_against_every_set(seed, n, data, weight):
    k = data.draw(st.integers(1, n))
    neighbours = data.draw(st.integers(1, n + 2))
    x = unit_rows(seed, n, copies=data.draw(st.integers(0, n // 2)))
    rng = np.random.default_rng(seed)
    score, w = rng.standard_normal(n), rng.integers(1, 4, n).astype(float)
    found = select(x, score, k, weight=weight, neighbours=neighbours, row_weights=w)
    cover, penalty = facility(x, neighbours, w), weight / k * standard(score)

    values = {rows: cover(rows) - penalty[list(rows)].sum() for rows in feasible(n, k)}
    best = max(values.values())
    assert found.value == pytest.approx(values[tuple(sorted(found.indices))], abs=2e-6)
    assert found.bound >= best - 2e-6
    assert found.value <= best + 2e-6
    c = max(0.0, float(penalty.max()))
    assert found.value + k * c >= (1 - 1 / np.e) * (best + k * c) - 2e-6
    everywhere = facility(x, n, w)
    assert found.all_pairs_value == pytest.approx(
        everywhere(tuple(found.indices)) - penalty[found.indices].sum(), abs=2e-6
    )
    assert found.all_pairs_bound >= max(everywhere(s) - penalty[list(s)].sum() for s in values) - 2e-6
    assert found.gap == pytest.approx(found.bound - found.value, abs=1e-12)
    assert sum(found.gains) == pytest.approx(found.value, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(3, 11), st.data(), weights)
def test_the_bound_holds_however_badly_the_set_was_chosen(seed, n, data, weight):
    k, x = data.draw(st.integers(1, n)), unit_rows(seed, n, copies=n // 3)
    score = np.random.default_rng(seed).standard_normal(n)
    # Samples of one row: the picks are random.
    found = select(x, score, k, weight=weight, neighbours=data.draw(st.integers(1, n)), stochastic=0.999, seed=seed)
    cover, penalty = facility(x, found.neighbours), weight / k * standard(score)
    best = max(cover(rows) - penalty[list(rows)].sum() for rows in feasible(n, k))
    assert found.bound >= best - 2e-6
    assert found.all_pairs_bound >= max(facility(x, n)(s) - penalty[list(s)].sum() for s in feasible(n, k)) - 2e-6


@CASES
@given(seeds, st.integers(3, 40), st.data(), weights)
def test_lazy_greedy_picks_what_plain_greedy_picks(seed, n, data, weight):
    k = data.draw(st.integers(1, n))
    neighbours = data.draw(st.integers(1, n))
    x = unit_rows(seed, n, copies=data.draw(st.integers(0, n // 3)))
    score = np.random.default_rng(seed).integers(0, 4, n).astype(float)
    found = select(x, score, k, weight=weight, neighbours=neighbours)
    plain = plain_greedy(facility(x, neighbours), weight / k * standard(score), n, k)
    # Cosines of a float32 product are rounded otherwise than the twin's, so equal picks are compared by value.
    twin = facility(x, neighbours)
    assert twin(tuple(found.indices)) - (weight / k * standard(score))[found.indices].sum() == pytest.approx(
        twin(tuple(plain)) - (weight / k * standard(score))[plain].sum(), abs=1e-5
    )


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(3, 60), st.data(), weights)
def test_permuting_rows_changes_nothing(seed, n, data, weight):
    k, neighbours = data.draw(st.integers(1, n)), data.draw(st.integers(1, 8))
    x = unit_rows(seed, n, copies=n // 4)
    rng = np.random.default_rng(seed)
    score, ids = rng.standard_normal(n), [f"row-{i:03d}" for i in rng.permutation(n)]
    one = select(x, score, k, ids=ids, weight=weight, neighbours=neighbours)
    p = rng.permutation(n)
    two = select(x[p], score[p], k, ids=[ids[i] for i in p], weight=weight, neighbours=neighbours)
    assert one.ids == two.ids
    assert one.gains.tolist() == two.gains.tolist()
    assert (one.value, one.bound, one.relative_gap) == (two.value, two.bound, two.relative_gap)
    assert [ids[i] for i in one.indices] == list(one.ids)
    assert [ids[p[i]] for i in two.indices] == list(two.ids)


@CASES
@given(seeds, st.integers(4, 40), st.data())
def test_a_copy_of_a_chosen_row_has_no_coverage_gain(seed, n, data):
    k = data.draw(st.integers(2, n))
    x = unit_rows(seed, n, copies=n // 2)
    found = select(
        x, np.random.default_rng(seed).standard_normal(n), k, weight=0.0, neighbours=data.draw(st.integers(1, n))
    )
    seen = set()
    for row, gain in zip(found.indices, found.gains, strict=True):
        key = x[row].tobytes()
        assert gain == 0.0 if key in seen else gain >= 0.0
        seen.add(key)
    assert len(set(found.ids)) == k
    # A row that could still add something comes before every copy.
    first = next((i for i, gain in enumerate(found.gains) if gain == 0.0), k)
    assert (found.gains[first:] == 0.0).all()


def test_copies_of_a_chosen_row_add_no_coverage_and_exact_ties_go_by_id():
    x = np.eye(4, dtype=np.float32)[[0, 0, 0, 1, 1, 2, 3, 3]]
    found = select(x, np.zeros(8), 8, neighbours=3, weight=1.0)
    assert found.ids == ("0", "3", "6", "5", "1", "2", "4", "7")
    assert found.gains.tolist() == [3 / 8, 2 / 8, 2 / 8, 1 / 8, 0, 0, 0, 0]
    assert found.value == found.bound == 1.0
    assert found.gap == 0.0


def test_equal_scores_count_for_nothing_and_a_negative_weight_prefers_similar_rows():
    x = unit_rows(3, 50)
    flat = select(x, np.full(50, 0.1), 5, weight=3.0)
    assert flat.ids == select(x, np.arange(50.0), 5, weight=0.0).ids
    assert flat.parameters["score_sd"] == 0.0
    score = x[:, 0].astype(float)
    similar, dissimilar = (select(x, score, 5, weight=w).indices for w in (-2.0, 2.0))
    assert score[similar].mean() > score.mean() > score[dissimilar].mean()


def test_truncation_is_reported_beside_the_all_pairs_objective():
    found = select(unit_rows(1, 200), np.zeros(200), 4, neighbours=5)
    assert found.value < found.all_pairs_value <= found.all_pairs_bound
    assert found.neighbours == 5


def test_negative_totals_keep_the_bound_above_the_value():
    found = select(unit_rows(0, 12), np.arange(12.0), 11, weight=50.0)
    assert found.value <= found.bound
    one_left = [s for s in range(12) if str(s) not in found.ids]
    assert one_left == [11]


def test_an_approximate_graph_has_no_all_pairs_bound_and_reports_its_recall(monkeypatch):
    from curator import neighbours as module

    monkeypatch.setattr(module.graph, "__kwdefaults__", {**module.graph.__kwdefaults__, "exact_up_to": 100})
    x = unit_rows(5, 1500, d=16, copies=200)
    score, ids = x[:, 0], [f"{i:05d}" for i in range(1500)]
    found = select(x, score, 40, ids=ids, neighbours=16)
    assert found.parameters["graph"] == "cells"
    assert 0.9 <= found.parameters["recall"] <= 1.0
    assert found.parameters["cells"] > found.parameters["probes"] >= 1
    assert found.all_pairs_bound is None
    assert found.value <= found.all_pairs_value
    p = np.random.default_rng(0).permutation(1500)
    assert select(x[p], score[p], 40, ids=[ids[i] for i in p], neighbours=16).ids == found.ids


BAD = [
    ({"vectors": np.full((4, 2), np.nan)}, "vectors: row 0 has length nan"),
    ({"vectors": np.full((4, 2), np.inf)}, "vectors: row 0 has length inf"),
    ({"vectors": np.zeros((4, 2))}, "vectors: row 0 has length 0"),
    ({"vectors": np.ones((4, 2))}, "vectors: row 0 has length 1.41421"),
    ({"vectors": np.ones(4)}, "vectors: found shape (4,)"),
    ({"vectors": np.ones((0, 2))}, "vectors: found shape (0, 2)"),
    ({"vectors": [["a"]]}, "vectors: cannot be read"),
    ({"score": np.zeros(3)}, "score: found shape (3,); it must be (4,)"),
    ({"score": [0, 1, np.nan, 2]}, "score: row 2 is nan; every number must be finite"),
    ({"score": [0, 1, np.inf, 2]}, "score: row 2 is inf"),
    ({"score": ["a", "b", "c", "d"]}, "score: cannot be read as numbers"),
    ({"k": 0}, "k: found 0; it must be a whole number from 1 to 4"),
    ({"k": 5}, "k: found 5; it must be a whole number from 1 to 4"),
    ({"k": 1.5}, "k: found 1.5"),
    ({"k": True}, "k: found True"),
    ({"k": None}, "k and budget: found k=None and budget=None; give exactly one"),
    ({"budget": 3.0}, "k and budget: found k=2 and budget=3.0; give exactly one"),
    ({"costs": np.ones(4)}, "costs: only valid with a budget"),
    ({"k": None, "budget": 3.0}, "costs: missing"),
    ({"k": None, "budget": 0.0, "costs": np.ones(4)}, "budget: found 0.0"),
    ({"k": None, "budget": np.nan, "costs": np.ones(4)}, "budget: found nan"),
    (
        {"k": None, "budget": 0.5, "costs": np.ones(4)},
        "budget: found 0.5, but the cheapest row that may be chosen costs 1",
    ),
    ({"k": None, "budget": 3.0, "costs": [1, 1, 0, 1]}, "costs: row '2' costs 0"),
    ({"k": None, "budget": 3.0, "costs": [1, 1, -1, 1]}, "costs: row 2 is -1.0; every number must be at least 0"),
    (
        {"k": None, "budget": 1.5, "costs": np.ones(4), "include": [0, 1]},
        "budget: found 1.5, but include and the minima of quotas",
    ),
    ({"lengths": [1, 2, 3]}, "lengths: found shape (3,); it must be (4,)"),
    ({"lengths": [1, 2, 3, -4]}, "lengths: row 3 is -4.0; every number must be at least 0"),
    ({"task_cover": np.zeros((4, 1))}, "task_cover: found shape (4, 1); it must be (4,)"),
    ({"row_weights": [1, np.inf, 1, 1]}, "row_weights: row 1 is inf; every number must be at least 0"),
    ({"seed": -1}, "seed: found -1; it must be a whole number of at least 0"),
    ({"seed": None}, "seed: found None; it must be a whole number"),
    ({"weight": "auto"}, "weight: found 'auto'; it must be a finite number"),
    ({"groups": list("aabb"), "quotas": {"a": 3}}, "quotas['a']: found 3; give (min, max)"),
    ({"groups": list("aabb"), "quotas": {"a": (1, 2, 3)}}, "quotas['a']: found (1, 2, 3); give (min, max)"),
    ({"ids": ["a", "b"]}, "ids: found 2 for 4 rows"),
    ({"ids": ["a", "b", "a", "c"]}, "ids: duplicate id 'a'"),
    ({"ids": ["a", 1, 2, 3]}, "ids: found mixed types; give only text or only whole numbers"),
    ({"neighbours": 0}, "neighbours: found 0"),
    ({"weight": np.nan}, "weight: found nan"),
    ({"objective": "magic"}, "objective: found 'magic'; allowed: facility-location"),
    ({"parameters": {"nu": 1}}, "parameters: objective 'facility-location' has no parameter 'nu'; allowed: none"),
    ({"row_weights": [1, 1, 1, -1]}, "row_weights: row 3 is -1.0; every number must be at least 0"),
    ({"row_weights": np.zeros(4)}, "row_weights: every weight is 0"),
    ({"task_cover": [0, 0, 0, 2]}, "task_cover: row 3 is 2.0; every number must be from 0 to 1"),
    ({"include": "0"}, "include: found the text '0'; give a list of ids"),
    ({"include": ["9"]}, "include: no row with id '9' in this pool"),
    ({"exclude": ["9"]}, "exclude: no row with id '9' in this pool"),
    ({"include": [1], "exclude": [1]}, "include and exclude: both name '1'"),
    ({"include": [0, 1, 2]}, "include: names 3 rows, but k is 2"),
    ({"exclude": [0, 1, 2]}, "k: 2 is impossible because of exclude; lower k to at most 1"),
    ({"quotas": {"a": (1, 1)}}, "groups: missing"),
    ({"groups": ["a"], "quotas": {}}, "groups: found 1 label for 4 rows"),
    ({"groups": list("aabb"), "quotas": {"c": (1, 2)}}, "quotas['c']: no row has this label"),
    ({"groups": list("aabb"), "quotas": {"a": (2, 1)}}, "quotas['a']: min (2) is above max (1)"),
    ({"groups": list("aabb"), "quotas": {"a": (-1, 1)}}, "quotas['a']: found (-1, 1)"),
    ({"groups": list("aabb"), "quotas": {"a": (3, None)}}, "quotas['a']: min is 3, but only 2 rows"),
    (
        {"groups": list("aabb"), "quotas": {"a": (None, 0), "b": (0, 1)}},
        "because of quotas; lower k to at most 1",
    ),
    (
        {"groups": list("aabb"), "quotas": {"a": (2, 2), "b": (2, 2)}},
        "quotas: the minima (with include) need 4 rows, but k is 2",
    ),
    (
        {"groups": list("aabb"), "quotas": {"a": (0, 1)}, "include": [0, 1]},
        "include: names 2 rows of group 'a', whose max is 1",
    ),
]


@pytest.mark.parametrize(("change", "says"), BAD, ids=[says[:40] for _, says in BAD])
def test_wrong_input_is_named_with_what_was_found_and_what_is_allowed(change, says):
    arguments = {"vectors": np.eye(4, dtype=np.float32), "score": np.zeros(4), "k": 2} | change
    with pytest.raises(SelectionError) as caught:
        select(**arguments)
    assert says in str(caught.value)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    "before",
    [
        "import curator",
        "import curator.selection",
        "import curator; curator.select; import curator.selection.arms",
        "import curator; from curator import select",
        "from curator.selection.solve import select; import curator",
    ],
)
def test_curator_select_is_the_function_whatever_was_imported_first(before):
    code = (
        f"{before}\nimport curator, numpy, curator.selection.solve as solve\n"
        "print(curator.select(numpy.eye(3), [0, 0, 0], 2).ids, curator.select is solve.select)"
    )
    assert run(code) == "('0', '1') True"


def test_the_public_call_imports_no_heavy_library():
    heavy = ("torch", "transformers", "faiss", "numba")
    out = run(f"import curator, sys; curator.select; print([m for m in {heavy} if m in sys.modules])")
    assert out == "[]"


def test_help_shows_the_signature_and_lists_every_objective_with_its_parameters():
    shown = pydoc.render_doc(curator.select, renderer=pydoc.plaintext)
    assert "select(vectors: 'ArrayLike', score: 'ArrayLike', k: 'int | None' = None, *," in shown
    assert inspect.getdoc(select).splitlines()[0] in shown
    for name, objective in OBJECTIVES.items():
        _, _, entry = shown.partition(f"- `{name}`:")
        entry = entry.partition("\n    - ")[0].partition("Args:")[0]
        assert entry, name
        for parameter, settings_of in objective.parameters.items():
            sign = ">" if settings_of.positive else ">="
            assert f"`{parameter}` {sign} 0 [default: {settings_of.default:g}]" in entry
    for name in inspect.signature(select).parameters:
        assert name in shown.partition("Args:")[2]


@pytest.mark.parametrize("settings", [{}, {"objective": "graph-cut", "parameters": {"theta": 1.0}}])
def test_without_a_weight_rows_are_chosen_by_coverage_alone(settings):
    x, score = unit_rows(5, 40), np.random.default_rng(5).standard_normal(40)
    said, unsaid = select(x, score, 6, weight=0.0, **settings), select(x, score, 6, **settings)
    assert (unsaid.weight, unsaid.ids, unsaid.value) == (0.0, said.ids, said.value)
    assert unsaid.ids == select(x, -score, 6, **settings).ids


@pytest.mark.parametrize("seed", range(6))
def test_where_every_row_is_chosen_rounding_makes_no_share_of_the_gain(seed):
    x = unit_rows(seed, 9)
    found = select(x, np.random.default_rng(seed).standard_normal(9), 9, weight=0.3)
    assert found.bound == pytest.approx(found.value)
    assert found.relative_gap is None


def test_another_score_and_other_weights_choose_as_a_pool_made_with_them_and_find_no_neighbours_again(monkeypatch):
    x, random = unit_rows(5, 40, copies=8), np.random.default_rng(5)
    score, w = random.standard_normal(40), random.integers(1, 4, 40).astype(float)
    problem, wanted = prepare(x, np.zeros(40), neighbours=6), prepare(x, score, neighbours=6, row_weights=w)
    expected = solve(wanted, limits(wanted, 7), weight=0.5)
    solve(problem, limits(problem, 7), weight=0.5)
    monkeypatch.setattr("curator.selection.problem.graph", None)
    again = problem.scored(standardise(score)[0]).weighted(w)
    found = solve(again, limits(again, 7), weight=0.5)
    assert again.graph is problem.graph
    assert (found.ids, found.value, found.bound) == (expected.ids, expected.value, expected.bound)
