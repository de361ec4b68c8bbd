"""What quotas rest on: rows in no group, and categories that an embedder is unsure of."""

from __future__ import annotations

import polars as pl
import pytest

from curator.recipe.pool import UNSURE
from curator.recipe.select import Select
from curator.selection.quotas import remarks, unsure

IDS = list("abcdefgh")
LABELS = dict(zip(IDS, ["hate", "hate", "privacy", None, None, None, "privacy", "hate"], strict=True))
HAZARDS = pl.DataFrame(
    {
        "id": IDS,
        "category": list(LABELS.values()),
        "assigned": [True, True, True, True, True, True, True, False],
        "cosine": [0.5] * 8,
        "confidence": [UNSURE, 0.3, UNSURE / 2, 0.0, 0.0, 0.0, 0.2, 0.0],
    }
)
BY_CATEGORY = Select(k=4, quotas={"by": "category", "max": 3})


def test_only_rows_that_got_a_category_can_be_unsure() -> None:
    assert unsure(HAZARDS) == {"a", "c"}


@pytest.mark.parametrize(("many", "says"), [(0.5, True), (0.51, False)])
def test_unsure_categories_are_told_from_a_share_of_the_chosen_rows_on(many: float, says: bool) -> None:
    noted = remarks(BY_CATEGORY, LABELS, ["a", "c", "g", "h"], HAZARDS, many=many)
    assert any("2 of 4 chosen rows got one that the embedder is unsure of" in each for each in noted) is says


def test_rows_that_no_quota_limits_are_counted() -> None:
    (sentence,) = remarks(BY_CATEGORY, LABELS, ["a", "d", "e", "h"], None, many=0.1)
    assert sentence == (
        "quotas are by category, and 2 of 4 chosen rows have none, so no quota limits them (3 of 8 rows of the pool)"
    )
    assert remarks(BY_CATEGORY, dict.fromkeys(IDS, "hate"), ["a"], None, many=0.1) == []
    assert remarks(Select(k=4), LABELS, ["a", "d"], HAZARDS, many=0.1) == []
    by_source = Select(k=4, quotas={"by": "source", "max": 3})
    assert remarks(by_source, dict.fromkeys(IDS, "x"), ["a", "c"], HAZARDS, many=0.1) == []  # sure of its source
