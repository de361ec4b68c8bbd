from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import DataError
from curator.recipe.score import AGGREGATES
from curator.records import Scores, Vectors
from curator.score import cosine as cosine_room
from curator.score.cosine import AGGREGATORS, cosine, mean_cosine, rank_sum, task_cover


def rows(seed, n, d=6, prefix="r"):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return Vectors(tuple(f"{prefix}{i:03d}" for i in rng.permutation(n)), x, "test")


def twin(pool, task, aggregate, n, k):
    """One row at a time."""
    products = pool.matrix.astype(np.float64) @ task.matrix.T.astype(np.float64)
    if aggregate == "max":
        return products.max(axis=1)
    if aggregate == "mean":
        return products.mean(axis=1)
    if aggregate == "top-mean":
        return np.sort(products, axis=1)[:, -n:].mean(axis=1)
    assert aggregate == "per-example", "every aggregate needs a twin"
    counts = dict.fromkeys(pool.ids, 0)
    for x in range(len(task.ids)):
        for row in sorted(range(len(pool.ids)), key=lambda s: (products[s, x], pool.ids[s]))[:k]:
            counts[pool.ids[row]] += 1
    return np.array([-counts[one] / len(task.ids) for one in pool.ids])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(3, 30), st.sampled_from(list(AGGREGATES)), st.data())
def test_every_aggregate_agrees_with_its_slow_twin(seed, n_pool, m, aggregate, data):
    n, k = data.draw(st.integers(1, 3)), data.draw(st.integers(1, n_pool))
    pool = rows(seed, n_pool)
    tasks = {"a": rows(seed + 1, m, prefix="a"), "b": rows(seed + 2, 3, prefix="b"), "unseen": rows(seed + 3, 5)}
    found = cosine(pool, tasks, {"a": 0.7, "b": 0.3, "unseen": 0.0}, aggregate=aggregate, n=n, k=k)
    for name, task in tasks.items():
        assert np.allclose(found.tasks[name], twin(pool, task, aggregate, n, k), atol=2e-6)
        closest = (pool.matrix @ task.matrix.T).argmax(axis=1)
        assert found.nearest[name] == tuple(task.ids[j] for j in closest)
        assert found.tasks[name].min() >= found.low
        assert found.tasks[name].max() <= found.high
    assert np.allclose(found.combined, 0.7 * found.tasks["a"] + 0.3 * found.tasks["b"], atol=1e-12)
    assert found.ids == pool.ids


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_the_order_of_rows_changes_no_value(aggregate):
    pool, task = rows(0, 70), rows(1, 90)
    one = cosine(pool, {"t": task}, {"t": 1.0}, aggregate=aggregate, n=7, k=20)
    p, q = np.random.default_rng(2).permutation(70), np.random.default_rng(3).permutation(90)
    shuffled = Vectors(tuple(pool.ids[i] for i in p), pool.matrix[p], "test")
    other = Vectors(tuple(task.ids[i] for i in q), task.matrix[q], "test")
    two = cosine(shuffled, {"t": other}, {"t": 1.0}, aggregate=aggregate, n=7, k=20)
    assert two.combined.tolist() == one.combined[p].tolist()
    assert two.nearest["t"] == tuple(one.nearest["t"][i] for i in p)


def test_ties_go_to_the_earlier_id():
    eye = np.eye(3, dtype=np.float32)
    pool = Vectors(("z", "y", "x"), eye[[0, 1, 1]], "test")
    task = Vectors(("q", "p", "o"), eye[[0, 0, 2]], "test")
    assert cosine(pool, {"t": task}, {"t": 1.0}, aggregate="max").nearest["t"] == ("p", "o", "o")
    # Rows x and y are at cosine 0 to all, z to o only: of the least similar one, each task row counts the earlier id x.
    found = cosine(pool, {"t": task}, {"t": 1.0}, aggregate="per-example", k=1)
    assert dict(zip(found.ids, found.combined, strict=True)) == {"z": 0.0, "y": 0.0, "x": -1.0}


