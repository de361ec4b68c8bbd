"""Answers to prompts, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curator.errors import ModelError
from curator.model.chat import encode_prompt
from curator.model.load import memory, window
from curator.model.prefill import lead_tokens
from curator.records import Messages
from curator.wording import these

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from curator.model.draws import Sampling
    from curator.model.openers import Opened


def generate(
    prompts: Sequence[Messages],
    ids: Sequence[str],
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    batch: int,
    opening: Sequence[int] = (),
    sampling: Sampling | None = None,
    opened: Opened | None = None,
) -> list[tuple[str, str]]:
    """Answer and stop reason of each prompt: `end` for an end token, `length` for the limit.

    Decoding is greedy without `sampling`; see `model.greedy`. The order of the prompts changes nothing.

    Args:
        prompts, ids: Conversations up to where the answer starts, and their ids.
        model, tokenizer: From `model.load_model`, which drops a checkpoint's own sampling settings, and
            `model.load_tokenizer`.
        max_new_tokens: Most tokens of an answer, including the end token.
        batch: Number of prompts in a batch.
        opening: Tokens that every answer begins with, see `model.prefill`; the model goes on from there, and the
            answer is the whole.
        sampling: Draws the answers, with a seed for each prompt.
        opened: Collects the probability that each of its openers begins each answer.

    Raises:
        ModelError: Prompt and answer are longer than the model has positions for, or memory runs out.
    """
    from curator.model.greedy import greedy

    ends = end_tokens(model.generation_config, tokenizer)
    limit = window(model)
    room = max_new_tokens if opened is None else max(max_new_tokens, opened.longest)
    openings = [opening] * len(prompts)
    encoded = encoded_prompts(prompts, tokenizer=tokenizer, max_new_tokens=room, limit=limit, openings=openings)
    with memory("verify.generate.batch"):
        replies = greedy(
            encoded,
            ids,
            model=model,
            ends=ends,
            filler=tokenizer.pad_token_id,
            new_tokens=max_new_tokens,
            batch=batch,
            sampling=sampling,
            opened=opened,
        )
    return [decoded(tokens, ends, tokenizer, opening) for tokens in replies]


def end_tokens(generation: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Every token that ends an answer, by a model's generation settings and its tokenizer."""
    return set(_as_list(getattr(generation, "eos_token_id", None))) | {tokenizer.eos_token_id}


def encoded_prompts(
    prompts: Sequence[Messages],
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    limit: int,
    openings: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """Tokens of each prompt up to where the answer starts, and those of the opening that it starts with, if any, behind
    those that the template writes before every answer.

    Raises:
        ModelError: The longest prompt and its answer need more positions than `limit`, those of the model.
    """
    mouths = [()] * len(prompts) if openings is None else openings
    lead = lead_tokens(tokenizer) if any(mouths) else ()
    encoded = [
        [*encode_prompt(tokenizer, messages), *(lead if mouth else ()), *mouth]
        for messages, mouth in zip(prompts, mouths, strict=True)
    ]
    longest = max(map(len, encoded), default=0)
    if longest + max_new_tokens > limit:
        raise ModelError(
            f"verify.generate.max_new_tokens: found {max_new_tokens:,}; with the longest prompt "
            f"({these(longest, 'token', 'tokens')}), this exceeds the model's context of {limit:,}; lower it, or leave "
            "long rows out with `where`"
        )
    return encoded


def decoded(
    tokens: Sequence[int], ends: set[int], tokenizer: PreTrainedTokenizerBase, opening: Sequence[int] = ()
) -> tuple[str, str]:
    """The text of an opening and generated tokens, and why it stopped: `end` at an end token, else `length`."""
    cut = next((position for position, token in enumerate(tokens) if token in ends), None)
    text = tokenizer.decode([*opening, *tokens[:cut]], skip_special_tokens=True).strip()
    return text, "length" if cut is None else "end"


def parted(answer: str, opening: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """The opening's text and the text that the model wrote after it; together they are the answer."""
    text = tokenizer.decode(list(opening), skip_special_tokens=True).strip()
    # The opening's last token may be part of a character that the answer's first token completes.
    pairs = enumerate(zip(text, answer, strict=False))
    end = next((place for place, (ours, theirs) in pairs if ours != theirs), min(len(text), len(answer)))
    return answer[:end], answer[end:]


def _as_list(value: int | list[int] | None) -> list[int]:
    return [] if value is None else [value] if isinstance(value, int) else list(value)
