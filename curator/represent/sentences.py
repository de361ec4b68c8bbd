"""Sentence embeddings; the only file that knows sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from curator.errors import ModelError
from curator.model import batches, device, memory
from curator.recipe_select import Represent
from curator.records import Messages, Vectors
from curator.represent import unit

LARGEST_BATCH = 256


def embed(
    ids: Sequence[str],
    rows: Sequence[Messages],
    *,
    section: Represent,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Vectors:
    """Unit vectors `(n, d)` float32 of each conversation's text, its turns joined by blank lines.

    Rows of more tokens than the embedder (or `section.max_tokens`) takes are cut by it, and counted: sentence-
    transformers itself does so in silence.

    Raises:
        ModelError: The embedder cannot be loaded, or memory runs out.
    """
    from sentence_transformers import SentenceTransformer

    assert section.id is not None
    try:
        embedder = SentenceTransformer(section.id, revision=section.revision, device=device())
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"represent.id: no sentence embedder could be loaded from {section.id!r} ({reason[:200]}); "
            "give a local folder, or a model on the Hub that you may read"
        ) from error
    limit = min(section.max_tokens, embedder.max_seq_length or section.max_tokens)
    embedder.max_seq_length = limit
    texts = ["\n\n".join(message["content"] for message in messages) for messages in rows]
    lengths = [len(tokens) for tokens in embedder.tokenizer(texts, truncation=False)["input_ids"]] if texts else []
    out = np.zeros((len(texts), embedder.get_embedding_dimension() or 0), dtype=np.float32)
    done = 0
    cut = [min(length, limit) for length in lengths]
    for batch in batches(cut, ids, tokens=section.batch_tokens, rows=LARGEST_BATCH):
        with memory("represent.batch_tokens"):
            found = embedder.encode([texts[i] for i in batch], batch_size=len(batch), show_progress_bar=False)
        out[batch] = found
        done += len(batch)
        progress(done, len(texts))
    return Vectors(tuple(ids), unit(out), section.id, section.revision, truncated=sum(n > limit for n in lengths))
