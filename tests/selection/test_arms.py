from collections import Counter

import numpy as np
import polars as pl
import pytest

from curator.errors import SelectionError
from curator.experiment import pilot
from curator.recipe.select import Select
from curator.recipe.verify import ARMS, RECOVERY
from curator.records import Scores
from curator.selection import arms
from curator.selection.solve import select

IDS = [f"r{i:03d}" for i in range(200)]
RNG = np.random.default_rng(0)
GROUPS = RNG.choice(["a", "b", "c"], 200, p=[0.7, 0.2, 0.1]).tolist()
LENGTHS = np.where(RNG.random(200) < 0.5, 10, 100) + RNG.integers(0, 5, 200)
BY_ID = {one: (group, length) for one, group, length in zip(IDS, GROUPS, LENGTHS, strict=True)}
TRAITS = pl.DataFrame(
    {
        "id": IDS,
        "refusal": RNG.choice(["refusal", "other"], 200, p=[0.8, 0.2]),
        "length": np.where(LENGTHS < 50, "short", "long"),
    }
)
KIND = {row_id: (refusal, length, BY_ID[row_id][0]) for row_id, refusal, length in TRAITS.iter_rows()}


def test_random_draws_k_different_rows_and_not_always_the_same():
    draws = [arms.random(IDS, 20, np.random.default_rng(s)) for s in range(200)]
    assert all(len(set(draw)) == 20 for draw in draws)
    counts = Counter(one for draw in draws for one in draw)
    assert len(counts) == 200
    assert max(counts.values()) < 45
    assert arms.random(IDS[::-1], 20, np.random.default_rng(3)) == draws[3]


def test_low_and_high_similarity_take_the_ends_with_ties_by_id():
    score = np.arange(200) // 4
    assert arms.low_similarity(IDS, score, 5) == ("r000", "r001", "r002", "r003", "r004")
    assert arms.high_similarity(IDS, score, 5) == ("r196", "r197", "r198", "r199", "r192")
    p = np.random.default_rng(0).permutation(200)
    assert arms.low_similarity([IDS[i] for i in p], score[p], 5) == arms.low_similarity(IDS, score, 5)


def test_each_end_breaks_ties_by_the_second_score_then_id():
    ids, score, ties = ["a", "b", "c", "d"], [-0.2, -0.5, -0.2, -0.2], [0.3, 0.9, 0.1, 0.1]
    assert arms.low_similarity(ids, score, 4, ties=ties) == ("b", "c", "d", "a")
    assert arms.high_similarity(ids, score, 4, ties=ties) == ("a", "c", "d", "b")


def test_full_is_every_row():
    assert arms.full(IDS[::-1]) == tuple(IDS)


def test_every_built_in_arm_of_the_recipe_is_drawn_by_its_name():
    assert arms.DRAWS.keys() == set(ARMS)


