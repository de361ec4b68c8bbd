import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import SelectionError
from curator.records import Scores
from curator.selection import problem as problem_module
from curator.selection.explain import explain, row_of, stability, why
from curator.selection.limits import limits
from curator.selection.problem import prepare
from curator.selection.solve import solve
from tests.selection.selection_twins import facility, standard, unit_rows


def case(seed=0, n=40, k=6, weight=0.7, **call):
    x = unit_rows(seed, n, copies=n // 5)
    score = np.random.default_rng(seed).standard_normal(n)
    ids = [f"r{i:02d}" for i in range(n)]
    problem = prepare(x, score, ids=ids, neighbours=n)
    bounds = limits(problem, k, **call)
    return x, score, ids, problem, bounds, solve(problem, bounds, weight=weight)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 30), st.data())
def test_every_row_has_its_true_cover_and_its_true_final_value(seed, n, data):
    k = data.draw(st.integers(1, n - 1))
    x, score, ids, problem, bounds, found = case(seed, n, k)
    chosen, others = explain(problem, bounds, found)
    assert chosen["id"].to_list() == list(found.ids)
    assert chosen["gain"].to_list() == found.gains.tolist()
    assert np.allclose(chosen["similarity"], score[found.indices])
    assert sorted(chosen["id"].to_list() + others["id"].to_list()) == ids

    cover, penalty = facility(x, n), 0.7 / k * standard(score)
    cosine = np.clip(x @ x[found.indices].T, 0, 1)
    for row in others.iter_rows(named=True):
        at = ids.index(row["id"])
        assert row["coverage"] == pytest.approx(cosine[at].max(), abs=1e-6)
        if row["covered_by"] is None:
            assert cosine[at].max() <= 1e-6
        else:
            assert cosine[at, found.ids.index(row["covered_by"])] == pytest.approx(cosine[at].max(), abs=1e-6)
        with_it = cover((*found.indices, at)) - cover(tuple(found.indices)) - penalty[at]
        assert row["value"] == pytest.approx(with_it, abs=2e-6)
    covered = [one for row in chosen["covers"].to_list() for one in row]
    assert len(covered) == len(set(covered)) == n - others["covered_by"].null_count()
    assert all(row["id"] in row["covers"] for row in chosen.iter_rows(named=True))


def test_one_product_serves_value_and_explanation_and_another_set_gets_its_own(monkeypatch):
    *_, problem, bounds, found = case()
    calls = []
    real = problem_module.nearest
    monkeypatch.setattr(problem_module, "nearest", lambda *given: calls.append(given) or real(*given))
    first = explain(problem, bounds, found)
    assert calls == []  # solve has asked already
    other = solve(problem, limits(problem, 9), weight=0.7)
    assert len(calls) == 1
    second = explain(problem, limits(problem, 9), other)
    assert second[1].height == 31
    assert second[1].equals(explain(*(anew := case(k=9)[3:6]))[1])
    assert anew[2].all_pairs_value == other.all_pairs_value
    assert explain(problem, bounds, found)[1].equals(first[1])


def test_nearest_task_rows_are_joined_by_id():
    *_, ids, problem, bounds, found = case()
    order = ids[::-1]
    scores = Scores(
        ids=tuple(order),
        name="s",
        combined=np.array([float(one[1:]) for one in order]),
        tasks={"t": np.array([float(one[1:]) / 100 for one in order])},
        nearest={"t": tuple(f"task-{one}" for one in order)},
        low=-1,
        high=1,
    )
    chosen, others = explain(problem, bounds, found, scores)
    for row in chosen.iter_rows(named=True):
        number = float(row["id"][1:])
        assert row["nearest"] == [{"task": "t", "similarity": number / 100, "row": f"task-{row['id']}"}]
        assert row["similarity"] == number
    assert others["similarity"].to_list() == [float(one[1:]) for one in others["id"]]
    short = Scores(("r00",), "s", np.zeros(1), {}, {}, -1, 1)
    with pytest.raises(SelectionError, match="scores: no score for row 'r01'"):
        explain(problem, bounds, found, short)


def test_a_score_without_nearest_rows_leaves_them_open():
    *_, ids, problem, bounds, found = case()
    values = np.arange(len(ids)) / 100
    chosen, others = explain(
        problem, bounds, found, Scores(tuple(ids), "s", values, {"t": values}, {}, -np.inf, np.inf)
    )
    for row in chosen.iter_rows(named=True):
        assert row["nearest"] == [{"task": "t", "similarity": int(row["id"][1:]) / 100, "row": None}]
    said = why(chosen, others, found.ids[0])
    assert f"(t {int(found.ids[0][1:]) / 100:.3f})" in said
    assert "nearest row" not in said


