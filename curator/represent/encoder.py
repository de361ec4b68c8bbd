"""What every representation is once it is made ready: a function from conversations to unit vectors."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache as once
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curator.records import Messages, Vectors

LARGEST_BATCH = 256  # rows; beyond it a batch gains nothing and only its padding grows

CPU_TOKENS = 1024
"""Tokens of a batch on a CPU at most: larger ones fall out of its caches. The models of the benchmark of representation
took 1.45 times (128 wide) and 2.2 times (512) the CPU seconds with batches of 8,192. In bf16 batches of 512 and 1,024
tokens are equally fast, and larger ones slower too."""

_MMAP_THRESHOLD, _TRIM_THRESHOLD = (-3, 2**25), (-1, 2**27)
"""Settings of glibc's mallopt: their numbers in malloc.h, and bytes."""

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
    """The representations that one pass of a model gives together, made ready.

    Attributes:
        widths: Numbers in a vector, by representation.
        encode: Takes texts, the numbers of the representations that are needed, and a function that is called with how
            many rows are done; returns what each of these representations gives, in that order. What it gives for a
            row depends on the other rows in the last bits only (see `chunks.fill`).
    """

    widths: tuple[int, ...]
    encode: Callable[[Texts, Sequence[int], Callable[[int], None]], list[Encoded]]


def budget(batch_tokens: int, where: str) -> int:
    """Tokens of a batch on a device, `cpu` or another: as the recipe says, and no more than serves a CPU."""
    return min(batch_tokens, CPU_TOKENS) if where == "cpu" else batch_tokens


@once
def keep_memory() -> None:
    """Lets this process keep what a tensor freed for the next one, up to 128 MiB.

    glibc otherwise gives every result of a layer back to the system and asks for it again, page by page, which took 12%
    of the CPU time of a pass in bf16. Elsewhere than in glibc nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for name, size in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            mallopt(name, size)


def mean_of(vectors: Vectors) -> NDArray[np.float32]:
    """The mean row, `(d,)`, added up in float64."""
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
