"""Greedy answers to prompts, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curator.errors import ModelError
from curator.model.chat import encode_prompt
from curator.model.load import memory, window
from curator.records import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def generate(
    prompts: Sequence[Messages],
    ids: Sequence[str],
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    batch: int,
) -> list[tuple[str, str]]:
    """Answer and stop reason of each prompt: `end` for an end token, `length` for the limit.

    Decoding is greedy; see `model.greedy`. The order of the prompts changes nothing.

    Args:
        prompts, ids: Conversations up to where the answer starts, and their ids.
        model, tokenizer: From `model.load_model`, which drops a checkpoint's own sampling settings, and
            `model.load_tokenizer`.
        max_new_tokens: Of each answer, the end token included.
        batch: Prompts at a time.

    Raises:
        ModelError: Prompt and answer are longer than the model has positions for, or memory runs out.
    """
    from curator.model.greedy import greedy

    ends = end_tokens(model.generation_config, tokenizer)
    encoded = encoded_prompts(prompts, tokenizer=tokenizer, max_new_tokens=max_new_tokens, limit=window(model))
    with memory("verify.generate.batch"):
        replies = greedy(
            encoded,
            ids,
            model=model,
            ends=ends,
            filler=tokenizer.pad_token_id,
            new_tokens=max_new_tokens,
            batch=batch,
        )
    return [decoded(tokens, ends, tokenizer) for tokens in replies]


def end_tokens(generation: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Every token that ends an answer, by a model's generation settings and its tokenizer."""
    return set(_as_list(getattr(generation, "eos_token_id", None))) | {tokenizer.eos_token_id}


def encoded_prompts(
    prompts: Sequence[Messages], *, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int, limit: int
) -> list[list[int]]:
    """Tokens of each prompt up to where the answer starts.

    Raises:
        ModelError: The longest prompt and its answer need more positions than `limit`, those of the model.
    """
    encoded = [encode_prompt(tokenizer, messages) for messages in prompts]
    longest = max(map(len, encoded), default=0)
    if longest + max_new_tokens > limit:
        raise ModelError(
            f"verify.generate.max_new_tokens: found {max_new_tokens}; with the longest prompt, {longest} tokens, that "
            f"is more than the {limit} positions of the model; lower it, or leave long rows out with `where`"
        )
    return [list(row) for row in encoded]


def decoded(tokens: Sequence[int], ends: set[int], tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """The answer that generated tokens spell, and why it stopped: `end` at an end token, else `length`."""
    cut = next((position for position, token in enumerate(tokens) if token in ends), None)
    text = tokenizer.decode(list(tokens[:cut]), skip_special_tokens=True).strip()
    return text, "length" if cut is None else "end"


def _as_list(value: int | list[int] | None) -> list[int]:
    return [] if value is None else [value] if isinstance(value, int) else list(value)
