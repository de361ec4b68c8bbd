"""Tokens that begin an answer but come neither from its row nor from the model: an opening that a probe prefills, and
openers behind which refusals are trained. Both are cut in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from curator.errors import RecipeError
from curator.model.chat import ANSWER, Tokens, encode, encode_all
from curator.wording import these

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from curator.records import Messages

BEFORE = "Sure"
"""A placeholder for the opener while the answer after it is tokenised."""


def lead_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens of the template's text between a prompt and its answer; none for most templates."""
    row = encode(tokenizer, [{"role": "user", "content": "A question?"}, {"role": "assistant", "content": ANSWER}])
    return row.ids[row.start : row.first]


def opening_tokens(tokenizer: PreTrainedTokenizerBase, opening: str, count: int) -> tuple[int, ...]:
    """The first `count` tokens of a prefilled opening, which is tokenised by itself.

    Raises:
        RecipeError: It has fewer tokens, or a part that the tokenizer does not know.
    """
    ids = _read(tokenizer, opening)
    if count > len(ids):
        raise RecipeError(
            f"probes.prefill: found {count}, but this model's tokenizer reads probes.opening as "
            f"{these(len(ids), 'token', 'tokens')}; lower it to at most {len(ids)}, or give a longer opening"
        )
    if set(ids[:count]) & set(tokenizer.all_special_ids):
        raise RecipeError(
            f"probes.opening: this model's tokenizer does not know part of {opening!r} (in its first "
            f"{these(count, 'token', 'tokens')}), or reads it as a control token; give an opening in words that the "
            "model knows"
        )
    return ids[:count]


def opener_tokens(tokenizer: PreTrainedTokenizerBase, openers: Sequence[str], most: int) -> list[tuple[int, ...]]:
    """The first tokens of each opener, at most `most`, as `opening_tokens` cuts them.

    Raises:
        RecipeError: All have fewer tokens, or one has a part that the tokenizer does not know.
    """
    cut = [_read(tokenizer, opener)[:most] for opener in openers]
    longest = max(map(len, cut), default=0)
    if longest < most:
        raise RecipeError(
            f"augment.recovery.tokens: found {most}, but this model's tokenizer reads the longest opener as "
            f"{these(longest, 'token', 'tokens')}; lower it to at most {longest}, or give longer texts as "
            "augment.recovery.openers"
        )
    for opener, ids in zip(openers, cut, strict=True):
        if set(ids) & set(tokenizer.all_special_ids):
            raise RecipeError(
                f"augment.recovery.openers: this model's tokenizer does not know part of {opener!r} (in its first "
                f"{these(len(ids), 'token', 'tokens')}), or reads it as a control token; give a file of openers in "
                "words that the model knows"
            )
    return cut


def encode_opened(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Messages], openings: Sequence[Sequence[int]]
) -> list[Tokens]:
    """`encode_all` of conversations, some with an opening between the prompt and the answer.

    The prompt's tokens are those of generation, followed by those that the template writes before every answer; the
    opening's are as given. So all of them equal those of a probe with a prefilled opening. The answer's tokens are
    those of a text that follows a word and a space. `start` is the start of the answer after the opening, which bears
    no loss.

    Args:
        rows: `n` conversations that end with an answer.
        openings: `n` openings; an empty one for a row without opening.

    Raises:
        RecipeError: See `chat.encode`.
    """
    encoded = encode_all(tokenizer, rows)
    numbers = [number for number, opening in enumerate(openings) if opening]
    alone, behind = (
        encode_all(tokenizer, [_beginning(rows[number], text) for number in numbers])
        for text in (lambda _: BEFORE, lambda answer: f"{BEFORE} {answer}")
    )
    for number, word, text in zip(numbers, alone, behind, strict=True):
        row, opening = encoded[number], tuple(openings[number])
        prompt, answer, stop = row.ids[: row.start], row.ids[row.first :], row.stop - row.first
        lead, head = word.ids[word.start : word.first], word.ids[word.first : word.stop]
        if text.ids[text.first : text.first + len(head)] == head:
            first = text.first + len(head)
            answer, stop = text.ids[first:], text.stop - first
        # Otherwise the tokenizer merges the word with the text after it, and the answer is read as without an opening.
        start = row.start + len(lead) + len(opening)
        encoded[number] = Tokens((*prompt, *lead, *opening, *answer), start, start + stop)
    return encoded


def _beginning(messages: Messages, text: Callable[[str], str]) -> Messages:
    """The conversation with another text for its last answer."""
    return [*messages[:-1], {**messages[-1], "content": text(messages[-1]["content"])}]


def _read(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
