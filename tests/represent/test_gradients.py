"""Gradient features against autograd, a row at a time, with the gradients and the projection written out."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from curator.errors import ModelError
from curator.model.chat import encode_all
from curator.recipe.represent import Represent
from curator.represent.gradients import BLOCK, by_row, layers_of, lora_a, project, signs
from curator.represent.vectors import represent
from curator.seeds import derive
from tests import fakes
from tests.model.test_greedy import model as state_space
from tests.model.test_greedy import odd

ROWS = fakes.conversations(7)
IDS = [f"row-{i}" for i in range(len(ROWS))]
SIZE = 300  # more than a block


@pytest.fixture(scope="module", params=fakes.FAMILIES)
def model(request):
    return fakes.model(request.param)


def found(model, rows=ROWS, ids=IDS, **section):
    settings = Represent(
        kind="gradients", dimensions=SIZE, **{"rank": 8 if section.get("of") == "head" else 3, **section}
    )
    return represent(ids, rows, section=settings, model=model, tokenizer=fakes.tokenizer(), name="tiny")


def answer_loss(model, row):
    logits = model(torch.tensor([row.ids])).logits[0]
    wanted = torch.tensor(row.ids[row.start :])
    return torch.nn.functional.cross_entropy(logits[row.start - 1 : -1], wanted)


def dense(matrices, seed):
    """a^T G c of every layer, with all signs at once."""
    out = np.zeros(SIZE)
    for number, matrix in enumerate(matrices):
        sides = []
        for side, width in (("out", matrix.shape[0]), ("in", matrix.shape[1])):
            parts = [signs(min(BLOCK, SIZE - start), width, derive(seed, side, number, start))
                     for start in range(0, SIZE, BLOCK)]  # fmt: skip
            sides.append(torch.cat(parts).double())
        out += torch.einsum("jo,oi,ji->j", sides[0], matrix.double(), sides[1]).numpy()
    return out / np.linalg.norm(out)


def hashed(number):
    for _ in range(3):
        number &= 2**32 - 1
        number = (number >> 16 ^ number) * 0x45D9F3B
    number &= 2**32 - 1
    return number >> 16 ^ number


def test_a_sign_is_a_bit_of_a_hash_of_seed_row_and_column_in_whole_numbers():
    drawn = signs(3, 70, 12345)
    for row, column in [(0, 0), (1, 31), (1, 32), (2, 69)]:
        word = hashed(column // 32 * 0x85EBCA77 + ~12345)
        mixed = hashed(hashed(row * 0x9E3779B1 + 12345) + 5 * word)
        assert drawn[row, column] == 1 - 2 * (mixed >> column % 32 & 1)
    assert drawn.dtype == torch.float32
    assert (drawn == signs(5, 200, 12345)[:3, :70]).all()


def test_signs_of_rows_columns_and_layers_are_as_independent_as_drawn_ones():
    drawn = torch.cat([signs(BLOCK, 1024, derive(5, "out", number, 0)) for number in range(4)])
    n, width = drawn.shape
    assert abs(drawn.mean()) < 4 / (n * width) ** 0.5
    for table in (drawn, drawn.T):
        products = (table @ table.T).fill_diagonal_(0) / table.shape[1] ** 0.5
        assert products.std() == pytest.approx(1, abs=0.01)
        assert products.abs().max() < 6  # of a million pairs, whose products are nearly normal


def test_features_of_lora_are_autograds_gradients_of_b_where_b_is_zero(model):
    layers, expected = layers_of(model, "lora"), []
    for row in encode_all(fakes.tokenizer(), ROWS):
        b, handles = [], []
        for number, layer in enumerate(layers):
            given = layer.weight.shape[1] if isinstance(layer, torch.nn.Linear) else layer.weight.shape[0]
            a = lora_a(3, given, 5, number)
            b.append(torch.zeros(layer(torch.zeros(1, given)).shape[1], 3, requires_grad=True))
            handles.append(layer.register_forward_hook(lambda _, x, y, a=a, b=b[-1]: y + x[0] @ a.T @ b.T))
        answer_loss(model, row).backward()
        for handle in handles:
            handle.remove()
        expected.append(dense([one.grad for one in b], 5))
    np.testing.assert_allclose(found(model, seed=5).matrix, expected, atol=1e-4)


def test_features_of_the_head_are_autograds_gradients_of_its_weights(model):
    head, expected = model.get_output_embeddings(), []
    model.requires_grad_(False)
    for row in encode_all(fakes.tokenizer(), ROWS):
        own = torch.nn.Parameter(head.weight.detach().clone())
        handle = head.register_forward_hook(lambda _, x, y, own=own: torch.nn.functional.linear(x[0], own))
        answer_loss(model, row).backward()
        handle.remove()
        expected.append(dense([own.grad], 2))
    np.testing.assert_allclose(found(model, of="head", seed=2).matrix, expected, atol=1e-4)


@pytest.mark.parametrize("of", ["lora", "head"])
def test_a_batch_equals_itself_one_row_at_a_time(model, of):
    alone = [found(model, [row], ["x"], of=of).matrix[0] for row in ROWS]
    together = found(model, of=of)
    np.testing.assert_allclose(together.matrix, alone, atol=1e-4)
    assert (together.layer, together.token, together.truncated) == (None, None, 0)
    assert found(model, of=of, max_tokens=20).truncated > 0


@pytest.mark.parametrize("family", ["mamba", "lfm2", "recurrent_gemma"])
def test_a_new_model_whose_state_is_not_the_usual_one_gives_the_features_of_its_rows_alone(family):
    """Whether it reads padding is tried before its layers are watched, and one that does gets none."""
    made = (odd if family == "recurrent_gemma" else state_space).__wrapped__
    model = made(family)
    alone = [found(model, [row], ["x"]).matrix[0] for row in ROWS]
    np.testing.assert_allclose(found(made(family)).matrix, alone, atol=1e-4)


def test_layers_that_get_a_batch_in_one_row_are_told_apart_by_row():
    model = fakes.model("opt")
    flat = []
    handle = model.get_decoder().layers[0].fc1.register_forward_hook(lambda _, given, __: flat.append(given[0].dim()))
    alone = [found(model, [row], ["x"], of="lora").matrix[0] for row in ROWS]
    np.testing.assert_allclose(found(model, of="lora").matrix, alone, atol=1e-4)
    handle.remove()
    assert set(flat) == {2}


def test_a_layer_that_only_some_tokens_reach_is_refused():
    torch.testing.assert_close(by_row(torch.arange(24).view(6, 4), (2, 3)), torch.arange(24).view(2, 3, 4))
    with pytest.raises(ModelError, match=r"a layer of this model gets 4 states of 6, as the experts of a mixture do"):
        by_row(torch.zeros(4, 3), (2, 3))


@pytest.mark.parametrize("of", ["lora", "head"])
def test_the_model_is_left_as_it_was(of):
    model = fakes.model("llama")
    found(model, of=of)
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


def test_no_block_is_gone_back_through_for_the_head():
    model = fakes.model("llama")
    seen = []
    handle = model.get_decoder().layers[2].register_forward_hook(lambda _, x, y: seen.append(y.requires_grad))
    found(model, of="head")
    handle.remove()
    assert seen
    assert not any(seen)


@pytest.mark.parametrize("rank", [1, 4])
def test_distortion_is_what_the_docstring_states(rank):
    """Over many draws: lengths and products are kept on average, and spread no more than stated."""
    draw, size, draws = torch.Generator().manual_seed(0), 64, 600
    slope, taken = torch.randn(2, rank, 9, generator=draw), torch.randn(2, rank, 7, generator=draw)
    whole = torch.einsum("bto,bti->boi", slope, taken).reshape(2, -1)
    length = whole.norm(dim=1)
    slope = slope / length[:, None, None]
    product = float(whole[0] @ whole[1] / length.prod())
    squares, products = [], []
    for seed in range(draws):
        out = torch.zeros(2, size)
        project(slope, taken, 0, seed, out)
        squares.append(float(out[0] @ out[0]))
        products.append(float(out[0] @ out[1]))
    limit = np.sqrt(8 / size)
    assert np.std(squares) <= 1.1 * limit
    assert abs(np.mean(squares) - 1) <= 4 * limit / np.sqrt(draws)
    assert np.std(products) <= 1.1 * 3 / np.sqrt(size)
    assert abs(np.mean(products) - product) <= 4 * 3 / np.sqrt(size * draws)
    assert rank > 1 or np.std(squares) > 0.3 * limit


def test_adapters_beside_the_weights_are_no_layers_of_the_model(model):
    from peft import LoraConfig, get_peft_model

    own = [tuple(layer.weight.shape) for layer in layers_of(model, "lora")]
    settings = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(copy.deepcopy(model), settings)
    assert [tuple(layer.weight.shape) for layer in layers_of(adapted, "lora")] == own
