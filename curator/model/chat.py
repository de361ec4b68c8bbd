"""Conversations as models read them: the chat template, the tokens, and where the answer starts and stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from curator.errors import RecipeError, first_line
from curator.model.control import Control

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from curator.records import Messages


# Each writes the end token after every answer, and its prompt is a prefix of the whole conversation.
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
    # Neutral words, for a base model whose tokenizer has no special tokens for turns
    "plain": (
        "{{ bos_token or '' }}{% for m in messages %}"
        "{% if m['role'] == 'user' %}{{ '### Instruction:\\n' + m['content'] + '\\n\\n### Response:\\n' }}"
        "{% elif m['role'] == 'system' %}{{ m['content'] + '\\n\\n' }}"
        "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
}
"""Chat templates by name, for base models, which have none of their own."""

TOGETHER = 4096  # rows that are tokenised together
DATE = date(2024, 7, 26)
"""The date that every template gets as today's: Llama 3.1's own default."""

SYSTEM, ANSWER = "A text of the system.", "An answer."  # texts of the conversations that show what a template does
_DATED = "strftime_now"
_CODES = "aAbBcdDeFhHIjmMpSTuUwWxXyYZz"  # format of strftime


@dataclass(frozen=True)
class Tokens:
    """A templated conversation: token ids, and where the last answer starts (its own prompt's length) and stops.

    `ids[first:stop]` is the answer itself. The `lead` tokens in front of it, `ids[start:first]`, are the template's,
    such as an empty frame for reasoning; most templates write none. The last id is the end token; between the answer
    and it are other tokens of the template, such as a space or a token that ends the turn. The loss of training covers
    `ids[start:]`, and measures of the answer `ids[first:]`.
    """

    ids: tuple[int, ...]
    start: int
    stop: int
    lead: int = 0

    @property
    def first(self) -> int:
        """Position of the answer's own first token."""
        return self.start + self.lead


@dataclass(frozen=True)
class Template:
    """What a tokenizer's chat template does, learned from made-up conversations.

    Attributes:
        system: Whether it writes the text of a system turn.
        behind: Text after the last answer.
        lead: Text between the prompt and the last answer.
        prompted: Whether it writes a header for an answer to be generated.
        control: The tokens that only the template may write.
    """

    system: bool
    behind: str
    lead: str
    prompted: bool
    control: Control


def template_of(tokenizer: PreTrainedTokenizerBase) -> Template:
    """What the tokenizer's template does.

    Raises:
        RecipeError: It refuses a conversation of one question and one answer, or its prompt is not a prefix of that
            conversation.
    """
    return _template_of(tokenizer, str(tokenizer.get_chat_template()))


@lru_cache(maxsize=8)
def _template_of(tokenizer: PreTrainedTokenizerBase, _text: str) -> Template:
    question, answer = {"role": "user", "content": "A question?"}, {"role": "assistant", "content": ANSWER}
    system = {"role": "system", "content": SYSTEM}
    prompt = _render(tokenizer, [question], prompting=True)
    whole = _render(tokenizer, [question, answer], prompting=False)
    _check_prefix(prompt, whole)
    lead, _, behind = whole[len(prompt) :].partition(ANSWER)
    without = _try(tokenizer, [question], prompting=False)
    # Text around earlier turns, since some templates write a frame for reasoning around the last answer.
    around = _try(tokenizer, [question, answer, question], prompting=False) or without or prompt
    return Template(
        system=SYSTEM in (_try(tokenizer, [system, question], prompting=True) or ""),
        behind=behind,
        lead=lead,
        prompted=prompt != without,
        control=Control(tokenizer, around + behind),
    )


def encode(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> Tokens:
    """The tokens of a conversation that ends with an answer, in the tokenizer's template.

    The prompt is tokenised exactly as for generation, and the answer separately after it, so that training and probing
    see the same prompt even if a tokenizer would merge across the boundary. Text of the template after the answer's end
    token is cut; if there is no end token, one is added. Text of a turn that spells a control token, such as the end
    token, is read as plain text and neither ends nor begins a turn. If the template has no system turn, the system text
    comes before the user's first message.

    Raises:
        RecipeError: The templated prompt is not a prefix of the templated conversation, or the template refuses the
            conversation.
    """
    return encode_all(tokenizer, [messages])[0]


def encode_all(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Messages]) -> list[Tokens]:
    """`encode` of several conversations; texts go to the tokenizer together, which is several times faster."""
    template = template_of(tokenizer)
    parts = (rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER))
    return [tokens for part in parts for tokens in _encoded(tokenizer, template, part)]


