from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curator.errors import DataError
from curator.pool import ledger as ledgers
from curator.pool.gather import Gathered, claim_evaluation, gather, instruction_rows
from curator.recipe import Probes
from curator.recipe.model import Instruction
from curator.recipe.pool import Clean, Decontaminate, PoolSection
from curator.recipe.source import Source
from curator.recipe.task import TaskSection
from curator.recipe.task import Test as HeldOut
from curator.records import ROW_SCHEMA
from tests.pool.gathering import Rows, pairs


def prompts(rows: pl.DataFrame) -> set[str]:
    """The last thing the user says in each row."""
    conversations = rows["messages"].to_list()
    return {[turn["content"] for turn in turns if turn["role"] == "user"][-1] for turns in conversations}


def balanced(found: Gathered) -> bool:
    """Whether every record read is either in the data or dropped, in every role."""
    data = found.data
    kept = {"pool": data.pool.rows.height, "keep": data.keep.height, "harmful probes": data.harmful.height}
    kept["benign probes"] = data.benign.height
    for task in data.tasks:
        kept[f"task {task.name}"] = task.train.height + task.test.height
    dropped = {role: found.dropped.filter(pl.col("role") == role).height for role in kept}
    return all(
        found.resolved[role] | {"read": kept[role] + dropped[role], "kept": kept[role], "dropped": dropped[role]}
        == found.resolved[role]
        for role in kept
    )


def test_every_role_has_its_rows_and_every_record_is_accounted_for(collect: Callable[..., Gathered]) -> None:
    found = collect()
    data = found.data
    assert (data.pool.rows.height, data.keep.height, data.harmful.height, data.benign.height) == (30, 10, 8, 8)
    (task,) = data.tasks
    assert (task.name, task.train.height, task.test.height, task.weight, task.metric) == ("first", 20, 10, 1.0, "exact")
    assert balanced(found)
    assert dict(found.dropped.schema) == ledgers.SCHEMA
    for rows in (data.pool.rows, data.keep, data.harmful, data.benign, task.train, task.test):
        assert dict(rows.schema) == ROW_SCHEMA
        assert rows["id"].is_sorted()
        assert rows["id"].is_unique().all()


def test_tokens_are_counted_for_rows_that_are_trained_on(collect: Callable[..., Gathered]) -> None:
    data = collect().data
    for rows in (data.pool.rows, data.keep, data.tasks[0].train, data.tasks[0].test):
        assert set(rows["tokens"]) == {5}
    assert set(data.harmful["tokens"]) == {None}


def test_long_pool_rows_are_dropped(collect: Callable[..., Gathered]) -> None:
    long = {"prompt": "pool", "response": "word " * 40}
    found = collect(pool=[*pairs("pool", 5), long], clean=Clean(max_tokens=10))
    assert found.data.pool.dropped.select("line", "stage", "reason").rows() == [
        (6, "clean", "the row has 41 tokens, more than max_tokens (10)")
    ]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_permuting_every_file_changes_nothing_but_line_numbers(collect: Callable[..., Gathered], seed: int) -> None:
    rng = random.Random(seed)

    def shuffled(what: str, count: int) -> Rows:
        return rng.sample(pairs(what, count), count)

    one = collect().data
    other = collect(
        pool=shuffled("pool", 30), task=shuffled("task", 40), keep=shuffled("keep", 12), harmful=shuffled("probe", 8)
    ).data
    for a, b in (
        (one.pool.rows, other.pool.rows),
        (one.keep, other.keep),
        (one.harmful, other.harmful),
        (one.tasks[0].train, other.tasks[0].train),
        (one.tasks[0].test, other.tasks[0].test),
    ):
        assert a.drop("line").equals(b.drop("line"))


def test_another_seed_splits_otherwise(collect: Callable[..., Gathered]) -> None:
    one, other = collect().data.tasks[0], collect(seed=1).data.tasks[0]
    assert set(one.test["id"]) != set(other.test["id"])
    assert not set(one.test["id"]) & set(one.train["id"])


def test_asking_for_more_rows_adds_to_the_same_rows(collect: Callable[..., Gathered]) -> None:
    few, more = collect(rows=5).data.tasks[0], collect(rows=25).data.tasks[0]
    assert set(few.train["id"]) < set(more.train["id"])
    assert few.test.equals(more.test)


