"""Chat templates inside rows: text that spells control tokens, and prompts wrapped in another model's template."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import polars as pl

from curator.pool.screen import Finding, finding
from curator.records import Conversations
from curator.wording import these

CONTROL = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_sep|>",
    "<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>",
    "<|header_start|>", "<|header_end|>", "<|eot|>",
    "<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
    "<|start|>", "<|channel|>", "<|message|>", "<|return|>",
    "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>",
    "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
)  # fmt: skip
"""Tokens that begin and end turns in well-known models, as their tokenizers spell them."""

WRAPPED = {
    "[INST]": (r"\[INST\]", "[/INST]"),
    "<|im_start|>": (r"<\|im_start\|>\s*(?:system|user|assistant)\b", ""),
    "<start_of_turn>": (r"<start_of_turn>\s*(?:user|model)\b", ""),
    "<|start_header_id|>": (r"<\|start_header_id\|>\s*(?:system|user|assistant)\s*<\|end_header_id\|>", ""),
    "<|user|>": (r"<\|(?:system|user|assistant)\|>", ""),
    "### Instruction:": (r"^#{2,3} ?(?:Instruction|Response|Human|Assistant|User) ?:", ""),
    "Human: ... Assistant:": (r"^Human: ", "\nAssistant:"),
}
"""Name of a template -> a pattern that identifies prompts written in it, and the text that follows the pattern."""
_WRAPPED = {name: (re.compile(pattern, re.MULTILINE), behind) for name, (pattern, behind) in WRAPPED.items()}


def markup(rows: pl.DataFrame, control: Iterable[str] = CONTROL) -> tuple[list[Finding], dict[str, int]]:
    """Rows whose text spells a control token, and prompts wrapped in a template; and the number of rows with each
    token.

    Args:
        control: Texts of control tokens. curator reads them as text; other trainers may end the answer there, or read
            the following text as a turn.
    """
    # The longest first: a short token may be a part of a long one.
    token = re.compile("|".join(map(re.escape, sorted(control, key=lambda text: (-len(text), text)))) or "(?!)")
    spelled: dict[str, list[str]] = defaultdict(list)
    wrapped: dict[str, list[str]] = defaultdict(list)
    for row, messages in zip(rows["id"], Conversations(rows), strict=True):
        for text in {text for turn in messages for text in token.findall(turn["content"])}:
            spelled[text].append(row)
        prompts = [turn["content"] for turn in messages if turn["role"] != "assistant"]
        by = next((name for name in _WRAPPED if any(_is_wrapped(prompt, name) for prompt in prompts)), None)
        if by is not None:
            wrapped[by].append(row)
    findings = []
    if spelled:
        ids = {row for rows_of in spelled.values() for row in rows_of}
        contain = these(len(ids), "row contains", "rows contain")
        what = f"{contain} text of control tokens that only a chat template should write: {_listed(spelled)}."
        advice = (
            "Remove this text, or these rows. curator trains on it as plain text, but other trainers may read it as "
            "the end of an answer or the start of a turn."
        )
        findings.append(finding("control-tokens", "warning", ids, rows.height, what=what, advice=advice))
    if wrapped:
        ids = {row for rows_of in wrapped.values() for row in rows_of}
        are = these(len(ids), "prompt is", "prompts are")
        what = f"{are} already formatted with the chat template of a model: {_listed(wrapped)}."
        advice = "Remove this formatting: each prompt is formatted with the model's own template."
        findings.append(finding("wrapped-prompts", "warning", ids, rows.height, what=what, advice=advice))
    return findings, {text: len(rows_of) for text, rows_of in sorted(spelled.items(), key=_most_first)}


def _is_wrapped(prompt: str, name: str) -> bool:
    pattern, behind = _WRAPPED[name]
    start = pattern.search(prompt)
    return start is not None and prompt.find(behind, start.end()) >= 0


def _listed(by_name: Mapping[str, list[str]]) -> str:
    named = sorted(by_name.items(), key=_most_first)
    return ", ".join(f"{name} ({len(rows):,})" for name, rows in named[:6]) + (", ..." if len(named) > 6 else "")


def _most_first(item: tuple[str, list[str]]) -> tuple[int, str]:
    return -len(item[1]), item[0]