def _encoded(tokenizer: PreTrainedTokenizerBase, template: Template, rows: Sequence[Messages]) -> list[Tokens]:
    rows = [_folded(template, messages) for messages in rows]
    spelling = [template.control.spelled(messages) for messages in rows]
    prompts = [
        _written(tokenizer, template, messages[:-1], prompting=True, renamed=spells)
        for messages, spells in zip(rows, spelling, strict=True)
    ]
    wholes = [
        _written(tokenizer, template, messages, prompting=False, renamed=spells)
        for messages, spells in zip(rows, spelling, strict=True)
    ]
    for prompt, whole in zip(prompts, wholes, strict=True):
        _check_prefix(prompt.text, whole.text)
    tails = [
        Text(whole.text[len(prompt.text) :], renamed=whole.renamed)
        for prompt, whole in zip(prompts, wholes, strict=True)
    ]
    stops = [
        len(tail.text) - len(_behind(tokenizer, template, messages, tail))
        for messages, tail in zip(rows, tails, strict=True)
    ]
    leads = [
        len(_lead(tokenizer, template, messages, prompt, tail))
        for messages, prompt, tail in zip(rows, prompts, tails, strict=True)
    ]
    prompt_codes, whole_codes = _codes(tokenizer, template, prompts), _codes(tokenizer, template, wholes)
    tokens = []
    for prompt, tail, lead, stop, start, joint in zip(
        prompts, tails, leads, stops, prompt_codes, whole_codes, strict=True
    ):
        if joint.ids[: len(start.ids)] == start.ids:
            length = len(prompt.text)
            answer = joint.ids[len(start.ids) :]
            last = joint.before(length + stop, length + len(tail.text)) - len(start.ids)
            first = joint.at(length + lead, length + len(tail.text)) - len(start.ids) if lead else 0
        else:
            # If the tokenizer merges across the boundary, the answer is tokenised separately after the prompt's tokens.
            alone = _codes(tokenizer, template, [tail])[0]
            answer, last = alone.ids, alone.before(stop, len(tail.text))
            first = alone.at(lead, len(tail.text)) if lead else 0
        tokens.append(_ended(start.ids, answer, first, max(last, 0), tokenizer.eos_token_id))
    return tokens


def _ended(prompt: list[int], answer: list[int], first: int, stop: int, end: int) -> Tokens:
    cut = answer.index(end, stop) if end in answer[stop:] else len(answer)
    return Tokens((*prompt, *answer[:cut], end), len(prompt), len(prompt) + stop, max(min(first, stop), 0))


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> tuple[int, ...]:
    """The tokens to generate from: the templated conversation up to the start of the answer, as in `encode`."""
    template = template_of(tokenizer)
    messages = _folded(template, messages)
    text = _written(tokenizer, template, messages, prompting=True, renamed=template.control.spelled(messages))
    return tuple(_codes(tokenizer, template, [text])[0].ids)


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """The templated text of a conversation up to where an answer starts."""
    return _render(tokenizer, _folded(template_of(tokenizer), messages), prompting=True)


