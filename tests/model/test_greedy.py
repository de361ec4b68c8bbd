"""Greedy replies of rows that come and go, against each model's own `generate` on one row at a time."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
import torch
import transformers

from curator.model import cache as cache_module
from curator.model import greedy as greedy_module
from curator.model.chat import Tokens
from curator.model.greedy import alike, greedy, joinable, reads_mask
from curator.model.losses import token_losses
from curator.model.openers import Opened
from tests import fakes

ENDS = {2, *range(80, 110)}  # so many that an untrained model meets one now and then
NEW = 14
OTHERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gemma3": (
        transformers.Gemma3TextConfig,
        {**fakes.WIDE, "sliding_window": 8, "query_pre_attn_scalar": 16, "tie_word_embeddings": False}
        | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "mistral": (transformers.MistralConfig, {**fakes.WIDE, "sliding_window": 8}),
    "qwen2": (transformers.Qwen2Config, fakes.WIDE),
    "phi": (transformers.PhiConfig, {**fakes.WIDE, "num_key_value_heads": 2}),
    "phi3": (transformers.Phi3Config, fakes.WIDE),
    "gpt_neox": (transformers.GPTNeoXConfig, fakes.WIDE),
    "opt": (
        transformers.OPTConfig,
        {**fakes.SIZE, "hidden_size": 32, "ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0},
    ),
    "bloom": (transformers.BloomConfig, {"vocab_size": 320, "hidden_size": 32, "n_layer": 3, "n_head": 2}),
    "mamba": (transformers.MambaConfig, {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 3}),
    "lfm2": (
        transformers.Lfm2Config,
        {**fakes.WIDE, "layer_types": ["conv", "full_attention", "conv"], "block_multiple_of": 16},
    ),
}
WHOLE = {"phi3", "mamba", "lfm2"}  # by their own `generate`
FAMILIES = (*fakes.FAMILIES, *OTHERS)


@cache
def model(family: str) -> Any:
    if family in fakes.FAMILIES:
        return fakes.model(family)
    kind, shape = OTHERS[family]
    torch.manual_seed(0)
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.25}
    made = transformers.AutoModelForCausalLM.from_config(kind(**shape, **ends)).eval()
    for name, weight in made.named_parameters():  # some architectures begin with narrow weights whatever is asked
        if weight.dim() == 2 and weight.std() < 0.1:
            torch.nn.init.normal_(weight, std=0.25, generator=torch.Generator().manual_seed(len(name)))
    return made


def rows(count: int = 13) -> list[list[int]]:
    """Random tokens of very different lengths, two of them equal."""
    rng = random.Random(4)
    lengths = [60, 3, 21, 20, 19, 5, 33, 32, 12, 12, 11, 40, 7][:count]
    return [[rng.randrange(110, 320) for _ in range(length)] for length in lengths]


SYSTEM = rows(1)[0][10:29]
"""What all rows of a set may begin with."""


def ask(family: str | Any, asked: list[list[int]], *, batch: int = 4, new: int = NEW, **more: Any) -> list[list[int]]:
    made = model(family) if isinstance(family, str) else family
    ids = [str(row) for row in asked]
    return greedy(asked, ids, model=made, ends=ENDS, filler=0, new_tokens=new, batch=batch, **more)


def twin(made: Any, row: list[int], new: int = NEW) -> list[int]:
    """What `generate` says to one row that nothing pads."""
    settings = {"max_new_tokens": new, "do_sample": False, "eos_token_id": sorted(ENDS), "pad_token_id": 0}
    given = torch.tensor([row])
    out = made.generate(input_ids=given, attention_mask=torch.ones_like(given), **settings)
    said: list[int] = out[0, len(row) :].tolist()
    return said


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_come_and_go_say_what_each_says_alone(family, monkeypatch):
    monkeypatch.setattr(cache_module, "SPARE", 3)  # so that buffers are moved several times
    made, asked = model(family), rows()
    assert joinable(made) == (family not in WHOLE)
    expected = [twin(made, row) for row in asked]
    assert len({tuple(reply) for reply in expected}) > 6
    assert any(reply[-1] in ENDS and 1 < len(reply) < NEW for reply in expected)
    for batch in (1, 4, 64):
        assert ask(family, asked, batch=batch) == expected
    assert ask(family, asked[::-1], batch=4)[::-1] == expected
    prompted = [SYSTEM + row for row in asked[3:]]
    assert ask(family, prompted) == [twin(made, row) for row in prompted]


@pytest.mark.parametrize("family", ["llama", "gemma", "gpt2"])
def test_looking_at_several_steps_at_once_changes_nothing(family, monkeypatch):
    every = ask(family, rows())
    monkeypatch.setitem(greedy_module.STEPS, "cpu", 5)  # as on a GPU
    assert ask(family, rows()) == every


def shapes(monkeypatch, made) -> list[tuple[int, int, int]]:
    """Rows, tokens and positions with logits of every pass through the model, as they happen."""
    seen: list[tuple[int, int, int]] = []
    forward = type(made).forward

    def watched(self, *given, input_ids, logits_to_keep=0, **named):
        out = forward(self, *given, input_ids=input_ids, logits_to_keep=logits_to_keep, **named)
        seen.append((*input_ids.shape, out.logits.shape[1]))
        return out

    monkeypatch.setattr(greedy_module, "_inputs", lambda _: {"past_key_values", "position_ids", "logits_to_keep"})
    monkeypatch.setattr(type(made), "forward", watched)
    return seen


def test_a_row_that_has_ended_costs_nothing_more_and_waiting_rows_take_its_place(monkeypatch):
    asked = rows()
    seen = shapes(monkeypatch, model("llama"))
    replies = ask("llama", asked, batch=4)
    steps = [count for count, tokens, _ in seen if tokens == 1]
    assert sum(steps) == sum(len(reply) - 1 for reply in replies)  # the first token comes with the prompt
    assert max(steps) == 4
    assert len(steps) < sum(sorted((len(reply) for reply in replies), reverse=True)[::4])  # than batch after batch
    assert sum(count for count, tokens, _ in seen if tokens > 1) == len(asked)


def test_rows_of_like_length_begin_together_and_the_head_sees_one_position_each(monkeypatch):
    asked = rows()
    seen = shapes(monkeypatch, model("llama"))
    ask("llama", asked, batch=64)
    begun = [(count, tokens) for count, tokens, _ in seen if tokens > 1]
    assert {logits for _, _, logits in seen} == {1}
    assert begun == [(1, 60), (3, 40), (3, 21), (5, 12), (1, 3)]


def test_what_all_rows_begin_with_is_read_once(monkeypatch):
    asked = [SYSTEM + row for row in rows()]
    seen = shapes(monkeypatch, model("llama"))
    ask("llama", asked, batch=64)
    begun = [(count, tokens) for count, tokens, _ in seen if tokens > 1]
    assert begun[0] == (1, len(SYSTEM))
    assert sum(count * tokens for count, tokens in begun[1:]) < 1.2 * sum(map(len, rows()))


def test_equal_rows_share_all_but_their_last_token():
    row = rows(1)[0]
    assert ask("llama", [row] * 3) == [twin(model("llama"), row)] * 3


def test_how_many_begin_together():
    assert alike([100, 95, 90, 89]) == 3
    assert alike([20, 13, 12, 11]) == 3
    assert alike([5]) == 1
    assert alike([greedy_module.PREFILL + 1] * 3) == 1
    assert alike([greedy_module.PREFILL // 2] * 3) == 2


@pytest.mark.parametrize("family", ["llama", "mamba"])
def test_the_first_tokens_logits_are_those_of_the_model(family):
    made, asked = model(family), rows(6)
    seen: dict[int, torch.Tensor] = {}
    ask(family, asked, first=lambda group, logits: seen.update(zip(group, logits, strict=True)))
    for i, row in enumerate(asked):
        with torch.no_grad():
            alone = made(torch.tensor([row])).logits[0, -1]
        torch.testing.assert_close(seen[i], alone, rtol=1e-3, atol=1e-3)


def test_adapters_beside_the_weights_are_at_work():
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    base = fakes.model("llama")
    plain = ask(base, rows())
    settings = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    beside = get_peft_model(base, settings).eval()
    expected = [twin(beside, row) for row in rows()]
    assert ask(beside, rows()) == expected != plain


def test_of_equal_logits_the_first_token_is_taken_in_bf16_too():
    made = fakes.model("llama").to(torch.bfloat16)
    made.lm_head.weight.data[200:].copy_(made.lm_head.weight.data[199])
    replies = ask(made, rows())
    assert max(token for reply in replies for token in reply) <= 199
    assert replies == ask(made, rows())


# Models that read padding, and windows that a cache does not show

ODD: dict[str, tuple[Any, dict[str, Any]]] = {
    "recurrent_gemma": (
        transformers.RecurrentGemmaConfig,
        {**fakes.WIDE, "num_key_value_heads": 1, "lru_width": 32, "attention_window_size": 16},
    ),
    "rwkv": (
        transformers.RwkvConfig,
        {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
    ),
    "gpt_neo": (
        transformers.GPTNeoConfig,
        {"vocab_size": 320, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "window_size": 4}
        | {"attention_types": [[["local", "global"], 1]], "max_position_embeddings": 256},
    ),
    "falcon": (
        transformers.FalconConfig,
        {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "alibi": True}
        | {"new_decoder_architecture": False},
    ),
}


@cache
def odd(family: str) -> Any:
    kind, shape = ODD[family]
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(kind(**shape, bos_token_id=1, eos_token_id=2)).eval()
    for weight in made.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)
    made.generation_config = transformers.GenerationConfig(eos_token_id=2)
    return made


@pytest.mark.parametrize("family", ["recurrent_gemma", "rwkv"])
def test_a_model_that_reads_padding_gets_none(family):
    made, asked = odd(family), rows(4)
    assert not reads_mask(made)
    assert reads_mask(model("mamba"))
    assert reads_mask(model("qwen2"))
    encoded = [Tokens(tuple(row), len(row) - 2, len(row)) for row in asked]
    with torch.no_grad():
        together = token_losses(encoded, model=made, filler=0)
        alone = [token_losses([row], model=made, filler=0)[0] for row in encoded]
    for some, one in zip(together, alone, strict=True):
        torch.testing.assert_close(some, one, atol=1e-4, rtol=1e-4)
    assert ask(made, asked, new=4) == [ask(made, [row], new=4)[0] for row in asked]


@pytest.mark.parametrize("family", ["gpt_neo", "falcon"])
def test_windows_and_slopes_outside_the_cache_are_heeded(family):
    made, asked = odd(family), [[*SYSTEM, *row] for row in rows(4)]
    openers, given = [(5,), (6, 7), (6, 8, 9)], {}
    opened = Opened(openers, len(asked))
    ask(made, asked, new=2, opened=opened, first=lambda group, logits: given.update(zip(group, logits, strict=True)))
    for number, row in enumerate(asked):
        for place, opener in enumerate(openers):
            with torch.no_grad():
                logs = made(torch.tensor([[*row, *opener]])).logits[0].log_softmax(-1)
            expected = sum(float(logs[len(row) - 1 + at, token]) for at, token in enumerate(opener))
            assert opened.log_probs[number, place] == pytest.approx(expected, abs=1e-3)
        torch.testing.assert_close(given[number].log_softmax(-1), logs[len(row) - 1], atol=1e-3, rtol=1e-3)