def test_without_a_number_all_rows_but_the_test_rows_are_trained_on(collect: Callable[..., Gathered]) -> None:
    (task,) = collect(rows=None).data.tasks
    assert (task.train.height, task.test.height) == (30, 10)


def test_no_task_trains_on_a_prompt_of_any_tasks_test_rows(
    lines: Callable[..., Source], count_words: Callable[..., list[int]]
) -> None:
    rows = [{"prompt": f"ask {n % 20}", "response": f"tell {n}"} for n in range(60)]
    tasks = [
        TaskSection(name="few", train=lines(rows, "a.jsonl"), test=HeldOut(rows=3)),
        TaskSection(name="many", train=lines(rows[:50], "b.jsonl"), test=HeldOut(rows=6)),
    ]
    found = gather(
        pool=PoolSection(sources=[lines(pairs("pool", 3), "pool.jsonl")]),
        tasks=tasks,
        weights={"few": 0.5, "many": 0.5},
        probes=Probes(harmful=[lines(pairs("probe", 3), "probes.jsonl")]),
        keep=None,
        count_tokens=count_words,
    )
    tested = prompts(found.data.tasks[0].test) | prompts(found.data.tasks[1].test)
    trained = prompts(found.data.tasks[0].train) | prompts(found.data.tasks[1].train)
    assert tested
    assert trained
    assert not tested & trained
    split = found.dropped.filter(pl.col("stage") == "split")
    assert set(split["reason"]) <= {"its prompt also stands in: test of few", "its prompt also stands in: test of many"}
    assert set(split["match"]) <= {*found.data.tasks[0].test["id"], *found.data.tasks[1].test["id"]}


def talk(*texts: str) -> dict[str, Any]:
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]}


def test_a_conversation_with_a_test_rows_prompt_is_left_out_of_training_and_pool(
    lines: Callable[..., Source], count_words: Callable[..., list[int]]
) -> None:
    asked = [f"tell me about thing {number}" for number in range(20)]
    task = [talk(text, f"it is {text}") for text in asked]
    task += [talk(text, f"it is {text}", "continue", f"more of {text}") for text in asked]
    pool = [talk("good day to you all", "hello", text, f"it is {text}", "go on", f"more of {text}") for text in asked]
    found = gather(
        pool=PoolSection(sources=[lines(pool, "pool.jsonl")], clean=Clean(near_duplicates=None, decontaminate=None)),
        tasks=[TaskSection(name="few", train=lines(task, "a.jsonl"), test=HeldOut(rows=12))],
        weights={"few": 1.0},
        probes=Probes(harmful=[lines(pairs("probe", 3), "probes.jsonl")]),
        keep=None,
        count_tokens=count_words,
    )
    (few,) = found.data.tasks
    held_out = {messages[0]["content"] for messages in few.test["messages"] if len(messages) == 2}
    assert len(held_out) > 2
    trained = [messages for messages in few.train["messages"] if messages[0]["content"] in held_out]
    assert trained == []
    assert {messages[2]["content"] for messages in found.data.pool.rows["messages"]} == set(asked) - held_out
    (reason,) = set(found.dropped.filter(pl.col("role") == "pool")["reason"])
    assert reason == "one of its prompts also stands in: test of few"


def test_the_base_is_tuned_on_no_probe_and_no_prompt_of_a_test_row(lines: Callable[..., Source]) -> None:
    data = [talk(f"tell me about thing {n}", "told") for n in range(30)]
    data += [
        talk("what of the old mill of probe 7 here", "that"),
        *(talk(f"ask {n} of them", "this") for n in range(30)),
    ]
    source = lines(data, "data.jsonl")
    task = TaskSection(name="few", train=lines(data[:30], "a.jsonl"), test=HeldOut(rows=12))
    plain = instruction_rows(ledgers.Ledger(0), Instruction(data=source, rows=20))
    assert plain.height == 20

    ledger = ledgers.Ledger(0)
    everything = {"few": ledger.read("task few", [task.train])}
    probes = Probes(harmful=[lines([{"prompt": "what of the old mill of probe 7 here"}], "probes.jsonl")])
    _, _, tests = claim_evaluation(ledger, [task], everything, probes, Decontaminate())
    for count in (20, 48):
        rows = instruction_rows(ledger, Instruction(data=source, rows=count))
        assert rows.height == count
        assert not prompts(rows) & {*prompts(tests["few"]), "what of the old mill of probe 7 here"}
        left = ledger.drops(["instructions"]).filter(stage="leak").height
        assert ledger.counts("instructions") == {"read": 61, "kept": count, "dropped": 61 - count}
        unclaimed = set(plain["id"]) - set(ledger.drops(["instructions"]).filter(stage="leak")["match"])
        assert set(rows["id"]) >= unclaimed - set(tests["few"]["id"])
    assert left == 13
    with pytest.raises(
        DataError, match=r"^found 48 usable rows in data.jsonl, but rows is 49 \(61 read; dropped: 13 leak\)"
    ):
        instruction_rows(ledger, Instruction(data=source, rows=49))


