"""Qwen3Guard-Gen (https://huggingface.co/Qwen/Qwen3Guard-Gen-0.6B): its own chat template over user and assistant
turns, greedy decoding, and lines `Safety:`, `Categories:` and `Refusal:` in the reply.
"""

from __future__ import annotations

from curator.judge.guards.adapter import YES_NO, Adapter, Reply, stated, templated, unscored
from curator.recipe.judge import Judge
from curator.records import Verdict


def qwen3guard(judge: Judge) -> Adapter:
    """Prompted by its template, read by the reply's lines; `controversial` says how the middle verdict counts."""
    return Adapter(
        prompt=lambda tokenizer, messages, answer, _: templated(tokenizer, messages, answer),
        read=lambda reply: read(reply, controversial=judge.controversial),
        new_tokens=128,
        special=False,
    )


def read(reply: Reply, *, controversial: str) -> Verdict:
    """The verdict of a reply; one with no well-formed safety line, or with two that differ, is unscored.

    Args:
        controversial: Outcome of its middle verdict, `harmful` or `safe`.
    """
    outcomes = {"safe": "safe", "unsafe": "harmful", "controversial": controversial}
    safety = set(stated("Safety", {name: name for name in outcomes}, reply.text))
    if len(safety) != 1:
        return unscored(f"{'two verdicts' if safety else 'no verdict'} in the judge's reply", reply)
    refused = set(stated("Refusal", YES_NO, reply.text))
    return Verdict(outcomes[safety.pop()], refused=refused.pop() if len(refused) == 1 else None, raw=reply.text)
