"""What is embedded once is not embedded again; what is damaged is; what differs is never mixed up."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from curator.errors import ModelError, RunError
from curator.recipe.represent import Represent
from curator.represent import cache, chunks, encoder
from curator.represent.cache import about, add, content_key, folder_of, gathered, keys_of, locate, write_matrix
from curator.represent.chunks import encoded, fill, in_memory
from curator.represent.encoder import Encoded, Encoder, stored_together
from curator.run.folder import TEMPORARY, key_of


def row(text):
    return [{"role": "user", "content": text}, {"role": "assistant", "content": f"answer to {text}"}]


def texts(*numbers):
    return in_memory([f"id-{n:04}" for n in numbers], [row(f"question {n}") for n in numbers])


def vector(messages):
    """A row's own vector, of its text alone."""
    seed = int.from_bytes(content_key(messages)[:4], "big")
    found = np.random.default_rng(seed).standard_normal(8)
    return (found / np.linalg.norm(found)).astype(np.float32)


class Spy:
    """An encoder of two places, the second the negative of the first, that writes down what it was asked for."""

    def __init__(self, dies_after=10**9):
        self.pieces, self.loads, self.dies_after = [], 0, dies_after

    def __call__(self):
        self.loads += 1
        return Encoder((8, 8), self.encode)

    def encode(self, piece, wanted, progress):
        if len(self.pieces) == self.dies_after:
            raise KeyboardInterrupt
        self.pieces.append((list(piece.ids), tuple(wanted)))
        first = np.array([vector(messages) for messages in piece.rows])
        cut = np.array([messages[0]["content"].endswith("3") for messages in piece.rows])
        progress(len(piece.ids))
        return [Encoded(first if place == 0 else -first, cut) for place in wanted]

    @property
    def rows(self):
        return [one for ids, _ in self.pieces for one in ids]


@pytest.fixture
def caches(tmp_path):
    return [folder_of(tmp_path, {"layer": layer}) for layer in (1, 2)]


@pytest.fixture
def small(monkeypatch):
    """Chunks of ten rows, read four at a time."""
    monkeypatch.setattr(chunks, "MOST_ROWS", 10)
    monkeypatch.setattr(chunks, "LEAST_ROWS", 10)
    monkeypatch.setattr(chunks, "READ", 4)


def test_vectors_come_back_in_the_order_of_the_rows(caches, small):
    given = texts(*np.random.default_rng(0).permutation(35).tolist())
    keys = fill(caches, given, Spy()).keys
    first, second = (gathered(cache, keys) for cache in caches)
    np.testing.assert_array_equal(first.matrix, [vector(one) for one in given.read(0, 35)])
    np.testing.assert_array_equal(second.matrix, -first.matrix)
    assert first.cut.tolist() == [one[0]["content"].endswith("3") for one in given.read(0, 35)]


def test_only_rows_that_are_new_are_embedded(caches, small):
    spy = Spy()
    assert fill(caches, texts(*range(30)), spy).embedded == (30, 30)
    told = []
    again = fill(caches, texts(*range(5, 42)), spy, progress=lambda *one: told.append(one))
    assert (again.embedded, again.cached) == ((12, 12), (25, 25))
    assert spy.rows[30:] == [f"id-{n:04}" for n in range(30, 42)]
    assert (told[0], told[-1]) == ((25, 37), (37, 37))
    assert told == sorted(told)
    assert spy.loads == 2
    fill(caches, texts(*range(42)), spy)
    assert spy.loads == 2


def test_a_place_that_lacks_a_row_gets_it_and_the_others_are_left_alone(caches):
    spy = Spy()
    fill(caches[:1], texts(1, 2), lambda: Encoder((8,), spy.encode))
    shards = sorted(caches[0].glob("*.vectors"))
    assert fill(caches, texts(1, 2), spy).embedded == (0, 2)
    assert spy.pieces[-1] == (["id-0001", "id-0002"], (1,))
    assert sorted(caches[0].glob("*.vectors")) == shards