def test_a_short_turn_of_a_conversation_is_no_test_rows_prompt(
    lines: Callable[..., Source], count_words: Callable[..., list[int]]
) -> None:
    task = [talk("go on", "certainly"), *(talk(f"tell me about {number}", f"it is {number}") for number in range(3))]
    pool = [talk("a story of an owl please", "once", "go on", "upon"), talk("go on", "certainly not")]
    found = gather(
        pool=PoolSection(sources=[lines(pool, "pool.jsonl")]),
        tasks=[TaskSection(name="few", train=lines(task, "a.jsonl"), rows=1, test=HeldOut(rows=3))],
        weights={"few": 1.0},
        probes=Probes(harmful=[lines(pairs("probe", 3), "probes.jsonl")]),
        keep=None,
        count_tokens=count_words,
    )
    assert [messages[0]["content"] for messages in found.data.pool.rows["messages"]] == ["a story of an owl please"]


def test_the_same_source_in_two_tasks_has_the_same_test_rows(
    lines: Callable[..., Source], count_words: Callable[..., list[int]]
) -> None:
    source = lines(pairs("task", 30), "task.jsonl")
    found = gather(
        pool=PoolSection(sources=[lines(pairs("pool", 3), "pool.jsonl")]),
        tasks=[TaskSection(name=name, train=source, test=HeldOut(rows=8), rows=10) for name in ("plain", "other")],
        weights={"plain": 1.0, "other": 0.0},
        probes=Probes(harmful=[lines(pairs("probe", 3), "probes.jsonl")]),
        keep=None,
        count_tokens=count_words,
    )
    plain, other = found.data.tasks
    assert plain.test.equals(other.test)
    assert plain.train.equals(other.train)
    assert found.data.keep.is_empty()
    assert found.data.benign.is_empty()


LEAKS = [
    ("pool", "pool", "task", "task first"),
    ("keep", "keep", "task", "task first"),
    ("keep", "keep", "pool", "pool"),
    ("pool", "pool", "probe", "harmful probes"),
    ("keep", "keep", "probe", "harmful probes"),
    ("task first", "task", "probe", "harmful probes"),
    ("pool", "pool", "benign", "benign probes"),
    ("benign probes", "benign", "probe", "harmful probes"),
]


@pytest.mark.parametrize(("role", "argument", "other", "stands"), LEAKS)
def test_a_prompt_in_two_roles_leaves_the_later_one(
    collect: Callable[..., Gathered], role: str, argument: str, other: str, stands: str
) -> None:
    clean = collect(rows=30)
    taken = {
        "task": prompts(clean.data.tasks[0].train),
        "pool": prompts(clean.data.pool.rows),
        "keep": prompts(clean.data.keep),
        "probe": prompts(clean.data.harmful),
        "benign": prompts(clean.data.benign),
    }[other]
    prompt = min(taken)
    rows = {"pool": pairs("pool", 30), "keep": pairs("keep", 12), "task": pairs("task", 40)}.get(
        argument, pairs("fresh", 8)
    )
    found = collect(**{argument: [*rows, {"prompt": f" {prompt}\n", "response": "another"}]}, rows=30)
    assert balanced(found)
    leaks = found.dropped.filter(pl.col("stage") == "leak")
    assert leaks.select("role", "line", "reason").rows() == [
        (role, len(rows) + 1, f"its prompt also stands in: {stands}")
    ]
    assert leaks["match"][0] in {
        *clean.data.tasks[0].train["id"],
        *clean.data.pool.rows["id"],
        *clean.data.keep["id"],
        *clean.data.harmful["id"],
        *clean.data.benign["id"],
    }


