"""Every kind of cell shows its own unit, and keeps the number that it is sorted by."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from curator.report import cells


@pytest.mark.parametrize(
    ("cell", "shown", "value"),
    [
        (cells.share(0.125), "12%", 0.125),
        (cells.points(0.225), "+22.5", 0.225),
        (cells.points(-0.026), "-2.6", -0.026),
        (cells.number(1234.0), "1,234", 1234.0),
        (cells.number(0.3456, 2), "0.35", 0.3456),
        (cells.interval(SimpleNamespace(low=0.1, high=0.35)), "[+10.0, +35.0]", None),
    ],
)
def test_a_cell_shows_its_unit_and_keeps_its_number(cell: cells.Cell, shown: str, value: float | None) -> None:
    assert (cell.shown, cell.value) == (shown, value)


def test_what_is_unknown_has_no_number_to_sort_by() -> None:
    for cell in (
        cells.share(None),
        cells.points(None),
        cells.number(None),
        cells.interval(SimpleNamespace(low=None, high=None)),
    ):
        assert cell.value is None
        assert not any(sign.isdigit() for sign in cell.shown)
