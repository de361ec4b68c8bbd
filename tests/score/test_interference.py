"""Interference against its first-order prediction, one gradient a row, and what it must leave as it was."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from curator.errors import DataError, ModelError
from curator.model.chat import encode_all
from curator.model.losses import answer_losses, token_losses
from curator.recipe.score import Score
from curator.represent.encoder import Texts
from curator.score.interference import interference
from tests import fakes

POOL = Texts([f"row-{i}" for i in range(9)], fakes.conversations())
LIST = Texts(["b", "a", "c"], [fakes.turns(f"list {n} rivers", f"the {n} Ald, the Bern and the Corr") for n in "123"])
SUM = Texts(["d", "e"], [fakes.turns(f"what is {n} + 30?", f"it is {n + 30}") for n in (12, 14)])
TOKENIZER = fakes.tokenizer()


def take(model, *sections, pool=POOL, tasks=None, weights=None, **changes):
    given = {"max_tokens": 250, "micro_batch": 2, "batch_tokens": 300, "taken_on": "the base", "tokenizer": TOKENIZER}
    tasks = tasks or {"list": LIST}
    weights = weights or {name: 1.0 / len(tasks) for name in tasks}
    return interference(pool, tasks, weights, sections=sections, model=model, **{**given, **changes})


def section(step="sign", size=1e-3, rows=64):
    return Score(kind="interference", step=step, size=size, rows=rows)


def gradient_of(model, rows):
    """The gradient of the mean loss over all answer tokens, of rows one at a time, as one vector; and of first ones."""
    model = model.requires_grad_(True)
    found = [token_losses([row], model=model, filler=0)[0] for row in encode_all(TOKENIZER, rows)]
    whole = torch.cat(found).mean()
    first = torch.stack([one[0] for one in found]).mean()
    flat = [torch.autograd.grad(loss, list(model.parameters()), retain_graph=True) for loss in (whole, first)]
    return [torch.cat([part.flatten() for part in parts]) for parts in flat]


@pytest.mark.parametrize("step", ["sign", "gradient"])
# Llama takes its norms in fp32 whatever its weights are, so smaller steps drown in rounding; GPT-2 does not.
@pytest.mark.parametrize(("family", "size", "near"), [("llama", 1e-5, 2e-2), ("gpt2", 1e-7, 1e-4)])
def test_a_small_step_does_what_the_gradient_of_each_row_predicts(step, family, size, near):
    model = fakes.model(family).double()
    whole, first = take(model, section(step, size))
    task, _ = gradient_of(model, LIST.rows)
    direction = task.sign() if step == "sign" else task
    length = torch.cat([weight.detach().flatten() for weight in model.parameters()]).norm()
    delta = -size * length * direction / direction.norm()
    expected = [gradient_of(model, [messages]) for messages in POOL.rows]
    for found, place in ((whole, 0), (first, 1)):
        predicted = np.array([float(one[place] @ delta) for one in expected])
        assert np.abs(predicted).min() > 0
        assert np.allclose(found.tasks["list"], predicted, rtol=0, atol=near * np.abs(predicted).max())


@pytest.mark.parametrize("step", ["sign", "gradient"])
def test_a_step_on_a_task_lowers_the_loss_of_its_own_rows(step):
    model = fakes.model("llama")
    own = Texts([*LIST.ids, "other"], [*LIST.rows, fakes.turns("who is there?", "sorry, I cannot open it")])
    whole, _ = take(model, section(step), pool=own)
    assert max(whole.combined[:3]) < 0
    assert whole.combined[3] > max(whole.combined[:3])


def test_it_is_the_change_of_the_loss_when_somebody_else_moves_the_weights():
    model, twin = fakes.model("llama"), fakes.model("llama")
    found = dict(zip(("whole", "first-token"), take(model, section(rows=2)), strict=True))
    encoded = encode_all(TOKENIZER, POOL.rows)
    one = {"ids": POOL.ids, "filler": 0, "batch_tokens": 1, "key": "k"}
    before = answer_losses(encoded, model=twin, **one)
    direction = gradient_of(twin, [LIST.rows[1], LIST.rows[0]])[0].sign()  # the first two ids
    weights = torch.nn.utils.parameters_to_vector(twin.parameters()).detach()
    moved = weights - 1e-3 * weights.norm() * direction / direction.norm()
    torch.nn.utils.vector_to_parameters(moved, twin.parameters())
    after = answer_losses(encoded, model=twin, **one)
    for loss, scores in found.items():
        assert np.allclose(scores.combined, after.named(loss) - before.named(loss), atol=2e-4)
        assert np.abs(scores.combined).max() > 1e-2


@pytest.mark.parametrize("family", fakes.FAMILIES)
def test_the_model_is_afterwards_what_it_was_bit_for_bit(family):
    model = fakes.model(family)
    frozen = next(model.parameters()).requires_grad_(False)  # as merging an adapter leaves it
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = take(model, section("sign", 0.5), section("gradient", 0.5))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert [weight.requires_grad for weight in model.parameters()].count(False) == 1
    assert not frozen.requires_grad
    assert not model.training
    assert all(np.isfinite(one.combined).all() for one in found)


def test_an_error_in_the_middle_leaves_the_weights_as_they_were(monkeypatch):
    model = fakes.model("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calls = []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            assert not torch.equal(model.lm_head.weight, before["lm_head.weight"])
            raise ModelError("out of memory")
        return answer_losses(*args, **kwargs)

    monkeypatch.setattr("curator.score.interference.answer_losses", failing)
    with pytest.raises(ModelError):
        take(model, section())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_neither_the_order_of_rows_nor_the_size_of_a_micro_batch_matters():
    model = fakes.model("llama")
    expected = take(model, section())
    order = random.Random(1).sample(range(9), 9)
    pool = Texts([POOL.ids[i] for i in order], [POOL.rows[i] for i in order])
    task = Texts(LIST.ids[::-1], LIST.rows[::-1])
    for one, other in zip(expected, take(model, section(), pool=pool, tasks={"list": task}), strict=True):
        assert other.combined.tolist() == one.combined[order].tolist()
    for one, other in zip(
        take(model, section("gradient")), take(model, section("gradient"), micro_batch=1), strict=True
    ):
        assert np.allclose(one.combined, other.combined, atol=2e-5)


def test_tasks_are_weighed_and_each_has_its_own_step():
    model = fakes.model("llama")
    whole, first = take(model, section(), tasks={"list": LIST, "sum": SUM}, weights={"list": 1.0, "sum": 0.0})
    alone = take(model, section(), tasks={"sum": SUM})[0]
    assert whole.combined.tolist() == whole.tasks["list"].tolist()
    assert whole.tasks["sum"].tolist() == alone.combined.tolist()
    assert not np.allclose(whole.tasks["sum"], whole.tasks["list"])
    assert (whole.name, first.name) == ("interference/sign-0.001-64/whole", "interference/sign-0.001-64/first-token")
    assert whole.parameters["taken_on"] == "the base"
    assert whole.parameters["rows"] == {"list": 3, "sum": 2}
    assert whole.ids == tuple(POOL.ids)


def test_it_takes_two_passes_a_row_for_one_step_and_tells_its_progress():
    seen = []
    take(fakes.model("llama"), section(), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (18, 18)
    assert seen == sorted(seen)


def test_task_rows_that_are_too_long_are_left_out_and_none_at_all_is_an_error():
    model, long = fakes.model("llama"), fakes.turns("a", "the grey gulls " * 60)
    mixed = Texts(["0", *LIST.ids], [long, *LIST.rows])
    assert take(model, section(), tasks={"list": mixed})[0].parameters["rows"] == {"list": 3}
    with pytest.raises(
        DataError, match=r"verify\.finetune\.max_tokens: every row of task 'list' has more than 250 tokens"
    ):
        take(model, section(), tasks={"list": Texts(["0"], [long])})


def test_a_gradient_of_zero_is_an_error_and_not_a_score():
    model = fakes.model("llama")
    for weight in model.parameters():
        torch.nn.init.zeros_(weight)
    model.lm_head.requires_grad_(False)
    with pytest.raises(ModelError, match="interference needs the gradient of task 'list', which has length 0"):
        take(model, section())


def test_losses_of_an_earlier_run_stand_for_passes():
    first, passes = {}, []

    def taking(name, take):
        first[name] = take()
        return first[name]

    def keeping(name, take):
        return first[name] if name != "list/gradient-0.001-64" else passes.append(name) or take()

    model, steps = fakes.model("llama"), [section(), section("gradient")]
    fresh, again = (take(model, *steps, tasks={"list": LIST, "sum": SUM}, kept=each) for each in (taking, keeping))
    assert passes == ["list/gradient-0.001-64"]
    names = [f"{task}/{step}-0.001-64" for task in ("list", "sum") for step in ("sign", "gradient")]
    assert list(first) == ["@before", *names]
    for ours, theirs in zip(fresh, again, strict=True):
        np.testing.assert_array_equal(ours.combined, theirs.combined)