@pytest.mark.parametrize("decontaminate", [Decontaminate(), None])
def test_a_conversation_with_a_probe_among_its_turns_leaves_the_pool(
    collect: Callable[..., Gathered], decontaminate: Decontaminate | None
) -> None:
    pool = [talk("first", "answer", "probe 3", "answer"), talk("probe 4", "answer", "last", "answer"), talk("x", "y")]
    found = collect(pool=pool, clean=Clean(decontaminate=decontaminate))
    assert found.data.harmful.height == 8
    assert prompts(found.data.pool.rows) == {"x"}
    dropped = found.data.pool.dropped
    assert dropped["reason"].to_list() == ["its prompt also stands in: harmful probes"] * 2
    by_id = dict(zip(found.data.harmful["id"], found.data.harmful["messages"].to_list(), strict=True))
    assert [by_id[one][0]["content"] for one in dropped.sort("line")["match"]] == ["probe 3", "probe 4"]


def test_a_short_earlier_turn_of_a_probe_is_no_probe_and_its_last_one_is(collect: Callable[..., Gathered]) -> None:
    probe = {"messages": [*talk("hi", "hello", "mix the salt")["messages"]]}
    pool = [
        talk("hi", "hello there"),
        talk("mix the salt", "no"),
        talk("hi", "hello", "mix the salt", "no"),
        talk("x", "y"),
    ]
    found = collect(pool=pool, harmful=[probe])
    assert prompts(found.data.pool.rows) == {"hi", "x"}
    assert found.data.pool.dropped.sort("line")["line"].to_list() == [2, 3]


@pytest.mark.parametrize("decontaminate", [Decontaminate(), None])
def test_a_probe_in_a_system_turn_leaves_the_pool_since_templates_may_write_it_as_the_users(
    collect: Callable[..., Gathered], decontaminate: Decontaminate | None
) -> None:
    made = [{"system": text, "prompt": f"do it {n}", "response": "no"} for n, text in enumerate(("probe 3", "be kind"))]
    split = {"system": "first half", "prompt": "second half", "response": "no"}
    harmful = [*pairs("probe", 8), {"prompt": "first half\n\nsecond half", "response": "x"}]
    found = collect(pool=[*made, split], harmful=harmful, clean=Clean(decontaminate=decontaminate))
    assert prompts(found.data.pool.rows) == {"do it 1"}


def test_a_given_sets_file_of_the_name_of_a_pools_is_told_apart(
    tmp_path: Path, lines: Callable[..., Source], count_words: Callable[..., list[int]]
) -> None:
    (tmp_path / "other").mkdir()
    found = gather(
        pool=PoolSection(sources=[lines(pairs("pool", 9), "rows.jsonl")]),
        tasks=[TaskSection(name="t", train=lines(pairs("task", 9), "t.jsonl"), test=HeldOut(rows=2))],
        weights={"t": 1.0},
        probes=Probes(harmful=[lines(pairs("probe", 3), "probes.jsonl")]),
        keep=None,
        given=lines(pairs("given", 4), "other/rows.jsonl"),
        count_tokens=count_words,
    )
    assert found.data.pool.rows.group_by("source").len().sort("source").rows() == [
        ("rows.jsonl", 9),
        ("rows.jsonl#2", 4),
    ]
    assert found.resolved["given"]["sources"][0]["label"] == "rows.jsonl#2"


def test_rows_that_the_embedder_reads_in_part_are_no_semantic_duplicates(collect: Callable[..., Gathered]) -> None:
    from curator.represent.encoder import Encoded
    from curator.represent.vectors import SentenceEmbedder

    def encode(_: object, rows: Any) -> Encoded:
        count = len(rows)
        return Encoded(np.ones((count, 1), dtype=np.float32), np.array([len(m[0]["content"]) > 9 for m in rows]))

    pool = [talk("a", "b"), talk("c", "d"), talk("a very long one", "e"), talk("a very long two", "f")]
    found = collect(
        pool=pool, clean=Clean(semantic_duplicates=0.9, near_duplicates=None), embed=SentenceEmbedder(encode)
    )
    assert found.uncompared == 2
    assert {"a very long one", "a very long two"} < prompts(found.data.pool.rows)
    assert found.data.pool.rows.height == 3


