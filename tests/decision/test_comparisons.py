import numpy as np
import polars as pl
import pytest

from curator.decision.comparisons import compare, with_bootstrap, within_seeds
from curator.decision.tables import lay_out


def test_each_seed_has_the_published_mcnemar(verdicts):
    published = pytest.importorskip("statsmodels.stats.contingency_tables").mcnemar
    frame = verdicts({"curated": 0.2, "random": 0.35}, seeds=3, prompts=60)
    found = within_seeds(lay_out(frame)["harmfulness", "after"], "curated", "random", "list")
    assert [entry.seed for entry in found] == [0, 1, 2]
    for entry in found:
        part = frame.filter(seed=entry.seed, kind="harmful", phase="after").sort("arm", "probe")
        first, second = (part.filter(arm=arm)["outcome"].to_numpy() == "harmful" for arm in ("curated", "random"))
        table = [[np.sum(first & second), np.sum(first & ~second)], [np.sum(~first & second), np.sum(~first & ~second)]]
        assert (entry.only_treatment, entry.only_control) == (table[0][1], table[1][0])
        assert entry.p == pytest.approx(published(table, exact=True).pvalue)
        assert entry.pairs == 60


def test_arms_alike_have_p_one_and_an_unknown_task_no_entry(verdicts):
    alike = np.full((3, 10), "harmful")
    grid = lay_out(verdicts({"curated": alike, "random": alike}, seeds=3, prompts=10))["harmfulness", "after"]
    assert {entry.p for entry in within_seeds(grid, "curated", "random", "list")} == {1.0}
    assert within_seeds(grid, "curated", "random", "query") == ()


def test_a_bootstrap_of_arms_that_are_all_alike_has_no_limits_to_show(verdicts):
    frame = verdicts({"random": 0.3}, seeds=10)
    both = pl.concat([frame, frame.with_columns(pl.lit("curated").alias("arm"))])
    grid = lay_out(both)["harmfulness", "after"]
    found = with_bootstrap(compare(grid, "curated", "random", {"list": 1.0}), grid, {"list": 1.0}, 0)
    assert (found.difference, found.bootstrap) == (0, None)
    assert found.low < 0 < found.high
