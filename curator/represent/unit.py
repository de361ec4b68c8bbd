"""Unit rows, and the mean taken away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curator.records import Vectors


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
