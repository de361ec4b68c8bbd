"""Hidden states against a twin that runs the whole model on one row without padding and indexes by hand."""

from __future__ import annotations

import datetime
import random
from functools import cache

import numpy as np
import pytest
import torch
import transformers

from curator.errors import ModelError
from curator.model.chat import Tokens
from curator.model.load import load_tokenizer
from curator.recipe.represent import Represent
from curator.represent.hidden import blocks_of, body_of, cut
from curator.represent.vectors import alike, represent, represent_all
from tests import fakes

PLACES = ("last-completion", "eos", "mean-completion", "first-answer", "end-of-prompt")
LAYERS = (0, 1, 2, -1)
ROWS = fakes.conversations()
IDS = [f"row-{i}" for i in range(len(ROWS))]


@pytest.fixture(scope="module", params=fakes.FAMILIES)
def model(request):
    return fakes.model(request.param)


# As "plain", but no answer has an end token: one is added.
NO_END = fakes.TEMPLATES["plain"].replace(" + eos_token", "")


def found(model, rows=ROWS, ids=IDS, *, side="left", pad="<pad>", template="plain", **section):
    tokenizer = fakes.tokenizer(template, padding_side=side, pad_token=pad)
    return represent(ids, rows, section=Represent(**section), model=model, tokenizer=tokenizer, name="tiny")


def twin(model, rows, layer, place, limit=1024, template="plain", first=16):
    """One row at a time, the full model, every layer, places written out as the docstring has them."""
    out = []
    for messages in rows:
        ids, answer = by_hand(messages, template)
        start = len(ids) - answer
        stop = len(ids)
        if place in ("end-of-prompt", "first-answer") and stop > limit:
            needed = 0 if place == "end-of-prompt" else min(first, limit // 2)
            stop = max(limit, min(stop, start + needed))
        ids, start = ids[max(0, stop - limit) : stop], max(0, start - max(0, stop - limit))
        states = all_states(model, ids)[layer]
        own = states[start : -1 if stop == len(by_hand(messages, template)[0]) else None]
        before = states[max(0, start - 1)]
        vector = {
            "last-completion": own[-1] if len(own) else before,
            "eos": states[-1],
            "mean-completion": own.mean(axis=0) if len(own) else before,
            "first-answer": sum(own[:first]) / len(own[:first]) if len(own) else before,
            "end-of-prompt": before,
        }[place]
        out.append(vector / np.linalg.norm(vector))
    return np.array(out)


def by_hand(messages, template="plain"):
    """Token ids, and how many of them are the answer with its end token."""
    tokenizer = fakes.tokenizer(template)
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
    if template == NO_END:
        assert ids[-1] != tokenizer.eos_token_id
        ids.append(tokenizer.eos_token_id)
    return tuple(ids), len(ids) - len(tokenizer(prompt, add_special_tokens=False)["input_ids"])


@cache
def all_states(model, ids):
    with torch.no_grad():
        return [states[0].numpy() for states in model(torch.tensor([ids]), output_hidden_states=True).hidden_states]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("place", PLACES)
def test_a_batch_equals_an_independent_twin_that_takes_one_row_at_a_time(model, place, side):
    for layer in LAYERS:
        together = found(model, layer=layer, token=place, side=side).matrix
        np.testing.assert_allclose(together, twin(model, ROWS, layer, place), atol=1e-4)


@pytest.mark.parametrize("first", [1, 3, 1000])
def test_the_first_tokens_of_an_answer_are_as_many_as_are_asked_for(model, first):
    together = found(model, layer=1, token="first-answer", first=first)
    np.testing.assert_allclose(together.matrix, twin(model, ROWS, 1, "first-answer", first=first), atol=1e-4)
    assert together.token == f"first-answer-{first}"
    if first > 100:
        np.testing.assert_allclose(together.matrix, twin(model, ROWS, 1, "mean-completion"), atol=1e-4)


def test_means_over_several_numbers_of_tokens_come_from_one_pass(model):
    asked = [Represent(layer=-1, token="first-answer", first=first) for first in (1, 2, 16)]
    assert alike(asked) == [[0, 1, 2]]
    settings = {"model": model, "tokenizer": fakes.tokenizer("plain"), "name": "tiny"}
    for section, vectors in zip(asked, represent_all(IDS, ROWS, sections=asked, **settings), strict=True):
        expected = twin(model, ROWS, -1, "first-answer", first=section.first)
        np.testing.assert_allclose(vectors.matrix, expected, atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("place", PLACES)
def test_a_template_without_an_end_token_gets_one(model, place, side):
    for layer in LAYERS:
        together = found(model, layer=layer, token=place, side=side, template=NO_END).matrix
        np.testing.assert_allclose(together, twin(model, ROWS, layer, place, template=NO_END), atol=1e-4)


# What each writes behind an answer and before its end token: a space, or another token that ends the turn.
BEHIND = {
    "llama-2": " ",
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}": "<|im_end|>\n",
}


@pytest.mark.parametrize("template", BEHIND)
@pytest.mark.parametrize("place", PLACES)
def test_the_last_token_is_the_answers_own_whatever_stands_before_its_end(model, place, template):
    tokenizer, rows = fakes.tokenizer(template), [row for row in ROWS if row[-1]["content"]]
    expected = []
    for row in rows:
        prompt = tokenizer.apply_chat_template(row[:-1], tokenize=False, add_generation_prompt=True)
        lead = " " if template == "llama-2" else ""
        parts = [prompt, lead + row[-1]["content"], BEHIND[template], "</s>"]
        ids = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in parts]
        start, stop = len(ids[0]), len(ids[0]) + len(ids[1])
        states = all_states(model, tuple(token for part in ids for token in part))[-1]
        vector = {
            "last-completion": states[stop - 1],
            "eos": states[-1],
            "mean-completion": states[start:stop].mean(axis=0),
            "first-answer": states[start : min(stop, start + 16)].mean(axis=0),
            "end-of-prompt": states[start - 1],
        }[place]
        expected.append(vector / np.linalg.norm(vector))
    together = found(model, rows, [f"row-{i}" for i in range(len(rows))], token=place, template=template)
    np.testing.assert_allclose(together.matrix, expected, atol=1e-4)
    for limit in (12, 30):
        cut = found(
            model,
            rows,
            [f"row-{i}" for i in range(len(rows))],
            token="last-completion",
            max_tokens=limit,
            template=template,
        )
        assert cut.truncated > 0
        assert np.isfinite(cut.matrix).all()


