"""Keys and values of rows that come and go: what a model remembers of the rows that it is answering.

Letters: `b` rows, `h` heads, `t` columns, `d` width of a head.
"""

from __future__ import annotations

import torch
from transformers.cache_utils import CacheLayerMixin

SPARE = 64  # columns more than needed, so that a layer is copied once in so many steps and not at each


class Columns(CacheLayerMixin):  # type: ignore[misc]  # transformers has no types here
    """Keys and values of one layer, in a buffer that is written in place.

    The rows in use are its first ones. All of them end at the same column and begin where they do: what stands before
    a row is hidden by the attention mask. A layer that sees a window is kept whole too, since its mask has the window.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.start = self.end = 0  # of the columns in use

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """No buffer yet, of the shapes and the kind of these `(b, h, t, d)`."""
        self.keys, self.values = (
            states.new_zeros(0, states.shape[1], 0, states.shape[3]) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: object, **_settings: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes columns `(b, h, t, d)` of all rows behind the last one; returns the columns in use."""
        rows, columns = key_states.shape[0], key_states.shape[2]
        if self.end + columns > self.keys.shape[2]:
            self._copy(rows, len(self.keys), columns)
        self._write(key_states, value_states, 0, self.end)
        self.end += columns
        return self.keys[:rows, :, self.start : self.end], self.values[:rows, :, self.start : self.end]

    def join(self, key_states: torch.Tensor, value_states: torch.Tensor, *, rows: int, room: int) -> None:
        """Puts new rows, no longer than those of before, behind the first `rows`; `room` is the most there will be."""
        columns = key_states.shape[2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if rows == 0:
            self.start = self.end = 0
        missing = max(0, columns - (self.end - self.start))  # all of them, where there is no row yet
        if self.end + missing > self.keys.shape[2] or rows + len(key_states) > len(self.keys):
            self._copy(rows, room, missing)
        self.end += missing
        self._write(key_states, value_states, rows, self.end - columns)

    def leave(self, rows: torch.Tensor, to: torch.Tensor, columns: int) -> None:
        """Copies rows to where others have left; of the columns only so many last ones are needed from now on."""
        self.start = self.end - columns
        for held in (self.keys, self.values):
            held[to, :, self.start : self.end] = held[rows, :, self.start : self.end]

    def _write(self, key_states: torch.Tensor, value_states: torch.Tensor, row: int, column: int) -> None:
        rows, columns = slice(row, row + len(key_states)), slice(column, column + key_states.shape[2])
        self.keys[rows, :, columns] = key_states
        self.values[rows, :, columns] = value_states

    def _copy(self, rows: int, room: int, columns: int) -> None:
        """Into new buffers with `columns` more, and some to spare. They start as zeros: even what a mask hides must be
        a number.
        """
        width = self.end - self.start
        shape = room, self.keys.shape[1], width + columns + SPARE
        # One after the other, so that only one of the two is ever held twice.
        keys = self.keys.new_zeros(*shape, self.keys.shape[3])
        keys[:rows, :, :width] = self.keys[:rows, :, self.start : self.end]
        self.keys = keys
        values = self.values.new_zeros(*shape, self.values.shape[3])
        values[:rows, :, :width] = self.values[:rows, :, self.start : self.end]
        self.values = values
        self.start, self.end = 0, width

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self.end - self.start

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that the next step sees, and the number of the first of them."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """None, which transformers writes as -1."""
        return -1
