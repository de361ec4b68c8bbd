"""Several layers and tokens in one pass, and no more of the pass than they need."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from curator.recipe.represent import Represent
from curator.represent import encoder
from curator.represent.vectors import alike, encoder_of, represent, represent_all
from tests import fakes

ROWS = fakes.conversations()
IDS = [f"row-{i}" for i in range(len(ROWS))]
TOKENS = ("last-completion", "eos", "mean-completion", "end-of-prompt")


@pytest.fixture(scope="module", params=fakes.FAMILIES)
def model(request):
    return fakes.model(request.param)


def sections(layers, tokens=TOKENS, **settings):
    return [Represent(layer=layer, token=token, **settings) for layer in layers for token in tokens]


def together(model, asked, tokenizer=None):
    tokenizer = tokenizer or fakes.tokenizer()
    return represent_all(IDS, ROWS, sections=asked, model=model, tokenizer=tokenizer, name="tiny")


def passes(model, work):
    """How often the body and each of its blocks ran while `work` did."""
    ran = {}

    def count(name):
        return lambda *_: ran.__setitem__(name, ran.get(name, 0) + 1)

    body = model.get_decoder()
    blocks = body.h if hasattr(body, "h") else body.layers
    handles = [block.register_forward_hook(count(number)) for number, block in enumerate(blocks)]
    handles.append(body.register_forward_pre_hook(count("body")))
    try:
        work()
    finally:
        for handle in handles:
            handle.remove()
    return ran


def test_one_pass_gives_every_layer_and_token_as_passes_of_their_own_do(model):
    asked = sections((0, 1, 2, 3))
    for section, vectors in zip(asked, together(model, asked), strict=True):
        alone = represent(IDS, ROWS, section=section, model=model, tokenizer=fakes.tokenizer(), name="tiny")
        np.testing.assert_allclose(vectors.matrix, alone.matrix, atol=1e-5)
        assert (vectors.layer, vectors.token) == (section.layer, section.token)


@pytest.mark.parametrize("kind", ["hidden-states", "gradients"])
def test_a_model_stores_as_many_rows_together_as_its_size_allows(monkeypatch, model, kind):
    monkeypatch.setattr(encoder, "CPU_WORK", 2**29)
    made = encoder_of([Represent(kind=kind)], model=model, tokenizer=fakes.tokenizer(), name="tiny")
    runs = model.get_decoder() if kind == "hidden-states" else model
    assert made.rows == 2**29 // sum(weight.numel() for weight in runs.parameters()) > encoder.CPU_ROWS


def test_many_places_cost_one_pass_a_batch(model):
    one = passes(model, lambda: together(model, sections((-1,), ("eos",), batch_tokens=200)))
    many = passes(model, lambda: together(model, sections((0, 2, -1), batch_tokens=200)))
    assert one == many
    assert one["body"] > 1


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_blocks_after_the_last_asked_layer_do_not_run(model, layer):
    ran = passes(model, lambda: together(model, sections((0, layer))))
    assert set(ran) == {"body", *range(layer)}


def test_the_mean_of_a_half_precision_model_is_taken_in_full_precision():
    model = fakes.model("llama").to(torch.bfloat16)
    got = together(model, sections((-1,), ("mean-completion",)))[0].matrix
    alone = [represent(["x"], [row], section=Represent(token="mean-completion"), model=model,
                       tokenizer=fakes.tokenizer(), name="tiny").matrix[0] for row in ROWS]  # fmt: skip
    np.testing.assert_allclose(got, alone, atol=1e-2)
    exact = together(fakes.model("llama"), sections((-1,), ("mean-completion",)))[0].matrix
    assert float((got * exact).sum(axis=1).min()) > 0.99
    assert not np.array_equal(torch.tensor(got).bfloat16().float().numpy(), got)


def test_sections_go_together_where_one_pass_can_make_them():
    minilm = Represent(kind="sentence-transformers", id="a/b")
    asked = [Represent(), minilm, Represent(layer=2, centre=False), Represent(max_tokens=9), minilm]
    assert alike(asked) == [[0, 2], [1], [3], [4]]
