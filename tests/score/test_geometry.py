"""Pulls against gradients that are built, a row and a layer at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from curator.model.batches import CPU_TOKENS
from curator.model.chat import encode_all
from curator.model.losses import token_losses
from curator.represent.gradients import layers_of
from curator.score.geometry import pulls, step_between
from tests import fakes
from tests.model.test_greedy import model as state_space
from tests.model.test_greedy import odd

TOKENIZER = fakes.tokenizer()
ROWS = encode_all(TOKENIZER, fakes.conversations())
IDS = [f"row-{number}" for number in range(len(ROWS))]


def take(model, steps, batch_tokens=300):
    return pulls(ROWS, IDS, model=model, steps=steps, filler=0, batch_tokens=batch_tokens)


def gradients_of(model, row):
    weights = [layer.weight for layer in layers_of(model, "lora")]
    return torch.autograd.grad(token_losses([row], model=model, filler=0)[0].mean(), weights)


# Padded rows of gemma are not finite in fp64, in transformers itself.
@pytest.mark.parametrize(
    ("family", "near"), [("llama", 1e-9), ("qwen", 1e-9), ("gpt2", 1e-9), ("opt", 1e-9), ("gemma", 1e-5)]
)
def test_it_is_the_mean_cosine_over_layers_of_the_gradient_and_the_step(family, near):
    dtype = torch.float32 if family == "gemma" else torch.float64
    model, moved = fakes.model(family).to(dtype), fakes.model(family, seed=3).to(dtype)
    before, after = (layers_of(each, "lora") for each in (model, moved))
    expected = []
    for row in ROWS:
        slopes = gradients_of(model, row)
        cosines = [
            torch.cosine_similarity(-slope.flatten(), (new.weight - old.weight).detach().flatten(), dim=0)
            for slope, old, new in zip(slopes, before, after, strict=True)
        ]
        expected.append(float(torch.stack(cosines).mean()))
    assert np.std(expected) > 1e-3
    for batch_tokens in (1, 300):
        found = take(model, {"a": step_between(model, moved)}, batch_tokens)["a"]
        np.testing.assert_allclose(found, expected, atol=near)


@pytest.mark.parametrize("family", ["mamba", "lfm2", "recurrent_gemma"])
def test_a_new_model_whose_state_is_not_the_usual_one_is_pulled_as_it_is_a_row_at_a_time(family):
    """Whether it reads padding is tried before its layers are watched, and one that does gets none."""
    made = (odd if family == "recurrent_gemma" else state_space).__wrapped__
    model, moved, fresh = (made(family) for _ in "123")
    torch.manual_seed(3)
    for weight in moved.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    steps, expected = step_between(model, moved), []
    called = [not name.endswith("dt_proj") for name, _ in names_of(model)]  # whose weights Mamba reads by itself
    for row in ROWS:
        pairs = zip(gradients_of(model, row), steps, called, strict=True)
        cosines = [
            torch.cosine_similarity(-slope.flatten(), step.flatten(), dim=0) if counts else torch.zeros(())
            for slope, step, counts in pairs
        ]
        expected.append(float(torch.stack(cosines).mean()))
    assert np.std(expected) > 1e-3
    np.testing.assert_allclose(take(fresh, {"a": steps})["a"], expected, atol=1e-4)


def names_of(model):
    layers = layers_of(model, "lora")
    return [(name, module) for name, module in model.named_modules() if any(module is layer for layer in layers)]


def test_a_step_down_a_rows_own_gradient_is_along_it_in_every_layer_and_back_is_against_it():
    model, down, up = (fakes.model("llama").double() for _ in range(3))
    slopes = gradients_of(model, ROWS[0])
    for moved, sign in ((down, -1), (up, 1)):
        for number, (layer, slope) in enumerate(zip(layers_of(moved, "lora"), slopes, strict=True)):
            layer.weight.data += sign * 2.0**-number * slope  # however long the step of a layer is
    found = take(model, {"down": step_between(model, down), "up": step_between(model, up)})
    assert found["down"][0] == pytest.approx(1.0)
    assert found["up"][0] == pytest.approx(-1.0)
    assert abs(found["down"][1:]).max() < 0.999


def test_a_layer_that_has_not_moved_counts_as_zero_and_the_model_is_left_as_it_was():
    model = fakes.model("llama").requires_grad_(True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step = step_between(model, fakes.model("llama", seed=3))
    whole = take(model, {"a": step})["a"]
    none = take(model, {"a": [torch.zeros_like(each) for each in step]})["a"]
    half = take(model, {"a": [*step[:-1], torch.zeros_like(step[-1])], "b": step})
    assert not none.any()
    assert half["b"].tolist() == whole.tolist()
    assert half["a"].tolist() != whole.tolist()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())


def test_a_pass_on_a_cpu_holds_few_tokens():
    """A backward pass keeps the states of every layer."""
    model, sizes = fakes.model("llama"), []
    handle = model.register_forward_pre_hook(
        lambda _, __, given: sizes.append(given["input_ids"].numel()), with_kwargs=True
    )
    rows = ROWS * 20
    pulls(
        rows, [f"row-{number:03}" for number in range(len(rows))], model=model,
        steps={"a": step_between(model, fakes.model("llama", seed=3))}, filler=0, batch_tokens=8192,
    )  # fmt: skip
    handle.remove()
    assert sum(sizes) > CPU_TOKENS >= max(sizes)
