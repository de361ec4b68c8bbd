"""The loss at labelled positions against the plain one, of logits of every position, in several architectures."""

from __future__ import annotations

import pytest
import torch
import transformers

from curator.train import loss as module
from curator.train.loss import UNLABELLED, LabelledLoss
from tests import fakes

EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.5, "output_router_logits": True}
KINDS = {
    "llama": lambda: fakes.model("llama"),
    "tied": lambda: fakes.model("llama", tie_word_embeddings=True),
    "gpt2": lambda: fakes.model("gpt2"),
    "gemma2": lambda: fakes.model("gemma", final_logit_softcapping=2.0),
    "qwen3": lambda: fakes.model("qwen"),
    "qwen2": lambda: made(transformers.Qwen2Config),
    "granite": lambda: made(transformers.GraniteConfig, logits_scaling=3.0),
    "cohere": lambda: made(transformers.CohereConfig, logit_scale=0.3),
    "phi": lambda: made(transformers.PhiConfig, num_key_value_heads=2),  # its head has a bias
    "mixtral": lambda: made(transformers.MixtralConfig, **EXPERTS),
}


def made(kind, **changes):
    torch.manual_seed(0)
    shape = {**fakes.WIDE, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.25}
    return transformers.AutoModelForCausalLM.from_config(kind(**{**shape, **changes})).eval()


def rows():
    """Three rows of 9, 7 and 4 tokens, of which 5, 2 and none are labelled."""
    torch.manual_seed(1)
    ids = torch.randint(5, 300, (3, 9))
    mask = torch.tensor([[1] * 9, [1] * 7 + [0] * 2, [1] * 4 + [0] * 5])
    labels = ids.clone()
    labels[0, :4] = labels[1, :5] = labels[2] = labels[mask == 0] = UNLABELLED
    return ids, mask, labels


def plain(model, ids, mask, labels):
    """The sum over labelled positions, one by one, of logits of whole rows; and the model's own router loss."""
    asked = {"output_router_logits": True} if hasattr(model.config, "router_aux_loss_coef") else {}
    output = model(input_ids=ids, attention_mask=mask, **asked)
    told = output.logits.log_softmax(-1)
    total = torch.zeros(())
    for row in range(len(ids)):
        for place in range(1, ids.shape[1]):
            if labels[row, place] != UNLABELLED:
                total = total - told[row, place - 1, labels[row, place]]
    return total, model.config.router_aux_loss_coef * output.aux_loss if asked else 0.0


def gradients(model, total):
    model.zero_grad()
    total.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("most", [module.LOGITS, 960])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_logits_of_every_position(kind, most, monkeypatch):
    """In one piece, and in pieces of three positions."""
    monkeypatch.setattr(module, "LOGITS", most)
    model = KINDS[kind]()
    wanted, wanted_router = plain(model, *rows())
    expected = gradients(model, wanted + wanted_router)
    labelled = LabelledLoss(model, router=getattr(model.config, "router_aux_loss_coef", 0.0))
    assert labelled.is_apart
    total, router = labelled(model, *rows())
    assert total.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert float(router) == pytest.approx(float(wanted_router), rel=1e-5)
    assert (kind == "mixtral") == (float(router) > 0)
    found = gradients(model, total + router)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)
    # Nothing is left on the model: it computes as before.
    torch.testing.assert_close(plain(model, *rows())[0], wanted)


def test_the_head_sees_labelled_positions_alone_and_never_more_than_a_piece(monkeypatch):
    monkeypatch.setattr(module, "LOGITS", 3 * 320)
    model, seen = fakes.model("llama"), []
    labelled = LabelledLoss(model)
    model.lm_head.register_forward_hook(lambda _head, given, _output: seen.append(given[0].shape[:-1].numel()))
    total, _ = labelled(model, *rows())
    assert seen == [3, 3, 1]
    total.backward()
    assert sorted(seen) == [1, 1, 3, 3, 3]  # but for the first, pieces are computed again rather than kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("held", [1, 320, 3 * 320, 7 * 320 - 1])
def test_many_logits_are_summed_in_slices_as_torch_sums_them_at_once(held, dtype, monkeypatch):
    torch.manual_seed(0)
    logits, words = (torch.randn(7, 320) * 5).to(dtype).requires_grad_(), torch.randint(0, 320, (7,))
    logits.data[3, 8] = 1e4  # whose share is 1: nothing overflows
    wanted = torch.nn.functional.cross_entropy(logits.float(), words, reduction="sum")
    (slopes,) = torch.autograd.grad(wanted / 3, logits)
    monkeypatch.setitem(module.IN_FP32, "cpu", held)
    total = module._summed(logits, words)
    assert "InSlices" in type(total.grad_fn).__name__
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, wanted)
    (found,) = torch.autograd.grad(total / 3, logits)
    assert found.dtype == dtype
    torch.testing.assert_close(found, slopes)


def test_rows_without_a_label_have_no_loss_and_gradients_of_zero():
    model = fakes.model("llama")
    ids, mask, labels = rows()
    total, _ = LabelledLoss(model)(model, ids[2:], mask[2:], labels[2:])
    assert total.item() == 0
    found = gradients(model, total)
    assert found
    assert not any(gradient.any() for gradient in found.values())


class Sees(torch.nn.Module):
    """A head that takes the state before each position too."""

    def __init__(self, head):
        super().__init__()
        self.head, self.weight = head, head.weight

    def forward(self, states):
        return self.head(states + states.roll(1, dims=1))


def test_a_head_that_looks_at_other_positions_is_given_whole_rows():
    model = fakes.model("llama")
    model.lm_head = Sees(model.lm_head)
    labelled = LabelledLoss(model)
    assert not labelled.is_apart
    wanted = plain(model, *rows())[0]
    total = labelled(model, *rows())[0]
    assert total.item() == pytest.approx(wanted.item(), rel=1e-5)
