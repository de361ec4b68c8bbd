"""k-means against scikit-learn's own on the rows as they are, and against what a loop over rows and centres finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import DataError
from curator.represent.kmeans import kmeans


def blobs(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, 16))
    return (centres[rng.integers(0, 20, 1500)] + 0.2 * rng.normal(size=(1500, 16))).astype(np.float32)


def sphere(seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(1200, 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def skewed(seed: int) -> np.ndarray:
    """Few large clusters, many small ones, and many equal rows."""
    rng = np.random.default_rng(seed)
    sizes = 1.0 / np.arange(1, 31)
    centres = 3 * rng.normal(size=(30, 8))
    rows = centres[rng.choice(30, 900, p=sizes / sizes.sum())] + rng.normal(size=(900, 8)) * rng.uniform(
        0.1, 1, (900, 1)
    )
    return np.repeat(rows, 2, axis=0).astype(np.float32)


@pytest.mark.parametrize("data", [blobs, sphere])
@pytest.mark.parametrize("seed", range(3))
def test_inertia_is_within_one_percent_of_scikit_learns_own(data, seed) -> None:
    from sklearn.cluster import KMeans

    rows = data(seed)
    own = kmeans(rows, 20, rng=np.random.default_rng(seed), restarts=10)
    theirs = KMeans(20, n_init=10, random_state=seed, max_iter=100, algorithm="lloyd").fit(rows)
    assert own.inertia <= 1.01 * theirs.inertia_


@pytest.mark.parametrize("data", [blobs, sphere, skewed])
def test_a_settled_partition_has_every_row_with_its_nearest_centre_and_equal_rows_together(data) -> None:
    rows = data(3)
    found = kmeans(rows, 20, rng=np.random.default_rng(3), restarts=2)
    assert found.settled
    apart = ((rows[:, None].astype(np.float64) - found.centres[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(apart[np.arange(len(rows)), found.labels], apart.min(axis=1), rtol=1e-5)
    labels: dict[bytes, int] = {}
    assert all(labels.setdefault(row.tobytes(), label) == label for row, label in zip(rows, found.labels, strict=True))


@pytest.mark.parametrize("data", [sphere, skewed])
def test_the_order_of_rows_and_the_number_of_threads_change_nothing(data) -> None:
    from threadpoolctl import threadpool_limits

    rows = data(4)
    order = np.random.default_rng(0).permutation(len(rows))
    found = []
    for threads, arrived in ((1, rows), (2, rows), (2, rows[order])):
        with threadpool_limits(threads):
            found.append(kmeans(arrived, 20, rng=np.random.default_rng(4), restarts=2))
    for other in (found[1], found[2]):
        assert other.centres.tobytes() == found[0].centres.tobytes()
    assert found[1].labels.tolist() == found[0].labels.tolist()
    assert found[2].labels.tolist() == found[0].labels[order].tolist()
    assert found[2].distances.tolist() == found[0].distances[order].tolist()


def test_inertia_is_the_sum_of_squared_distances_to_mean_rows() -> None:
    rows = blobs(0)
    found = kmeans(rows, 20, rng=np.random.default_rng(0), restarts=2)
    assert set(found.labels) == set(range(20))
    for label in range(20):
        np.testing.assert_allclose(found.centres[label], rows[found.labels == label].mean(axis=0), atol=1e-5)
    apart = ((rows - found.centres[found.labels]) ** 2).sum(axis=1)
    np.testing.assert_allclose(found.distances, apart, rtol=1e-4)
    assert found.inertia == pytest.approx(apart.sum(), rel=1e-5)
    assert found.settled
    assert found.rounds < 100


def test_the_same_seed_gives_the_same_clusters_and_restarts_never_hurt() -> None:
    rows = sphere(0)[:300]
    one, two = (kmeans(rows, 12, rng=np.random.default_rng(4), restarts=3) for _ in range(2))
    assert one.labels.tolist() == two.labels.tolist()
    first = kmeans(rows, 12, rng=np.random.default_rng(4), restarts=1)
    assert one.inertia <= first.inertia
    assert any(
        kmeans(rows, 12, rng=np.random.default_rng(s), restarts=5).inertia
        < kmeans(rows, 12, rng=np.random.default_rng(s), restarts=1).inertia
        for s in range(3)
    )


def test_few_rounds_are_said_not_to_have_settled() -> None:
    found = kmeans(sphere(1), 20, rng=np.random.default_rng(0), restarts=1, iterations=1)
    assert (found.rounds, found.settled) == (1, False)


def test_as_many_clusters_as_different_rows_leave_no_inertia_and_more_are_refused() -> None:
    rows = np.repeat(sphere(2)[:9], 4, axis=0)
    found = kmeans(rows, 9, rng=np.random.default_rng(0), restarts=2)
    assert found.inertia == 0.0
    assert sorted(np.bincount(found.labels)) == [4] * 9
    with pytest.raises(DataError, match=r"--clusters: found 10, but only 9 of 36 rows have different vectors"):
        kmeans(rows, 10, rng=np.random.default_rng(0))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_no_cluster_is_ever_empty(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-2, 3, size=(40, 3)).astype(np.float32)
    found = kmeans(rows, k, rng=rng, restarts=2)
    assert set(found.labels) == set(range(k))
    assert np.isfinite(found.centres).all()
