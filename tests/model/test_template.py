"""What a chat template does beside writing turns: system text, today's date, headers, and where an answer stops."""

from __future__ import annotations

import datetime
import json

import pytest
import transformers
from tokenizers import processors
from transformers.utils import chat_template_utils

from curator.errors import ModelError, RecipeError
from curator.experiment.base import look_at
from curator.model.chat import (
    DATE,
    TEMPLATES,
    check_template,
    dated,
    encode,
    encode_prompt,
    is_dated,
    own_begin,
    render_prompt,
    template_of,
)
from curator.model.load import check_tokens, load_tokenizer
from curator.model.prefill import lead_tokens
from tests import fakes
from tests.model.test_control import CHATML, CHATS, GEMMA, PHI, tokenizer

SYSTEM = {"role": "system", "content": "be brief"}
DATED = "{{ 'Today: ' + strftime_now('%d %b %Y') + '\\n' }}" + CHATML
# It says what it does not know: as Llama 3.1's own.
ASKING = (
    "\n{% if strftime_now is defined %}{% set day = strftime_now('%A %-d. %B %Y') %}{% else %}{% set day = 'unknown' %}"
    "{% endif %}{% macro year() %}{{ strftime_now('%Y') }}{% endmacro %}{{ day }} {{ year() }}\n" + CHATML
)


def saved(folder, template, **special):
    fakes.tokenizer(template, **special).save_pretrained(folder)
    return str(folder)


# System turns


def test_without_a_system_role_its_text_stands_before_the_users_first_message():
    made = fakes.tokenizer(GEMMA, eos_token="<|im_end|>")
    turns = fakes.turns("who?", "a baker", "who else?", "the keeper")
    folded = fakes.turns("be brief\n\nwho?", "a baker", "who else?", "the keeper")
    assert encode(made, [SYSTEM, *turns]) == encode(made, folded)
    assert encode_prompt(made, [SYSTEM, *turns[:1]]) == encode_prompt(made, folded[:1])
    assert encode(made, turns) != encode(made, folded)


@pytest.mark.parametrize("chat", ["chatml", "phi", "our llama-2", "our chatml", "our plain"])
def test_a_template_that_writes_a_system_turn_does_as_ever(chat):
    made = tokenizer("bytes", chat)
    messages = [SYSTEM, *fakes.turns("who?", "a baker")]
    text = made.apply_chat_template(messages, tokenize=False)
    ids = made(text, add_special_tokens=False)["input_ids"]
    assert list(encode(made, messages).ids) == ids[: len(ids) - ids[::-1].index(made.eos_token_id)]


def test_a_template_that_leaves_a_system_turn_out_in_silence_does_not():
    silent = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
    made = fakes.tokenizer(silent)
    text = render_prompt(made, [SYSTEM, *fakes.turns("who?")])
    assert text == "<|im_start|>user\nbe brief\n\nwho?<|im_end|>\n<|im_start|>assistant\n"


def test_a_refusal_names_a_remedy_that_exists():
    strict = CHATML.replace(
        "{% for", "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}{% for", 1
    )
    with pytest.raises(RecipeError) as error:
        encode(fakes.tokenizer(strict), fakes.turns("a", "b", "c", "d"))
    assert str(error.value) == (
        "model.chat_template: the template refuses a conversation of roles user, assistant, user (one turn only); "
        "name one that allows them (llama-2, chatml, plain, or a file of Jinja text), or remove such rows"
    )


# The date


class Tomorrow(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2031, 2, 3, 4, 5, tzinfo=tz)


@pytest.mark.parametrize("template", [DATED, ASKING])
def test_a_template_that_prints_the_date_says_the_same_on_two_days(tmp_path, monkeypatch, template):
    folder, row = saved(tmp_path, template), fakes.turns("who?", "a baker")
    today = encode(load_tokenizer(folder), row)
    plain = fakes.tokenizer(template)
    before = plain.apply_chat_template(row, tokenize=False)
    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    assert plain.apply_chat_template(row, tokenize=False) != before  # the clock is the one that templates read
    assert encode(load_tokenizer(folder), row) == today
    text = render_prompt(load_tokenizer(folder), row[:1])
    assert ("Today: 26 Jul 2024\n" in text) if template == DATED else text.startswith("\nFriday 26. July 2024 2024\n")
    assert DATE.year == 2024


def test_a_template_without_a_date_is_left_as_it_is(tmp_path):
    assert dated(CHATML) == CHATML
    assert not is_dated(CHATML)
    assert load_tokenizer(saved(tmp_path, CHATML)).chat_template == CHATML
    assert dated(dated(DATED)) == dated(DATED)


