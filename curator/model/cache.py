"""A cache of keys and values for a changing batch of rows that a model is answering.

Letters: `b` rows, `h` heads, `t` columns, `d` width of a head.
"""

from __future__ import annotations

import torch
from transformers.cache_utils import CacheLayerMixin

SPARE = 64  # spare columns, so that a layer is copied only once in this many steps


class Columns(CacheLayerMixin):  # type: ignore[misc]  # transformers has no types here
    """Keys and values of one layer, in a buffer that is written in place.

    The rows in use are the first ones. All of them end at the same column and may begin at different ones: the
    attention mask hides what comes before a row. Layers with a sliding window are kept whole too, since their mask has
    the window.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.start = self.end = 0  # number of columns in use

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Sets up an empty buffer for the shapes and dtype of these `(b, h, t, d)`."""
        self.keys, self.values = (
            states.new_zeros(0, states.shape[1], 0, states.shape[3]) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: object, **_settings: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes columns `(b, h, t, d)` of all rows after the last one; returns the columns in use."""
        rows, columns = key_states.shape[0], key_states.shape[2]
        if self.end + columns > self.keys.shape[2]:
            self._copy(rows, len(self.keys), columns)
        self._write(key_states, value_states, 0, self.end)
        self.end += columns
        return self.keys[:rows, :, self.start : self.end], self.values[:rows, :, self.start : self.end]

    def join(self, key_states: torch.Tensor, value_states: torch.Tensor, *, rows: int, room: int) -> None:
        """Puts new rows, not longer than the existing ones, after the first `rows`; `room` is the largest number of
        rows.
        """
        columns = key_states.shape[2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if rows == 0:
            self.start = self.end = 0
        missing = max(0, columns - (self.end - self.start))  # all of them if there is no row yet
        if self.end + missing > self.keys.shape[2] or rows + len(key_states) > len(self.keys):
            self._copy(rows, room, missing)
        self.end += missing
        self._write(key_states, value_states, rows, self.end - columns)

    def leave(self, rows: torch.Tensor, to: torch.Tensor, columns: int) -> None:
        """Copies rows into freed places, and keeps only the last `columns` columns."""
        self.start = self.end - columns
        for held in (self.keys, self.values):
            held[to, :, self.start : self.end] = held[rows, :, self.start : self.end]

    def _write(self, key_states: torch.Tensor, value_states: torch.Tensor, row: int, column: int) -> None:
        rows, columns = slice(row, row + len(key_states)), slice(column, column + key_states.shape[2])
        self.keys[rows, :, columns] = key_states
        self.values[rows, :, columns] = value_states

    def _copy(self, rows: int, room: int, columns: int) -> None:
        """Copies into new buffers with `columns` more columns, and some to spare. They start as zeros: even masked
        entries must be finite.
        """
        width = self.end - self.start
        shape = room, self.keys.shape[1], width + columns + SPARE
        # One after the other, so that only one of the two is held twice at any time.
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
        """Number of columns that the next step sees, and the position of the first of them."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """None, which transformers writes as -1."""
        return -1
