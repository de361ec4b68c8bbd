from collections import Counter

import numpy as np
import pytest

from curator.errors import SelectionError
from curator.select import arms

IDS = [f"r{i:03d}" for i in range(200)]
RNG = np.random.default_rng(0)
GROUPS = RNG.choice(["a", "b", "c"], 200, p=[0.7, 0.2, 0.1]).tolist()
LENGTHS = np.where(RNG.random(200) < 0.5, 10, 100) + RNG.integers(0, 5, 200)
BY_ID = {one: (group, length) for one, group, length in zip(IDS, GROUPS, LENGTHS, strict=True)}


def test_random_draws_k_different_rows_and_not_always_the_same():
    draws = [arms.random(IDS, 20, np.random.default_rng(s)) for s in range(200)]
    assert all(len(set(draw)) == 20 for draw in draws)
    counts = Counter(one for draw in draws for one in draw)
    assert len(counts) == 200
    assert max(counts.values()) < 45
    assert arms.random(IDS[::-1], 20, np.random.default_rng(3)) == draws[3]


def test_matched_random_keeps_the_groups_and_lengths_of_the_chosen_rows():
    chosen = [one for one in IDS if BY_ID[one][1] > 50][:30] + [one for one in IDS if BY_ID[one][1] < 50][:10]
    drawn = arms.matched_random(IDS, GROUPS, LENGTHS, chosen, k=40, generator=np.random.default_rng(1))
    assert len(set(drawn)) == 40
    assert Counter(BY_ID[one][0] for one in drawn) == Counter(BY_ID[one][0] for one in chosen)
    share = np.mean([BY_ID[one][1] > 50 for one in drawn])
    plain = np.mean([BY_ID[one][1] > 50 for one in IDS])
    assert abs(share - 0.75) < 0.1 < abs(share - plain)
    assert set(drawn) != set(chosen)
    p = np.random.default_rng(5).permutation(200)
    again = arms.matched_random(
        [IDS[i] for i in p], [GROUPS[i] for i in p], LENGTHS[p], chosen[::-1], k=40, generator=np.random.default_rng(1)
    )
    assert again == drawn


def test_matched_random_without_lengths_scales_group_counts_to_another_k():
    chosen = [one for one in IDS if BY_ID[one][0] == "a"][:9] + [one for one in IDS if BY_ID[one][0] == "b"][:6]
    drawn = arms.matched_random(IDS, GROUPS, None, chosen, k=10, generator=np.random.default_rng(1))
    assert Counter(BY_ID[one][0] for one in drawn) == {"a": 6, "b": 4}


def test_low_and_high_similarity_take_the_ends_with_ties_by_id():
    score = np.arange(200) // 4
    assert arms.low_similarity(IDS, score, 5) == ("r000", "r001", "r002", "r003", "r004")
    assert arms.high_similarity(IDS, score, 5) == ("r196", "r197", "r198", "r199", "r192")
    p = np.random.default_rng(0).permutation(200)
    assert arms.low_similarity([IDS[i] for i in p], score[p], 5) == arms.low_similarity(IDS, score, 5)


def test_the_per_example_arm_breaks_ties_by_mean_cosine_then_id():
    found = arms.per_example(["a", "b", "c", "d"], [-0.2, -0.5, -0.2, -0.2], [0.3, 0.9, 0.1, 0.1], 4)
    assert found == ("b", "c", "d", "a")


def test_full_is_every_row():
    assert arms.full(IDS[::-1]) == tuple(IDS)


def test_wrong_input_is_named():
    with pytest.raises(SelectionError, match="k: found 0; it must be a whole number from 1 to the 200 rows"):
        arms.random(IDS, 0, RNG)
    with pytest.raises(SelectionError, match="k: found 201"):
        arms.low_similarity(IDS, np.zeros(200), 201)
    with pytest.raises(SelectionError, match="score: row 3 is nan"):
        arms.high_similarity(IDS, np.where(np.arange(200) == 3, np.nan, 0.0), 5)
    with pytest.raises(SelectionError, match="chosen: 'zz' given"):
        arms.matched_random(IDS, GROUPS, None, ["zz"], k=1, generator=RNG)
    with pytest.raises(SelectionError, match="groups: 1 labels for 200 ids"):
        arms.matched_random(IDS, ["a"], None, IDS[:2], k=2, generator=RNG)
    with pytest.raises(SelectionError, match="asks for 40 rows of group 'x' and there are 5; lower k"):
        arms.matched_random(IDS, ["x"] * 5 + ["y"] * 195, None, IDS[:5], k=40, generator=RNG)
