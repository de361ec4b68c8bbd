"""The floor under coverage, against all sets of small pools and as the recipe's key."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curator.errors import RecipeError, SelectionError
from curator.recipe.select import Select, unchosen
from curator.records import Selection
from curator.run import Run as Folder
from curator.run.files import load_selection
from curator.selection.floor import FRONTIER_SCHEMA, SIGNS, frontier_frame
from curator.selection.frontier import frontier
from curator.selection.limits import limits
from curator.selection.objectives import TERMS
from curator.selection.problem import prepare
from curator.selection.solve import select, solve
from tests.selection.selection_twins import facility, standard, unit_rows
from tests.selection.test_stage import Run, invoke
from tests.small_run import recipe

seeds = st.integers(0, 10**6)
floors = st.sampled_from([0.3, 0.7, 0.9, 1.0])


def tried(found: Selection) -> list[SimpleNamespace]:
    return [SimpleNamespace(**row) for row in found.frontier if row["kind"] == "lambda"]


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(4, 12), floors, st.sampled_from(["dissimilar", "similar"]), st.data())
def test_the_set_keeps_the_floor_and_no_set_is_past_the_certified_ends(seed, n, coverage, prefer, data):
    k = data.draw(st.integers(1, min(n, 5)))
    x, score = unit_rows(seed, n, copies=n // 4), np.random.default_rng(seed).standard_normal(n)
    found = select(x, score, k, coverage=coverage, prefer=prefer, neighbours=4)
    cover, z, facts = facility(x, 4), standard(score), found.parameters["floor"]
    most = max(point.coverage for point in tried(found))
    floor = most - (1 - coverage) * max(0.0, most - facts["random"])
    assert cover(tuple(found.indices)) >= floor - 2e-6
    assert facts["similarity"] == pytest.approx(z[found.indices].mean(), abs=1e-9)
    sign = SIGNS[prefer]
    assert sign * found.weight >= 0
    every = [(cover(rows), z[list(rows)].mean()) for rows in itertools.combinations(range(n), k)]
    assert max(value for value, _ in every) <= facts["most_bound"] + 2e-6
    # Values of the twin differ in their last digits, so sets on the floor to the last digit are left out.
    best = min((sign * near for value, near in every if value >= floor + 2e-6), default=np.inf)
    assert best >= sign * facts["similarity_bound"] - 2e-5
    if facts["share"] is not None:
        assert facts["share"] >= coverage - 1e-9
        assert max(point.share for point in tried(found)) == pytest.approx(1.0)
        assert facts["share_certified"] <= facts["share"] + 1e-9
    for point in tried(found):
        assert max(value - point.weight * near for value, near in every) <= point.bound + 2e-6
        # Every set that was tried is one of coverage and similarity that there is, and no kept one goes further.
        assert min(abs(value - point.coverage) + abs(near - point.similarity) for value, near in every) < 2e-6
        if point.coverage >= floor:
            assert sign * point.similarity >= sign * facts["similarity"] - 1e-9


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(20, 60), floors)
def test_the_weight_found_chooses_the_same_set_and_the_order_of_rows_changes_nothing(seed, n, coverage):
    x, score = unit_rows(seed, n, copies=n // 6), np.random.default_rng(seed).standard_normal(n)
    found = select(x, score, n // 5, coverage=coverage, prefer="dissimilar", neighbours=8, ids=list(range(n)))
    again = select(x, score, n // 5, weight=found.weight, neighbours=8, ids=list(range(n)))
    assert (found.ids, found.value, found.bound) == (again.ids, again.value, again.bound)
    assert found.relative_gap == pytest.approx(again.relative_gap)
    assert len(tried(found)) <= 12
    assert sum(row["chosen"] for row in found.frontier) == 1
    order = np.random.default_rng(seed).permutation(n)
    other = select(
        x[order], score[order], n // 5, coverage=coverage, prefer="dissimilar", neighbours=8, ids=order.tolist()
    )
    assert other.ids == found.ids
    assert other.weight == pytest.approx(found.weight, rel=1e-9)


def test_a_lower_floor_gives_less_similar_sets_and_a_bare_weight_can_lose_all_coverage():
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((12, 16))
    x = centres[rng.integers(12, size=400)] + 0.4 * rng.standard_normal((400, 16))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    score = x @ x[0].astype(np.float64)
    sets = {share: select(x, score, 24, coverage=share, prefer="dissimilar") for share in (1.0, 0.9, 0.7, 0.4)}
    at = {share: found.parameters["floor"] for share, found in sets.items()}
    assert [facts["similarity"] for facts in at.values()] == sorted(
        (facts["similarity"] for facts in at.values()), reverse=True
    )
    assert at[0.4]["similarity"] < at[1.0]["similarity"] - 0.3
    for share, facts in at.items():
        assert share - 1e-9 <= facts["share"]
        # No lambda is left out between the last that keeps the floor and the first that does not.
        below = min(abs(point.weight) for point in tried(sets[share]) if point.share < share)
        above = max(
            abs(point.weight) for point in tried(sets[share]) if point.share >= share and abs(point.weight) < below
        )
        assert facts["share"] <= share + 0.002 or share == 1.0 or below <= 1.01 * above
    far = select(x, score, 24, weight=5.0)
    facts = at[0.9]
    cover = far.value + 5.0 * standard(score)[far.indices].mean()
    assert (cover - facts["random"]) / (facts["most"] - facts["random"]) < 0.0
    similar = select(x, score, 24, coverage=0.9, prefer="similar")
    assert similar.weight < 0
    assert similar.parameters["floor"]["similarity"] > at[1.0]["similarity"]
    alone = select(x, score, 24, coverage=0.9, prefer="none")
    assert (alone.weight, alone.ids) == (0.0, select(x, score, 24, weight=0.0).ids)
    assert alone.parameters["floor"]["similarity_bound"] is None


@pytest.mark.parametrize("objective", [name for name in TERMS if name != "graph-cut"])
def test_every_monotone_objective_has_a_floor_with_all_limits(objective):
    n = 60
    x, score = unit_rows(3, n), np.random.default_rng(3).standard_normal(n)
    limits = {
        "groups": [row % 3 for row in range(n)], "quotas": {0: (4, 6)}, "include": [1], "exclude": [2],
        "caps": {"pair": ([row // 2 for row in range(n)], 0.1)},
    }  # fmt: skip
    call = {
        "objective": objective,
        "task_cover": np.full(n, 0.2),
        "neighbours": 8,
        "coverage": 0.8,
        "prefer": "dissimilar",
    }
    found = select(x, score, 12, **call, **limits)
    assert len(set(found.ids)) == 12
    assert found.parameters["floor"]["share"] >= 0.8 - 1e-9
    assert 4 <= found.group_counts["0"] <= 6
    costs = np.random.default_rng(3).integers(1, 9, n).astype(float)
    spent = select(x, score, costs=costs, budget=50.0, **call)
    assert spent.budget_used <= 50
    assert spent.parameters["floor"]["share"] >= 0.8 - 1e-9
    sampled = select(x, score, 12, stochastic=0.1, **call)
    assert sampled.parameters["floor"]["share"] >= 0.8 - 1e-9


def test_a_set_that_covers_more_than_coverage_alone_is_the_most_found_and_no_share_is_above_it():
    x, score = unit_rows(14, 12), np.random.default_rng(14).standard_normal(12)
    found = select(x, score, 3, coverage=0.3, prefer="dissimilar", neighbours=4)
    points, facts = tried(found), found.parameters["floor"]
    chosen = next(point for point in points if point.chosen)
    assert chosen.coverage > points[0].coverage + 0.01  # greedy at lambda 0 is not the best set
    assert (facts["most"], facts["share"], chosen.share) == (chosen.coverage, 1.0, 1.0)
    assert points[0].share == pytest.approx((points[0].coverage - facts["random"]) / (facts["most"] - facts["random"]))
    assert facts["share_certified"] <= 1.0


def test_a_share_is_told_where_only_another_lambda_covers_more_than_random_sets():
    """A stochastic greedy set may cover less than random ones at lambda 0, and more at another."""
    rng = np.random.default_rng(228)
    x = rng.standard_normal((40, 6)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    call = {"prefer": "similar", "stochastic": 0.8, "neighbours": 8, "seed": 228}
    found = select(x, rng.standard_normal(40), 5, coverage=0.5, **call)
    facts = found.parameters["floor"]
    assert tried(found)[0].coverage < facts["random"] < facts["most"]
    assert facts["share"] >= 0.5


@settings(max_examples=15, deadline=None)
@given(seeds, st.floats(20.0, 60.0))
def test_under_a_budget_the_weight_found_chooses_the_same_set_too(seed, budget):
    rng = np.random.default_rng(seed)
    x, score, costs = unit_rows(seed, 30), rng.standard_normal(30), rng.integers(1, 30, 30).astype(float)
    call = {"costs": costs, "budget": budget, "neighbours": 6}
    found = select(x, score, coverage=0.8, prefer="dissimilar", **call)
    again = select(x, score, weight=found.weight, **call)
    assert (found.ids, found.value, found.bound) == (again.ids, again.value, again.bound)


@pytest.mark.parametrize(("objective", "seed"), [("log-det", 1), ("facility-location", 0), ("graph-cut", 4)])
def test_where_all_sets_cover_alike_no_share_is_of_rounding(objective, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((30, 5)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    problem = prepare(x, rng.standard_normal(30), neighbours=8)
    bounds = limits(problem, 30)
    points = frontier(problem, bounds, solve(problem, bounds, weight=0.3, objective=objective))
    assert {point["share"] for point in points} == {None}


def test_where_no_set_covers_more_than_a_random_one_the_floor_excludes_none():
    x = np.tile(np.eye(2, dtype=np.float32)[0], (8, 1))
    found = select(x, np.arange(8.0), 3, coverage=0.9, prefer="dissimilar")
    assert set(found.ids) == {"0", "1", "2"}
    assert found.parameters["floor"]["share"] is None
    whole = select(unit_rows(1, 6), np.arange(6.0), 6, coverage=0.9)
    assert len(whole.ids) == 6
    flat = select(unit_rows(1, 6), np.zeros(6), 3, coverage=0.9)
    assert flat.weight == 0.0


def test_two_weights_with_one_set_do_not_end_the_search():
    # Row 1 covers less than row 0 and is less similar, both slightly, so that small lambdas choose row 0 again.
    weights, score = np.full(54, 0.9), np.zeros(54)
    weights[:3], score[1:3] = (1.0, 0.96, 0.0), (-0.05, -1.0)
    found = select(
        np.eye(54, dtype=np.float32), score, 1, coverage=0.5, prefer="dissimilar", neighbours=1, row_weights=weights
    )
    assert found.ids == ("1",)
    assert found.parameters["floor"]["similarity"] == pytest.approx(standard(score)[1])


def test_a_recipe_with_weights_of_sources_refuses_coverage_where_they_make_it_fall():
    two = "pool.sources=[{sandbox: pool, weight: 0.3}, {file: other.jsonl}]"
    cut = ["select.weight=null", "select.objective=graph-cut", two]
    with pytest.raises(
        RecipeError, match=r"select: coverage: graph-cut with theta 0\.5 .* from 0\.3 to 1, .* to 0\.15,"
    ):
        recipe(*cut)
    assert recipe(*cut, "select.parameters={theta: 0.15}").select.coverage == 0.9
    recipe(*cut[1:], "select.weight=0.2")


def test_what_has_no_floor_is_refused_in_words():
    x, score = unit_rows(0, 10), np.arange(10.0)
    with pytest.raises(SelectionError, match="the objective is not monotone with these parameters"):
        select(x, score, 3, coverage=0.9, objective="graph-cut", parameters={"theta": 2.0})
    assert (
        select(x, score, 3, coverage=0.9, prefer="dissimilar", objective="graph-cut").parameters["floor"]["share"]
        >= 0.9
    )
    with pytest.raises(SelectionError, match="coverage: given together with weight"):
        select(x, score, 3, coverage=0.9, weight=0.1)
    for wrong in (0, 1.1, True, "much"):
        with pytest.raises(SelectionError, match="coverage: found"):
            select(x, score, 3, coverage=wrong)
    with pytest.raises(SelectionError, match="prefer: found 'far'; allowed: dissimilar, similar, none"):
        select(x, score, 3, coverage=0.9, prefer="far")


def test_a_recipe_says_a_weight_or_a_floor_and_without_both_a_floor_is_the_default_and_caps_are_none():
    unsaid = Select(k=3)
    assert (unsaid.coverage, unsaid.prefer, unsaid.weight, unsaid.answers) == (0.9, "none", None, None)
    assert Select(k=3, weight=0.3).answers is Select(k=3, weight="auto").answers is None
    assert Select(k=3, by="bank").answers is None
    assert (Select(data={"file": "a.jsonl"}).weight, Select(data={"file": "a.jsonl"}).answers) == (0.0, None)
    # Coverage that more rows can lower has no share to keep.
    cut = Select(k=3, objective="graph-cut", parameters={"theta": 0.6})
    assert (cut.weight, cut.coverage) == (0.0, None)
    assert (Select(k=3, by="bank").weight, unchosen()["weight"]) == (0.0, 0.0)
    floor = Select(k=3, coverage=0.8)
    assert floor.weight is None
    assert Select.model_validate(floor.model_dump()) == floor
    assert Select.model_validate(Select(k=3).model_dump()) == Select(k=3)
    for weight in (0.3, "auto"):
        with pytest.raises(ValidationError, match=r"weight \(.*\) and coverage \(0\.8\) are both given"):
            Select(k=3, weight=weight, coverage=0.8)
    with pytest.raises(ValidationError, match="prefer has no effect: only coverage reads it"):
        Select(k=3, weight=0.3, prefer="similar")
    with pytest.raises(ValidationError, match="coverage chooses rows, and data gives them"):
        Select(data={"file": "a.jsonl"}, coverage=0.8)
    with pytest.raises(ValidationError, match=r"graph-cut with theta 0\.6 is not monotone"):
        Select(k=3, objective="graph-cut", parameters={"theta": 0.6}, coverage=0.8)
    with pytest.raises(
        RecipeError,
        match=r"verify: pilot\.seeds has no effect: only select\.weight: auto reads it, and select\.coverage finds",
    ):
        recipe("select.weight=null", "select.coverage=0.8", "verify.pilot.seeds=5")


@pytest.fixture(scope="module")
def run(plain_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    heavy = shutil.ignore_patterns("*.safetensors")
    return Run(shutil.copytree(plain_run, tmp_path_factory.mktemp("runs") / "floor", ignore=heavy))


def test_a_run_keeps_the_floor_stores_the_frontier_and_says_so(run: Run) -> None:
    several = "represent=[{from: hidden-states, layer: 1}, {from: hidden-states, layer: 2}]"
    text = run.build("select.weight=null", "select.coverage=0.8", "select.prefer=dissimilar", several)
    found, folder = load_selection(run.root / "4-select"), Folder.open(run.root, "select")
    facts, frontier = found.parameters["floor"], folder.frontier()
    assert facts["share"] >= 0.8
    assert f"20 rows, the least similar found that keep {facts['share']:.1%} of the coverage above random sets" in text
    assert frontier.schema == FRONTIER_SCHEMA
    assert frontier.filter(chosen=True)["weight"].to_list() == [found.weight] == [folder.record("select")["weight"]]
    assert frontier.filter(kind="random").height == 16
    again = run.choose(f"select.weight={found.weight!r}", several)
    assert again.ids == found.ids
    by_weight = folder.frontier()  # a choice by a weight is on one too
    assert by_weight.filter(chosen=True)["weight"].to_list() == [found.weight]
    assert by_weight.filter(chosen=True)["similarity"].item() == pytest.approx(facts["similarity"])
    # Another representation's set keeps its own floor, at its own lambda, and not this one's.
    run.build("select.weight=null", "select.coverage=0.8", "select.prefer=dissimilar", several)
    stability = folder.stability()
    vectors, scores = folder.vectors("pool", 1), None
    from curator.run import Setting

    scores = folder.scores(Setting(0.0, None, 1))
    other = select(
        vectors.matrix, scores.combined, 20, ids=vectors.ids, neighbours=16, coverage=0.8, prefer="dissimilar"
    )
    assert other.weight != found.weight
    assert stability["shared"].to_list() == [len(set(other.ids) & set(found.ids))]
    assert "was chosen as #1 of 20" in invoke("show", str(run.root), "--why", found.ids[0])


def test_the_frame_of_a_frontier_has_its_columns() -> None:
    found = select(unit_rows(0, 12), np.arange(12.0), 4, coverage=0.5)
    frame = frontier_frame(found.frontier)
    assert frame.schema == FRONTIER_SCHEMA
    assert frame.height == len(found.frontier)
    assert frontier_frame(()).schema == FRONTIER_SCHEMA