# Headers and contents


def test_a_template_without_a_header_for_generation_is_refused():
    never = CHATML.partition("{% if add_generation_prompt")[0]
    with pytest.raises(RecipeError) as error:
        check_template(fakes.tokenizer(never))
    assert "writes '<|im_start|>assistant\\n' before an answer, but not where an answer is to be" in str(error.value)


@pytest.mark.parametrize(
    "lead",
    # As Qwen3's last answers have, and gpt-oss's: a frame that stands behind a header for generation.
    ["<think>\\n\\n</think>\\n\\n", "<|im_start|>"],
)
def test_a_frame_behind_the_header_is_no_missing_header(lead):
    framed = CHATML.replace(
        "+ m['content']", f"+ ('{lead}' if loop.last and m['role'] == 'assistant' else '') + m['content']"
    )
    made = fakes.tokenizer(framed)
    check_template(made)
    row = encode(made, fakes.turns("who?", "a baker"))
    assert made.decode(row.ids[row.start : row.stop]) == lead.replace("\\n", "\n") + "a baker"


@pytest.mark.parametrize(
    ("template", "role"),
    [
        (CHATML.replace("m['content']", "('' if m['role'] == 'user' else m['content'])"), "user"),
        (
            CHATML.replace("m['content']", "(m['content'] | upper if m['role'] == 'assistant' else m['content'])"),
            "assistant",
        ),
    ],
)
def test_a_template_that_leaves_out_or_alters_what_a_turn_says_is_refused(template, role):
    with pytest.raises(RecipeError, match=f"does not write the content of a {role} turn"):
        check_template(fakes.tokenizer(template))


def test_several_templates_without_a_default_are_told(tmp_path):
    made = fakes.tokenizer()
    made.chat_template = {"tools": CHATML, "rag": CHATML}
    made.save_pretrained(tmp_path)
    folder = str(tmp_path)
    with pytest.raises(RecipeError, match="has several chat templates, and none is the default"):
        load_tokenizer(folder)
    assert load_tokenizer(folder, chat_template="plain").chat_template


# Where an answer stops


@pytest.mark.parametrize("chat", sorted(CHATS))
@pytest.mark.parametrize("answer", ["a baker", "😀", "it is late.", "two\nlines\n", "", " spaced "])
def test_an_answer_stops_at_its_own_last_token(chat, answer):
    made = tokenizer("bytes", chat)
    row = encode(made, fakes.turns("who?", answer))
    written = answer.strip() if GEMMA in CHATS[chat] else answer
    assert made.decode(row.ids[row.start : row.stop]) == template_of(made).lead + written
    if written:
        alone = made(written, add_special_tokens=False)["input_ids"]
        assert row.ids[row.stop - 1] == alone[-1]
    assert row.ids[-1] == made.eos_token_id


@pytest.mark.parametrize(("template", "end"), [(GEMMA, "</s>"), (PHI, "</s>")])
def test_another_token_that_ends_the_turn_is_not_the_answers_own(template, end):
    made = fakes.tokenizer(
        template.replace("<end_of_turn>", "<|im_end|>").replace("<|end|>", "<|im_end|>"), eos_token=end
    )
    row = encode(made, fakes.turns("who?", "a baker"))
    assert made.decode(row.ids[row.stop :]) == "<|im_end|>\n</s>"


def test_a_token_that_holds_the_answers_end_and_more_is_its_last():
    made = fakes.tokenizer(
        "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if messages | length > 1 %}house keeper{% endif %}"
    )
    row = encode(made, fakes.turns("", "the light"))
    assert made.decode(row.ids[row.start : row.stop]) == "the lighth"
    assert made.decode(row.ids[row.start :]) == "the lighthouse keeper</s>"


# Tokens outside the embeddings


def config(**changes):
    return transformers.LlamaConfig(**{**fakes.WIDE, **changes})


@pytest.mark.parametrize(
    ("special", "what"), [({"pad_token": "[PAD]"}, "the padding token"), ({"eos_token": "<|eot|>"}, "the end token")]
)
def test_a_pad_or_end_token_outside_the_embeddings_is_told(special, what):
    made = fakes.tokenizer("plain", **special)
    (name,) = special.values()
    number = made.convert_tokens_to_ids(name)
    with pytest.raises(ModelError) as error:
        check_tokens(made, config(vocab_size=number))
    assert str(error.value) == (
        f"model.id: the model has no embedding for token id {number:,}, which is {name!r}, {what} (it has {number:,} "
        "embeddings); give the tokenizer that belongs to these weights, or weights whose embeddings were resized for it"
    )
    check_tokens(made, config(vocab_size=number + 1))


