"""Models that turn rows into vectors, loaded by workers of a cluster; the vectors come through the caches."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from curator.errors import RunError
from curator.model.dtype import TORCH
from curator.recipe.represent import Represent
from curator.run import Run
from curator.run.folder import place
from curator.run.ran import computed_with, note_dtype

if TYPE_CHECKING:
    from curator.represent.chunks import Chunk, Elsewhere, Rows
    from curator.represent.encoder import Encoder


@dataclass(frozen=True)
class Making:
    """What is needed to load the model of some sections: a causal model's weights and tokenizer, or an embedder's name.

    Attributes:
        sections: Sections that one pass of the model gives.
        name: Name of the model. `other`: whether the sections name it; else it is the recipe's.
        base, weights_revision, adapters, quantise, dtype: As in `model.load_model`; an embedder has a `dtype`.
        tokenizer, revision, chat_template: As in `model.load_tokenizer`.
    """

    sections: tuple[Represent, ...]
    name: str
    base: str = ""
    weights_revision: str | None = None
    adapters: tuple[str, ...] = ()
    tokenizer: str = ""
    revision: str | None = None
    chat_template: str | None = None
    quantise: str | None = None
    dtype: str = "fp32"
    other: bool = False


class Part(NamedTuple):
    """Rows, and the file that they are in."""

    rows: Rows
    file: Path


@dataclass(frozen=True)
class EmbedJob:
    """Rows to embed together, as a job small enough to send to another process."""

    making: Making
    file: str
    caches: tuple[str, ...]
    chunk: Chunk


def elsewhere(
    run: Run, making: Making, places: list[dict[str, Any]]
) -> Callable[[Part, Sequence[Path]], Elsewhere] | None:
    """A function by which the engine's workers embed the rows of a part, which adds to `places` where each chunk was
    embedded; null if this process embeds.
    """
    from curator.engine import device_of, spread

    execute = spread(run.recipe.engine, folder=run.root)
    if execute is None:
        return None

    def elsewhere_of(part: Part, caches: Sequence[Path]) -> Elsewhere:
        from curator.represent.chunks import Elsewhere

        def embedded(chunks: Sequence[Chunk]) -> Iterator[int]:
            paths = tuple(str(cache.absolute()) for cache in caches)
            jobs = [EmbedJob(making, str(part.file), paths, chunk) for chunk in chunks]
            for rows, where in execute(embed_chunk, jobs):
                places.append(where)
                yield rows

        return Elsewhere(*_measures(making, device_of(run.recipe.engine)), embedded)

    return elsewhere_of


def _measures(making: Making, where: str) -> tuple[int, int | None]:
    """Total width of a row's vectors over the sections, and `Encoder.rows` on workers with this device; no weights are
    loaded if a configuration gives them.
    """
    first = making.sections[0]
    if first.kind == "sentence-transformers":
        made = encoder(making)
        return sum(made.widths), None if where == "cuda" else made.rows
    import torch
    from transformers import AutoModelForCausalLM

    from curator.model.load import load_config
    from curator.represent.encoder import stored_together
    from curator.represent.hidden import body_of

    config = load_config(making.base, revision=making.weights_revision)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    if first.kind == "gradients":
        return sum(section.dimensions for section in making.sections), stored_together(model, where)
    width = len(making.sections) * int(config.get_text_config().hidden_size)
    return width, stored_together(body_of(model), where)


def embed_chunk(job: EmbedJob) -> tuple[int, dict[str, Any]]:
    """Embeds the rows of one chunk into the caches; returns their number, and where they were embedded.

    Raises:
        ModelError: See `chunks.embed`.
        RunError: This node cannot see a cache.
    """
    from curator.represent.chunks import embed

    clock = time.perf_counter()
    caches = [Path(cache) for cache in job.caches]
    for cache in caches:
        if not cache.is_dir():
            raise RunError(
                f"engine.cache: node {socket.gethostname()} cannot see {cache}; name a folder on a disk that all nodes "
                "share, or set engine.cache to false"
            )
    embed(job.chunk, _rows(job.file), caches, _loaded(job.making), progress=lambda done: None)
    return len(job.chunk.positions), {**place(), **computed_with(), "seconds": round(time.perf_counter() - clock, 3)}


# A worker runs all jobs. It keeps one model and one file of rows: jobs come file by file, and two models may not fit
# into its memory.
@lru_cache(maxsize=1)
def _loaded(making: Making) -> Encoder:
    return encoder(making)


@lru_cache(maxsize=1)
def _rows(file: str) -> Rows:
    from curator.records import Conversations
    from curator.represent.chunks import in_memory
    from curator.run.files import load_frame

    frame = load_frame(Path(file))
    return in_memory(frame["id"].to_list(), Conversations(frame))


def encoder(making: Making) -> Encoder:
    """The loaded encoder.

    Raises:
        ModelError: See `represent.encoder_of`.
    """
    from curator.model.load import check_tokens, load_model
    from curator.represent.vectors import encoder_of

    if making.sections[0].kind == "sentence-transformers":
        note_dtype(TORCH[making.dtype])
        return encoder_of(making.sections, name=making.name, dtype=making.dtype)
    key, tokenizer = "represent.id" if making.other else "model.id", tokenizer_of(making)
    model = load_model(
        making.base,
        revision=making.weights_revision,
        adapters=making.adapters,
        dtype=making.dtype,
        quantise=making.quantise,
        key=key,
    )
    check_tokens(tokenizer, model.config, key=key)
    note_dtype(model)
    return encoder_of(making.sections, model=model, tokenizer=tokenizer, name=making.name)


def tokenizer_of(making: Making) -> Any:
    """The tokenizer, with its chat template.

    Raises:
        ModelError, RecipeError: See `model.load_tokenizer`; messages name the recipe's key of the model.
    """
    from curator.errors import RecipeError
    from curator.model.load import load_tokenizer

    if not making.other:
        return load_tokenizer(making.tokenizer, revision=making.revision, chat_template=making.chat_template)
    try:
        return load_tokenizer(
            making.tokenizer, revision=making.revision, chat_template=making.chat_template, key="represent.id"
        )
    except RecipeError as error:
        raise RecipeError(str(error).replace("model.chat_template:", "represent.chat_template:")) from error
