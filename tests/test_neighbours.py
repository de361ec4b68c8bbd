import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator import neighbours
from curator.errors import ModelError, RunError
from curator.neighbours import graph, nearest


def unit_rows(seed, n, d):
    x = np.random.default_rng(seed).standard_normal((n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def grid_rows(seed, n, d=4):
    """Rows of 0 and +-1/2: products are exact in float32, and ties abound."""
    return (np.random.default_rng(seed).integers(-1, 2, (n, d)) / 2).astype(np.float32)


def slow(queries, base, r):
    out = []
    for query in queries:
        products = [float(np.dot(query.astype(np.float64), row.astype(np.float64))) for row in base]
        out.append(sorted(range(len(base)), key=lambda j: (-products[j], j))[:r])
    return np.array(out)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 60), st.data())
def test_equal_products_go_by_row_number_also_at_the_cut(seed, q, m, data):
    r = data.draw(st.integers(1, m))
    queries, base = grid_rows(seed, q), grid_rows(seed + 1, m)
    similarities, indices = nearest(queries, base, r)
    expected = slow(queries, base, r)
    assert indices.tolist() == expected.tolist()
    assert similarities.tolist() == np.take_along_axis(queries @ base.T, expected, axis=1).tolist()
    assert similarities.dtype == np.float32
    assert indices.dtype == np.int64


@pytest.mark.parametrize(
    ("q", "m", "d", "r"), [(1, 1, 1, 1), (300, 2000, 32, 10), (7, 500, 384, 500), (90, 150, 8, 120)]
)
def test_nearest_agrees_with_sorting_all_products(q, m, d, r):
    queries, base = unit_rows(0, q, d), unit_rows(1, m, d)
    similarities, indices = nearest(queries, base, r)
    products = queries.astype(np.float64) @ base.T.astype(np.float64)
    assert np.allclose(similarities, -np.sort(-products, axis=1)[:, :r], atol=1e-6)
    assert np.allclose(np.take_along_axis(products, indices, axis=1), similarities, atol=1e-6)
    assert (np.diff(similarities, axis=1) <= 0).all()
    assert all(len(set(row)) == r for row in indices.tolist())


def test_blocks_change_nothing(monkeypatch):
    queries, base = grid_rows(3, 50), grid_rows(4, 80)
    whole = nearest(queries, base, 5)
    monkeypatch.setattr(neighbours, "_BLOCK", 100)
    small = nearest(queries, base, 5)
    assert (whole[0] == small[0]).all()
    assert (whole[1] == small[1]).all()
    assert [s.stop - s.start for s in neighbours.blocks(7, 40)] == [2, 2, 2, 1]


@pytest.mark.parametrize("r", [0, 4])
def test_an_impossible_r_is_an_error(r):
    with pytest.raises(ValueError, match="it must be from 1 to 3"):
        nearest(unit_rows(0, 2, 3), unit_rows(1, 3, 3), r)


@pytest.mark.parametrize("exact_up_to", [10**6, 0])
def test_each_row_is_its_own_first_neighbour_also_among_near_copies(exact_up_to):
    x = unit_rows(0, 400, 6)
    x[100:140] = x[7]
    x[100:140, 0] += np.linspace(0, 1e-7, 40, dtype=np.float32)
    found = graph(x, 5, exact_up_to=exact_up_to)
    assert found.indices[:, 0].tolist() == list(range(400))
    assert (found.similarities[:, 0] == 1).all()
    assert found.similarities.max() == 1
    assert all(len(set(row)) == 5 for row in found.indices.tolist())
    assert (np.diff(found.similarities, axis=1) <= 0).all()


def test_the_exact_graph_is_the_sorted_products():
    x = unit_rows(2, 60, 5)
    found = graph(x, 60)
    products = x.astype(np.float64) @ x.T
    assert np.allclose(found.similarities, -np.sort(-products, axis=1), atol=1e-6)
    assert (found.method, found.recall, found.indices.dtype) == ("exact", 1.0, np.int32)
    assert graph(x, 99).indices.shape == (60, 60)