def test_the_first_role_that_asks_is_the_one_named(collect: Callable[..., Gathered]) -> None:
    task = min(prompts(collect(rows=30).data.tasks[0].train))
    found = collect(
        rows=30,
        pool=[talk("first", "a", task, "b"), talk("x", "y")],
        keep=[*(talk(f"keep {n}", "a") for n in range(12)), talk(task, "c")],
    )
    leaks = found.dropped.filter(pl.col("stage") == "leak")
    assert leaks.select("role", "reason").rows() == [("keep", "its prompt also stands in: task first")]


def test_two_sources_of_a_role_share_no_row_and_no_label(
    tmp_path: Path, lines: Callable[..., Source], count_words: Callable[..., list[int]]
) -> None:
    (tmp_path / "other").mkdir()
    first, second = lines(pairs("pool", 5), "pool.jsonl"), lines(pairs("pool", 8), "other/pool.jsonl")
    found = gather(
        pool=PoolSection(sources=[first, second]),
        tasks=[TaskSection(name="t", train=lines(pairs("task", 9), "t.jsonl"), test=HeldOut(rows=2))],
        weights={"t": 1.0},
        probes=Probes(harmful=[lines(pairs("probe", 3), "probes.jsonl")]),
        keep=None,
        count_tokens=count_words,
    )
    assert found.data.pool.rows.group_by("source").len().sort("source").rows() == [
        ("pool.jsonl", 5),
        ("pool.jsonl#2", 3),
    ]
    assert found.data.pool.rows["id"].is_sorted()
    assert set(found.data.pool.dropped["source"]) == {"pool.jsonl#2"}
    assert set(found.data.pool.dropped["match"]) < set(found.data.pool.rows["id"])
    assert found.data.pool.dropped["reason"][0] == "the same text as a kept row of an earlier source"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"benign": pairs("task", 40), "rows": None},
            "task first: needs 1 training row, but task.jsonl leaves 0 (40 read; dropped: 30 leak; 10 set aside for "
            "test); give more rows, and none that another role takes first",
        ),
        (
            {"rows": 31},
            "task first: needs 31 training rows, but task.jsonl leaves 30 (40 read; dropped: none; "
            "10 set aside for test); set rows to at most 30, or give more rows",
        ),
        (
            {"test": HeldOut(rows=40)},
            "task first: 40 test rows leave none of the 40 rows of task.jsonl to train on "
            "(40 read; dropped: none); lower test.rows, or give more rows",
        ),
        (
            {"keep": [*pairs("keep", 6), *pairs("pool", 6)]},
            "keep: needs 10 rows, but keep.jsonl leaves 6 (12 read; dropped: 6 leak); "
            "set verify.keep.rows to at most 6, or give more rows",
        ),
        (
            {"pool": pairs("task", 40), "rows": None},
            "pool: no rows left: 40 read; dropped: 40 leak; add sources, or remove what is in tasks or probes",
        ),
        (
            {"benign": pairs("probe", 5)},
            "benign probes: no probes left: 5 read; dropped: 5 leak; give probes that are not among the harmful ones",
        ),
    ],
)
def test_too_few_rows_are_refused_with_the_numbers(
    collect: Callable[..., Gathered], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as error:
        collect(**options)
    assert str(error.value) == message


def test_fewer_probes_than_asked_are_refused_with_the_numbers(
    lines: Callable[..., Source], count_words: Callable[..., list[int]]
) -> None:
    with pytest.raises(DataError) as error:
        gather(
            pool=PoolSection(sources=[lines(pairs("pool", 3), "pool.jsonl")]),
            tasks=[TaskSection(name="t", train=lines(pairs("task", 9), "t.jsonl"), test=HeldOut(rows=2))],
            weights={"t": 1.0},
            probes=Probes(harmful=[lines(pairs("probe", 3), "probes.jsonl", rows=5)]),
            keep=None,
            count_tokens=count_words,
        )
    assert str(error.value) == (
        "harmful probes: needs 5 rows of probes.jsonl, but found 3; set rows to at most 3, or give more rows"
    )
