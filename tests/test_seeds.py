"""One seed gives every purpose its own, the same on every machine."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from curator.seeds import derive, generator

words = st.text("abc-.0123456789", min_size=1, max_size=8)


def test_derived_seeds_stay_what_they_were() -> None:
    assert [derive(0), derive(0, "align", "", 3), derive(7, "pool")] == [804681139, 1220161488, 238318129]


@settings(deadline=None)
@given(seed=st.integers(0, 2**31 - 1), names=st.lists(words | st.integers(0, 99), max_size=4))
def test_a_derived_seed_fits_every_library(seed: int, names: list[str | int]) -> None:
    assert 0 <= derive(seed, *names) < 2**31
    assert derive(seed, *names) == derive(seed, *names)


@settings(deadline=None)
@given(one=st.lists(words, max_size=4), other=st.lists(words, max_size=4))
def test_other_names_give_another_seed(one: list[str], other: list[str]) -> None:
    assert (derive(0, *one) == derive(0, *other)) == (one == other)


def test_another_seed_changes_every_purpose() -> None:
    assert len({derive(seed, name) for seed in range(50) for name in ("a", "b", "c")}) == 150


def test_a_generator_repeats_itself_and_differs_by_purpose() -> None:
    drawn = [generator(5, name).random(4).tolist() for name in ("select", "select", "draw")]
    assert drawn[0] == drawn[1] != drawn[2]