def test_a_batch_equals_itself_one_row_at_a_time(model):
    for layer in LAYERS:
        alone = [found(model, [row], ["x"], layer=layer).matrix[0] for row in ROWS]
        np.testing.assert_allclose(found(model, layer=layer).matrix, alone, atol=1e-4)


@pytest.mark.parametrize("limit", [1, 2, 12, 40])
@pytest.mark.parametrize("place", PLACES)
def test_rows_that_are_too_long_are_cut_and_counted(model, place, limit):
    lengths = [len(by_hand(row)[0]) for row in ROWS]
    cut = found(model, token=place, max_tokens=limit)
    assert cut.truncated == sum(length > limit for length in lengths) > 0
    np.testing.assert_allclose(cut.matrix, twin(model, ROWS, -1, place, limit), atol=1e-4)


@pytest.mark.parametrize("place", ["end-of-prompt", "first-answer"])
def test_a_point_of_the_prompt_depends_on_the_prompt_however_long_the_answer(model, place):
    long = [fakes.turns(asked, "she lit the lamp. " * 40) for asked in ("who lit the lamp?", "where is the gate?")]
    both = found(model, long, ["a", "b"], token=place, max_tokens=60)
    assert both.truncated == 2
    assert not np.allclose(both.matrix[0], both.matrix[1])
    if place == "end-of-prompt":
        short = [fakes.turns(row[0]["content"], "she") for row in long]
        whole = found(model, short, ["a", "b"], token=place)
        assert whole.truncated == 0
        np.testing.assert_allclose(both.matrix, whole.matrix, atol=1e-4)


def test_points_of_a_cut_row_are_the_same_beside_others_as_alone(model):
    asked = [Represent(layer=1, token=place, first=3) if place == "first-answer" else Represent(layer=1, token=place)
             for place in PLACES]  # fmt: skip
    asked = [section.model_copy(update={"max_tokens": 12}) for section in asked]
    settings = {"model": model, "tokenizer": fakes.tokenizer("plain"), "name": "tiny"}
    together = represent_all(IDS, ROWS, sections=asked, **settings)
    for section, vectors in zip(asked, together, strict=True):
        assert vectors.truncated > 0
        np.testing.assert_allclose(vectors.matrix, represent(IDS, ROWS, section=section, **settings).matrix, atol=1e-4)


def test_a_cut_row_keeps_a_begin_token_that_its_tokenizer_writes():
    row = Tokens((1, *range(10, 30)), start=9, stop=20)
    assert cut(row, 30, 1) is row
    assert cut(row, 10, None) == Tokens(tuple(range(20, 30)), start=0, stop=9)
    assert cut(row, 10, 1) == Tokens((1, *range(21, 30)), start=1, stop=9)
    assert cut(row, 10, 1, held=0) == Tokens((1, *range(10, 19)), start=9, stop=10)
    assert cut(row, 10, 1, held=3) == Tokens((1, *range(12, 21)), start=7, stop=10)
    assert cut(row, 6, 1, held=0) == Tokens((1, *range(13, 18)), start=6, stop=6)
    framed = Tokens(tuple(range(20)), start=8, stop=18, lead=4)
    assert cut(framed, 10, None) == Tokens(tuple(range(10, 20)), start=0, stop=8, lead=2)


