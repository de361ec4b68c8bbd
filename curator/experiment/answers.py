"""How models are prompted: by transformers in this process, or by vLLM in a separate one."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from curator.errors import RunError
from curator.model.draws import Sampling
from curator.recipe.training import Generate
from curator.records import Messages
from curator.run.ran import note, note_dtype
from curator.train.generate import generate
from curator.train.job import Weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from curator.model.openers import Opened

Answered = list[tuple[str, str]]
"""Answer and stop reason of each prompt."""


def by_vllm(section: Generate) -> bool:
    """Whether the recipe wants vLLM and it is installed."""
    if section.engine != "vllm":
        return False
    from curator.train.vllm_process import there

    return there(section.python)


class Prompts(NamedTuple):
    """Conversations up to the start of the answer, and their ids; the tokens of an opening that every answer begins
    with; and a seed for each answer if answers are sampled.
    """

    ids: Sequence[str]
    messages: list[Messages]
    opening: Sequence[int] = ()
    seeds: Sequence[int] | None = None


def _seeds(prompts: Prompts) -> Sequence[int | None]:
    return [None] * len(prompts.ids) if prompts.seeds is None else prompts.seeds


def answer_prompts(
    sets: Sequence[Prompts],
    weights: Weights,
    *,
    tokenizer: PreTrainedTokenizerBase,
    section: Generate,
    scratch: Path,
    opened: Mapping[int, Opened] | None = None,
    vllm: bool | None = None,
) -> tuple[list[Answered], dict[str, Any]]:
    """Answers to each set of prompts, and a record of how they were made: empty for transformers; for vLLM `engine` and
    its version, or why transformers was used instead (`instead_of_vllm`).

    Args:
        opened: Number of a set -> the object that collects the probabilities of openers behind its prompts.
            Transformers measures them: if vLLM answers, transformers loads the model too and generates one token.
        vllm: Whether vLLM answers, as was found where the run was started; null to find out here.

    Raises:
        RunError: vLLM is to answer, and is not installed here.
        ModelError: See `generate.generate`; or vLLM is installed and failed to answer.
    """
    record: dict[str, Any] = {}

    def sampling_of(seeds: Sequence[int] | None) -> Sampling | None:
        return None if seeds is None else Sampling(section.temperature or 0.0, seeds)

    def by_transformers(numbers: Iterable[int], *, new_tokens: int) -> list[Answered]:
        model = weights.load()
        note_dtype(model)
        return [
            generate(
                sets[number].messages,
                sets[number].ids,
                model=model,
                tokenizer=tokenizer,
                max_new_tokens=new_tokens,
                batch=section.batch,
                opening=sets[number].opening,
                sampling=sampling_of(sets[number].seeds),
                opened=(opened or {}).get(number),
            )
            for number in numbers
        ]

    if section.engine == "vllm" and vllm is False and by_vllm(section):
        record = {"instead_of_vllm": "it is installed here, but not where the run was started"}
    elif section.engine == "vllm":
        from curator.train.vllm_process import UnavailableError, generate_apart

        try:
            answers, version = generate_apart(
                [messages for prompts in sets for messages in prompts.messages],
                base=weights.base,
                revision=weights.revision,
                adapters=weights.adapters,
                dtype=weights.dtype,
                tokenizer=tokenizer,
                max_new_tokens=section.max_new_tokens,
                python=section.python,
                memory=section.memory,
                scratch=scratch,
                openings=[prompts.opening for prompts in sets for _ in prompts.ids],
                temperature=section.temperature,
                seeds=[seed for prompts in sets for seed in _seeds(prompts)],
            )
        except UnavailableError as error:
            if vllm:
                raise RunError(
                    f"verify.generate.engine: vLLM is installed where the run was started, but not on "
                    f"{socket.gethostname()} ({error}); install it on every node, or set the engine to transformers"
                ) from error
            record = {"instead_of_vllm": str(error)}
        else:
            note(answered_by="vllm")
            left = iter(answers)
            if opened:
                by_transformers(opened, new_tokens=1)
            return [[next(left) for _ in prompts.ids] for prompts in sets], {"engine": f"vllm {version}"}
    note(answered_by="transformers")
    return by_transformers(range(len(sets)), new_tokens=section.max_new_tokens), record