def drawn(aggregate="max", *, budget=None, drawable=None, rising=False, seed=4):
    """Every arm's sets at two seeds, from scores that are tied in fours."""
    scores = Scores(tuple(IDS), "s", np.arange(200) // 4 + 0.0, {}, {}, -1, 100, {"aggregate": aggregate})
    curated = select(np.eye(200, dtype=np.float32), np.arange(200.0), 20, ids=IDS)
    rows = pl.DataFrame({"id": IDS[::-1], "category": GROUPS[::-1], "tokens": LENGTHS[::-1]})
    mean_cosine = np.arange(200.0) if rising else -np.arange(200.0)
    frame = arms.draw_arms(
        rows, TRAITS, scores, curated, seeds=dict.fromkeys((*ARMS, "mine"), 2), mean_cosine=mean_cosine,
        given={"best-random": IDS[7:9], "mine": IDS[:3]}, budget=budget, drawable=drawable, capped=lambda order: order,
        seed=seed,
    )  # fmt: skip
    sets = {key: tuple(part["id"]) for key, part in frame.group_by("arm", "seed", maintain_order=True)}
    return curated, sets


def test_arms_are_drawn_in_the_curated_sets_size_and_only_random_ones_change_with_the_seed():
    curated, sets = drawn()
    assert {arm for arm, _ in sets} == {*ARMS, "mine"} - {"none"}
    assert sets["curated", 0] == curated.ids
    assert sets["mine", 1] == tuple(IDS[:3])
    assert sets["best-random", 0] == tuple(IDS[7:9])
    assert sets["full", 0] == tuple(IDS)
    assert sets["low-similarity", 0] == tuple(IDS[:20])
    assert sets["high-similarity", 1] == tuple(
        IDS[row] for row in sorted(range(200), key=lambda r: (-(r // 4), r))[:20]
    )
    for arm in ("random", "matched-random", "random-capped"):
        assert len(set(sets[arm, 0])) == 20
        assert sets[arm, 0] != sets[arm, 1]
    assert Counter(BY_ID[row_id][0] for row_id in sets["matched-random", 0]) == Counter(
        BY_ID[row_id][0] for row_id in curated.ids
    )
    assert all(sets[arm, 0] == sets[arm, 1] for arm, _ in sets if "random" not in arm)


def test_matched_arms_hold_the_refusals_of_what_they_match_and_their_ends_of_similarity():
    curated, sets = drawn()
    pair = {row_id: (kind[0], kind[2]) for row_id, kind in KIND.items()}
    assert Counter(pair[row_id] for row_id in sets["matched-random", 1]) == Counter(map(pair.get, curated.ids))
    low, high = sets["low-matched", 0], sets["high-matched", 0]
    assert Counter(map(KIND.get, low)) == Counter(map(KIND.get, high))
    for size in (1, 2, 3):  # refusals as in the pool, in them lengths, and in those categories
        pool, held = (Counter(KIND[row_id][:size] for row_id in ids) for ids in (IDS, low))
        assert all(abs(held[kind] - count / 10) < (1 if size == 1 else 1.5) for kind, count in pool.items())
    score = dict(zip(IDS, np.arange(200) // 4, strict=True))
    ends = {row_id: score[row_id] for row_id in IDS if row_id in low or row_id in high}
    for row_id, value in score.items():
        if row_id not in ends:  # nothing that is left out belongs to an end of its stratum
            same = [one for one in ends if KIND[one] == KIND[row_id]]
            assert all(ends[one] <= value for one in same if one in low and one not in high)
            assert all(ends[one] >= value for one in same if one in high and one not in low)
    assert sum(score[one] for one in low) < sum(score[one] for one in high)
    assert set(sets["low-similarity", 0]) != set(low)
    ties = drawn("per-example")[1]["low-matched", 0]
    assert ties != low
    assert sorted(score[one] for one in ties) == sorted(score[one] for one in low)


def test_under_a_budget_matched_ends_keep_it_and_about_the_pools_composition():
    tokens = dict(zip(IDS, LENGTHS.tolist(), strict=True))
    _, sets = drawn(budget=2000)
    pool = Counter(KIND[row_id][0] for row_id in IDS)
    for arm in ("low-matched", "high-matched"):
        found = sets[arm, 0]
        used = sum(tokens[row_id] for row_id in found)
        assert used <= 2000 < used + min(tokens[row_id] for row_id in IDS if row_id not in found)
        share = sum(KIND[row_id][0] == "refusal" for row_id in found) / len(found)
        assert abs(share - pool["refusal"] / 200) < 0.08


def test_recovery_arms_have_the_rows_of_their_arms_at_every_seed_and_within_a_budget():
    for sets in (drawn()[1], drawn(budget=500, drawable=frozenset(IDS[50:]))[1]):
        for arm, same in RECOVERY.items():
            assert [sets[arm, seed] for seed in (0, 1)] == [sets[same, seed] for seed in (0, 1)]


def test_another_seed_of_the_recipe_draws_other_sets_at_every_seed():
    first, second = drawn()[1], drawn(seed=5)[1]
    for arm in ("random", "matched-random", "random-capped"):
        assert len({first[arm, 0], first[arm, 1], second[arm, 0], second[arm, 1]}) == 4
    assert first["low-similarity", 0] == second["low-similarity", 0]


def test_both_ends_of_an_aggregate_of_many_ties_are_ordered_by_mean_cosine():
    _, sets = drawn("per-example")  # the mean cosine falls from each row to the next
    assert sets["low-similarity", 0] == tuple(
        IDS[row] for four in range(5) for row in range(4 * four + 3, 4 * four - 1, -1)
    )
    assert sets["high-similarity", 0] == tuple(
        IDS[row] for four in range(49, 44, -1) for row in range(4 * four, 4 * four + 4)
    )


def test_the_most_similar_rows_of_an_aggregate_of_many_ties_are_not_the_first_ids():
    _, sets = drawn("per-example", rising=True)
    assert sets["high-similarity", 0] == tuple(IDS[row] for row in range(199, 179, -1))
    _, plain = drawn("max", rising=True)
    assert plain["high-similarity", 0] != sets["high-similarity", 0]
    score = dict(zip(IDS, range(200), strict=True))
    assert sum(map(score.get, sets["high-matched", 0])) > sum(map(score.get, plain["high-matched", 0]))


def test_controls_are_drawn_from_what_may_be_drawn_and_keep_a_budget():
    tokens = dict(zip(IDS, LENGTHS.tolist(), strict=True))
    _, sets = drawn(budget=500, drawable=frozenset(IDS[50:]))
    for arm in ("random", "low-similarity", "high-similarity"):
        assert set(sets[arm, 0]) <= set(IDS[50:])
        used = sum(tokens[row_id] for row_id in sets[arm, 0])
        rest = [tokens[row_id] for row_id in IDS[50:] if row_id not in sets[arm, 0]]
        assert used <= 500 < used + min(rest)
    assert sets["full", 0] == tuple(IDS[50:])


@pytest.mark.parametrize("seed", range(8))
def test_under_a_budget_every_drawn_set_holds_about_the_tokens_of_the_curated_one(seed):
    """Lengths with a long tail, where sets of equally many rows would differ twofold and more."""
    rng = np.random.default_rng(seed)
    lengths = np.ceil(np.exp(rng.normal(3.5, 1.2, 200))).astype(np.int64)
    tokens, groups = dict(zip(IDS, lengths.tolist(), strict=True)), dict(zip(IDS, GROUPS, strict=True))
    scores = Scores(tuple(IDS), "s", rng.random(200), {}, {}, 0, 1, {"aggregate": "max"})
    vectors = rng.normal(size=(200, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    curated = select(vectors, np.arange(200.0), ids=IDS, costs=lengths, budget=3000.0)
    rows = pl.DataFrame({"id": IDS, "category": GROUPS, "tokens": lengths})
    names = ("random", "matched-random", "low-similarity", "high-similarity")
    frame = arms.draw_arms(
        rows, TRAITS, scores, curated, seeds=dict.fromkeys(names, 3), mean_cosine=np.zeros(200), budget=3000, seed=seed
    )
    goal, matched = sum(tokens[row_id] for row_id in curated.ids), 0
    for (arm, _), part in frame.group_by("arm", "seed"):
        used = sum(tokens[row_id] for row_id in part["id"])
        assert goal * 0.95 <= used <= 3000, (arm, used, goal)
        if arm == "matched-random" and part.height == len(curated.ids):
            matched += 1
            assert Counter(groups[row_id] for row_id in part["id"]) == Counter(groups[row_id] for row_id in curated.ids)
    assert matched, "no draw of as many rows could be brought near the tokens"


def test_a_random_draw_within_a_budget_is_full():
    tokens = dict(zip(IDS, LENGTHS.tolist(), strict=True))
    for seed in range(20):
        section = Select(budget_tokens=700)
        candidates = pl.DataFrame({"id": IDS, "tokens": [tokens[row_id] for row_id in IDS]})
        found = pilot.drawn(candidates, section, 0, np.random.default_rng(seed))
        used = sum(tokens[row_id] for row_id in found)
        assert used <= 700 < used + min(length for row_id, length in tokens.items() if row_id not in found)


def test_wrong_input_is_named():
    with pytest.raises(SelectionError, match="k: found 0; it must be a whole number from 1 to 200"):
        arms.random(IDS, 0, RNG)
    with pytest.raises(SelectionError, match="k: found 201"):
        arms.low_similarity(IDS, np.zeros(200), 201)
    with pytest.raises(SelectionError, match="score: row 3 is nan"):
        arms.high_similarity(IDS, np.where(np.arange(200) == 3, np.nan, 0.0), 5)
