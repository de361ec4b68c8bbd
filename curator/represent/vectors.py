"""Rows to unit vectors: hidden states or gradients of a causal model, or a sentence embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curator.recipe.select import Represent
from curator.records import Messages, Vectors
from curator.represent.encoder import Encoder, Progress, centre, mean_of, unit
from curator.represent.filling import encoded, in_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["centre", "encoder_of", "mean_of", "represent", "represent_all", "unit"]


def represent(
    ids: Sequence[str],
    rows: Sequence[Messages],
    *,
    section: Represent,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    name: str,
    revision: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Vectors:
    """One unit vector a row, as the recipe's `represent` section says, not centred. See `represent_all`."""
    found = represent_all(
        ids, rows, sections=[section], model=model, tokenizer=tokenizer, name=name, revision=revision, progress=progress
    )
    return found[0]


def represent_all(
    ids: Sequence[str],
    rows: Sequence[Messages],
    *,
    sections: Sequence[Represent],
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    name: str,
    revision: str | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Vectors]:
    """The vectors of each section, in memory and not centred, from one pass over the rows.

    Args:
        ids, rows: `n` row ids and conversations that end with an answer.
        sections: What to take, of sections that `alike` puts together; `model` and `tokenizer` are used for hidden
            states, `section.id` for an embedder.
        name, revision: What the vectors are said to come from, for hidden states.
        progress: Told rows done and rows in all.

    Raises:
        ModelError: The embedder cannot be loaded, a layer does not exist, or memory runs out.
    """
    encoder = encoder_of(sections, model=model, tokenizer=tokenizer, name=name)
    found = encoded(in_memory(ids, rows), encoder, progress=progress)
    return [
        vectors_said(ids, one.matrix, section, name=name, revision=revision, truncated=int(one.cut.sum()))
        for section, one in zip(sections, found, strict=True)
    ]


def vectors_said(
    ids: Sequence[str], matrix: Any, section: Represent, *, name: str, revision: str | None, truncated: int
) -> Vectors:
    """Vectors with what made them; `name` and `revision` are those of the model, for hidden states."""
    if section.kind == "sentence-transformers":
        assert section.id is not None
        return Vectors(tuple(ids), matrix, section.id, section.revision, truncated=truncated)
    if section.kind == "gradients":
        return Vectors(tuple(ids), matrix, name, revision, truncated=truncated)
    return Vectors(tuple(ids), matrix, name, revision, section.layer, section.token, truncated)


def alike(sections: Sequence[Represent]) -> list[list[int]]:
    """The numbers of the sections that one pass of one model gives together, in the order of their first."""
    groups: dict[Any, list[int]] = {}
    for number, one in enumerate(sections):
        own = (one.id, one.revision, one.chat_template, one.max_tokens, one.batch_tokens)
        same = own if one.kind == "hidden-states" else number
        groups.setdefault(same, []).append(number)
    return list(groups.values())


def encoder_of(
    sections: Sequence[Represent],
    *,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    name: str,
) -> Encoder:
    """The representation of sections that `alike` puts together, made ready. Raises as `represent_all`."""
    first = sections[0]
    settings = {"max_tokens": first.max_tokens, "batch_tokens": first.batch_tokens}
    if first.kind == "sentence-transformers":
        from curator.represent.sentences import load_embedder, sentences

        assert first.id is not None
        return sentences(model or load_embedder(first.id, first.revision), **settings)
    if first.kind == "gradients":
        from curator.represent.gradients import gradients

        own = {"of": first.of, "rank": first.rank, "dimensions": first.dimensions, "seed": first.seed}
        return gradients(model, tokenizer, **own, **settings)  # type: ignore[arg-type]
    from curator.represent.hidden import hidden_states

    places = [(one.layer, one.token) for one in sections]
    return hidden_states(model, tokenizer, places=places, name=name, **settings)
