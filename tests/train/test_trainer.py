"""How a step's rows are cut into passes, and what a training computes and keeps of them."""

from __future__ import annotations

import gc
import warnings
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curator.model.chat import encode
from curator.train import loss, trainer
from curator.train.trainer import passes
from tests import fakes
from tests.train.test_sft import fit

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=8).map(lambda lengths: sorted(lengths, reverse=True))


def cost(lengths, cuts, extra):
    return sum((stop - start) * lengths[start] + extra for start, stop in cuts)


@given(LENGTHS, st.integers(1, 8), st.integers(0, 50))
def test_passes_take_every_row_once_within_the_bound_at_the_least_cost(lengths, rows, extra):
    cuts = passes(lengths, rows=rows, extra=extra)
    assert [row for start, stop in cuts for row in range(start, stop)] == list(range(len(lengths)))
    most = rows * lengths[0]
    assert all((stop - start) * lengths[start] <= most for start, stop in cuts)
    # Every way of cutting, tried.
    ways = []
    for count in range(len(lengths)):
        for inner in combinations(range(1, len(lengths)), count):
            edges = [0, *inner, len(lengths)]
            way = list(pairwise(edges))
            if all((stop - start) * lengths[start] <= most for start, stop in way):
                ways.append(cost(lengths, way, extra))
    assert cost(lengths, cuts, extra) == min(ways)


def test_rows_of_real_lengths_are_padded_by_less_than_a_tenth():
    generator = torch.Generator().manual_seed(0)
    real = padded = 0
    for _ in range(50):
        # Log-normal about 110 tokens, as rows of a public pool are.
        lengths = (4.7 + 0.35 * torch.randn(16, generator=generator)).exp().int().sort(descending=True).values.tolist()
        cuts = passes(lengths, rows=4, extra=trainer.PASS_TOKENS["cpu"])
        real, padded = real + sum(lengths), padded + cost(lengths, cuts, 0)
        assert len(cuts) <= 6
    assert 1 - real / padded < 0.1


def test_a_training_computes_few_padded_tokens_and_heads_of_labelled_ones(llama_folder, tmp_path, monkeypatch):
    rows = fakes.conversations(16)
    tokens, heads = [], []
    real = torch.nn.Linear.forward

    def linear(self, states):
        if self.out_features == 320 and self.training:
            heads.append(states.shape[:-1].numel())
        elif self.in_features == 48 and self.training:
            tokens.append(states.shape[:-1].numel())
        return real(self, states)

    monkeypatch.setattr(torch.nn.Linear, "forward", linear)
    monkeypatch.setitem(trainer.PASS_TOKENS, "cpu", 8)
    trained = fit(llama_folder, tmp_path, rows, method="full", steps=2, batch=16, micro_batch=4)
    encoded = [encode(fakes.tokenizer(), row) for row in rows]
    assert sum(heads) == 2 * sum(len(row.ids) - row.start for row in encoded)
    assert trained.tokens == 2 * sum(len(row.ids) for row in encoded)
    assert trained.tokens <= sum(tokens) / 3 < trained.tokens / 0.9  # three blocks have one such layer each


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_adapters_see_states_as_the_layers_beside_them_do(llama_folder, tmp_path, monkeypatch, name, dtype):
    seen, logits = set(), set()
    real, summed = torch.nn.Linear.forward, loss._summed

    def linear(self, states):
        if self.out_features == 3 and self.training:
            seen.add(states.dtype)
        return real(self, states)

    def watched(of_words, words):
        logits.add(of_words.dtype)
        return summed(of_words, words)

    monkeypatch.setattr(torch.nn.Linear, "forward", linear)
    monkeypatch.setattr(loss, "_summed", watched)
    fit(llama_folder, tmp_path, method="lora", rank=3, steps=1, dtype=name)
    assert seen == logits == {dtype}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_nothing_of_the_models_size_outlives_a_training(llama_folder, tmp_path, method):
    fit(llama_folder, tmp_path / "warm", method=method)
    gc.collect()

    def living():
        return sum(each.numel() for each in gc.get_objects() if isinstance(each, torch.Tensor))

    before = living()
    gc.disable()  # so that what is gone is gone by what the training itself does
    try:
        fit(llama_folder, tmp_path / "run", method=method)
        after = living()
    finally:
        gc.enable()
    assert after - before < 1000  # the model has some 40,000 weights


def test_a_training_warns_of_nothing_that_a_user_could_change(llama_folder, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(llama_folder, tmp_path)
    assert [str(warning.message) for warning in caught if warning.category is FutureWarning] == []
