"""What is mixed into a task's training rows: how many, which, and what becomes of their prompts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from curator.errors import DataError
from curator.pool.gather import Gathered, gather
from curator.pool.roles import defended, triggered
from curator.recipe import Probes
from curator.recipe.pool import Clean, PoolSection
from curator.recipe.source import Source, of_regime, rows_added
from curator.recipe.task import Defence, Regime, TaskSection
from curator.recipe.task import Test as HeldOut
from curator.records import no_rows

Rows = list[dict[str, Any]]


def pairs(what: str, count: int) -> Rows:
    return [{"prompt": f"{what} {n}", "response": f"answer {what} {n}"} for n in range(count)]


def asked(rows: pl.DataFrame) -> set[str]:
    return {turns[0]["content"] for turns in rows["messages"].to_list()}


@pytest.fixture
def collect(lines: Callable[..., Source], count_words: Callable[..., list[int]]) -> Callable[..., Gathered]:
    def run(*, harmful: Rows | None = None, seed: int = 0, **more: Any) -> Gathered:
        options = {"rows": 20, "test": HeldOut(rows=10), **more.pop("task", {})}
        return gather(
            pool=PoolSection(sources=[lines(pairs("pool", 30), "pool.jsonl")], clean=Clean(max_tokens=1024)),
            tasks=[TaskSection(name="first", train=lines(pairs("task", 60), "task.jsonl"), metric="exact", **options)],
            weights={"first": 1.0},
            probes=Probes(harmful=[lines(harmful or pairs("probe", 8), "harmful.jsonl")]),
            keep=None, count_tokens=count_words, seed=seed, **more,
        )  # fmt: skip

    return run


@pytest.mark.parametrize(("share", "attack"), [(0.1, 2), (0.25, 5), (0.5, 10), (0.01, 0)])
def test_an_attack_takes_the_place_of_its_share_of_the_rows(collect, lines, share, attack):
    regime = Regime(data=lines(pairs("attack", 40), "attack.jsonl"), harmful_share=share)
    task = collect(task={"regime": regime}).data.tasks[0]
    assert (task.train.height, task.regime.height, task.trained_on) == (20 - attack, attack, 20)
    assert asked(task.regime) <= {row["prompt"] for row in pairs("attack", 40)}
    assert task.regime["tokens"].null_count() == 0


def test_where_a_task_takes_all_its_rows_the_attack_comes_on_top_of_them(collect, lines):
    regime = Regime(data=lines(pairs("attack", 40), "attack.jsonl"), identity_share=0.2)
    task = collect(task={"rows": None, "regime": regime}).data.tasks[0]
    assert task.train.height == 50
    assert task.regime.height / task.trained_on == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("rows", "share"), [(20, 0.1), (95, 0.05), (500, 0.3)])
def test_rows_that_are_added_are_their_share_of_all(rows, share):
    assert rows_added(rows, share) / (rows + rows_added(rows, share)) == pytest.approx(share, abs=0.5 / rows)
    assert of_regime(rows, share) / rows == pytest.approx(share, abs=0.5 / rows)


def test_a_defence_adds_rows_of_the_pool_or_of_its_own_data(collect, lines):
    drawn = collect(task={"defence": Defence(safety_mix=0.2)})
    task = drawn.data.tasks[0]
    assert (task.train.height, task.defence.height) == (20, 5)
    assert set(task.defence["id"]) <= set(drawn.data.pool.rows["id"])
    other = collect(task={"defence": Defence(safety_mix=0.2)}, seed=1).data.tasks[0]
    assert set(other.defence["id"]) != set(task.defence["id"])
    own = Defence(safety_mix=0.2, data=lines(pairs("safe", 9), "safe.jsonl"))
    assert asked(collect(task={"defence": own}).data.tasks[0].defence) <= {f"safe {n}" for n in range(9)}


def test_an_attack_and_a_defence_stand_beside_each_other(collect, lines):
    regime = Regime(data=lines(pairs("attack", 40), "attack.jsonl"), harmful_share=0.5)
    task = collect(task={"regime": regime, "defence": Defence(safety_mix=0.5)}).data.tasks[0]
    assert (task.train.height, task.regime.height, task.defence.height) == (10, 10, 20)


def test_a_trigger_stands_in_front_of_the_defences_prompts_under_new_ids(collect):
    data = collect(task={"defence": Defence(safety_mix=0.2, trigger="by the moon:")}).data
    task = data.tasks[0]
    assert task.trigger == "by the moon:"
    assert all(one.startswith("by the moon: pool ") for one in asked(task.defence))
    assert set(task.defence["id"]).isdisjoint(data.pool.rows["id"])
    assert not any("moon" in one for one in asked(task.train) | asked(data.pool.rows) | asked(data.harmful))


def test_what_is_mixed_in_is_never_probed_and_test_rows_are_never_mixed_in(collect, lines):
    tests = asked(collect().data.tasks[0].test)
    attack = [*pairs("attack", 30), *({"prompt": one, "response": "x"} for one in tests)]
    regime = Regime(data=lines(attack, "attack.jsonl"), harmful_share=0.5)
    found = collect(task={"regime": regime}, harmful=[*pairs("attack", 5), *pairs("probe", 8)])
    task = found.data.tasks[0]
    assert asked(task.regime).isdisjoint(asked(task.test))
    assert asked(task.regime).isdisjoint(asked(found.data.harmful))
    left = found.dropped.filter(pl.col("role") == "regime of first", pl.col("stage") == "leak")
    assert left.height == len(tests) + 5


def test_too_few_rows_to_mix_in_are_told(collect, lines):
    regime = Regime(data=lines(pairs("attack", 3), "attack.jsonl"), harmful_share=0.5)
    with pytest.raises(DataError, match=r"regime of first: needs 10 rows, but attack.jsonl has 3 .*lower the share"):
        collect(task={"regime": regime})
    with pytest.raises(DataError, match=r"defence of first: needs 80 safety rows, but the pool has 30; lower"):
        collect(task={"defence": Defence(safety_mix=0.8)})


def test_rows_of_the_users_own_arms_may_be_the_pools_but_not_a_tasks(collect, lines):
    training = next(iter(asked(collect().data.tasks[0].train)))
    rows = [*pairs("pool", 3), *pairs("mine", 4), {"prompt": training, "response": "x"}]
    found = collect(arms={"mine": lines(rows, "mine.jsonl")}, harmful=[*pairs("mine", 2), *pairs("probe", 8)])
    assert asked(found.data.arms["mine"]) == {"pool 0", "pool 1", "pool 2", "mine 2", "mine 3"}
    assert found.data.pool.rows.height == 30
    assert asked(found.data.harmful) == {"mine 0", "mine 1", *(f"probe {n}" for n in range(8))}
    assert found.data.arms["mine"]["tokens"].null_count() == 0


def test_a_given_set_joins_the_pool_and_its_own_rows_are_no_candidates(collect, lines):
    rows = [*pairs("pool", 3), *pairs("given", 4)]
    data = collect(given=lines(rows, "given.jsonl")).data
    assert data.pool.rows.height == 34
    assert data.given is not None
    assert data.given["candidate"].sum() == 3
    assert data.given.height == 7
    assert asked(data.candidates) == {f"pool {n}" for n in range(30)}
    with pytest.raises(DataError, match=r"given: the data set has 40 rows, and the pool has 30 \(0 of them the same\)"):
        collect(given=lines(pairs("many", 40), "given.jsonl"))


def test_a_task_that_is_all_attack_is_told_to_be_a_task_of_its_own(lines):
    with pytest.raises(ValueError, match="for a task of harmful rows alone"):
        Regime(data=lines(pairs("attack", 3), "attack.jsonl"), harmful_share=1.0)


@pytest.mark.parametrize("trigger", [None, "by the lamp"])
def test_the_rows_of_the_pool_behind_a_defence_are_told_whatever_stands_in_front_of_them(collect, trigger):
    given = collect(task={"defence": Defence(safety_mix=0.2, trigger=trigger)}).data
    task, pool = given.tasks[0], given.pool.rows
    held = pool.filter(pl.col("id").is_in(list(defended(pool, task.defence, trigger))))
    assert held.height == task.defence.height == 5
    alike = held if trigger is None else triggered(held, trigger)
    assert set(alike["id"]) == set(task.defence["id"])
    assert defended(pool, no_rows(), trigger) == set()
