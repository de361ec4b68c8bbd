"""What every representation is once it is made ready: a function from conversations to vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curator.records import Messages

Matrix = NDArray[np.float32]
Progress = Callable[[int, int], None]


class Encoded(NamedTuple):
    """Vectors of `b` rows at one place.

    Attributes:
        matrix: `(b, d)` float32 unit rows.
        cut: `(b,)` bool, which rows were longer than the limit and lost a part.
    """

    matrix: Matrix
    cut: NDArray[np.bool_]


class Piece(NamedTuple):
    """Some rows at a time: ids and conversations that end with an answer, of the same length."""

    ids: Sequence[str]
    rows: Sequence[Messages]


@dataclass(frozen=True)
class Encoder:
    """A representation made ready, of one place or of several that one pass of the model gives together.

    Attributes:
        widths: Numbers in a vector, by place.
        encode: Takes a piece, the numbers of the places that are wanted, and whom to tell how many rows are done; gives
            what each of these places has, in that order. What it gives for a row depends on the other rows of the piece
            in the last bits only (see `filling`).
    """

    widths: tuple[int, ...]
    encode: Callable[[Piece, Sequence[int], Callable[[int], None]], list[Encoded]]
