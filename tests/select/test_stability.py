import pytest

from curator.select import stability


def test_equal_reversed_and_disjoint_sets():
    found = stability({"a": list("wxyz"), "b": list("zyxw"), "c": list("wxyz"), "d": ["p", "q"]}, 40)
    by_pair = {(row["one"], row["other"]): row for row in found.iter_rows(named=True)}
    assert len(by_pair) == 6
    assert by_pair["a", "c"] == {
        "one": "a", "other": "c", "shared": 4, "overlap": 1.0, "chance": 0.1, "rank_correlation": pytest.approx(1.0),
    }  # fmt: skip
    assert by_pair["a", "b"]["rank_correlation"] == pytest.approx(-1.0)
    assert by_pair["a", "d"]["overlap"] == 0.0
    assert by_pair["a", "d"]["rank_correlation"] is None


def test_overlap_is_of_the_smaller_set():
    found = stability({"small": ["a", "b"], "large": list("abcd")}, 8).row(0, named=True)
    assert (found["shared"], found["overlap"], found["chance"]) == (2, 1.0, 0.5)
