from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from curator.pool import semantic as embedding
from curator.pool.taxonomy import descriptions, sureness
from curator.recipe.pool import UNSURE, Categorise, Clean, Decontaminate, Embedder, PoolSection
from curator.recipe.source import Source
from curator.records import ROW_SCHEMA, Data, Messages, Pool, no_rows


def rows(prompts: list[str], categories: list[str | None]) -> pl.DataFrame:
    data: dict[str, Any] = {name: [None] * len(prompts) for name in ROW_SCHEMA}
    data["id"] = [f"{number:02}" for number in range(len(prompts))]
    data["messages"] = [[{"role": "user", "content": one}, {"role": "assistant", "content": "no"}] for one in prompts]
    return pl.DataFrame(data | {"category": categories}, schema=ROW_SCHEMA)


@pytest.fixture
def by_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedder that gives every text a direction of its own, and descriptions theirs."""
    known: dict[str, int] = {}

    def embedder(section: Embedder, cache: Any = None, **_: Any) -> Any:
        def embed(ids: Sequence[str], conversations: Sequence[Messages]) -> Any:
            out = np.zeros((len(conversations), 64), dtype=np.float32)
            for number, messages in enumerate(conversations):
                out[number, known.setdefault(messages[0]["content"], len(known))] = 1
            return out

        return embed

    monkeypatch.setattr(embedding, "embedder", embedder)


def data(pool: pl.DataFrame, probes: pl.DataFrame) -> Data:
    empty = no_rows()
    dropped = Pool(pool, pl.DataFrame(schema={"source": pl.String, "line": pl.Int64, "stage": pl.String,
                                              "reason": pl.String, "match": pl.String}))  # fmt: skip
    return Data(pool=dropped, tasks=(), harmful=probes, benign=empty, keep=empty)


def test_missing_categories_are_those_of_the_nearest_hazard(by_text: None) -> None:
    said = descriptions()
    found, hazards = embedding.categorised(
        data(rows([said[0], "nothing like it", said[3]], [None, None, "own"]), no_rows()),
        PoolSection(sources=[Source(sandbox="pool")], categorise=Categorise(least=0.5)),
    )
    assert found.pool.rows["category"].to_list() == ["violent crimes", None, "own"]
    assert hazards is not None
    assert hazards["assigned"].to_list() == [True, True, False]
    assert hazards["confidence"].to_list() == [1.0, 0.0, 1.0]
    assert sureness(hazards) == (
        "1 row got the category of the nearest hazard, 0% of them unsure (0.05 or less in cosine above the next); "
        "1 row has no category"
    )
    doubtful = hazards.with_columns(confidence=pl.lit(UNSURE))
    assert "100% of them unsure" in sureness(doubtful)


def test_without_categorise_nothing_is_filled_in() -> None:
    made = data(rows(["a"], [None]), no_rows())
    assert embedding.categorised(made, PoolSection(sources=[Source(sandbox="pool")])) == (made, None)


def test_rows_near_a_probe_are_listed_and_none_is_dropped(by_text: None) -> None:
    made = data(rows(["ask this", "ask that"], [None, None]), rows(["ask that"], [None]))
    clean = Clean(decontaminate=Decontaminate(neighbours=0.9))
    listed = embedding.near_probes(made, PoolSection(sources=[Source(sandbox="pool")], clean=clean))
    assert listed is not None
    assert listed.rows() == [("pool", "01", "00", 1.0)]
    assert embedding.near_probes(made, PoolSection(sources=[Source(sandbox="pool")])) is None


def test_rows_of_a_heavy_source_are_covered_first() -> None:
    from curator.recipe.select import Select
    from curator.records import Scores, Vectors
    from curator.selection.stage import choose

    pool = rows([f"ask {n}" for n in range(12)], [None] * 12)
    pool = pool.with_columns(
        pl.Series("source", ["left"] * 6 + ["right"] * 6), pl.lit(1).cast(pl.Int64).alias("tokens")
    )
    matrix = np.zeros((12, 2), dtype=np.float32)
    matrix[:6, 0], matrix[6:, 1] = 1, 1
    ids = tuple(pool["id"])
    scores = Scores(ids, "s", np.zeros(12), {"t": np.zeros(12)}, {}, -1.0, 1.0)

    def chosen(weights: dict[str, float]) -> set[str]:
        found = choose(
            Select(k=1, weight=0.5),
            pool,
            Vectors(ids, matrix, "m"),
            scores,
            weight=0.0,
            task_cover=None,
            seed=0,
            source_weights=weights,
        )
        return set(pool.filter(pl.col("id").is_in(found.selection.ids))["source"])

    assert chosen({"left": 2.0, "right": 1.0}) == {"left"}
    assert chosen({"left": 1.0, "right": 2.0}) == {"right"}
    assert chosen({"left": 1.0, "right": 0.0}) == {"left"}
