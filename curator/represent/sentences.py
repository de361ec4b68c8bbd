"""Sentence embeddings; the only file that knows sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curator.errors import ModelError, first_line
from curator.model.load import batches, device, locate, memory
from curator.represent.encoder import LARGEST_BATCH, Encoded, Encoder, Texts, budget, unit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def load_embedder(model_id: str, revision: str | None = None) -> Any:
    """The embedder, on the device.

    Raises:
        ModelError: It cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(locate(model_id, key="represent.id"), revision=revision, device=device())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"represent.id: no sentence embedder could be loaded from {model_id!r} ({first_line(error)}); "
            "give a local folder, or a model on the Hub that you may read"
        ) from error


def commit_of(embedder: SentenceTransformer) -> str | None:
    """The commit on the Hub that an embedder was loaded from, where it says so."""
    commit = getattr(getattr(getattr(embedder[0], "model", None), "config", None), "_commit_hash", None)
    return None if commit is None else str(commit)


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

    def encode(texts: Texts, numbers: Sequence[int], progress: Callable[[int], None]) -> list[Encoded]:
        embedder.max_seq_length = limit
        plain = ["\n\n".join(message["content"] for message in messages) for messages in texts.rows]
        lengths, over, features = _tokenised(embedder, plain, limit)
        matrix, done = np.zeros((len(plain), width), dtype=np.float32), 0
        for batch in batches(lengths, texts.ids, tokens=most, rows=LARGEST_BATCH):
            with memory("represent.batch_tokens"):
                if features is None:
                    batch_texts = [plain[i] for i in batch]
                    matrix[batch] = embedder.encode(batch_texts, batch_size=len(batch), show_progress_bar=False)
                else:
                    matrix[batch] = _forward(
                        embedder, {name: [values[i] for i in batch] for name, values in features.items()}
                    )
            done += len(batch)
            progress(done)
        return [Encoded(unit(matrix), over)] * len(numbers)

    return Encoder((width,), encode)


def _tokenised(
    embedder: SentenceTransformer, texts: list[str], limit: int
) -> tuple[list[int], NDArray[np.bool_], dict[str, list[list[int]]] | None]:
    """Length of every text as the model sees it, whether it was cut, and its tokens; null where the embedder does more
    to a text than to tokenise it.
    """
    if not texts:
        return [], np.zeros(0, dtype=np.bool_), {}
    if not _is_plain(embedder):
        whole = [len(tokens) for tokens in embedder.tokenizer(texts, truncation=False)["input_ids"]]
        return [min(length, limit) for length in whole], np.array([length > limit for length in whole]), None
    tokenised = embedder.tokenizer(texts, truncation=True, max_length=limit)
    over = np.array([bool(encoding.overflowing) for encoding in tokenised.encodings])
    return [len(tokens) for tokens in tokenised["input_ids"]], over, dict(tokenised)


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
        output = embedder({name: tensor.to(embedder.device) for name, tensor in padded.items()})
        return output["sentence_embedding"].float().cpu().numpy()