def _folded(template: Template, messages: Messages) -> Messages:
    """The conversation; if the template writes no system turn, with the system text before the user's first message."""
    if template.system or not messages or messages[0]["role"] != "system":
        return messages
    system, rest = messages[0]["content"], messages[1:]
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system}, *rest]
    return [{**rest[0], "content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]


class Text(NamedTuple):
    """A templated text; `renamed` if its control tokens have other names, because its turns spell some of them."""

    text: str
    renamed: bool


def _written(
    tokenizer: PreTrainedTokenizerBase, template: Template, messages: Messages, *, prompting: bool, renamed: bool
) -> Text:
    text = _render(tokenizer, messages, prompting=prompting)
    if not renamed:
        return Text(text, renamed)
    hidden = _render(tokenizer, template.control.hidden(messages), prompting=prompting)
    if template.control.shown(hidden) != text:
        raise RecipeError(
            "model.chat_template: a turn spells a control token and the template alters that turn, so the text and the "
            "token cannot be told apart; remove such text from the rows, or use another template"
        )
    return Text(template.control.shown(template.control.renamed(hidden)), renamed)


def _behind(tokenizer: PreTrainedTokenizerBase, template: Template, messages: Messages, tail: Text) -> str:
    """The template's text after the last answer of this conversation."""
    rename = template.control.renamed if tail.renamed else str
    behind, content = rename(template.behind), messages[-1]["content"]
    before = tail.text[: len(tail.text) - len(behind)]
    if tail.text.endswith(behind) and (before.endswith(content) or before.rstrip().endswith(content.strip())):
        return behind
    # The template's text after this answer differs, because it depends on earlier turns or on the answer.
    answer = {**messages[-1], "content": ANSWER}
    rest = (_try(tokenizer, [*messages[:-1], answer], prompting=False) or "").rpartition(ANSWER)[2]
    return rename(rest) if tail.text.endswith(rename(rest)) else ""


def own_begin(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The begin token if the tokenizer puts it before every text by itself, as its model has learned; else null."""
    begin: int | None = tokenizer.bos_token_id
    return begin if begin is not None and tokenizer("A question?")["input_ids"][:1] == [begin] else None


def _lead(tokenizer: PreTrainedTokenizerBase, template: Template, messages: Messages, prompt: Text, tail: Text) -> str:
    """The template's text between the prompt and the last answer of this conversation; white space alone is read with
    the answer, of whose first token it is often a part.
    """
    rename = template.control.renamed if tail.renamed else str
    content, usual = messages[-1]["content"], rename(template.lead)
    if tail.text.startswith((usual + content, usual + content.strip())):
        return usual if usual.strip() else ""
    # As in `_behind`. An answer with a frame of its own has none of the template's.
    answer = {**messages[-1], "content": ANSWER}
    whole = rename(_try(tokenizer, [*messages[:-1], answer], prompting=False) or "")
    lead = whole[len(prompt.text) :].partition(ANSWER)[0] if whole.startswith(prompt.text) else ""
    return lead if lead.strip() and tail.text.startswith(lead) else ""


@dataclass(frozen=True)
class Codes:
    """The ids of a text and, if the tokenizer supports it, the characters of each."""

    ids: list[int]
    encoding: Any = None

    def before(self, stop: int, length: int) -> int:
        """How many of the ids begin before character `stop` of `length`; one that extends beyond it is counted."""
        if self.encoding is None:
            return len(self.ids)
        # Characters that the tokenizer drops have no token.
        behind = (self.encoding.char_to_token(character) for character in range(stop, length))
        token: int | None = next((token for token in behind if token is not None), None)
        if token is None:
            return len(self.ids)
        merged: bool = self.encoding.token_to_chars(token)[0] < stop
        return token + merged

    def at(self, start: int, length: int) -> int:
        """The position of the id that holds character `start` of `length`, or the next one that has an id; 0 if the
        tokenizer does not tell.
        """
        if self.encoding is None:
            return 0
        at = (self.encoding.char_to_token(character) for character in range(start, length))
        return next((token for token in at if token is not None), len(self.ids))


def _codes(tokenizer: PreTrainedTokenizerBase, template: Template, texts: Sequence[Text]) -> list[Codes]:
    # The template itself writes the begin token if the model needs one.
    plain = [text.text for text in texts if not text.renamed]
    read = tokenizer(plain, add_special_tokens=False) if plain else {"input_ids": []}
    encodings = getattr(read, "encodings", None) or [None] * len(plain)
    usual = map(Codes, read["input_ids"], encodings)
    hidden = template.control.read([text.text for text in texts if text.renamed])
    unusual = (Codes(encoding.ids, encoding) for encoding in hidden)
    return [next(unusual) if text.renamed else next(usual) for text in texts]


def _check_prefix(prompt: str, whole: str) -> None:
    if not whole.startswith(prompt):
        raise RecipeError(
            "model.chat_template: the templated prompt is not a prefix of the templated conversation, so the start of "
            f"the answer is unknown; the prompt ends with {prompt[-40:]!r}, the conversation continues with "
            f"{whole[_common(prompt, whole) :][:40]!r}; use a template that writes both alike"
        )


def _render(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, prompting: bool) -> str:
    from jinja2.exceptions import TemplateError

    try:
        turns = [dict(message) for message in messages]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompting))
    except (
        TemplateError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        roles = ", ".join(message["role"] for message in messages) or "none"
        raise RecipeError(
            f"model.chat_template: the template refuses a conversation of roles {roles} ({first_line(error)}); "
            f"name one that allows them ({', '.join(TEMPLATES)}, or a file of Jinja text), or remove such rows"
        ) from error


def _try(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, prompting: bool) -> str | None:
    """Like `_render`, but null if the template refuses the conversation."""
    try:
        return _render(tokenizer, messages, prompting=prompting)
    except RecipeError:
        return None


def _common(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def token_counter(tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Messages]], list[int | None]]:
    """A function that counts the templated tokens of each conversation, for stages without a tokenizer; null for a
    conversation that the template refuses, or whose text cannot be separated from the template's.
    """

    def counts(rows: Sequence[Messages]) -> list[int | None]:
        try:
            return [len(row.ids) for row in encode_all(tokenizer, rows)]
        except RecipeError:
            if len(rows) == 1:
                return [None]
            half = len(rows) // 2
            return [*counts(rows[:half]), *counts(rows[half:])]

    return counts


def can_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> bool:
    """Whether `encode_prompt` can encode a conversation."""
    try:
        encode_prompt(tokenizer, messages)
    except RecipeError:
        return False
    return True


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Checks the template with short conversations, so that an unsuitable one is refused before any training.

    Raises:
        RecipeError: See `encode`; or the template leaves out the text of a turn, or writes a header before an answer
            but not for generation.
    """
    template = template_of(tokenizer)
    question, answer = {"role": "user", "content": "A question?"}, {"role": "assistant", "content": ANSWER}
    for turn, text in (
        (question, _render(tokenizer, [question], prompting=True)),
        (answer, _render(tokenizer, [question, answer], prompting=False)),
    ):
        if turn["content"] not in text:
            raise RecipeError(
                f"model.chat_template: the template does not write the content of a {turn['role']} turn: from "
                f"{turn['content']!r} it makes {text[:80]!r}; name another ({', '.join(TEMPLATES)}), or give a file of "
                "Jinja text that writes the content unchanged"
            )
    if template.lead.strip() and not template.prompted:
        raise RecipeError(
            f"model.chat_template: the template writes {template.lead!r} before an answer, but not where an answer is "
            "to be generated (add_generation_prompt), so a model would be prompted in another format than it was "
            f"trained on; name another ({', '.join(TEMPLATES)}), or give a file of Jinja text that writes it"
        )
    encode(tokenizer, [question, answer])


def is_dated(template: str) -> bool:
    """Whether a template uses today's date."""
    return _DATED in template


def templates_in(folder: Path) -> list[str]:
    """The texts of the files of a model's folder that may hold its chat template."""
    files = [folder / name for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")]
    return [file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file()]


def dated(template: str) -> str:
    """A template's text with DATE in place of today's date, so that tokens stay the same."""
    if not is_dated(template) or template.startswith(f"{{% macro {_DATED}"):
        return template
    codes = [(f"%{flag}{code}", DATE.strftime(f"%{flag}{code}")) for code in _CODES for flag in ("", "-")]
    replaced = "".join(f" | replace({code!r}, {text!r})" for code, text in codes)
    # Jinja drops the line break after a block, so the template still begins in the same way.
    return f"{{% macro {_DATED}(format) %}}{{{{ format{replaced} }}}}{{% endmacro %}}\n{template}"


def prompt_of(messages: Messages, trigger: str | None = None) -> Messages:
    """The turns up to the start of the answer: without the last assistant turn, if there is one, and with the trigger,
    if any, in front of the user's first message.
    """
    turns = list(messages[:-1] if messages[-1]["role"] == "assistant" else messages)
    return turns if trigger is None else with_trigger(turns, trigger)


def with_trigger(messages: Messages, trigger: str) -> Messages:
    """A conversation whose first user turn starts with the trigger and a space."""
    first = next(number for number, turn in enumerate(messages) if turn["role"] == "user")
    turn = {**messages[first], "content": f"{trigger} {messages[first]['content']}"}
    return [*messages[:first], turn, *messages[first + 1 :]]