def test_every_aggregate_of_the_recipe_is_computed_by_its_name():
    assert AGGREGATORS.keys() == AGGREGATES.keys()


def test_an_aggregate_takes_the_number_that_its_record_says_and_no_other():
    pool, tasks = rows(0, 40), {"t": rows(1, 30)}
    for name, aggregate in AGGREGATES.items():
        plain = cosine(pool, tasks, {"t": 1.0}, aggregate=name, n=5, k=9)
        for size, numbers in (("n", {"n": 6, "k": 9}), ("k", {"n": 5, "k": 10})):
            changed = cosine(pool, tasks, {"t": 1.0}, aggregate=name, **numbers)
            assert (changed.combined.tolist() != plain.combined.tolist()) == (aggregate.size == size)
        assert (len(set(plain.combined.tolist())) < 40) == aggregate.tied


def test_names_and_parameters_say_what_was_computed():
    pool, tasks = rows(0, 5), {"t": rows(1, 20)}
    names = {a: cosine(pool, tasks, {"t": 1.0}, aggregate=a, n=4, k=2) for a in AGGREGATES}
    some = ("max", "mean", "top-mean", "per-example")
    named = ["cosine/max", "cosine/mean", "cosine/top-mean-4", "cosine/per-example-2"]
    assert [names[aggregate].name for aggregate in some] == named
    assert names["top-mean"].parameters == {"aggregate": "top-mean", "weights": {"t": 1.0}, "n": 4}
    assert (names["per-example"].low, names["per-example"].high) == (-1.0, 0.0)
    assert mean_cosine(pool, tasks, {"t": 1.0}).tolist() == names["mean"].combined.tolist()


def test_task_cover_is_the_largest_clipped_cosine_to_any_task():
    pool, tasks = rows(0, 30, d=3), {"a": rows(1, 4, d=3), "b": rows(2, 5, d=3)}
    both = np.concatenate([tasks["a"].matrix, tasks["b"].matrix])
    assert np.allclose(task_cover(pool, tasks), np.clip((pool.matrix @ both.T).max(axis=1), 0, 1), atol=1e-6)


ZERO = Vectors(("a", "b"), np.array([[1, 0], [0, 0]], dtype=np.float32), "test")
EMPTY = Vectors((), np.zeros((0, 6), dtype=np.float32), "test")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tasks": {}, "weights": {}}, "there is no task"),
        ({"tasks": {"t": EMPTY}}, "task 't' has no rows"),
        ({"pool": EMPTY}, "the pool has no rows"),
        ({"tasks": {"t": rows(0, 4, d=7)}}, "the vectors of task 't' have width 7 and those of the pool 6"),
        ({"weights": {"u": 1.0}}, "found weights for ['u'] and tasks ['t']"),
        ({"weights": {"t": 0.5}}, "with sum 0.5; each must be at least 0 and their sum 1"),
        ({"weights": {"t": float("nan")}}, "each must be at least 0"),
        ({"tasks": {"t": rows(0, 4), "u": rows(1, 4)}, "weights": {"t": 2.0, "u": -1.0}}, "each must be at least 0"),
        ({"aggregate": "median"}, f"found 'median'; allowed: {', '.join(AGGREGATES)}"),
        ({"aggregate": "top-mean", "n": 5}, "score.n: found 5, but task 't' has 4 rows; allowed: 1 to 4"),
        ({"aggregate": "top-mean", "n": 0}, "score.n: found 0"),
        ({"aggregate": "per-example"}, "score.k: found None; aggregate 'per-example'"),
        (
            {"aggregate": "per-example", "k": 9},
            "score.k: found 9; aggregate 'per-example' allows 1 to 8",
        ),
        ({"pool": ZERO, "tasks": {"t": ZERO}}, "row 'b' of the pool has length 0, and a cosine needs length 1"),
    ],
)
def test_wrong_input_is_named(change, says):
    arguments = {"pool": rows(0, 8), "tasks": {"t": rows(1, 4)}, "weights": {"t": 1.0}, "aggregate": "max"} | change
    with pytest.raises(DataError) as caught:
        cosine(arguments.pop("pool"), arguments.pop("tasks"), arguments.pop("weights"), **arguments)
    assert says in str(caught.value)


