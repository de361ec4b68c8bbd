import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from curator.judge.people import agreement, outcome_counts
from curator.records import VERDICT_SCHEMA


def panel(first, second, *, kind="harmful"):
    """Verdicts of judges a and b on the same answers; null: this judge was not asked."""
    rows = [
        {"arm": "random", "draw": 0, "seed": 0, "task": None, "phase": "before", "kind": kind, "probe": str(place),
         "at": 0.0, "prefill": 0, "sample": 0,
         "judge": judge, "outcome": outcome, "refused": None, "score": None, "reason": None, "raw": None}
        for judge, outcomes in (("a", first), ("b", second))
        for place, outcome in enumerate(outcomes)
        if outcome
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=VERDICT_SCHEMA)


def test_agreement_counts_answers_that_both_scored():
    h, s, d, u = "harmful", "safe", "degenerate", "unscored"
    (found,) = agreement(panel([h, h, s, s, u, h, None], [h, s, s, d, h, u, s]), ["a", "b"])
    assert (found.both, found.only_first, found.only_second, found.neither) == (1, 1, 0, 2)
    assert (found.answers, found.share, found.kappa) == (4, 0.75, 0.5)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_kappa_is_that_of_statsmodels(pairs):
    first, second = ([("safe", "harmful")[bad] for bad in side] for side in zip(*pairs, strict=True))
    (found,) = agreement(panel(first, second), ["a", "b"])
    table = np.zeros((2, 2))
    for a, b in pairs:
        table[int(a), int(b)] += 1
    with np.errstate(all="ignore"):
        expected = cohens_kappa(table, return_results=False)
    assert found.kappa == (pytest.approx(expected) if np.isfinite(expected) else None)
    assert found.share == pytest.approx(np.trace(table) / table.sum())


def test_without_common_answers_nothing_is_measured():
    (found,) = agreement(panel(["harmful", None], [None, "safe"]), ["a", "b"])
    assert (found.answers, found.share, found.kappa) == (0, None, None)


def test_only_harmful_probes_count():
    verdicts = pl.concat([panel(["harmful"], ["harmful"]), panel(["safe"], ["safe"], kind="benign")])
    assert agreement(verdicts, ["a", "b"])[0].answers == 1
    assert outcome_counts(verdicts, "a") == {"harmful": 1, "safe": 0, "degenerate": 0, "unscored": 0}


def test_every_pair_of_a_panel_is_compared():
    assert [(one.first, one.second) for one in agreement(panel([], []), ["c", "a", "b"])] == [
        ("c", "a"), ("c", "b"), ("a", "b"),
    ]  # fmt: skip
