"""Embedders as functions from conversations to vectors, for duplicates, categories, probes and audits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.recipe.pool import Embedder
from curator.recipe.select import Represent
from curator.represent.stage import sentence_maker

if TYPE_CHECKING:
    from curator.records import CountTokens, Embed, Messages


def embedder(section: Embedder, cache: Path | None = None) -> Embed:
    """A function from ids and conversations to `(n, d)` unit vectors; the embedder is loaded when it is called.

    Args:
        section: The recipe's.
        cache: Folder of the vectors that runs share; what is there is not embedded again.

    Raises:
        ModelError: When called, where the embedder cannot be loaded.
    """
    wanted = Represent(kind="sentence-transformers", id=section.id, revision=section.revision, centre=False)
    maker = once(lambda: sentence_maker(wanted))

    def embed(ids: Sequence[str], rows: Sequence[Messages]) -> Any:
        from curator.represent.cache import folder_of, gathered
        from curator.represent.filling import encoded, fill, in_memory

        given = in_memory(ids, rows)
        made = maker()
        if cache is None or made.abouts is None:
            return encoded(given, made.ready())[0].matrix
        folder = folder_of(cache, made.abouts[0])
        return gathered(folder, fill([folder], given, made.ready).keys).matrix

    return embed


def hidden_states(model_id: str, *, centred: bool = True) -> tuple[Embed, CountTokens]:
    """As `embedder`, by the last layer of a causal model, centred on the first rows that it is asked for (the corpus)
    unless `centred` is false; and a function that counts its tokens. Loaded when called.

    Raises:
        ModelError: When called, where the model cannot be loaded.
    """
    loaded: dict[str, Any] = {}

    def ready() -> tuple[Any, Any]:
        from curator.model.load import load_model, load_tokenizer, locate

        if not loaded:
            loaded["tokenizer"] = load_tokenizer(locate(model_id))
            loaded["model"] = load_model(locate(model_id))
        return loaded["model"], loaded["tokenizer"]

    def embed(ids: Sequence[str], rows: Sequence[Messages]) -> Any:
        from curator.represent.vectors import centre, mean_of, represent

        model, tokenizer = ready()
        found = represent(ids, rows, section=Represent(), model=model, tokenizer=tokenizer, name=model_id)
        if not centred:
            return found.matrix
        loaded.setdefault("mean", mean_of(found))
        return centre(found, loaded["mean"]).matrix

    def count(rows: Any) -> list[int]:
        from curator.model.chat import token_counter

        counted: list[int] = token_counter(ready()[1])(rows)
        return counted

    return embed, count
