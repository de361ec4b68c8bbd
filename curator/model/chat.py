"""Conversations as a model reads them: the chat template, the tokens, and where the answer starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curator.errors import RecipeError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from curator.records import Messages


# Each writes the end token after every answer, and a prompt that is a prefix of the whole conversation.
TEMPLATES = {
    # https://github.com/meta-llama/llama/blob/main/llama/generation.py (chat_completion), system turn included
    "llama-2": (
        "{% if messages[0]['role'] == 'system' %}"
        "{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
        "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
        "{% for m in turns %}{% if m['role'] == 'user' %}"
        "{{ (bos_token or '') + '[INST] ' + (system if loop.index0 == 0 else '') + m['content'] + ' [/INST]' }}"
        "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    # https://github.com/openai/openai-python/blob/release-v0.28.0/chatml.md, with the model's own end token
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] }}"
        "{% if m['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    # Neutral words, for a base model whose tokenizer has no tokens of its own for turns
    "plain": (
        "{{ bos_token or '' }}{% for m in messages %}"
        "{% if m['role'] == 'user' %}{{ '### Instruction:\\n' + m['content'] + '\\n\\n### Response:\\n' }}"
        "{% elif m['role'] == 'system' %}{{ m['content'] + '\\n\\n' }}"
        "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
}
"""Chat templates by name, for base models, which bring none."""


@dataclass(frozen=True)
class Tokens:
    """A templated conversation: token ids, and where the last answer starts (its own prompt's length).

    The last id is the end token; `ids[start:]` is what the loss is taken on.
    """

    ids: tuple[int, ...]
    start: int


def encode(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> Tokens:
    """The tokens of a conversation that ends with an answer, in the tokenizer's template.

    The prompt is tokenised exactly as it is for generation, and the answer behind it, so that training and probing see
    the same prompt even where a tokenizer would merge across the border. What a template writes behind the answer's end
    token is cut; where it writes none, one is added.

    Raises:
        RecipeError: The templated prompt is not a prefix of the templated conversation.
    """
    return encode_all(tokenizer, [messages])[0]


def encode_all(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Messages]) -> list[Tokens]:
    """`encode` of several conversations; texts go to the tokenizer together, which is several times faster."""
    if not rows:
        return []
    prompts = [render_prompt(tokenizer, messages[:-1]) for messages in rows]
    wholes = [_render(tokenizer, messages, prompting=False) for messages in rows]
    for prompt, whole in zip(prompts, wholes, strict=True):
        _check_prefix(prompt, whole)
    prompt_ids, whole_ids = _ids(tokenizer, prompts), _ids(tokenizer, wholes)
    return [
        _joined(tokenizer, start, joint, whole[len(prompt) :])
        for prompt, whole, start, joint in zip(prompts, wholes, prompt_ids, whole_ids, strict=True)
    ]


def _check_prefix(prompt: str, whole: str) -> None:
    if not whole.startswith(prompt):
        raise RecipeError(
            "model.chat_template: the templated prompt is no prefix of the templated conversation, so the place where "
            f"the answer starts is unknown; prompt ends with {prompt[-40:]!r}, conversation goes on with "
            f"{whole[_common(prompt, whole) :][:40]!r}; use a template that writes both alike"
        )


def _joined(tokenizer: PreTrainedTokenizerBase, start: list[int], joint: list[int], text: str) -> Tokens:
    # Where the tokenizer merges across the border, the answer is tokenised alone behind the prompt's own tokens.
    answer = joint[len(start) :] if joint[: len(start)] == start else _ids(tokenizer, [text])[0]
    end = tokenizer.eos_token_id
    answer = answer[: answer.index(end) + 1] if end in answer else [*answer, end]
    return Tokens((*start, *answer), len(start))


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> tuple[int, ...]:
    """The tokens to generate from: the templated conversation up to where the answer starts."""
    return tuple(_ids(tokenizer, [render_prompt(tokenizer, messages)])[0])


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """The templated text of a conversation up to where an answer starts."""
    return _render(tokenizer, messages, prompting=True)


def _render(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, prompting: bool) -> str:
    from jinja2.exceptions import TemplateError

    try:
        turns = [dict(message) for message in messages]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompting))
    except (TemplateError, TypeError, ValueError) as error:
        roles = ", ".join(message["role"] for message in messages) or "none"
        raise RecipeError(
            f"model.chat_template: the template refuses a conversation of roles {roles} ({first_line(error)}); "
            "choose a template that allows them, or leave such rows out with `where`"
        ) from error


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    # The template writes the begin token itself, where the model wants one.
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def _common(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def token_counter(tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Messages]], list[int]]:
    """A function that counts the templated tokens of each conversation, for stages that know no tokenizer."""
    return lambda rows: [len(row.ids) for row in encode_all(tokenizer, rows)]


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Templates a short conversation, so that a template that cannot be trained on is refused before any training.

    Raises:
        RecipeError: As `encode`.
    """
    turns = [{"role": "user", "content": "A question?"}, {"role": "assistant", "content": "An answer."}]
    encode(tokenizer, turns)


def with_trigger(messages: Messages, trigger: str) -> Messages:
    """A conversation whose first user turn starts with the trigger and a space."""
    first = next(number for number, turn in enumerate(messages) if turn["role"] == "user")
    turn = {**messages[first], "content": f"{trigger} {messages[first]['content']}"}
    return [*messages[:first], turn, *messages[first + 1 :]]