def test_a_frame_before_the_answer_is_none_of_its_tokens(model):
    framed = fakes.TEMPLATES["plain"].replace("m['content'] + eos_token", "'she lit.' + m['content'] + eos_token")
    rows = [messages for messages in ROWS if messages[-1]["content"]]
    ids = [f"{number}" for number in range(len(rows))]
    for number, messages in enumerate(rows):
        tokens, answer = by_hand(messages, framed)
        lead = len(fakes.tokenizer(framed)("she lit.", add_special_tokens=False)["input_ids"])
        own = all_states(model, tokens)[1][len(tokens) - answer + lead : -1]
        for place, expected in (("mean-completion", own), ("first-answer", own[:2])):
            asked = {"first": 2} if place == "first-answer" else {}
            given = found(model, rows, ids, layer=1, token=place, template=framed, **asked).matrix[number]
            mean = expected.mean(axis=0)
            np.testing.assert_allclose(given, mean / np.linalg.norm(mean), atol=1e-4)


def test_blocks_are_those_of_the_text_model_below_another_head():
    settings = transformers.Llama4TextConfig(
        **{**fakes.WIDE, "num_local_experts": 2, "intermediate_size_mlp": 32, "head_dim": 8}
    )
    with torch.device("meta"):
        made = transformers.AutoModelForCausalLM.from_config(settings)
    assert len(blocks_of(body_of(made))) == settings.num_hidden_layers


def test_a_template_that_prints_the_date_gives_equal_vectors_on_two_days(tmp_path, monkeypatch):
    from transformers.utils import chat_template_utils

    fakes.tokenizer("{{ strftime_now('%d %b %Y') }} " + fakes.TEMPLATES["plain"]).save_pretrained(tmp_path)
    llama = fakes.model("llama")

    def vectors():
        made = load_tokenizer(str(tmp_path))
        return represent(IDS, ROWS, section=Represent(), model=llama, tokenizer=made, name="tiny").matrix

    class Tomorrow(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 2, 3, tzinfo=tz)

    today = vectors()
    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    np.testing.assert_array_equal(vectors(), today)
    plain = found(llama)  # the date is there, and not left out
    assert not np.allclose(plain.matrix, today, atol=1e-3)


def test_a_padding_token_that_is_the_end_token_changes_nothing(model):
    np.testing.assert_allclose(found(model, pad="</s>").matrix, found(model).matrix, atol=1e-5)


def test_batch_size_and_the_order_of_rows_change_nothing(model):
    order = list(range(len(ROWS)))
    random.Random(1).shuffle(order)
    whole = found(model)
    shuffled = found(model, [ROWS[i] for i in order], [IDS[i] for i in order])
    assert shuffled.ids == tuple(IDS[i] for i in order)
    assert np.array_equal(shuffled.matrix, whole.matrix[order])
    np.testing.assert_allclose(found(model, batch_tokens=130).matrix, whole.matrix, atol=1e-4)


def test_no_logits_are_computed_and_no_hook_is_left_behind(model):
    asked = []
    handle = model.get_output_embeddings().register_forward_hook(lambda *_: asked.append(1))
    for layer in LAYERS:
        found(model, layer=layer)
    handle.remove()
    assert not asked
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("layer", [4, 7, -5])
def test_a_layer_that_does_not_exist_is_refused(model, layer):
    with pytest.raises(ModelError) as error:
        found(model, layer=layer)
    assert str(error.value) == f"represent.layer: found {layer}; tiny has 3 blocks, allowed: -4 to 3"


def test_negative_layers_count_from_the_end(model):
    for layer in range(4):
        assert np.array_equal(found(model, layer=layer).matrix, found(model, layer=layer - 4).matrix)


def test_vectors_say_what_made_them_and_have_length_one(model):
    seen = []
    vectors = represent(
        IDS, ROWS, section=Represent(layer=1, token="eos"), model=model, tokenizer=fakes.tokenizer(), name="tiny",
        revision="abc", progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert (vectors.model, vectors.revision, vectors.layer, vectors.token) == ("tiny", "abc", 1, "eos")
    assert vectors.truncated == 0
    assert vectors.matrix.shape == (len(ROWS), 32)
    np.testing.assert_allclose(np.linalg.norm(vectors.matrix, axis=1), 1, atol=1e-5)
    assert seen[-1] == (len(ROWS), len(ROWS))


def test_no_rows_give_no_vectors(model):
    assert found(model, [], []).matrix.shape == (0, 32)


def test_memory_that_runs_out_names_the_setting(model, monkeypatch):
    def full(*_args, **_settings):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(type(model.get_decoder()), "forward", full)
    with pytest.raises(ModelError, match=r"represent.batch_tokens: out of memory \(no room\)"):
        found(model)
