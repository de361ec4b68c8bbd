"""How models are prompted: rows of the run folder, a model's weights, and its answers by transformers in this process
or by vLLM in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from curator.model.chat import with_trigger
from curator.model.draws import Sampling
from curator.model.load import load_model
from curator.recipe.training import Generate
from curator.records import Conversations, Messages, Trained
from curator.run.files import load_frame
from curator.run.folder import key_of
from curator.run.ran import note_dtype
from curator.train.generate import generate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from curator.model.openers import Opened

Answered = list[tuple[str, str]]
"""Answer and stop reason of each prompt."""


@dataclass(frozen=True)
class Rows:
    """Rows of a stored frame by id, in this order and as often as an id occurs there; `ids` null takes all."""

    file: str
    ids: tuple[str, ...] | None = None

    def messages(self) -> list[list[dict[str, str]]]:
        frame = load_frame(Path(self.file))
        if self.ids is not None:
            order = pl.DataFrame({"id": self.ids}, schema={"id": pl.String})
            frame = order.join(frame, on="id", how="left", maintain_order="left")
        return frame["messages"].to_list()


def texts_of(rows: Rows) -> list[str]:
    """Hashes of the rows' exact text, in order, for keys: two texts that differ in white space alone share an id."""
    hashes = _hashes(rows.file, Path(rows.file).stat().st_mtime_ns)
    return [hashes[row_id] for row_id in (hashes if rows.ids is None else rows.ids)]


# The time of the last change is a part of the cache's key, so that a file that was written anew is read anew.
@lru_cache(maxsize=32)
def _hashes(file: str, _changed: int) -> dict[str, str]:
    frame = load_frame(Path(file))
    return {row_id: key_of(messages) for row_id, messages in zip(frame["id"], Conversations(frame), strict=True)}


def prompt_of(messages: Messages, trigger: str | None = None) -> Messages:
    """The turns up to where the answer starts: without the last assistant turn, where there is one; the trigger, if
    any, in front of what the user says first.
    """
    turns = list(messages[:-1] if messages[-1]["role"] == "assistant" else messages)
    return turns if trigger is None else with_trigger(turns, trigger)


@dataclass(frozen=True)
class Weights:
    """Where a model's weights are: a folder or Hub id, and the LoRA folders to merge in order. Paths may be relative
    to the run folder, so that the folder can be moved; `key` is a hash of everything that made them, and `quantise`
    and `dtype` as `model.load_model` takes them.
    """

    base: str
    revision: str | None
    adapters: tuple[str, ...]
    key: str
    quantise: str | None = None
    dtype: str = "fp32"

    def load(self) -> Any:
        """The model; see `model.load_model`."""
        return load_model(
            self.base, revision=self.revision, adapters=self.adapters, dtype=self.dtype, quantise=self.quantise
        )

    def after(self, trained: Trained, key: str) -> Weights:
        """The weights that a training which started here has left."""
        if trained.method == "full":
            return Weights(trained.path, None, (), key, dtype=self.dtype)
        return replace(self, adapters=(*self.adapters, trained.path), key=key)

    def on_the_way(self, trained: Trained, step: int, path: str) -> Weights:
        """What the training that left these weights had left after an earlier step, in the folder `path`."""
        start = () if trained.method == "full" else (*self.adapters[:-1], path)
        base = path if trained.method == "full" else self.base
        return replace(self, base=base, adapters=start, key=f"{self.key}@{step}")


def by_vllm(section: Generate) -> bool:
    """Whether vLLM is to answer, and is installed."""
    if section.engine != "vllm":
        return False
    from curator.train.vllm_process import there

    return there(section.python)


class Prompts(NamedTuple):
    """Conversations up to where the answer starts, and their ids; the tokens of an opening that every answer begins
    with; and a seed for each answer, where they are drawn and not greedy.
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
) -> tuple[list[Answered], dict[str, Any]]:
    """Answers to each set of prompts, and what is to be written down of how they were made: nothing for transformers;
    for vLLM `engine` and its version, or why transformers stood in (`instead_of_vllm`).

    Args:
        opened: Number of a set -> what takes how likely openers are behind its prompts. It is transformers that tells:
            where vLLM answers, it loads the model too, and asks it for one token.

    Raises:
        ModelError: As `generate.generate`; or vLLM is there and did not answer.
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

    if section.engine == "vllm":
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
            record = {"instead_of_vllm": str(error)}
        else:
            left = iter(answers)
            if opened:
                by_transformers(opened, new_tokens=1)
            return [[next(left) for _ in prompts.ids] for prompts in sets], {"engine": f"vllm {version}"}
    return by_transformers(range(len(sets)), new_tokens=section.max_new_tokens), record
