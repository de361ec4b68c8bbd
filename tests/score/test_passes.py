"""A pass in slices: what an interruption keeps, and that it changes no bit."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from curator.model.chat import encode_all
from curator.model.load import load_model
from curator.model.losses import answer_losses
from curator.run.files import load_row_values, save_frame
from curator.score import passes
from curator.score.passes import BASE, MEASURES, PARTS, PassJob, run_pass
from curator.train.job import Rows, Weights
from tests import fakes

FRAME = fakes.frame(fakes.conversations(9))
IDS = tuple(FRAME["id"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three different models: the base, an aligned one and a fine-tuned one."""
    root = tmp_path_factory.mktemp("models")
    return [fakes.save(root / str(seed), seed=seed) for seed in range(3)]


@pytest.fixture
def job(folders, tmp_path):
    """Makes the job of a measure in a folder."""
    save_frame(tmp_path / "pool.parquet", FRAME)
    base, aligned, tuned = (Weights(folder, None, (), f"key-{number}") for number, folder in enumerate(folders))
    others = {"losses": (), "depth": ((BASE, base),), "pulls": ((BASE, base), ("list", tuned))}

    def make(measure, folder, **changes):
        given = {
            "root": tmp_path, "folder": folder, "key": "k", "weights": aligned, "tokenizer": folders[0],
            "tokenizer_revision": None, "chat_template": "plain", "rows": Rows(str(tmp_path / "pool.parquet"), IDS),
            "batch_tokens": 200, "measure": measure, "others": others.get(measure, ()),
        }  # fmt: skip
        return PassJob(**{**given, **changes})

    return make


class Counting:
    """Stands in for a measure, counts the rows of each slice, and stops where it is told."""

    def __init__(self, monkeypatch, name, stop=None):
        self.slices, self.stop, self.loads, original = [], stop, 0, MEASURES[name]

        def load(job, filler):
            self.loads += 1
            measure = original(job, filler)

            def counted(rows, ids):
                if len(self.slices) == self.stop:
                    raise KeyboardInterrupt
                self.slices.append(tuple(ids))
                return measure(rows, ids)

            return counted

        monkeypatch.setitem(MEASURES, name, load)


@pytest.mark.parametrize("measure", ["losses", "depth", "pulls"])
def test_a_pass_that_is_interrupted_goes_on_with_the_slices_that_are_missing_and_gives_the_same_bits(
    job, tmp_path, monkeypatch, measure
):
    monkeypatch.setattr(passes, "SLICE", 4)
    run_pass(job(measure, "whole"))
    with monkeypatch.context() as patch:
        first = Counting(patch, measure, stop=2)
        with pytest.raises(KeyboardInterrupt):
            run_pass(job(measure, "cut"))
    with monkeypatch.context() as patch:
        rest = Counting(patch, measure)
        run_pass(job(measure, "cut"))
    assert sorted([*first.slices, *rest.slices]) == sorted([IDS[:4], IDS[4:8], IDS[8:]])
    assert (len(first.slices), len(rest.slices), rest.loads) == (2, 1, 1)
    whole, cut = (load_row_values(tmp_path / folder) for folder in ("whole", "cut"))
    assert cut.equals(whole)
    assert tuple(cut["id"]) == IDS
    assert cut.drop("id").select(pl.all().n_unique() > 4).row(0) == (True,) * (cut.width - 1)
    assert not (tmp_path / "cut" / PARTS).exists()


def test_the_slice_with_the_longest_row_comes_first(job, monkeypatch):
    monkeypatch.setattr(passes, "SLICE", 2)
    seen = Counting(monkeypatch, "losses")
    run_pass(job("losses", "piece"))
    encoded = encode_all(fakes.tokenizer(), FRAME["messages"].to_list())
    lengths = {row_id: len(row.ids) for row_id, row in zip(IDS, encoded, strict=True)}
    longest = [max(lengths[row_id] for row_id in part) for part in seen.slices]
    assert longest == sorted(longest, reverse=True)
    assert seen.slices[0] != IDS[:2]


def test_where_all_slices_are_there_no_model_is_loaded(job, tmp_path, monkeypatch):
    monkeypatch.setattr(passes, "SLICE", 4)

    def stopped(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(passes, "_require_finite", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_pass(job("losses", "piece"))
    again = Counting(monkeypatch, "losses")
    run_pass(job("losses", "piece"))
    assert again.loads == 0
    assert tuple(load_row_values(tmp_path / "piece")["id"]) == IDS


@pytest.mark.parametrize("other", ["key", "machine"])
def test_slices_of_another_key_or_machine_are_not_taken(job, monkeypatch, other):
    monkeypatch.setattr(passes, "SLICE", 4)
    with monkeypatch.context() as patch:
        Counting(patch, "losses", stop=2)
        with pytest.raises(KeyboardInterrupt):
            run_pass(job("losses", "piece"))
    if other == "machine":
        monkeypatch.setattr(passes, "computed_with", lambda: {"device": "another"})
    again = Counting(monkeypatch, "losses")
    run_pass(job("losses", "piece", key="k" if other == "machine" else "other"))
    assert len(again.slices) == 3


def test_rows_of_one_slice_are_measured_together(job, folders, tmp_path):
    run_pass(job("losses", "piece"))
    encoded = encode_all(fakes.tokenizer(), FRAME["messages"].to_list())
    expected = answer_losses(encoded, IDS, model=load_model(folders[1]), filler=0, batch_tokens=200, key="k")
    np.testing.assert_array_equal(load_row_values(tmp_path / "piece")["whole"], expected.whole)


def test_a_metagradient_is_not_cut_for_its_rows_decide_each_others_numbers(job, tmp_path, monkeypatch):
    monkeypatch.setattr(passes, "SLICE", 2)
    monkeypatch.setitem(MEASURES, "metagradient", lambda *_: lambda rows, ids: {"list": np.arange(1.0 * len(ids))})
    run_pass(job("metagradient", "piece"))
    assert load_row_values(tmp_path / "piece")["list"].to_list() == list(range(9))
