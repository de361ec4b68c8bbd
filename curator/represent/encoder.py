"""The common form of all representations: a function from conversations to unit vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curator.records import Messages, Vectors

if TYPE_CHECKING:
    import torch

LARGEST_BATCH = 256  # rows; larger batches gain nothing and only grow in padding

CPU_WORK, CPU_ROWS = 2**37, 64
"""Most parameters times rows that a CPU embeds before they are stored, and the least rows: 1,018 rows with 135M
parameters, four minutes on two cores, are the most that an interrupted run loses."""

Matrix = NDArray[np.float32]

Progress = Callable[[int, int], None]


class Encoded(NamedTuple):
    """Vectors of `b` rows by one representation.

    Attributes:
        matrix: `(b, d)` float32 unit rows.
        cut: `(b,)` bool, which rows were longer than the limit and lost a part.
    """

    matrix: Matrix
    cut: NDArray[np.bool_]


class Texts(NamedTuple):
    """Conversations that end with an answer, and their ids."""

    ids: Sequence[str]
    rows: Sequence[Messages]


@dataclass(frozen=True)
class Encoder:
    """The representations that one pass of a model gives together.

    Attributes:
        widths: Width of the vectors, by representation.
        encode: Takes texts, the positions of the representations that are needed, and a function to call with the
            number of rows done; returns the vectors of each of these representations, in that order. A row's vector
            depends on the other rows only in its last bits (see `chunks.fill`).
        rows: Most rows to embed before they are stored; null for as many as `chunks` allows.
    """

    widths: tuple[int, ...]
    encode: Callable[[Texts, Sequence[int], Callable[[int], None]], list[Encoded]]
    rows: int | None = None


def stored_together(model: torch.nn.Module, where: str | None = None) -> int | None:
    """Rows that a model embeds before they are stored: on a CPU by CPU_WORK; null on a GPU.

    `where` is the device that it will run on, if it is not on it now.
    """
    weights = list(model.parameters())
    if (where or weights[0].device.type) != "cpu":
        return None
    return max(CPU_ROWS, CPU_WORK // sum(weight.numel() for weight in weights))


def mean_of(vectors: Vectors) -> NDArray[np.float32]:
    """The mean row, `(d,)`, summed in float64."""
    return np.asarray(vectors.matrix.mean(axis=0, dtype=np.float64), dtype=np.float32)


def centre(vectors: Vectors, mean: NDArray[np.float32]) -> Vectors:
    """The vectors minus `mean`, rescaled to unit length; a row equal to the mean stays zero.

    The last layer of a language model is anisotropic: all cosines lie in a narrow band until the common part is
    subtracted (Ethayarajh 2019, arXiv 1909.00512).
    """
    return replace(vectors, matrix=unit(np.asarray(vectors.matrix) - mean))


def unit(matrix: NDArray[Any]) -> NDArray[np.float32]:
    """Rows scaled to length 1, float32; rows shorter than 1e-6 become zero, since their direction is rounding."""
    wide = np.asarray(matrix, dtype=np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.where(length > 1e-6, wide / np.maximum(length, 1e-6), 0.0).astype(np.float32)
