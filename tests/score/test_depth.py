"""Depth against one row at a time, and at its ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from curator.model.batches import CPU_TOKENS
from curator.model.chat import encode_all
from curator.model.losses import answer_losses
from curator.score.depth import depths
from tests import fakes

TOKENIZER = fakes.tokenizer()
ROWS = encode_all(TOKENIZER, fakes.conversations())
IDS = [f"row-{number}" for number in range(len(ROWS))]


def take(model, base, rows=ROWS, batch_tokens=300):
    return depths(rows, IDS[: len(rows)], model=model, base=base, filler=0, batch_tokens=batch_tokens)


def changes(model, base, row):
    """KL at each answer token, summed over the vocabulary by hand."""
    ids = torch.tensor([row.ids])
    with torch.no_grad():
        ours, theirs = (torch.softmax(each(ids).logits[0].double(), -1) for each in (model, base))
    places = range(max(row.start, 1) - 1, len(row.ids) - 1)
    return [float((ours[at] * (ours[at] / theirs[at]).log()).sum()) for at in places]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_it_is_the_share_of_the_divergence_beyond_the_fifth_answer_token(family):
    model, base = fakes.model(family), fakes.model(family, seed=1)
    expected = []
    for row in ROWS:
        change = changes(model, base, row)
        expected.append(sum(change[5:]) / sum(change))
    assert 0.0 in expected
    assert max(expected) > 0.5
    for batch_tokens in (1, 300):
        np.testing.assert_allclose(take(model, base, batch_tokens=batch_tokens), expected, atol=1e-5)


def test_a_frame_before_the_answer_has_no_share():
    model, base = fakes.model("llama"), fakes.model("llama", seed=1)
    framed = fakes.TEMPLATES["plain"].replace("m['content'] + eos_token", "'she lit.' + m['content'] + eos_token")
    rows = encode_all(fakes.tokenizer(framed), fakes.conversations())
    expected = []
    for row in rows:
        change = changes(model, base, row)[row.lead :]
        expected.append(sum(change[5:]) / sum(change))
    assert all(row.lead for row in rows)
    np.testing.assert_allclose(take(model, base, rows), expected, atol=1e-5)


def test_a_model_that_is_its_own_base_has_changed_nothing():
    model = fakes.model("llama")
    assert not take(model, model).any()


def test_a_change_of_the_first_tokens_alone_is_shallow():
    """The base, with the word that it says at the answer's first token made likelier by far."""
    base, model = fakes.model("llama"), fakes.model("llama")
    row = max(ROWS, key=lambda each: len(each.ids) - each.start)

    def forward(*args, **kwargs):
        output = type(model).forward(model, *args, **kwargs)
        output.logits[:, 0, row.ids[row.start]] += 5.0  # in front of the first: only the answers' logits are kept
        return output

    model.forward = forward
    assert take(model, base, [row])[0] == 0.0
    assert take(base, fakes.model("llama", seed=2), [row])[0] > 0.5


def test_a_pass_on_a_cpu_holds_few_tokens():
    model, sizes = fakes.model("llama"), []
    handle = model.register_forward_pre_hook(
        lambda _, __, given: sizes.append(given["input_ids"].numel()), with_kwargs=True
    )
    rows = ROWS * 20
    ids = [f"row-{number:03}" for number in range(len(rows))]
    depths(rows, ids, model=model, base=fakes.model("llama", seed=1), filler=0, batch_tokens=8192)
    answer_losses(rows, ids, model=model, filler=0, batch_tokens=8192, key="unused")
    handle.remove()
    assert sum(sizes) > CPU_TOKENS >= max(sizes)


def test_a_model_that_gives_no_number_is_not_scored_as_shallow():
    broken = fakes.model("llama")
    broken.get_output_embeddings().weight.data.fill_(float("nan"))
    assert np.isnan(take(broken, fakes.model("llama", seed=1))).all()
