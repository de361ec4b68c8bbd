from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curator.records import Vectors
from curator.represent.encoder import centre, mean_of, unit

matrices = arrays(
    np.float32,
    st.tuples(st.integers(1, 8), st.integers(2, 5)),
    elements=st.floats(-9, 9, width=32).map(lambda x: round(x, 3)),
)


def vectors(matrix):
    return Vectors(tuple(str(i) for i in range(len(matrix))), unit(matrix), "tiny", "abc", 2, "eos", 3)


@given(matrices)
def test_unit_rows_have_length_one_or_zero_and_keep_their_direction(matrix):
    rows = unit(matrix)
    assert rows.dtype == np.float32
    for row, found in zip(matrix.astype(np.float64), rows, strict=True):
        length = np.sqrt((row**2).sum())
        np.testing.assert_allclose(found, row / length if length > 1e-6 else 0 * row, atol=1e-6)


@given(matrices)
def test_centring_takes_the_mean_away_and_makes_rows_unit_again(matrix):
    given_rows = vectors(matrix)
    wide = given_rows.matrix.astype(np.float64)
    mean = sum(wide) / len(wide)
    np.testing.assert_allclose(mean_of(given_rows), mean, atol=1e-6)
    found = centre(given_rows, mean_of(given_rows)).matrix
    for row, one in zip(wide - mean, found, strict=True):
        length = np.linalg.norm(row)
        if length > 1e-3:
            np.testing.assert_allclose(one, row / length, atol=1e-3)
        assert np.isclose(np.linalg.norm(one), 1, atol=1e-5) or not one.any()


def test_a_row_equal_to_the_mean_stays_zero():
    rows = vectors(np.array([[1, 0], [1, 0], [1, 0]], dtype=np.float32))
    assert not centre(rows, mean_of(rows)).matrix.any()


def test_a_zero_row_stays_zero_when_it_is_scaled():
    assert not unit(np.zeros((2, 3), dtype=np.float32)).any()


def test_centred_vectors_still_say_what_made_them():
    rows = vectors(np.eye(3, dtype=np.float32))
    found = centre(rows, mean_of(rows))
    assert {**vars(found), "matrix": None} == {**vars(rows), "matrix": None}


def test_task_rows_are_centred_on_the_mean_that_is_given():
    rows = vectors(np.array([[3, 4]], dtype=np.float32))
    np.testing.assert_allclose(centre(rows, np.array([0.6, 0], dtype=np.float32)).matrix, [[0, 1]], atol=1e-6)
