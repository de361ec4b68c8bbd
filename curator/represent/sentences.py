"""Sentence embeddings; the only file that knows sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curator.errors import ModelError
from curator.model.load import batches, device, memory
from curator.recipe.pool import Embedder
from curator.recipe.select import Represent
from curator.represent.encoder import LARGEST_BATCH, Encoded, Encoder, Piece, budget, unit
from curator.represent.stage import sentence_maker

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from curator.records import CountTokens, Embed, Messages


def load_embedder(model_id: str, revision: str | None = None) -> Any:
    """The embedder, on the device.

    Raises:
        ModelError: It cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(model_id, revision=revision, device=device())
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"represent.id: no sentence embedder could be loaded from {model_id!r} ({reason[:200]}); "
            "give a local folder, or a model on the Hub that you may read"
        ) from error


def commit_of(embedder: SentenceTransformer) -> str | None:
    """The commit on the Hub that an embedder was loaded from, where it says so."""
    found = getattr(getattr(getattr(embedder[0], "model", None), "config", None), "_commit_hash", None)
    return None if found is None else str(found)


def sentences(embedder: SentenceTransformer, *, max_tokens: int, batch_tokens: int) -> Encoder:
    """Unit vectors of each conversation's text, its turns joined by blank lines.

    Rows of more tokens than the embedder (or `max_tokens`) takes are cut by it, and counted: sentence-transformers
    itself does so in silence. Texts are tokenised once, for their lengths and for the model, where the embedder is a
    plain transformer that puts no prompt of its own in front.

    Raises:
        ModelError: When it is called, memory runs out.
    """
    limit = min(max_tokens, embedder.max_seq_length or max_tokens)
    most = budget(batch_tokens, embedder.device.type)
    width = embedder.get_embedding_dimension() or 0

    def encode(piece: Piece, wanted: Sequence[int], progress: Callable[[int], None]) -> list[Encoded]:
        embedder.max_seq_length = limit
        texts = ["\n\n".join(message["content"] for message in messages) for messages in piece.rows]
        lengths, over, features = _tokenised(embedder, texts, limit)
        out, done = np.zeros((len(texts), width), dtype=np.float32), 0
        for batch in batches(lengths, piece.ids, tokens=most, rows=LARGEST_BATCH):
            with memory("represent.batch_tokens"):
                if features is None:
                    own = [texts[i] for i in batch]
                    out[batch] = embedder.encode(own, batch_size=len(batch), show_progress_bar=False)
                else:
                    out[batch] = _forward(embedder, {name: [one[i] for i in batch] for name, one in features.items()})
            done += len(batch)
            progress(done)
        return [Encoded(unit(out), over)] * len(wanted)

    return Encoder((width,), encode)


def _tokenised(
    embedder: SentenceTransformer, texts: list[str], limit: int
) -> tuple[list[int], NDArray[np.bool_], dict[str, list[list[int]]] | None]:
    """Length of every text as the model sees it, whether it was cut, and its tokens; none where the embedder does more
    to a text than to tokenise it.
    """
    if not texts:
        return [], np.zeros(0, dtype=np.bool_), {}
    if not _is_plain(embedder):
        whole = [len(tokens) for tokens in embedder.tokenizer(texts, truncation=False)["input_ids"]]
        return [min(length, limit) for length in whole], np.array([length > limit for length in whole]), None
    found = embedder.tokenizer(texts, truncation=True, max_length=limit)
    over = np.array([bool(one.overflowing) for one in found.encodings])
    return [len(one) for one in found["input_ids"]], over, dict(found)


def _is_plain(embedder: SentenceTransformer) -> bool:
    from sentence_transformers.models import Transformer

    return (
        type(embedder[0]) is Transformer
        and embedder.default_prompt_name is None
        and embedder.truncate_dim is None
        and getattr(embedder.tokenizer, "is_fast", False)
    )


def _forward(embedder: SentenceTransformer, features: dict[str, list[list[int]]]) -> Any:
    import torch

    padded = embedder.tokenizer.pad(features, return_tensors="pt")
    with torch.inference_mode():
        found = embedder({name: one.to(embedder.device) for name, one in padded.items()})
        return found["sentence_embedding"].float().cpu().numpy()


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