def test_the_approximate_graph_reports_the_recall_that_it_has():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 24))[rng.integers(0, 40, 4000)] + rng.standard_normal((4000, 24))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    exact, found = graph(x, 10), graph(x, 10, exact_up_to=0)
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(exact.indices.tolist(), found.indices.tolist(), strict=True)]
    assert found.method == "cells"
    assert found.cells > found.probes >= 1
    assert found.recall == pytest.approx(np.mean(shared), abs=0.03)
    assert found.recall > 0.94
    low = graph(x, 10, exact_up_to=0, recall=0.5)
    assert low.probes < found.probes
    assert low.recall < found.recall
    assert (np.diff(found.similarities, axis=1) <= 0).all()
    # What is found is right: the cosine belongs to the row.
    products = np.einsum("nrd,nd->nr", x[found.indices], x)
    assert np.allclose(found.similarities, products, atol=1e-6)
    again = graph(x, 10, exact_up_to=0)
    assert (again.indices == found.indices).all()


def test_rows_whose_cells_hold_too_few_others_get_their_exact_neighbours():
    x = unit_rows(0, 1000, 8)
    x[:, 0] = np.where(np.arange(1000) < 5, -20, 2)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    exact, found = graph(x, 40), graph(x, 40, exact_up_to=0, recall=0.1)
    assert found.probes == 1
    assert found.indices.min() == 0
    assert (found.indices[:5] == exact.indices[:5]).all()
    assert all(len(set(row)) == 40 for row in found.indices.tolist())


def test_the_approximate_graph_that_must_reach_every_neighbour_is_the_exact_one(monkeypatch):
    monkeypatch.setattr(neighbours, "_MOST_PROBES", 10**6)
    x = unit_rows(9, 900, 12)
    exact, found = graph(x, 300), graph(x, 300, exact_up_to=0, recall=1.0)
    same = np.isclose(exact.similarities, found.similarities, atol=1e-6)
    assert same.mean() > 0.999  # the sample may lack the one row that needs the farthest cell
    assert np.mean(exact.indices == found.indices) > 0.99


def clustered(seed, n, d, centres=30):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((centres, d))[rng.integers(0, centres, n)] + rng.standard_normal((n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_wide_rows_are_cut_into_cells_in_fewer_directions_and_compared_in_all():
    x = clustered(1, 3000, 200)
    exact, found = graph(x, 10), graph(x, 10, exact_up_to=0)
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(exact.indices.tolist(), found.indices.tolist(), strict=True)]
    assert found.recall == pytest.approx(np.mean(shared), abs=0.03)
    assert found.recall > 0.94
    assert found.probes < found.cells / 4  # and not by asking everywhere
    assert np.allclose(found.similarities, np.einsum("nrd,nd->nr", x[found.indices], x), atol=1e-6)


def test_directions_keep_cosines_nearly_as_the_best_ones_do_and_leave_narrow_rows_alone():
    x = unit_rows(0, 2000, 300) * np.linspace(1, 0.02, 300, dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)

    def lost(directions):
        rows = x @ directions
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return np.sqrt(np.mean((x @ x.T - rows @ rows.T) ** 2))

    made = neighbours._reduced(x, np.random.default_rng(0))
    assert made.shape == (2000, 128)
    assert made.dtype == np.float32
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    ours = np.sqrt(np.mean((x @ x.T - made @ made.T) ** 2))
    best = lost(np.linalg.eigh((x.T @ x).astype(np.float64))[1][:, -128:])
    random = lost(np.linalg.qr(np.random.default_rng(1).standard_normal((300, 128)))[0])
    assert ours < 1.5 * best  # found on a quarter of the rows
    assert ours < 0.6 * random
    narrow = unit_rows(1, 10, 128)
    assert neighbours._reduced(narrow, np.random.default_rng(0)) is narrow
    few = neighbours._reduced(x[:10], np.random.default_rng(0))  # fewer rows than directions
    assert np.allclose(np.linalg.norm(few, axis=1), 1, atol=1e-5)


def test_centres_are_unit_and_nearer_to_their_rows_than_where_they_began(monkeypatch):
    x = clustered(2, 2000, 16)
    made = neighbours._centres(x, np.random.default_rng(0))
    monkeypatch.setattr(neighbours, "_ROUNDS", 0)
    began = neighbours._centres(x, np.random.default_rng(0))
    assert made.shape == began.shape == (256, 16)
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert (x @ made.T).max(axis=1).mean() > (x @ began.T).max(axis=1).mean() + 0.01
    few = neighbours._centres(x[:5], np.random.default_rng(0))
    assert len(few) == 5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 60), st.data())
