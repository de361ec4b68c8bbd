"""Rows to unit vectors: hidden states of the target model, or a sentence embedder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curator.recipe_select import Represent
from curator.records import Messages, Vectors

Progress = Callable[[int, int], None]


def represent(
    ids: Sequence[str],
    rows: Sequence[Messages],
    *,
    section: Represent,
    model: Any = None,
    tokenizer: Any = None,
    name: str,
    revision: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Vectors:
    """One unit vector a row, as the recipe's `represent` section says, not centred.

    Args:
        ids, rows: `n` row ids and conversations that end with an answer.
        section: What to take; `model` and `tokenizer` are used for hidden states, `section.id` for an embedder.
        name, revision: What the vectors are said to come from, for hidden states.
        progress: Told rows done and rows in all.

    Raises:
        ModelError: The embedder cannot be loaded, the layer does not exist, or memory runs out.
    """
    if section.kind == "sentence-transformers":
        from curator.represent.sentences import embed

        return embed(ids, rows, section=section, progress=progress)
    from curator.represent.hidden import hidden_states

    return hidden_states(
        ids, rows, model=model, tokenizer=tokenizer, section=section, name=name, revision=revision, progress=progress
    )


def mean_of(vectors: Vectors) -> NDArray[np.float32]:
    """The mean row, `(d,)`."""
    return np.asarray(vectors.matrix.mean(axis=0, dtype=np.float64), dtype=np.float32)


def centre(vectors: Vectors, mean: NDArray[np.float32]) -> Vectors:
    """The vectors less `mean`, brought back to unit length; a row equal to the mean stays zero.

    The last layer of a language model is anisotropic: all cosines lie in a narrow band until the common part is taken
    away (Ethayarajh 2019, arXiv 1909.00512).
    """
    return replace(vectors, matrix=unit(np.asarray(vectors.matrix) - mean))


def unit(matrix: NDArray[Any]) -> NDArray[np.float32]:
    """Rows scaled to length 1, float32; rows shorter than 1e-6 become zero, since their direction is rounding."""
    wide = np.asarray(matrix, dtype=np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.where(length > 1e-6, wide / np.maximum(length, 1e-6), 0.0).astype(np.float32)
