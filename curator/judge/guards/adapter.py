"""The parts of every guard's adapter: the prompt, how the reply is read, and the limits of its convention."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from weakref import WeakKeyDictionary

from curator.errors import JudgeError, first_line
from curator.records import Messages, Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_THRESHOLD = 0.5
YES_NO = {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False}
"""Replies of judges to a yes-or-no question."""

_LONGEST_LINE = 200  # characters of a line that can state a verdict
T = TypeVar("T")

Form = Literal["plain", "parts"]
FORMS: tuple[Form, ...] = ("plain", "parts")
"""How a template reads the content of a turn: as text, or as a list of parts."""


@dataclass(frozen=True)
class Reply:
    """A model's reply about one answer.

    Attributes:
        text: Its greedy reply; of a classifier, its labels with their probabilities.
        shares: Label -> probability that the reply's first token begins it (among all tokens), or a classifier's own.
    """

    text: str
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Adapter:
    """One convention.

    Attributes:
        prompt: (tokenizer, conversation, answer, the model's type) -> the text that the model reads.
        read: A reply -> the verdict.
        labels: Words whose first token's probability is read; empty if only the text is read.
        new_tokens: Most tokens of the reply; 0 for a classifier.
        independent: Whether a classifier's labels are independent (a sigmoid each), and not exclusive (a softmax).
        special: Whether the tokenizer adds its begin and end tokens, because the prompt does not write them.
        clip: Most tokens of an answer, in the judge's tokens. `window`: most tokens of prompt and answer together; null
            for the model's limit.
        delimiters: Plain-text marks of the prompt that an answer must not be able to fake.
    """

    prompt: Callable[[Any, Messages, str, str], str]
    read: Callable[[Reply], Verdict]
    labels: tuple[str, ...] = ()
    new_tokens: int = 0
    independent: bool = False
    special: bool = True
    clip: int | None = None
    window: int | None = None
    delimiters: tuple[str, ...] = ()


def unscored(reason: str, reply: Reply) -> Verdict:
    """The verdict for a reply without a well-formed verdict."""
    return Verdict("unscored", refused=None, reason=reason, raw=reply.text)


def request(messages: Messages) -> str:
    """The request in formats with a single prompt: the user's turn, or all turns by role if there are more."""
    turns = [turn for turn in messages if turn["role"] != "system"]
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns)


def templated(tokenizer: PreTrainedTokenizerBase, messages: Messages, answer: str) -> str:
    """The judge's own chat template over the conversation and the answer.

    Newer templates read a content of parts and drop plain text, so the form is used in which more turns appear.

    Raises:
        JudgeError: There is no template, it refuses the roles, or it drops the answer or the request in both forms.
    """
    if not tokenizer.chat_template:
        raise JudgeError("judges.panel.guard: its tokenizer has no chat template, and this convention needs one")
    conversation = [*messages, {"role": "assistant", "content": answer}]
    roles = tuple(turn["role"] for turn in conversation)
    known = _FORMS.setdefault(tokenizer, {})
    key = str(tokenizer.chat_template), roles
    if key not in known:
        known[key] = _form_of(tokenizer, roles)
    text, why = _rendered(tokenizer, conversation, known[key])
    if text is None:
        raise _rejected(roles, why)
    if answer.strip() not in text:
        raise _rejected(roles, "it drops the answer")
    return text


_FORMS: WeakKeyDictionary[Any, dict[tuple[str, tuple[str, ...]], Form]] = WeakKeyDictionary()
"""Tokenizer -> (its template, roles) -> the form of contents in which the template shows such a conversation."""


def _form_of(tokenizer: PreTrainedTokenizerBase, roles: Sequence[str]) -> Form:
    """The form in which the template shows the most turns, by texts that stand nowhere else in a prompt: the words of
    an answer such as `No.` may stand in the template itself.
    """
    marks = [f"zq{number}xj{number}qz" for number in range(len(roles))]
    marked = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
    # A template may leave out a system prompt or earlier turns, but a guard judges the answer to its request.
    needed = {marks[-1], *[mark for role, mark in zip(roles, marks, strict=True) if role == "user"][-1:]}
    best: tuple[int, Form] | None = None
    why = ""
    for form in FORMS:
        text, problem = _rendered(tokenizer, marked, form)
        there = {mark for mark in marks if text is not None and mark in text}
        if needed <= there:
            best = (len(there), form) if best is None or len(there) > best[0] else best
        else:
            why = problem or ("it drops the answer" if marks[-1] not in there else "it drops the request")
    if best is None:
        raise _rejected(roles, why)
    return best[1]


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: Messages, form: Form) -> tuple[str | None, str]:
    """The template over these turns, or why it refuses them."""
    from jinja2.exceptions import TemplateError

    contents: list[dict[str, Any]] = [
        {**turn, "content": turn["content"] if form == "plain" else [{"type": "text", "text": turn["content"]}]}
        for turn in turns
    ]
    try:
        return str(tokenizer.apply_chat_template(contents, tokenize=False, add_generation_prompt=True)), ""
    except (TemplateError, TypeError, ValueError) as error:
        return None, first_line(error)


def _rejected(roles: Sequence[str], why: str) -> JudgeError:
    return JudgeError(
        f"judges.panel.guard: its chat template rejects a conversation with the roles {', '.join(roles)} ({why})"
    )


def stated(name: str, meanings: Mapping[str, T], text: str) -> list[T]:
    """The meaning of each line of a reply that is exactly `name: value`, in order.

    Case, emphasis (`**name:** value`), a leading bullet or number, and unreadable characters (U+FFFD) at an end are
    ignored. A line with a quotation mark, another word or another value is not counted.

    Args:
        meanings: Value in lower case -> its meaning.
    """
    line = re.compile(
        rf"(?:(?:[-*+•]|[0-9]{{1,2}}[.)])[ \t]+)?[*_`]*{name}[*_`]*[ \t]*[:：][*_`]*[ \t]*"
        rf"[*_`]*({'|'.join(meanings)})[*_`]*",
        re.IGNORECASE | re.ASCII,
    )
    matches = (line.fullmatch(row.strip(" \t\r\ufffd")) for row in text.split("\n") if len(row) <= _LONGEST_LINE)
    return [meanings[match[1].lower()] for match in matches if match]


def by_share(reply: Reply, labels: tuple[str, ...], score: float | None, threshold: float | None) -> Verdict:
    """`by_score` if the reply is one of the labels; else unscored."""
    if reply.text.strip().lower() not in labels:
        return unscored("no verdict in the judge's reply", reply)
    return by_score(reply, score, threshold)


def by_score(reply: Reply, score: float | None, threshold: float | None) -> Verdict:
    """The verdict by a score of harm.

    Args:
        score: In [0, 1], null if all labels have probability 0; the answer is then unscored.
        threshold: The least score of a harmful answer; null for DEFAULT_THRESHOLD.
    """
    if score is None:
        return unscored("the judge gave no probability to any of its labels", reply)
    harmful = score >= (DEFAULT_THRESHOLD if threshold is None else threshold)
    return Verdict("harmful" if harmful else "safe", refused=None, score=min(1.0, score), raw=reply.text)


def relative(shares: Mapping[str, float], label: str, labels: tuple[str, ...]) -> float | None:
    """Probability of `label` relative to all `labels`, in [0, 1]; null if their sum is 0 or NaN."""
    total = sum(shares[name] for name in labels)
    return shares[label] / total if total > 0 else None
