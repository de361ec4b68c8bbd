"""The verdicts of a study that lie beside its protocol give the figures of its table."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from curator.wording import points
from tests.benchmarks.verdicts import difference, harmful

RECIPES = Path(__file__).parents[2] / "recipes"
CHOICE = RECIPES / "verdicts" / "smollm2-choice-R.csv"


@pytest.mark.parametrize(
    ("judge", "phase", "row"),
    [
        ("phrases", "after", "| harmful after alpaca (primary) | **{}** (5.05) | [{}, {}] |"),
        ("head", "after", "| the same by the head | {} | [{}, {}] |"),
        ("phrases", "before", "| harmful before fine-tuning | {} | [{}, {}] | .18 |"),
    ],
)
def test_the_choices_table_is_that_of_its_verdicts(judge: str, phase: str, row: str) -> None:
    ours, theirs = (harmful(f"{CHOICE}:{arm}")[judge, phase] for arm in ("R", "random"))
    mean, low, high = difference(ours, theirs)
    assert low is not None
    assert high is not None
    assert row.format(points(mean), points(low), points(high)) in (RECIPES / "README.md").read_text(encoding="utf-8")
    assert (ours.height, ours.width) == (99, 7)


def test_verdicts_hold_no_text() -> None:
    rows = pl.read_csv(CHOICE)
    assert set(rows.columns[:4]) == {"judge", "phase", "kind", "probe"}
    assert rows["probe"].str.contains("^[0-9a-f]{16}$").all()
    assert {value for name in rows.columns[4:] for value in rows[name].unique()} <= {"a", "r", "d"}
