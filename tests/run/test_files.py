"""What is saved comes back the same, in its order, and lies whole or not at all."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import RunError
from curator.records import (
    DROPPED_SCHEMA,
    ROW_SCHEMA,
    Data,
    Pool,
    Scores,
    Selection,
    Task,
    Trained,
    Vectors,
    row_id,
)
from curator.run import files as store


def same(one: Any, other: Any) -> bool:
    """Equality through frames, arrays, mappings and our records, types included."""
    if type(one) is not type(other) and not isinstance(one, np.ndarray):
        return False
    if is_dataclass(one):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if isinstance(one, pl.DataFrame):
        return one.schema == other.schema and one.equals(other, null_equal=True)
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and np.array_equal(one, other))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def rows(count: int, *, answered: bool = True) -> pl.DataFrame:
    made = []
    for number in range(count):
        messages = [{"role": "user", "content": f"question {number} \u00e9\n\U0001f600"}]
        messages += [{"role": "assistant", "content": "answer"}] if answered else []
        category = None if number % 2 else "letters, 'quoted'"
        row = {"id": row_id(messages), "messages": messages, "source": "a.jsonl", "line": number, "category": category}
        made.append({**row, "licence": None, "tokens": number + 3})
    return pl.DataFrame(made, schema=ROW_SCHEMA)


def data(probes: int = 3, keep: int = 0) -> Data:
    dropped = [{"source": "a.jsonl", "line": 9, "stage": "clean", "reason": "is empty", "match": None}]
    tasks = (
        Task("b-first", rows(4), rows(2), 1.0, "exact"),
        Task("a-second", rows(3), rows(1), 0.0, "rouge1"),
    )
    pool = Pool(rows(6), pl.DataFrame(dropped, schema=DROPPED_SCHEMA))
    return Data(pool, tasks, rows(probes, answered=False), rows(0), rows(keep))


def vectors() -> Vectors:
    matrix = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    return Vectors(tuple("edcba"), matrix, "some/model", "0123abcd", -1, "last-completion", 2)


def scores() -> Scores:
    drawn = np.random.default_rng(1).normal(size=(2, 5))
    tasks = {"b-first": drawn[0], "a-second": drawn[1]}
    return Scores(
        ids=tuple("edcba"), name="cosine/top-mean-3", combined=drawn[0] / 3, tasks=tasks,
        nearest={"b-first": tuple("vwxyz")}, low=-1.0, high=1.0, parameters={"n": 3, "weights": {"b-first": 1.0}},
    )  # fmt: skip


def selection(gains: tuple[float, ...] = (0.1 + 0.2, 1e-300, 0.0)) -> Selection:
    k = len(gains)
    return Selection(
        ids=tuple(f"id-{9 - number}" for number in range(k)), indices=np.arange(k, dtype=np.int64)[::-1].copy(),
        gains=np.array(gains, dtype=np.float64), value=0.1 + 0.7, bound=None, gap=None, relative_gap=None,
        objective="facility-location", weight=-0.3, neighbours=64, seed=7, group_counts={"letters": 2},
        budget_used=12.5, all_pairs_value=0.3, parameters={"mean": 1 / 3, "prefixes": [1, 2], "exact": True},
    )  # fmt: skip


def save_vectors(folder: Path, one: Vectors) -> None:
    store.save_array(folder / "pool.npy", one.matrix)
    store.save_facts(folder, "pool", one)


SAVED: list[tuple[Any, Callable[[Path, Any], None], Callable[[Path], Any]]] = [
    (data(), store.save_data, store.load_data),
    (data(probes=0, keep=2), store.save_data, store.load_data),
    (vectors(), save_vectors, lambda f: store.load_vectors(f, "pool")),
    (scores(), store.save_scores, store.load_scores),
    (replace(scores(), nearest={}, low=-math.inf, high=math.inf), store.save_scores, store.load_scores),
    (selection(), store.save_selection, store.load_selection),
]


@pytest.mark.parametrize(("value", "save", "load"), SAVED)
def test_what_is_saved_comes_back_the_same(value: Any, save: Any, load: Any, tmp_path: Path) -> None:
    save(tmp_path, value)
    assert same(load(tmp_path), value)


@pytest.mark.parametrize(("value", "save", "load"), SAVED)
def test_saving_again_what_was_loaded_writes_the_same_bytes(value: Any, save: Any, load: Any, tmp_path: Path) -> None:
    save(tmp_path / "one", value)
    save(tmp_path / "two", load(tmp_path / "one"))
    one, two = ({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()} for root in
                (tmp_path / "one", tmp_path / "two"))  # fmt: skip
    assert one == two


@pytest.mark.parametrize(("value", "save", "load"), SAVED)
def test_a_save_that_breaks_off_leaves_what_was_there(
    value: Any, save: Any, load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, value)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def dies(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", dies)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert same(load(tmp_path), value)


@settings(deadline=None, max_examples=30)
@given(gains=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8).map(tuple))
def test_every_bit_of_a_gain_survives(gains: tuple[float, ...], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("selection")
    store.save_selection(folder, selection(gains))
    assert store.load_selection(folder).gains.tobytes() == np.array(gains, dtype=np.float64).tobytes()


def test_rank_stands_beside_every_chosen_row(tmp_path: Path) -> None:
    store.save_selection(tmp_path, selection())
    frame = pl.read_parquet(tmp_path / "selection.parquet")
    assert frame["rank"].to_list() == [0, 1, 2]
    assert frame["id"].to_list() == ["id-9", "id-8", "id-7"]


def test_vectors_are_mapped_and_not_read(tmp_path: Path) -> None:
    save_vectors(tmp_path, vectors())
    matrix = store.load_vectors(tmp_path, "pool").matrix
    assert isinstance(matrix, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 1.0


def test_vectors_that_are_still_mapped_may_be_replaced(tmp_path: Path) -> None:
    save_vectors(tmp_path, vectors())
    old = store.load_vectors(tmp_path, "pool")
    other = Vectors(tuple("ab"), np.ones((2, 3), np.float32), "other")
    save_vectors(tmp_path, other)
    assert same(old, vectors())
    assert same(store.load_vectors(tmp_path, "pool"), other)


# Paths of models


def trained(path: str, parent: str) -> Trained:
    return Trained(path, "lora", parent, 10, 200, 3, (1.5, 1 / 3, 0.1), 2.25, 0.5, 1)


def test_a_trained_model_is_found_after_the_run_folder_has_moved(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for name in ("before", "after"):
        (old / "5-train" / name).mkdir(parents=True)
    model = trained(str(old / "5-train" / "after"), str(old / "5-train" / "before"))
    record = store.trained_record(model, old)
    assert (record["path"], record["parent"]) == ("5-train/after", "5-train/before")
    assert same(store.trained_from(record, old), model)
    shutil.move(old, new)
    moved = store.trained_from(record, new)
    assert same(moved, trained(str(new / "5-train" / "after"), str(new / "5-train" / "before")))


@pytest.mark.parametrize("parent", ["meta-llama/Llama-2-7b-hf", "/elsewhere/model", "models/mine"])
def test_a_model_that_lies_elsewhere_keeps_its_name(parent: str, tmp_path: Path) -> None:
    model = trained(str(tmp_path / "a"), parent)
    (tmp_path / "a").mkdir()
    assert store.trained_from(store.trained_record(model, tmp_path), tmp_path).parent == parent


def test_a_record_of_a_trained_model_goes_through_json(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    model = trained(str(tmp_path / "a"), "base/model")
    store.write_json(tmp_path / "record.json", store.trained_record(model, tmp_path))
    assert same(store.trained_from(store.read_json(tmp_path / "record.json"), tmp_path), model)


def test_plain_leaves_only_what_json_knows() -> None:
    value = {
        "a": np.float64(0.5),
        "b": np.array([[1, 2]]),
        3: (np.int64(4), "text"),
        "c": {"d": None, "e": np.bool_(True)},
    }
    assert store.plain(value) == {"a": 0.5, "b": [[1, 2]], "3": [4, "text"], "c": {"d": None, "e": True}}
    assert type(store.plain(value)["c"]["e"]) is bool


TABLES: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "rows.arrow": (lambda path: store.save_mapped(path, FRAME), store.load_frame),
    "rows.parquet": (lambda path: store.save_frame(path, FRAME), lambda path: store.load_columns(path, "id")),
    "rows.npy": (
        lambda path: store.save_array(path, np.zeros((9, 3))),
        lambda path: store.load_vectors(path.parent, "rows"),
    ),
}
FRAME = pl.DataFrame({"id": [f"r{number}" for number in range(500)]})


@pytest.mark.parametrize("damage", ["missing", "cut off", "other"])
@pytest.mark.parametrize("name", TABLES)
def test_a_file_that_is_missing_or_damaged_is_told_with_what_to_do(name: str, damage: str, tmp_path: Path) -> None:
    (save, load), path = TABLES[name], tmp_path / name
    (tmp_path / "rows.json").write_text('{"ids": []}', encoding="utf-8")
    save(path)
    whole = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut off" else b"some words, and no table at all")
    with pytest.raises(RunError, match=rf"{name}: cannot be read \(.+\); remove its folder and build again"):
        load(path)


@pytest.mark.parametrize(
    "error", [OSError(12, "Cannot allocate memory"), OSError(5, "Input/output error"), MemoryError()]
)
def test_a_read_that_fails_for_the_machine_does_not_advise_to_remove_what_is_whole(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save_frame(tmp_path / "rows.parquet", FRAME)

    def fails(*_: object, **__: object) -> pl.DataFrame:
        raise error

    monkeypatch.setattr(pl, "read_parquet", fails)
    with pytest.raises(type(error)) as caught:
        store.load_frame(tmp_path / "rows.parquet")
    assert caught.value is error
    error = PermissionError(13, "Permission denied")
    with pytest.raises(RunError, match=r"cannot be read \(permission denied\); fix its permissions$"):
        store.load_frame(tmp_path / "rows.parquet")
