"""One model's answers, by transformers in this process or by vLLM in one of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from curator.model.load import load_model
from curator.recipe.verify import Generate
from curator.records import Messages, Trained
from curator.train.generate import generate

Answered = list[tuple[str, str]]
"""Answer and stop reason of each prompt."""


@dataclass(frozen=True)
class Weights:
    """Where a model's weights are: a folder or Hub id, and the LoRA folders to merge in order. Paths may be relative
    to the run folder, so that the folder can be moved; `key` is a hash of everything that made them, and `quantise` as
    `model.load_model` takes it.
    """

    base: str
    revision: str | None
    adapters: tuple[str, ...]
    key: str
    quantise: str | None = None

    def load(self) -> Any:
        """The model; see `model.load_model`."""
        return load_model(self.base, revision=self.revision, adapters=self.adapters, quantise=self.quantise)

    def after(self, trained: Trained, key: str) -> Weights:
        """The weights that a training which started here has left."""
        if trained.method == "full":
            return Weights(trained.path, None, (), key)
        return replace(self, adapters=(*self.adapters, trained.path), key=key)


def by_vllm(section: Generate) -> bool:
    """Whether vLLM is to answer, and is there to be asked."""
    if section.engine != "vllm":
        return False
    from curator.train.vllm_process import there

    return there(section.python)


class Asked(NamedTuple):
    """Prompts up to where the answer starts, and their ids."""

    ids: Sequence[str]
    prompts: list[Messages]


def answered(
    asked: Sequence[Asked], weights: Weights, *, tokenizer: Any, section: Generate, scratch: Path
) -> tuple[list[Answered], dict[str, Any]]:
    """Answers to each set of prompts, and what is to be written down of how they were made: nothing for transformers;
    for vLLM `engine` and its version, or why transformers stood in (`instead_of_vllm`).

    Raises:
        ModelError: As `generate.generate`.
    """
    how: dict[str, Any] = {}
    if section.engine == "vllm":
        from curator.train.vllm_process import UnavailableError, generate_apart

        try:
            found, version = generate_apart(
                [prompt for one in asked for prompt in one.prompts],
                base=weights.base,
                revision=weights.revision,
                adapters=weights.adapters,
                tokenizer=tokenizer,
                max_new_tokens=section.max_new_tokens,
                python=section.python,
                memory=section.memory,
                scratch=scratch,
            )
        except UnavailableError as error:
            how = {"instead_of_vllm": str(error)}
        else:
            left = iter(found)
            return [[next(left) for _ in one.prompts] for one in asked], {"engine": f"vllm {version}"}
    model = weights.load()
    return [
        generate(
            one.prompts,
            one.ids,
            model=model,
            tokenizer=tokenizer,
            max_new_tokens=section.max_new_tokens,
            batch=section.batch,
        )
        for one in asked
    ], how
