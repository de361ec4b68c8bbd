from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.model.batches import batches, mixed, pad, positions


@given(st.data())
def test_batches_hold_every_row_once_within_the_limits_whatever_the_order(data):
    lengths = data.draw(st.lists(st.integers(1, 40), max_size=40))
    tokens, most = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 9))
    ids = [f"id-{i:02}" for i in range(len(lengths))]
    found = batches(lengths, ids, tokens=tokens, rows=most)
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) <= most
        assert len(batch) * max(lengths[i] for i in batch) <= tokens or len(batch) == 1
    widths = [lengths[i] for batch in found for i in batch]
    assert widths == sorted(widths, reverse=True)
    order = data.draw(st.permutations(range(len(lengths))))
    again = batches([lengths[i] for i in order], [ids[i] for i in order], tokens=tokens, rows=most)
    assert [[order[i] for i in batch] for batch in again] == found
    assert mixed(found)[:1] == found[:1]
    assert sorted(mixed(found)) == sorted(found)


def test_time_left_is_about_right_from_the_first_tenth_of_mixed_batches():
    # Lengths like those of real rows: most are short. Sorted, the first tenth of the batches takes twice as long a row.
    lengths = [20 + (i * 7919 % 360) ** 2 // 360 for i in range(4000)]
    in_order = batches(lengths, [f"{i:04}" for i in range(4000)], tokens=2048, rows=32)

    def told(groups: list[list[int]]) -> float:
        """Time of all rows as told from the first tenth of the batches, over the time that they take by tokens."""
        tokens, rows = ([sum(lengths[i] for i in group) for group in groups], [len(group) for group in groups])
        tenth = len(groups) // 10
        return sum(tokens[:tenth]) / sum(rows[:tenth]) * sum(rows) / sum(tokens)

    assert told(in_order) > 2
    assert 0.8 < told(mixed(in_order)) < 1.25


@pytest.mark.parametrize(
    ("side", "ids", "mask", "places"),
    [
        ("left", [[7, 8, 9], [0, 0, 5]], [[1, 1, 1], [0, 0, 1]], [[0, 1, 2], [0, 0, 0]]),
        ("right", [[7, 8, 9], [5, 0, 0]], [[1, 1, 1], [1, 0, 0]], [[0, 1, 2], [0, 0, 0]]),
    ],
)
def test_padding_fills_one_side_and_positions_count_from_the_first_real_token(side, ids, mask, places):
    found, kept = pad([(7, 8, 9), (5,)], 0, side=side)
    assert (found.tolist(), kept.tolist(), positions(kept).tolist()) == (ids, mask, places)