def test_rows_of_one_text_are_embedded_once(caches):
    given, spy = in_memory(["b", "a", "c"], [row("x"), row("x"), row("y")]), Spy()
    keys = fill(caches, given, spy).keys
    assert spy.rows == ["a", "c"]
    found = gathered(caches[0], keys).matrix
    np.testing.assert_array_equal(found, [vector(row("x")), vector(row("x")), vector(row("y"))])
    np.testing.assert_array_equal(encoded(given, Spy()())[0].matrix, found)


def test_rows_that_differ_by_a_blank_are_not_mixed_up(caches):
    fill(caches, in_memory(["a"], [row("x  y")]), Spy())
    assert fill(caches, in_memory(["a"], [row("x y")]), Spy()).embedded == (1, 1)


@pytest.mark.parametrize("stops_after", [1, 2, 3])
def test_a_run_that_was_killed_goes_on_with_the_same_pieces(tmp_path, small, stops_after):
    """So batches are composed alike, and vectors have the same bits as in one run."""
    whole, first, second = Spy(), Spy(dies_after=stops_after), Spy()
    fill([folder_of(tmp_path / "a", {}), folder_of(tmp_path / "a", {"b": 1})], texts(*range(35)), whole)
    caches = [folder_of(tmp_path / "b", {}), folder_of(tmp_path / "b", {"b": 1})]
    with pytest.raises(KeyboardInterrupt):
        fill(caches, texts(*range(35)), first)
    fill(caches, texts(*reversed(range(35))), second)
    assert first.pieces + second.pieces == whole.pieces


def test_a_large_model_on_a_cpu_stores_its_rows_sooner(tmp_path, small, monkeypatch):
    """So that an interrupted run loses minutes, and not all that it has done."""
    spy, large = Spy(), torch.nn.Linear(100, 99, bias=True)  # 9,999 parameters
    monkeypatch.setattr(encoder, "CPU_WORK", 40_000)
    monkeypatch.setattr(encoder, "CPU_ROWS", 3)
    assert stored_together(large) == 4
    assert stored_together(torch.nn.Linear(100_000, 1)) == 3
    assert stored_together(torch.nn.Linear(2, 2, device="meta")) is None
    spy.dies_after = 2
    with pytest.raises(KeyboardInterrupt):
        fill([tmp_path], texts(*range(11)), lambda: replace(Spy()(), encode=spy.encode, rows=stored_together(large)))
    assert [len(ids) for ids, _ in spy.pieces] == [4, 4]
    assert fill([tmp_path], texts(*range(11)), Spy()).embedded == (3,)


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "no keys", "gone"])
def test_a_torn_shard_is_passed_over_and_made_again(caches, small, damage):
    fill(caches, texts(*range(20)), Spy())
    shard = sorted(caches[0].glob("*.vectors"))[1]
    content = shard.read_bytes()
    if damage == "gone":
        shard.unlink()
    else:
        shard.write_bytes({
            "cut": content[:-5], "empty": b"", "changed": content[:-5] + b"!" + content[-4:], "no keys": content[:90],
        }[damage])  # fmt: skip
    spy = Spy()
    keys = fill(caches, texts(*range(20)), spy).keys
    assert len(spy.rows) == 10
    np.testing.assert_array_equal(gathered(caches[0], keys).matrix, [vector(row(f"question {n}")) for n in range(20)])
    assert fill(caches, texts(*range(20)), spy).embedded == (0, 0)


def test_what_is_described_otherwise_lies_elsewhere(tmp_path):
    folder = folder_of(tmp_path, {"layer": 1, "weights": "a"})
    others = [{"layer": 2, "weights": "a"}, {"layer": 1, "weights": "b"}, {"layer": 1, "weights": "a", "template": ""}]
    assert len({folder, *(folder_of(tmp_path, one) for one in others)}) == 4
    assert folder_of(tmp_path, {"weights": "a", "layer": 1}) == folder


