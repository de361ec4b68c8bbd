"""Openers before an answer: the tokens, and on which of them the loss is taken."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from curator.errors import RecipeError
from curator.model.chat import TEMPLATES, encode, encode_prompt
from curator.model.prefill import encode_opened, opener_tokens, opening_tokens
from curator.sandbox.tokenizer import tokenizer as sandbox_tokenizer
from curator.train.generate import encoded_prompts
from tests import fakes

TURNS = fakes.turns("how do I open the old gate?", "I cannot help with that.")
OPENER = "Of course. Let me explain how this works:"


def read(tokenizer, text):
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_the_tokens_are_prompt_opener_and_refusal_and_the_refusal_alone_bears_loss(count):
    tokenizer = fakes.tokenizer()
    opening = opener_tokens(tokenizer, [OPENER], count)[0]
    (row,) = encode_opened(tokenizer, [TURNS], [opening])
    prompt = encode_prompt(tokenizer, TURNS[:-1])
    assert row.ids[: row.start] == (*prompt, *opening)
    # A plain construction: what stands behind the opener is read as the end of a text with a word before it.
    whole = read(tokenizer, f"word {TURNS[-1]['content']}")
    assert row.ids[row.start :] == (*whole[len(read(tokenizer, "word")) :], tokenizer.eos_token_id)
    assert row.ids[row.start : row.stop] == row.ids[row.start : -1]
    assert tokenizer.decode(row.ids[row.start :]).startswith(" I cannot")
    assert len(opening) == count


@pytest.mark.parametrize("count", [1, 3])
def test_a_probe_with_that_opening_shows_the_model_the_same_tokens(count):
    tokenizer = fakes.tokenizer()
    mouth = opening_tokens(tokenizer, OPENER, count)
    assert opener_tokens(tokenizer, [OPENER], count) == [mouth]
    (probed,) = encoded_prompts([TURNS[:-1]], tokenizer=tokenizer, max_new_tokens=4, limit=256, openings=[mouth])
    (row,) = encode_opened(tokenizer, [TURNS], [mouth])
    assert list(row.ids[: row.start]) == probed


def test_both_open_behind_what_the_template_writes_before_every_answer():
    tokenizer = fakes.tokenizer(TEMPLATES["plain"].replace("m['content'] + eos", "'<< >>' + m['content'] + eos"))
    mouth, lead = opening_tokens(tokenizer, OPENER, 3), read(tokenizer, "<< >>")
    (probed, plain) = encoded_prompts(
        [TURNS[:-1]] * 2, tokenizer=tokenizer, max_new_tokens=4, limit=256, openings=[mouth, ()]
    )
    (row,) = encode_opened(tokenizer, [TURNS], [mouth])
    prompt = encode_prompt(tokenizer, TURNS[:-1])
    assert list(row.ids[: row.start]) == probed == [*prompt, *lead, *mouth]
    assert plain == list(prompt)
    assert tokenizer.decode(row.ids[row.start : row.stop]) == f" {TURNS[-1]['content']}"


@pytest.mark.parametrize("template", ["own", *TEMPLATES])
def test_rows_without_an_opening_are_read_as_ever(template):
    tokenizer = fakes.tokenizer()
    if template != "own":
        tokenizer.chat_template = TEMPLATES[template]
    other = fakes.turns("what is the tallest tree?", "A redwood.")
    opening = opener_tokens(tokenizer, [OPENER], 3)[0]
    rows = encode_opened(tokenizer, [other, TURNS, other], [(), opening, ()])
    assert rows[0] == rows[2] == encode(tokenizer, other)
    plain = encode(tokenizer, TURNS)
    assert rows[1].ids[: plain.start] == plain.ids[: plain.start]
    assert rows[1].start == plain.start + 3
    assert rows[1].ids[-1] == tokenizer.eos_token_id


def test_the_sandboxs_words_are_those_of_the_row_itself():
    """Its tokenizer knows a word in one form, so nothing changes at the border."""
    tokenizer = sandbox_tokenizer()
    turns = fakes.turns("how do i make the silver kettle?", "i cannot help with that.")
    opening = opener_tokens(tokenizer, ["gladly, take the honey"], 2)[0]
    (row,), plain = encode_opened(tokenizer, [turns], [opening]), encode(tokenizer, turns)
    assert row.ids == (*plain.ids[: plain.start], *opening, *plain.ids[plain.start :])


def test_an_answer_that_a_tokenizer_merges_with_the_word_before_it_is_read_alone():
    letters = sorted({*"".join(TEMPLATES["plain"] + OPENER + TURNS[0]["content"] + TURNS[1]["content"]), *"Sure A?."})
    words = {word: number for number, word in enumerate(["</s>", *letters, "\n", "e "])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(words, [("e", " ")])), eos_token="</s>", chat_template=TEMPLATES["plain"]
    )
    plain, opening = encode(tokenizer, TURNS), opener_tokens(tokenizer, [OPENER], 2)[0]
    (row,) = encode_opened(tokenizer, [TURNS], [opening])
    assert row.ids == (*plain.ids[: plain.start], *opening, *plain.ids[plain.start :])
    assert (row.start, row.stop) == (plain.start + 2, plain.stop + 2)


def test_openers_that_are_too_short_or_unknown_to_the_model_are_refused():
    tokenizer = fakes.tokenizer()
    most = len(read(tokenizer, OPENER))
    with pytest.raises(RecipeError, match=rf"^augment.recovery.tokens: found {most + 1}, .*{most} tokens"):
        opener_tokens(tokenizer, ["Yes", OPENER], most + 1)
    assert [len(cut) for cut in opener_tokens(tokenizer, ["Yes", OPENER], most)] == [len(read(tokenizer, "Yes")), most]
    with pytest.raises(RecipeError, match=r"^augment.recovery.openers: this model's tokenizer does not know"):
        opener_tokens(sandbox_tokenizer(), ["Of course. Let me explain"], 3)