def test_the_way_through_torch_finds_the_same_products_in_any_number_of_parts(seed, q, m, data):
    r = data.draw(st.integers(1, m))
    queries, base = grid_rows(seed, q), grid_rows(seed + 1, m)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_BLOCK", data.draw(st.sampled_from([12, 100, 10**6])))
        patch.setattr(neighbours, "_GPU_BLOCK", data.draw(st.sampled_from([1, 50, 10**6])))
        similarities, indices = neighbours._top_torch(queries, base, r, "cpu")
    products = queries @ base.T
    assert similarities.tolist() == (-np.sort(-products, axis=1)[:, :r]).tolist()
    assert np.take_along_axis(products, indices, axis=1).tolist() == similarities.tolist()
    assert all(len(set(row)) == r for row in indices.tolist())


def test_a_gpu_without_a_faiss_for_it_is_used_through_torch_and_said(monkeypatch):
    import torch

    x = unit_rows(3, 300, 20)
    expected = graph(x, 7)
    assert expected.device == "cpu"
    calls = []

    def pretend(queries, base, r, where):
        calls.append(where)
        return torch_on_cpu(queries, base, r, "cpu")

    torch_on_cpu = neighbours._top_torch
    monkeypatch.setattr(neighbours, "_top_torch", pretend)
    monkeypatch.setattr(neighbours, "has_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 0))
    neighbours.device.cache_clear()
    try:
        found = graph(x, 7)
        cells = graph(x, 7, exact_up_to=0)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        neighbours.device.cache_clear()
        assert neighbours.device() == "cpu"
    finally:
        neighbours.device.cache_clear()
    assert (found.device, cells.device, set(calls)) == ("cuda by torch", "cuda by torch", {"cuda"})
    assert (found.indices == expected.indices).all()
    assert np.allclose(found.similarities, expected.similarities, atol=1e-6)


@pytest.mark.parametrize("width", [8, 200])
def test_cells_are_searched_by_torch_as_by_faiss(width, monkeypatch):
    x = clustered(5, 2500, width)
    expected = graph(x, 10, exact_up_to=0)
    searched = []

    def pretend(*given):
        searched.append(given)
        return on_device(*given, "cpu")

    on_device = neighbours._search_torch
    monkeypatch.setattr(neighbours, "_search_torch", pretend)
    monkeypatch.setattr(neighbours, "device", lambda: "cuda by torch")
    monkeypatch.setattr(neighbours, "_top_torch", lambda q, b, r, _: torch_on_cpu(q, b, r, "cpu"))
    monkeypatch.setattr(neighbours, "_fits", lambda vectors: True)
    found = graph(x, 10, exact_up_to=0)
    assert len(searched) == 1
    assert (found.cells, found.probes, found.recall) == (expected.cells, expected.probes, expected.recall)
    assert np.allclose(found.similarities, expected.similarities, atol=1e-6)
    assert (found.indices == expected.indices).mean() > 0.999  # the last digits of two cosines may differ
    few = on_device(x[:30], np.zeros((30, 1), dtype=np.int32), 2, 40, "cpu")
    assert (few[1][:, 30:] == -1).all()
    assert (few[1][:, :30] >= 0).all()


torch_on_cpu = neighbours._top_torch


def test_a_full_gpu_is_a_sentence_and_another_error_itself(monkeypatch):
    def fails(*_):
        raise RuntimeError(text)

    monkeypatch.setattr(neighbours, "device", lambda: "cuda by torch")
    monkeypatch.setattr(neighbours, "_top_torch", fails)
    text = "CUDA out of memory. Tried to allocate 1 GiB"
    with pytest.raises(ModelError, match=r"similarity and neighbours: the GPU is out of memory \(CUDA .*nvidia-smi"):
        nearest(unit_rows(0, 5, 3), unit_rows(1, 5, 3), 2)
    text = "shapes do not match"
    with pytest.raises(RuntimeError, match=text):
        nearest(unit_rows(0, 5, 3), unit_rows(1, 5, 3), 2)


def test_a_faiss_for_gpus_is_used_in_its_place_and_takes_its_memory_once(monkeypatch):
    real, taken = neighbours._faiss(), []

    class Stand:
        METRIC_INNER_PRODUCT = real.METRIC_INNER_PRODUCT
        knn = staticmethod(real.knn)

        @staticmethod
        def get_num_gpus():
            return 1

        @staticmethod
        def StandardGpuResources():
            taken.append(1)
            return "memory"

        @staticmethod
        def knn_gpu(memory, queries, base, r, *, metric):
            assert (memory, r <= 2048) == ("memory", True)
            return real.knn(queries, base, r, metric=metric)

    x = unit_rows(3, 2500, 6)
    expected = nearest(x[:9], x, 7)
    monkeypatch.setattr(neighbours, "_faiss", lambda: Stand)
    monkeypatch.setattr(neighbours, "has_gpu", lambda: True)
    neighbours.device.cache_clear()
    neighbours._gpu_memory.cache_clear()
    try:
        assert neighbours.device() == "cuda by faiss"
        for found in (nearest(x[:9], x, 7), nearest(x[:9], x, 7)):
            assert [part.tolist() for part in found] == [part.tolist() for part in expected]
        assert taken == [1]
        monkeypatch.setattr(neighbours, "_by_torch", lambda: "cpu")
        assert nearest(x[:9], x, 2048)[0].shape == (9, 2048)  # more than faiss keeps on a GPU
    finally:
        neighbours.device.cache_clear()
        neighbours._gpu_memory.cache_clear()


def test_two_of_faiss_at_once_are_refused_and_the_way_out_is_said(monkeypatch):
    monkeypatch.setattr(neighbours, "versions", lambda: {"faiss-cpu": "1.15.1", "faiss-gpu-cu12": "1.14.1"})
    neighbours._faiss.cache_clear()
    try:
        with pytest.raises(RunError, match=r"are both installed.*`pip uninstall faiss-cpu faiss-gpu-cu12`"):
            nearest(unit_rows(0, 2, 3), unit_rows(1, 3, 3), 1)
    finally:
        neighbours._faiss.cache_clear()


@pytest.mark.gpu
def test_a_gpu_finds_what_the_cpu_finds():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    x = clustered(4, 20_000, 384)
    found = graph(x, 32)
    assert found.device.startswith("cuda")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "device", lambda: "cpu")
        expected = graph(x, 32)
    assert np.allclose(found.similarities, expected.similarities, atol=1e-5)
    # Cosines that differ by rounding alone may change places.
    assert (found.indices == expected.indices).mean() > 0.999
    assert np.allclose(neighbours._top_torch(x[:100], x, 32, "cuda")[0], expected.similarities[:100], atol=1e-5)
    assert graph(x, 32, exact_up_to=0).recall > 0.9