def test_each_of_what_decides_a_vector_is_in_its_description(monkeypatch):
    section = Represent(**{"from": "hidden-states"})
    settings = {"name": "a", "weights": ["w"], "where": "cpu", "template": "t"}

    def described(section=section, **changes):
        return key_of(about(section, **{**settings, **changes}))

    kinds = [
        Represent(**{"from": "gradients", **more})
        for more in ({}, {"of": "head"}, {"rank": 4}, {"dimensions": 64}, {"seed": 1})
    ]
    kinds += [
        Represent(**{"from": "hidden-states", **more})
        for more in (
            {"layer": 2},
            {"token": "eos"},
            {"max_tokens": 9},
            {"token": "first-answer"},
            {"token": "first-answer", "first": 8},
        )
    ]
    embedder = {"from": "sentence-transformers", "id": "a"}
    kinds += [Represent(**embedder, **more) for more in ({"side": "prompt"}, {"side": "answer"}, {})]
    found = [described(), *map(described, kinds)]
    found += [described(**{name: "other"}) for name in ("weights", "template")] + [described(where="cuda")]
    found.append(described(dtype="bf16"))
    found.append(described(kinds[-1], where="cuda"))
    found += [described(begin=True), described(kinds[0], begin=True)]
    mean = Represent(**{"from": "hidden-states", "token": "mean-completion"})
    found += [described(mean), described(mean, lead=True)]
    monkeypatch.setattr(cache, "SCHEME", 99)
    found.append(described())
    monkeypatch.undo()
    monkeypatch.setattr(cache, "version", lambda library: "9.8.7")
    found.append(described())
    assert len(set(found)) == len(found)
    monkeypatch.undo()
    # What decides last bits, or nothing before centring, does not.
    assert described() == described(
        Represent(**{"from": "hidden-states", "batch_tokens": 9, "centre": False, "name": "b"})
    )
    assert described() == described(lead=True)  # its token is behind the template's
    on_gpu = about(section, **{**settings, "where": "cuda", "dtype": "bf16"})
    assert (on_gpu["device"], on_gpu["dtype"]) == ("cuda", "bfloat16")


def test_what_a_killed_process_left_half_written_goes_after_an_hour(tmp_path):
    folder = folder_of(tmp_path, {})
    old, young = folder / f".a.vectors.1{TEMPORARY}", folder / f".b.vectors.2{TEMPORARY}"
    theirs = folder / ".another-tool.tmp"
    for path in (old, young, theirs):
        path.write_bytes(b"half")
    for path in (old, theirs):
        os.utime(path, (time.time() - 4000,) * 2)
    folder_of(tmp_path, {})
    assert (old.exists(), young.exists(), theirs.exists()) == (False, True, True)


def test_many_cut_shards_of_no_rows_are_harmless(caches):
    add(caches[0], keys_of([]), Encoded(np.zeros((0, 8), dtype=np.float32), np.zeros(0, dtype=bool)))
    assert fill(caches, texts(1), Spy()).embedded == (1, 1)


def fill_apart(folders, start, stop, gate):
    gate.wait()
    for n in range(start, stop):
        fill(folders, texts(n, n + 1), Spy())


def test_two_processes_at_once_lose_nothing(caches):
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(2)
    workers = [context.Process(target=fill_apart, args=(caches, *span, gate)) for span in ((0, 25), (15, 40))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    spy = Spy()
    keys = fill(caches, texts(*range(41)), spy).keys
    assert spy.rows == []
    np.testing.assert_array_equal(gathered(caches[0], keys).matrix, [vector(row(f"question {n}")) for n in range(41)])
    assert locate(caches[1], keys).missing.size == 0


def test_vectors_that_vanish_while_a_run_is_at_work_are_an_error_and_no_zeros(caches, tmp_path):
    fill(caches, texts(*range(5)), Spy())
    filled = fill(caches, texts(*range(5)), Spy())
    shutil.rmtree(caches[0])
    with pytest.raises(RunError, match=r"of 5 rows disappeared or changed.*run the same command"):
        gathered(caches[0], filled.keys)
    with pytest.raises(RunError, match="disappeared or changed"):
        write_matrix(tmp_path / "out.npy", locate(caches[0], filled.keys), 8)


def test_a_vector_that_is_no_number_is_told_and_not_kept(caches):
    class Broken(Spy):
        def encode(self, piece, wanted, progress):
            found = super().encode(piece, wanted, progress)
            found[0].matrix[2, 3] = np.nan
            return found

    with pytest.raises(ModelError, match="the vectors of 1 row contain NaN or infinite numbers \\(first: 'id-0002'"):
        fill(caches, texts(*range(5)), Broken())
    assert fill(caches, texts(*range(5)), Spy()).embedded == (5, 5)
