"""Llama Guard 3 and 4 (https://huggingface.co/meta-llama/Llama-Guard-3-8B): the tokenizer's own chat template, a first
line `safe` or `unsafe`, then categories; the score is P(unsafe) from the logits of the first word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from curator.judge.guards.adapter import Adapter, Reply, by_score, relative, templated, unscored
from curator.recipe.judge import Judge
from curator.records import Messages, Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LABELS = ("safe", "unsafe")
# The verdict alone on its line; after `unsafe` at most the violated categories, S1, S2, ..., on one line or several.
_CATEGORIES = r"[ \t]*[*_`]*S[0-9]{1,2}[*_`]*(?:[ \t]*,[ \t]*[*_`]*S[0-9]{1,2}[*_`]*)*[ \t,\r]*"
_REPLY = re.compile(
    rf"\s*[*_`]*(?:safe[*_`]*|unsafe[*_`]*[ \t\r]*(?:\n(?:{_CATEGORIES}|[ \t\r]*))*)\s*", re.IGNORECASE | re.ASCII
)


def llama_guard(judge: Judge) -> Adapter:
    """Prompted by its template; the newline that the model would write before its verdict is part of the prompt."""
    return Adapter(
        prompt=_prompt, read=lambda reply: read(reply, judge.threshold), labels=LABELS, new_tokens=20, special=False
    )


def _prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages, answer: str, _: str) -> str:
    return templated(tokenizer, messages, answer).rstrip("\n") + "\n\n"


def read(reply: Reply, threshold: float | None) -> Verdict:
    """The verdict by P(unsafe) against P(safe) if the reply is well-formed; else unscored."""
    if _REPLY.fullmatch(reply.text) is None:
        return unscored("no verdict in the judge's reply", reply)
    return by_score(reply, relative(reply.shares, "unsafe", LABELS), threshold)