def test_every_token_that_text_or_the_template_may_give_needs_an_embedding():
    made = fakes.tokenizer("chatml")
    made.add_tokens(["<tool>"])
    with pytest.raises(ModelError, match=r"no embedding for token id 320, which is '<tool>'"):
        check_tokens(made, config())
    # A special token that nobody writes may lie outside, as that of pictures in a model of text does.
    made = fakes.tokenizer("chatml")
    made.add_special_tokens({"extra_special_tokens": ["<picture>"]})
    check_tokens(made, config())
    made.chat_template = "<picture>" + CHATML
    with pytest.raises(ModelError, match="'<picture>'"):
        check_tokens(made, config())


def test_a_config_that_names_no_vocabulary_is_not_judged():
    assert check_tokens(fakes.tokenizer(), transformers.PretrainedConfig()) is None
    assert json.loads(config().to_json_string())["vocab_size"] == 320


# A frame before the last answer


FRAME = "<think>\n\n</think>\n\n"  # as Qwen3's own, in front of the last answer alone
FRAMED = CHATML.replace("m['content']", f"({FRAME!r} if m['role'] == 'assistant' and loop.last else '') + m['content']")


@pytest.mark.parametrize("asked", [("who?",), ("who?", "a baker", "who else?")])
@pytest.mark.parametrize("answer", ["a baker", "two\nlines\n", "", "<|im_end|> he said"])
def test_a_frame_that_the_template_writes_before_the_answer_is_not_the_answers_own(asked, answer):
    made = fakes.tokenizer(FRAMED, eos_token="<|im_end|>")
    row = encode(made, fakes.turns(*asked, answer))
    assert made.decode(row.ids[row.start : row.first]) == FRAME
    assert made.decode(row.ids[row.first : row.stop]) == answer
    assert row.ids[row.start : row.first] == lead_tokens(made)
    assert tuple(encode_prompt(made, fakes.turns(*asked))) == row.ids[: row.start]


@pytest.mark.parametrize("chat", sorted(CHATS))
def test_an_answer_without_a_frame_starts_behind_the_prompt(chat):
    made = tokenizer("bytes", chat)
    for answer in ("a baker", "42", "", " spaced "):
        row = encode(made, fakes.turns("who?", answer))
        assert row.first == row.start
    assert lead_tokens(made) == ()


def test_a_frame_of_the_answers_own_is_part_of_the_answer():
    own = "<think>because</think>he"
    asks = "m['role'] == 'assistant' and loop.last and '</think>' not in m['content']"
    template = CHATML.replace("m['content']", f"({FRAME!r} if {asks} else '') + m['content']")
    made = fakes.tokenizer(template, eos_token="<|im_end|>")
    row, usual = (encode(made, fakes.turns("who?", answer)) for answer in (own, "a baker"))
    assert (row.lead, made.decode(row.ids[row.first : row.stop])) == (0, own)
    assert usual.lead == len(lead_tokens(made)) > 0


# The begin token


def begins(folder, template):
    """A tokenizer that writes its begin token by itself, saved."""
    made = fakes.tokenizer(template)
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    made.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_template_of_ours_begins_as_the_tokenizer_does_by_itself(tmp_path, name):
    own, none = begins(tmp_path / "own", None), saved(tmp_path / "none", None)
    made, plain = (load_tokenizer(folder, chat_template=name) for folder in (own, none))
    assert (own_begin(made), own_begin(plain)) == (1, None)
    for conversation in (fakes.turns("who?", "a baker"), [SYSTEM, *fakes.turns("who?", "a baker", "who else?", "he")]):
        ids = encode(made, conversation).ids
        assert ids[0] == 1
        assert encode(plain, conversation).ids == (ids[1:] if name == "chatml" else ids)


def test_a_begin_token_that_the_template_does_not_write_is_noted(tmp_path):
    fakes.save(tmp_path / "model")
    for template, noted in ((CHATML, True), ("plain", False)):
        path = begins(tmp_path / "model", template)
        notes = look_at(path, None, None, lora=False).notes
        assert any("begins every text with '<s>'" in note for note in notes) == noted
    saved(tmp_path / "model", CHATML)
    assert not any("begins" in note for note in look_at(str(tmp_path / "model"), None, None, lora=False).notes)
