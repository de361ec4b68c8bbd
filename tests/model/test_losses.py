"""Losses of answers against a twin: one row at a time, without padding, the cross entropy computed by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from curator.errors import ModelError
from curator.model.chat import encode_all
from curator.model.losses import answer_losses, token_losses
from tests import fakes

ROWS = fakes.conversations()
IDS = [f"row-{i}" for i in range(len(ROWS))]


@pytest.fixture(scope="module", params=fakes.FAMILIES)
def model(request):
    return fakes.model(request.param)


def found(model, rows=ROWS, ids=IDS, *, filler=0, batch_tokens=200, template="plain"):
    encoded = encode_all(fakes.tokenizer(template), rows)
    return answer_losses(encoded, ids, model=model, filler=filler, batch_tokens=batch_tokens, key="represent.batch")


def twin(model, messages, template="plain"):
    """Every answer token's loss: minus the log of its softmax, written out, in float64."""
    tokenizer = fakes.tokenizer(template)
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    ids = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
    ids = ids[: ids.index(tokenizer.eos_token_id, start) + 1]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double().numpy()
    losses = []
    for place in range(start, len(ids)):
        given = logits[place - 1]
        losses.append(math.log(np.exp(given - given.max()).sum()) + given.max() - given[ids[place]])
    return losses


def test_a_batch_equals_the_cross_entropy_of_one_row_at_a_time_by_hand(model):
    together = found(model)
    expected = [twin(model, messages) for messages in ROWS]
    assert np.allclose(together.whole, [np.mean(losses) for losses in expected], atol=2e-5)
    assert np.allclose(together.first, [losses[0] for losses in expected], atol=2e-5)


def test_an_empty_answer_is_its_end_token_alone(model):
    together = found(model)
    assert len(twin(model, ROWS[2])) == 1
    assert together.whole[2] == together.first[2]


def test_neither_the_size_of_a_batch_nor_what_fills_it_changes_a_loss(model):
    expected = found(model, batch_tokens=1)
    for batch_tokens in (60, 100_000):
        for filler in (0, 7):
            other = found(model, batch_tokens=batch_tokens, filler=filler)
            assert np.allclose(other.whole, expected.whole, atol=2e-5)
            assert np.allclose(other.first, expected.first, atol=2e-5)


def test_the_order_of_rows_changes_nothing():
    model = fakes.model("llama")
    expected = found(model)
    order = random.Random(1).sample(range(len(ROWS)), len(ROWS))
    shuffled = found(model, [ROWS[i] for i in order], [IDS[i] for i in order])
    assert shuffled.whole.tolist() == expected.whole[order].tolist()
    assert shuffled.first.tolist() == expected.first[order].tolist()


def test_the_losses_are_those_that_training_takes():
    """trl reports the mean over all answer tokens of a batch: the loss of its first step is that of these rows."""
    model, rows = fakes.model("llama"), ROWS[:4]
    losses = found(model, rows, IDS[:4])
    lengths = [len(twin(model, messages)) for messages in rows]
    encoded = encode_all(fakes.tokenizer(), rows)
    total = 0.0
    for row in encoded:
        labels = torch.tensor([[-100] * row.start + list(row.ids[row.start :])])
        with torch.no_grad():
            total += float(model(torch.tensor([row.ids]), labels=labels).loss) * (len(row.ids) - row.start)
    assert np.average(losses.whole, weights=lengths) == pytest.approx(total / sum(lengths), abs=2e-5)


def test_an_uninformed_model_loses_the_logarithm_of_its_vocabulary():
    model = fakes.model("llama")
    torch.nn.init.zeros_(model.lm_head.weight)
    losses = found(model)
    assert np.allclose(losses.whole, math.log(320), atol=1e-5)
    assert np.allclose(losses.first, math.log(320), atol=1e-5)


def test_progress_counts_rows_and_no_rows_have_no_losses():
    seen = []
    model, encoded = fakes.model("llama"), encode_all(fakes.tokenizer(), ROWS)
    answer_losses(encoded, IDS, model=model, filler=0, batch_tokens=60, key="k", progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == len(ROWS)
    assert found(model, [], []).whole.shape == (0,)


def test_a_row_longer_than_the_model_says_what_to_lower():
    long = [fakes.turns("ask", "the lighthouse keeper counts grey gulls " * 30)]
    with pytest.raises(
        ModelError, match=r"pool\.clean\.max_tokens: a row has \d+ tokens, more than the model.s context of 256"
    ):
        found(fakes.model("llama"), long, ["a"])


def test_the_templates_frame_before_an_answer_is_not_measured(model):
    framed = fakes.TEMPLATES["plain"].replace("m['content'] + eos_token", "'she lit.' + m['content'] + eos_token")
    lead = len(fakes.tokenizer()("she lit.", add_special_tokens=False)["input_ids"])
    together = found(model, template=framed)
    expected = [twin(model, messages, framed)[lead:] for messages in ROWS]
    assert np.allclose(together.whole, [np.mean(losses) for losses in expected], atol=2e-5)
    assert np.allclose(together.first, [losses[0] for losses in expected], atol=2e-5)
    assert np.allclose(together.early, [np.mean(losses[:16]) for losses in expected], atol=2e-5)
    encoded = encode_all(fakes.tokenizer(framed), ROWS)
    trained = token_losses(encoded, model=model, filler=0)  # training is on the frame too
    assert [len(losses) for losses in trained] == [len(twin(model, messages, framed)) for messages in ROWS]
