"""Rows to unit vectors in memory: hidden states or gradients of a causal model, or a sentence embedder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.model.dtype import TORCH
from curator.provenance import keep_freed
from curator.recipe.pool import Embedder
from curator.recipe.represent import Represent
from curator.records import Messages, Vectors
from curator.represent.cache import folder_of, gathered
from curator.represent.chunks import encoded, fill, in_memory
from curator.represent.encoder import Encoded, Encoder, Progress, centre, mean_of
from curator.run.ran import note_dtype

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from curator.records import CountTokens, Embed


def _silent(done: int, total: int) -> None:
    pass


def represent(
    ids: Sequence[str],
    rows: Sequence[Messages],
    *,
    section: Represent,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    name: str,
    revision: str | None = None,
    progress: Progress = _silent,
) -> Vectors:
    """One unit vector per row, by the recipe's `represent` section, not centred. See `represent_all`."""
    return represent_all(
        ids, rows, sections=[section], model=model, tokenizer=tokenizer, name=name, revision=revision, progress=progress
    )[0]


def represent_all(
    ids: Sequence[str],
    rows: Sequence[Messages],
    *,
    sections: Sequence[Represent],
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    name: str,
    revision: str | None = None,
    progress: Progress = _silent,
) -> list[Vectors]:
    """The vectors of each section, in memory and not centred, from one pass over the rows.

    Args:
        ids, rows: `n` row ids and conversations that end with an answer.
        sections: Sections that `alike` groups together; `model` and `tokenizer` are used for hidden states and
            gradients, `section.id` for an embedder.
        name, revision: Recorded origin of the vectors, for hidden states and gradients.
        progress: Called with the rows done and their total.

    Raises:
        ModelError: The embedder cannot be loaded, a layer does not exist, or memory runs out.
    """
    encoder = encoder_of(sections, model=model, tokenizer=tokenizer, name=name)
    vectors = encoded(in_memory(ids, rows), encoder, progress=progress)
    return [
        with_origin(ids, matrix, section, name=name, revision=revision, truncated=int(cut.sum()))
        for section, (matrix, cut) in zip(sections, vectors, strict=True)
    ]


def with_origin(
    ids: Sequence[str], matrix: Any, section: Represent, *, name: str, revision: str | None, truncated: int
) -> Vectors:
    """Vectors with their origin; `name` and `revision` are those of the model, for hidden states and gradients."""
    if section.kind == "sentence-transformers":
        assert section.id is not None
        return Vectors(tuple(ids), matrix, section.id, section.revision, truncated=truncated)
    if section.kind == "gradients":
        return Vectors(tuple(ids), matrix, name, revision, truncated=truncated)
    return Vectors(tuple(ids), matrix, name, revision, section.layer, section.place, truncated)


def alike(sections: Sequence[Represent]) -> list[list[int]]:
    """Groups of the numbers of sections that one pass of one model gives together, in the order of their first."""
    groups: dict[Any, list[int]] = {}
    for number, section in enumerate(sections):
        model = (section.id, section.revision, section.chat_template, section.max_tokens, section.batch_tokens)
        groups.setdefault(model if section.kind == "hidden-states" else number, []).append(number)
    return list(groups.values())


def encoder_of(
    sections: Sequence[Represent],
    *,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    name: str,
    dtype: str = "fp32",
) -> Encoder:
    """The encoder of sections that `alike` groups together.

    `dtype` is that of an embedder which is loaded here; a `model` keeps its own.

    Raises:
        ModelError: See `represent_all`.
    """
    keep_freed()
    first = sections[0]
    limits = {"max_tokens": first.max_tokens, "batch_tokens": first.batch_tokens}
    if first.kind == "sentence-transformers":
        from curator.represent.sentences import load_embedder, sentences

        assert first.id is not None
        return sentences(model or load_embedder(first.id, first.revision, dtype), side=first.side, **limits)
    if first.kind == "gradients":
        from curator.represent.gradients import gradients

        settings = {"of": first.of, "rank": first.rank, "dimensions": first.dimensions, "seed": first.seed}
        return gradients(model, tokenizer, **settings, **limits)  # type: ignore[arg-type]
    from curator.represent.hidden import Point, hidden_states

    points = [Point(section.layer, section.token, section.first) for section in sections]
    return hidden_states(model, tokenizer, points=points, name=name, **limits)