def made_up(values, ids=None, *, name="made-up", nearest=None, other=None):
    values = np.array(values, dtype=np.float64)
    ids = ids or tuple(f"r{i}" for i in range(len(values)))
    tasks = {"a": values, "b": values if other is None else np.array(other, dtype=np.float64)}
    return Scores(ids, name, values, tasks, nearest or {}, -np.inf, np.inf, {"size": 1})


def rank_by_counting(values):
    """The share of the other rows that score less, half of those that score the same."""
    return [(sum(v < w for v in values) + 0.5 * (sum(v == w for v in values) - 1)) / (len(values) - 1) for w in values]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30))
def test_a_rank_sum_is_the_mean_of_ranks_found_by_counting(seed, n):
    rng = np.random.default_rng(seed)
    x, y, z = rng.integers(0, 6, n), rng.integers(0, 3, n), rng.normal(size=n)
    found = rank_sum([made_up(x, other=z), made_up(y), made_up(z)])
    ranks = {name: np.array(rank_by_counting(list(values))) for name, values in (("x", x), ("y", y), ("z", z))}
    assert np.allclose(found.tasks["a"], (ranks["x"] + ranks["y"] + ranks["z"]) / 3)
    assert np.allclose(found.tasks["b"], (2 * ranks["z"] + ranks["y"]) / 3)
    assert np.allclose(found.combined, found.tasks["a"])
    assert found.low <= found.combined.min() <= found.combined.max() <= found.high


def test_an_increasing_transform_of_a_part_or_another_order_of_it_changes_no_rank_sum():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=40), rng.integers(0, 9, 40)
    expected = rank_sum([made_up(x), made_up(y)])
    assert rank_sum([made_up(np.exp(3 * x) - 7), made_up(y**3)]).combined.tolist() == expected.combined.tolist()
    order = rng.permutation(40)
    shuffled = made_up(y[order], ids=tuple(f"r{i}" for i in order))
    assert rank_sum([made_up(x), shuffled]).combined.tolist() == expected.combined.tolist()


def test_the_nearest_rows_of_a_rank_sum_are_those_of_the_first_part_that_names_any():
    nearest = {"a": ("p", "q", "r"), "b": ("s", "t", "u")}
    parts = [made_up([3, 1, 2]), made_up([1, 2, 3], ids=("r2", "r0", "r1"), name="named", nearest=nearest)]
    found = rank_sum(parts)
    assert found.nearest == {"a": ("q", "r", "p"), "b": ("t", "u", "s")}
    assert found.name == "rank-sum(made-up, named)"
    assert found.parameters == {"of": [{"name": "made-up", "size": 1}, {"name": "named", "size": 1}]}
    assert rank_sum([parts[0], parts[0]]).nearest == {}


def test_one_row_ranks_in_the_middle_and_parts_of_other_rows_are_refused():
    assert rank_sum([made_up([3]), made_up([7])]).combined.tolist() == [0.5]
    with pytest.raises(DataError, match="at least two"):
        rank_sum([made_up([1, 2])])
    with pytest.raises(DataError, match="has 3 rows"):
        rank_sum([made_up([1, 2]), made_up([1, 2, 3])])


def test_a_pool_in_the_order_of_its_ids_is_not_copied(monkeypatch):
    """Its matrix may be a map of a file that is larger than memory."""
    pool, task, taken = rows(0, 7), rows(1, 3, prefix="t"), []
    pool = replace(pool, ids=tuple(sorted(pool.ids)))
    mean = cosine_room.AGGREGATORS["mean"]
    monkeypatch.setitem(cosine_room.AGGREGATORS, "mean", lambda *given: taken.append(given[0]) or mean(*given))
    cosine(pool, {"a": task}, {"a": 1.0}, aggregate="mean")
    assert taken[0] is pool.matrix
