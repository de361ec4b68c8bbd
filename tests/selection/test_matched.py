"""Sets that match another by groups and lengths, and the ends of an order within strata, against every set there is."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from curator.errors import SelectionError
from curator.selection.groups import largest_remainder
from curator.selection.matched import interleaved, matched_random, nearer, within_strata
from tests.selection.test_arms import BY_ID, GROUPS, IDS, LENGTHS, RNG


def test_matched_random_keeps_the_groups_and_lengths_of_the_chosen_rows():
    chosen = [one for one in IDS if BY_ID[one][1] > 50][:30] + [one for one in IDS if BY_ID[one][1] < 50][:10]
    drawn = matched_random(IDS, GROUPS, LENGTHS, chosen, generator=np.random.default_rng(1))
    assert len(set(drawn)) == 40
    assert Counter(BY_ID[one][0] for one in drawn) == Counter(BY_ID[one][0] for one in chosen)
    share = np.mean([BY_ID[one][1] > 50 for one in drawn])
    plain = np.mean([BY_ID[one][1] > 50 for one in IDS])
    assert abs(share - 0.75) < 0.1 < abs(share - plain)
    assert set(drawn) != set(chosen)
    p = np.random.default_rng(5).permutation(200)
    again = matched_random(
        [IDS[i] for i in p], [GROUPS[i] for i in p], LENGTHS[p], chosen[::-1], generator=np.random.default_rng(1)
    )
    assert again == drawn


def test_a_matched_draw_is_brought_near_a_number_of_tokens_within_its_cells():
    cells = {f"{cell}{number}": ((cell,), 0) for cell in "ab" for number in range(20)}
    tokens = {row_id: float(row_id[1:]) + 1 for row_id in cells}
    first = ("a1", "a3", "b2", "b4")
    for goal in (6.0, 20.0, 33.0, 60.0, 500.0):
        found = nearer(first, list(cells), cells, tokens, goal, generator=np.random.default_rng(1))
        assert [row_id[0] for row_id in found] == ["a", "a", "b", "b"]
        assert len(set(found)) == 4
        assert sum(tokens[row_id] for row_id in found) == min(goal, 20 + 19 + 20 + 19)


@pytest.mark.parametrize("seed", range(6))
def test_where_all_rows_are_alike_in_refusal_a_draw_is_that_of_categories_alone(seed):
    """Categories whose names sort otherwise once something is written behind them."""
    names = np.random.default_rng(seed).choice(["a", "a b", "a, c", "no category"], 200).tolist()
    chosen = IDS[seed : seed + 90 : 3]
    drawable = None if seed % 2 else frozenset(IDS[20:])
    plain, paired = (
        matched_random(
            IDS, groups, LENGTHS, chosen, drawable=drawable, generator=np.random.default_rng(seed)
        )
        for groups in (names, [("refusal", name) for name in names])
    )  # fmt: skip
    assert plain == paired


def test_a_draw_matches_refusals_and_runs_short_into_other_categories_before_other_kinds_of_answer():
    ids = [f"r{number:02}" for number in range(24)]
    groups = [("refusal", "a")] * 4 + [("refusal", "b")] * 8 + [("other", "a")] * 12
    chosen = ids[:3] + ids[12:14]
    drawn = matched_random(ids, groups, np.zeros(24), chosen, generator=np.random.default_rng(0))
    by_id = dict(zip(ids, groups, strict=True))
    assert Counter(by_id[row_id] for row_id in drawn) == {("refusal", "a"): 3, ("other", "a"): 2}
    few = frozenset(ids[3:])  # one refusal of category a is left
    drawn = matched_random(ids, groups, np.zeros(24), chosen, drawable=few, generator=np.random.default_rng(0))
    assert Counter(by_id[row_id] for row_id in drawn) == {("refusal", "a"): 1, ("refusal", "b"): 2, ("other", "a"): 2}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sign", [1, -1])
def test_the_ends_within_strata_are_the_least_and_most_of_all_sets_with_the_pools_composition(seed, sign):
    rng = np.random.default_rng(seed)
    score = dict(zip(IDS[:11], sign * rng.normal(size=11), strict=True))
    kinds = {row_id: (kind,) for row_id, kind in zip(IDS, rng.choice(list("xyz"), 11, p=[0.6, 0.3, 0.1]), strict=False)}
    found = within_strata(tuple(sorted(score, key=score.__getitem__)), kinds, 5)
    wanted = {kind: count for kind, count in largest_remainder(Counter(kinds.values()), 5).items() if count}
    every = [
        sum(score[row_id] for row_id in rows)
        for rows in combinations(score, 5)
        if Counter(kinds[row_id] for row_id in rows) == wanted
    ]
    assert len(found) == len(set(found)) == 5
    assert Counter(kinds[row_id] for row_id in found) == wanted
    assert sum(score[row_id] for row_id in found) == pytest.approx(min(every))


def test_ends_within_small_strata_have_the_pools_share_of_the_first_grouping():
    kinds = {row_id: ("refusal", f"r{at % 30}") for at, row_id in enumerate(IDS[:60])}
    kinds |= {row_id: ("other", f"o{at % 100}") for at, row_id in enumerate(IDS[60:])}
    found = within_strata(tuple(IDS), kinds, 20)
    assert Counter(kinds[row_id][0] for row_id in found) == {"refusal": 6, "other": 14}


@pytest.mark.parametrize("seed", range(4))
def test_every_beginning_of_an_interleaved_order_has_about_the_composition_of_the_whole(seed):
    rng = np.random.default_rng(seed)
    # Many strata of the second grouping have one row or two.
    drawn = zip(rng.choice(list("xyz"), 200, p=[0.7, 0.2, 0.1]).tolist(), rng.integers(0, 60, 200), strict=True)
    kinds = {row_id: (kind, str(number)) for row_id, (kind, number) in zip(IDS, drawn, strict=True)}
    order = tuple(rng.permutation(IDS).tolist())
    found = interleaved(order, kinds)
    assert sorted(found) == IDS
    whole, seen = Counter(kind for kind, _ in kinds.values()), Counter()
    for size, row_id in enumerate(found, 1):
        seen[kinds[row_id][0]] += 1
        assert all(abs(seen[kind] - whole[kind] * size / 200) <= 1.5 for kind in whole)
    for kind in {*kinds.values()}:  # and in each stratum the order stays
        assert [r for r in found if kinds[r] == kind] == [r for r in order if kinds[r] == kind]


def test_wrong_input_is_named():
    with pytest.raises(SelectionError, match="chosen: found 'zz'"):
        matched_random(IDS, GROUPS, LENGTHS, ["zz"], generator=RNG)
    with pytest.raises(SelectionError, match="groups: found 1 label for 200 ids"):
        matched_random(IDS, ["a"], LENGTHS, IDS[:2], generator=RNG)
    with pytest.raises(SelectionError, match="k: found 201; it must be a whole number from 1 to 200"):
        within_strata(tuple(IDS), dict.fromkeys(IDS, ("x",)), 201)