def test_a_few_sentences_tell_why():
    *_, problem, bounds, found = case(exclude=["r03"])
    chosen, others = explain(problem, bounds, found)
    first = why(chosen, others, found.ids[0])
    assert first.startswith(f"Row {found.ids[0]} was chosen as #1 of 6. It added {found.gains[0]:.6f} to the objective")
    covers = chosen["covers"].to_list()[0]
    assert f"covers {len(covers)} rows best: {', '.join(covers[:8])}" in first
    assert first.endswith(f" and {len(covers) - 8} more." if len(covers) > 8 else ".")
    out = why(chosen, others, "r03")
    assert out.startswith("Row r03 was not chosen: ")
    assert out.endswith("The recipe excludes it.")
    row = others.row(by_predicate=pl.col("id") == "r03", named=True)
    assert f"{row['covered_by']} covers it with cosine {row['coverage']:.3f}" in out
    assert f"change the objective by {row['value']:+.6f}" in out


def test_a_row_is_found_by_its_id_or_by_the_start_of_only_one():
    *_, problem, bounds, found = case()
    frames = explain(problem, bounds, found)
    frames = tuple(
        frame.with_columns(id=pl.col("id").replace({"r07": "s7", "r08": "s", "r09": "t.9"})) for frame in frames
    )
    assert row_of(*frames, "s")["id"] == "s"
    assert row_of(*frames, "s7")["id"] == "s7"
    assert row_of(*frames, "t")["id"] == "t.9"
    for wrong in ("zz", ".", ""):
        with pytest.raises(SelectionError, match="no row with id"):
            row_of(*frames, wrong)
    with pytest.raises(SelectionError, match="10 row ids start with 'r1'; give more"):
        why(*frames, "r1")


def test_limits_that_keep_rows_out_are_told_whatever_their_value():
    groups = [("a", "b")[i % 2] for i in range(40)]
    *_, problem, bounds, found = case(groups=groups, quotas={"a": (None, 1)}, exclude=["r00", "r01"])
    chosen, others = explain(problem, bounds, found)
    barred = dict(others.select("id", "barred").iter_rows())
    assert {barred.pop("r00"), barred.pop("r01")} == {"exclude"}
    assert found.group_counts == {"a": 1, "b": 5}
    assert barred == {one: "quota" if int(one[1:]) % 2 == 0 else None for one in barred}
    full = next(one for one, says in barred.items() if says == "quota")
    assert why(chosen, others, full).endswith("Its group already has the most rows that its quota allows.")


def test_rows_that_no_longer_fit_a_budget_are_told():
    x, score = unit_rows(0, 40), np.zeros(40)
    costs = np.where(np.arange(40) < 20, 2.0, 5.0)
    problem = prepare(x, score)
    bounds = limits(problem, costs=costs, budget=9.0)
    found = solve(problem, bounds)
    left = 9.0 - found.budget_used
    chosen, others = explain(problem, bounds, found)
    for one, says in others.select("id", "barred").iter_rows():
        assert says == ("budget" if costs[int(one)] > left else None)
    assert "budget" in others["barred"].to_list()
    dear = others.filter(barred="budget")["id"][0]
    assert why(chosen, others, dear).endswith("It does not fit into the rest of the budget.")


@pytest.mark.parametrize("objective", ["graph-cut", "log-det"])
def test_other_objectives_are_explained_by_their_own_values(objective):
    *_, problem, bounds, _ = case()
    found = solve(problem, bounds, objective=objective, weight=0.0)
    _, others = explain(problem, bounds, found)
    larger = solve(problem, limits(problem, 7), objective=objective, weight=0.0)
    added = others.row(by_predicate=pl.col("id") == larger.ids[-1], named=True)
    assert added["value"] == pytest.approx(others["value"].max()) == pytest.approx(larger.gains[-1])


def test_equal_reversed_and_disjoint_sets():
    found = stability({"a": list("wxyz"), "b": list("zyxw"), "c": list("wxyz"), "d": ["p", "q"]}, 40)
    by_pair = {(row["one"], row["other"]): row for row in found.iter_rows(named=True)}
    assert len(by_pair) == 6
    assert by_pair["a", "c"] == {
        "one": "a", "other": "c", "shared": 4, "overlap": 1.0, "chance": 0.1, "rank_correlation": pytest.approx(1.0),
    }  # fmt: skip
    assert by_pair["a", "b"]["rank_correlation"] == pytest.approx(-1.0)
    assert by_pair["a", "d"]["overlap"] == 0.0
    assert by_pair["a", "d"]["rank_correlation"] is None


def test_overlap_is_of_the_smaller_set():
    found = stability({"small": ["a", "b"], "large": list("abcd")}, 8).row(0, named=True)
    assert (found["shared"], found["overlap"], found["chance"]) == (2, 1.0, 0.5)
