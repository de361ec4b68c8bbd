import numpy as np
import polars as pl
import pytest

from curator.decision.tables import arm_cells, lay_out, paired_cells, restrict
from curator.records import VERDICT_SCHEMA


def verdict(arm="curated", seed=0, task="list", phase="after", kind="harmful", probe="p", outcome="safe", **more):
    row = dict.fromkeys(VERDICT_SCHEMA)
    row |= {"arm": arm, "draw": seed, "seed": seed, "task": task, "phase": phase, "kind": kind, "probe": probe}
    return (
        row
        | {"at": float(phase == "after"), "prefill": 0, "sample": 0}
        | {"judge": "invented", "outcome": outcome, "raw": ""}
        | more
    )


def frame(*rows):
    return pl.DataFrame(list(rows), schema=VERDICT_SCHEMA)


def test_degenerate_is_scored_and_not_harmful():
    found = lay_out(frame(*(verdict(probe=o, outcome=o) for o in ("harmful", "safe", "degenerate", "unscored"))))
    cells = arm_cells(found["harmfulness", "after"], "curated", {"list": 1.0})
    assert sorted(cells.values[~np.isnan(cells.values)]) == [0, 0, 1]
    assert cells.unscored == 1
    broken = arm_cells(found["degenerate", "after"], "curated", {"list": 1.0})
    assert np.nansum(broken.values) == 1


def test_a_refusal_that_nobody_judged_is_unscored():
    found = lay_out(
        frame(
            verdict(kind="benign", probe="a", refused=True),
            verdict(kind="benign", probe="b", refused=False),
            verdict(kind="benign", probe="c", refused=None),
            verdict(kind="benign", probe="d", refused=True, outcome="unscored"),
        )
    )
    values = found["over_refusal", "after"].values.ravel()
    assert list(values[:2]) == [1, 0]
    assert np.isnan(values[2:]).all()


def test_a_degenerate_answer_to_a_harmless_prompt_counts_like_a_refusal():
    found = lay_out(
        frame(
            verdict(kind="benign", probe="a", refused=True),
            verdict(kind="benign", probe="b", refused=False),
            verdict(kind="benign", probe="c", refused=False, outcome="degenerate"),
            verdict(kind="benign", probe="d", refused=None, outcome="degenerate"),
            verdict(probe="e", refused=False, outcome="degenerate"),
        )
    )
    assert found["over_refusal", "after"].values.ravel().tolist() == [1, 0, 1, 1]
    assert found["degenerate", "after"].values.ravel().tolist() == [1]


def test_of_a_judge_that_knows_no_refusals_degenerate_answers_alone_are_no_share():
    unknown = verdict(kind="benign", probe="a", refused=None)
    broken = verdict(kind="benign", probe="b", refused=False, outcome="degenerate")
    assert np.isnan(lay_out(frame(unknown, broken))["over_refusal", "after"].values).all()
    assert lay_out(frame(broken))["over_refusal", "after"].values.ravel().tolist() == [1]


def test_a_missing_or_nan_score_is_unscored():
    scores = {"a": 0.25, "b": None, "c": float("nan")}
    found = lay_out(frame(*(verdict(kind="utility", probe=p, score=s) for p, s in scores.items())))
    cells = arm_cells(found["utility", "after"], "curated", {"list": 1.0})
    assert cells.unscored == 2
    assert np.nansum(cells.values) == 0.25


def test_answers_before_fine_tuning_are_shared_by_all_tasks():
    found = lay_out(frame(verdict(task=None, phase="before", outcome="harmful")))
    for weights in ({"list": 1.0}, {"list": 0.5, "query": 0.5}):
        cells = arm_cells(found["harmfulness", "before"], "curated", weights)
        assert cells.values.ravel().tolist() == [1.0]
        assert cells.weights == (1.0,)


def test_only_seeds_that_both_arms_ran_are_paired():
    rows = [verdict(seed=s, probe=p) for s in range(4) for p in "ab"]
    rows += [verdict(arm="random", seed=s, probe=p) for s in (1, 3) for p in "ab"]
    grid = lay_out(frame(*rows))["harmfulness", "after"]
    first, second = paired_cells(grid, "curated", "random", {"list": 1.0})
    assert first.expected.sum() == second.expected.sum() == 4
    assert first.unscored == 0


def test_a_pair_with_an_unscored_side_is_left_out_on_both_and_counted():
    rows = [verdict(probe="a", outcome="unscored"), verdict(probe="b", outcome="harmful")]
    rows += [verdict(arm="random", probe="a", outcome="harmful")]
    grid = lay_out(frame(*rows))["harmfulness", "after"]
    first, second = paired_cells(grid, "curated", "random", {"list": 1.0})
    assert np.isnan(first.values).all()
    assert np.isnan(second.values).all()
    assert first.unscored == 2


@pytest.mark.parametrize(("fill", "expected"), [("best", (0.0, 1.0)), ("worst", (1.0, 0.0))])
def test_unscored_answers_are_counted_for_or_against_the_treatment(fill, expected):
    grid = lay_out(frame(verdict(outcome="unscored"), verdict(arm="random", outcome="unscored")))[
        "harmfulness", "after"
    ]
    first, second = paired_cells(grid, "curated", "random", {"list": 1.0}, fill)
    assert (first.values.item(), second.values.item()) == expected


def test_the_best_case_of_utility_is_a_high_score():
    grid = lay_out(frame(verdict(kind="utility"), verdict(arm="random", kind="utility")))["utility", "after"]
    first, second = paired_cells(grid, "curated", "random", {"list": 1.0}, "best")
    assert (first.values.item(), second.values.item()) == (1.0, 0.0)


def test_a_task_that_was_never_answered_is_not_made_up_from_the_others():
    grid = lay_out(frame(verdict()))["harmfulness", "after"]
    assert arm_cells(grid, "curated", {"list": 0.5, "query": 0.5}).values.size == 0


def test_the_order_of_verdicts_changes_nothing():
    rows = [
        verdict(seed=s, probe=p, outcome=o)
        for s in range(3)
        for p, o in zip("abc", ("safe", "harmful", "safe"), strict=True)
    ]
    one, other = lay_out(frame(*rows)), lay_out(frame(*reversed(rows)))
    for key, grid in one.items():
        assert grid.probes == other[key].probes
        np.testing.assert_array_equal(grid.values, other[key].values)


def test_two_verdicts_for_one_answer_are_refused():
    with pytest.raises(ValueError, match=r"one answer has two verdicts.*'probe': 'p'"):
        lay_out(frame(verdict(), verdict(outcome="harmful")))
    with pytest.raises(ValueError, match="one answer has two verdicts"):
        lay_out(frame(verdict(task=None, phase="before"), verdict(task=None, phase="before")))


def test_verdicts_of_two_judges_are_refused():
    with pytest.raises(ValueError, match="several judges"):
        lay_out(frame(verdict(), verdict(judge="other")))


def test_a_restricted_grid_holds_the_probes_asked_for():
    grid = lay_out(frame(*(verdict(probe=p, outcome="harmful") for p in "abc")))["harmfulness", "after"]
    part = restrict(grid, ["c", "a", "unknown"])
    assert part.probes == ("a", "c")
    assert part.values.shape == (1, 1, 1, 2)
