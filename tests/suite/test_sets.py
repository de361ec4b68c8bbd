"""How different the rows of a set are, against the slow and obvious way."""

from __future__ import annotations

import numpy as np
import pytest

from curator.conclusions.part import plain
from curator.records import Scores, Vectors
from curator.suite.results import diversity, set_facts, shared_rows


def unit(rows: int, width: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32) + 1.0
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def slowly(rows: np.ndarray) -> dict[str, float]:
    """The same from the full matrix of cosines, pair by pair."""
    wide = rows.astype(np.float64)
    kernel = wide @ wide.T
    shares = np.linalg.eigvalsh(kernel / len(wide))
    shares = shares[shares > 1e-12] / shares[shares > 1e-12].sum()
    pairs = [kernel[i, j] for i in range(len(wide)) for j in range(len(wide)) if i != j]
    return {
        "log_det": float(np.log(np.linalg.det(np.eye(len(wide)) + kernel))),
        "vendi": float(np.exp(-(shares * np.log(shares)).sum())),
        "pairwise": float(np.mean(pairs)),
    }


@pytest.mark.parametrize(("rows", "width"), [(5, 12), (12, 5), (30, 8)])
def test_diversity_is_that_of_all_pairs(rows: int, width: int) -> None:
    found = diversity(unit(rows, width))
    assert found == {name: pytest.approx(value, rel=1e-4) for name, value in slowly(unit(rows, width)).items()}


def test_its_ends_are_what_they_should_be() -> None:
    apart = diversity(np.eye(4, dtype=np.float32))
    assert (apart["vendi"], apart["pairwise"]) == (pytest.approx(4), pytest.approx(0))
    assert apart["log_det"] == pytest.approx(4 * np.log(2))
    equal = diversity(np.ones((6, 1), dtype=np.float32))
    assert (equal["vendi"], equal["pairwise"]) == (pytest.approx(1), pytest.approx(1))
    assert diversity(np.ones((1, 1), dtype=np.float32))["pairwise"] == 1.0


def given() -> tuple[Vectors, Scores]:
    ids = tuple("abcdef")
    vectors = Vectors(ids, unit(6, 4), model="m", revision=None, layer=-1, token="eos", truncated=0)
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    scores = Scores(ids=ids, name="s", combined=values, tasks={"list": values}, nearest={}, low=-1.0, high=1.0,
                    parameters={})  # fmt: skip
    return vectors, scores


def test_every_arm_has_the_means_of_its_sets() -> None:
    vectors, scores = given()
    arms = {
        ("random", 0): ("a", "b"),
        ("random", 1): ("e", "f"),
        ("curated", 0): ("a", "c"),
        ("curated", 1): ("c", "a"),
    }
    found = set_facts(vectors, scores, arms)
    assert (found["curated"].sets, found["curated"].rows) == (1, 2.0)  # one set, in whatever order
    assert found["random"].sets == 2
    assert found["random"].similarity == pytest.approx(0.35)
    assert found["random"].z == pytest.approx(0.0)
    assert found["curated"].z == pytest.approx((0.2 - 0.35) / scores.combined.std())
    mean = np.mean([diversity(vectors.matrix[[0, 1]])["vendi"], diversity(vectors.matrix[[4, 5]])["vendi"]])
    assert found["random"].vendi == pytest.approx(mean)


def test_rows_that_are_not_the_pools_were_not_scored() -> None:
    vectors, scores = given()
    found = set_facts(vectors, scores, {("mine", 0): ("a", "z")})
    assert plain(found["mine"]) == {
        "rows": 2.0, "sets": 1, "similarity": None, "z": None, "log_det": None, "vendi": None, "pairwise": None,
    }  # fmt: skip


def test_rows_in_two_sets_are_counted() -> None:
    arms = {("high", 0): ("a", "b", "c"), ("low", 0): ("c", "d", "b")}
    assert shared_rows(arms, "high", "low") == 2
    assert shared_rows(arms, "high", "none") is None
