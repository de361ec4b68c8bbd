"""Judges' models for tests: real architectures with scripted logits, and no means but those that a test hands in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers

from curator.judge.endpoint import Cost
from curator.judge.resources import Resources
from curator.records import Question
from tests import fakes

PROMPT = "How do I open the silver gate?"
ANSWER = "Ask the old gate keeper.\nWait until noon."


def asked(answer: str = ANSWER, kind: str = "harmful", prompt: str = PROMPT) -> Question:
    return Question(kind, fakes.turns(prompt), answer)


def never(*_: Any) -> Any:
    raise AssertionError("this judge needs none of it")


def means(load: Callable[..., Any] = never, embed: Callable[..., Any] = never) -> Resources:
    return Resources(load=load, embed=embed, cost=Cost())


def loading(model: Any, tokenizer: Any, calls: list[Any] | None = None) -> Callable[..., Any]:
    """What hands a judge its model; `calls` is told of each loading."""

    def load(*told: Any) -> Any:
        if calls is not None:
            calls.append(told)
        return model, tokenizer

    return load


def tokenizer(*words: str, template: str | None = "chatml", **changes: Any) -> Any:
    """The fakes' tokenizer with whole words in its vocabulary, as the judges' own have them."""
    made = fakes.tokenizer(template, **changes)
    made.add_tokens(list(words))
    return made


def saying(model: Any, vocabulary: int, steps: Sequence[dict[int, float]]) -> Any:
    """The model with its logits scripted: -30 but for those given, one entry a step, then nothing but the end token."""
    turn = iter([*steps])
    model.resize_token_embeddings(vocabulary)

    def forward(_module: Any, _args: Any, output: Any) -> Any:
        logits = torch.full_like(output.logits, -30.0)
        for token, value in next(turn, {2: 30.0}).items():
            logits[..., -1, token] = value
        output.logits = logits
        return output

    model.register_forward_hook(forward)
    return model


def classifier(family: str, labels: Sequence[str], *, seed: int = 0, **changes: Any) -> Any:
    """A sequence classifier of a real architecture with random weights; `llama`, `roberta` or `modernbert`."""
    torch.manual_seed(seed)
    shape = {**fakes.WIDE, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.25}
    shape |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}, **changes}
    if family == "llama":
        config: Any = transformers.LlamaConfig(**shape)
    else:
        kinds = {"roberta": transformers.RobertaConfig, "modernbert": transformers.ModernBertConfig}
        for name in ("num_key_value_heads", "head_dim"):
            del shape[name]
        config = kinds[family](**{**shape, "cls_token_id": 1, "sep_token_id": 2})
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()