@dataclass(frozen=True)
class SentenceEmbedder:
    """A function from ids and conversations to `(n, d)` unit vectors.

    Attributes:
        encode: The same with which rows it read only in part; the embedder is loaded when it is called.
    """

    encode: Callable[[Sequence[str], Sequence[Messages]], Encoded]

    def __call__(self, ids: Sequence[str], rows: Sequence[Messages]) -> NDArray[np.float32]:
        return self.encode(ids, rows).matrix


def embedder(
    section: Embedder,
    cache: Path | None = None,
    *,
    dtype: str = "fp32",
    progress: Progress = _silent,
    at_once: bool = False,
    key: str = "pool.embedder.id",
    advice: str | None = None,
) -> SentenceEmbedder:
    """A function from ids and conversations to `(n, d)` unit vectors; the embedder is loaded when it is called.

    Args:
        section: The recipe's.
        cache: Folder of the vectors that runs share; vectors in it are not computed again.
        dtype: `fp32`, `bf16` or `auto`, as in `sentences.embedder_dtype`.
        progress: Called with the rows done and the total of a call.
        at_once: Whether it is found out now that the embedder is there.
        key: The recipe key or option that messages name. `advice`: what they advise, if not the usual.

    Raises:
        ModelError: The embedder cannot be loaded; raised now with `at_once`, else by the returned function.
    """
    from curator.represent.stage import sentence_maker

    settings = Represent(kind="sentence-transformers", id=section.id, revision=section.revision, centre=False)
    wording = {"key": key} if advice is None else {"key": key, "advice": advice}
    load = once(lambda: sentence_maker(settings, dtype=dtype, cache=cache, wording=wording))
    if at_once:
        load()

    def encode(ids: Sequence[str], rows: Sequence[Messages]) -> Encoded:
        maker = load()
        note_dtype(TORCH[maker.dtype.dtype])  # where the vectors are used: it may have been made long before
        if cache is None or maker.abouts is None:
            return encoded(in_memory(ids, rows), maker.ready(), progress=progress)[0]
        folder = folder_of(cache, maker.abouts[0])
        return gathered(folder, fill([folder], in_memory(ids, rows), maker.ready, progress=progress).keys)

    return SentenceEmbedder(encode)


def state_embedder(model_id: str, *, centred: bool = True, progress: Progress = _silent) -> tuple[Embed, CountTokens]:
    """Like `embedder`, with the last layer of a causal model, centred on the first rows that it gets (the corpus)
    unless `centred` is false; and a function that counts its tokens. The model is loaded when they are called.

    Raises:
        ModelError: The returned functions raise it if the model cannot be loaded.
    """

    @once
    def load() -> tuple[Any, Any]:
        from curator.model.dtype import chosen
        from curator.model.load import check_tokens, device, load_model, load_tokenizer, locate

        dtype = chosen("auto", model_id, where=device()).dtype
        model, tokenizer = load_model(locate(model_id), dtype=dtype), load_tokenizer(locate(model_id))
        check_tokens(tokenizer, model.config)
        note_dtype(model)
        return model, tokenizer

    mean: list[Any] = []  # mean of the first rows; later ones are centred on it too, so that all are in one space

    def embed(ids: Sequence[str], rows: Sequence[Messages]) -> Any:
        model, tokenizer = load()
        vectors = represent(
            ids, rows, section=Represent(), model=model, tokenizer=tokenizer, name=model_id, progress=progress
        )
        if not centred:
            return vectors.matrix
        if not mean:
            mean.append(mean_of(vectors))
        return centre(vectors, mean[0]).matrix

    def count(rows: Any) -> list[int | None]:
        from curator.model.chat import token_counter

        return token_counter(load()[1])(rows)

    return embed, count
