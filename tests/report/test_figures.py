"""What figures.json holds is what the rows are."""

import json
from dataclasses import asdict, replace

import numpy as np

from curator.report.figures import BINS, covered, figures, spaced
from tests.report.invented import invent


def of(run, **changes):
    given = {
        "pool": run.data.pool,
        "vectors": run.vectors,
        "scores": run.scores,
        "selection": run.selection,
        "arms": run.arms,
        "control": "random",
    }
    return figures(**{**given, **changes})


def test_figures_survive_json_and_hold_no_text(run):
    found = asdict(of(run))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    text = json.dumps(found)
    for row in run.data.pool.rows["messages"]:
        assert row[0]["content"] not in text


def test_distributions_are_shares_of_the_rows_of_each_set(run):
    found = of(run).distributions
    assert set(found) == {"combined", "list", "story", "odd"}
    one = found["list"]
    assert len(one.edges) == BINS + 1
    values = dict(zip(run.scores.ids, run.scores.tasks["list"], strict=True))
    assert set(one.shares) == {"pool", "curated", "random", "matched-random"}
    for place in range(BINS):
        inside = [
            one.edges[place] <= values[row] < one.edges[place + 1] + (place == BINS - 1) for row in run.selection.ids
        ]
        assert np.isclose(one.shares["curated"][place], np.mean(inside), atol=0.1)
    for shares in one.shares.values():
        assert np.isclose(sum(shares), 1.0, atol=1e-4)


def test_an_arm_of_which_some_rows_have_no_score_has_no_distribution(run):
    arms = {**run.arms, ("mine", 0): (run.scores.ids[0], "elsewhere"), ("own", 0): tuple(run.scores.ids[:3])}
    found = of(run, arms=arms).distributions["list"]
    assert "own" in found.shares
    assert "mine" not in found.shares


def test_spaced_holds_both_ends():
    assert spaced(3, 5).tolist() == [0, 1, 2]
    assert spaced(100, 4).tolist() == [0, 33, 66, 99]
    assert len(spaced(10_000, 2000)) == 2000


def test_coverage_is_the_mean_of_the_largest_cosine_row_by_row(run):
    found = {
        one.category: one for one in covered(run.data.pool, run.vectors, run.selection.ids, run.arms, control="random")
    }
    at = {one: run.vectors.matrix[row] for row, one in enumerate(run.vectors.ids)}
    sets = {"curated": run.selection.ids, "control": run.arms["random", 0]}
    for category in ("theft", "poison", None):
        rows = [row["id"] for row in run.data.pool.rows.to_dicts() if row["category"] == category]
        assert found[category].rows == len(rows)
        for name, ids in sets.items():
            nearest = [max(0.0, *(float(at[row] @ at[one]) for one in ids)) for row in rows]
            assert np.isclose(getattr(found[category], name), np.mean(nearest), atol=1e-5)


def test_without_a_control_set_its_coverage_is_unknown(run):
    found = covered(run.data.pool, run.vectors, run.selection.ids, {}, control="none")
    assert all(one.control is None and one.curated > 0 for one in found)


def test_gains_end_at_the_value(run):
    found = of(run).gains
    assert found.ranks == list(range(1, 13))
    assert np.isclose(found.values[-1], run.selection.value)


def test_all_scores_alike_still_have_a_distribution():
    run = invent(seeds=2)
    flat = replace(run.scores, combined=np.zeros(60), tasks={"list": np.zeros(60)})
    found = of(run, scores=flat).distributions["list"]
    assert found.shares["pool"][0] == 1.0
