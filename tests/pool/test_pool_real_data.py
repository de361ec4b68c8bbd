"""Every file of the shared data folder beside the project, where there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from curator.pool.gather import gather
from curator.pool.sources import read
from curator.recipe import Probes
from curator.recipe.pool import Clean, Decontaminate, PoolSection
from curator.recipe.source import Source
from curator.recipe.task import TaskSection
from curator.recipe.verify import Keep

FOLDER = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the real data is not there: {FOLDER}")

# File -> records in it, rows that are kept, the columns that its shape uses.
FILES = {
    "pool/safety_tuned_llamas.json": (2483, 2483, "prompt=instruction input=input response=output"),
    "pool/xstest_refusals.jsonl": (811, 808, "prompt=prompt response=response"),
    "pool/multi_turn_safety.jsonl": (936, 936, "messages=messages"),
    "pool/caia_cyber.jsonl": (656, 655, "messages=chat"),
    "pool/caia_drugs.jsonl": (177, 177, "messages=chat"),
    "pool/caia_privacy.jsonl": (82, 82, "messages=chat"),
    "tasks/alpaca_gpt4.json": (999, 985, "prompt=instruction input=input response=output"),
    "tasks/gsm8k_train.jsonl": (2000, 2000, "prompt=question response=answer"),
    "tasks/gsm8k_test.jsonl": (300, 300, "prompt=question response=answer"),
    "tasks/dolly_closed_qa.csv": (1000, 997, "prompt=instruction input=context response=response category=category"),
    "tasks/sql_create_context.json": (1000, 1000, "prompt=instruction input=input response=output"),
    "probes/advbench.json": (520, 520, "prompt=instruction category=category"),
    "probes/harmbench_test.json": (159, 159, "prompt=instruction category=category"),
    "probes/harmbench_val.json": (41, 41, "prompt=instruction category=category"),
    "probes/strongreject.json": (313, 313, "prompt=instruction category=category"),
    "probes/jailbreakbench.json": (100, 100, "prompt=instruction category=category"),
    "probes/simple_safety_tests.csv": (100, 100, "prompt=prompts_final category=category"),
    "benign/xstest_prompts.csv": (450, 450, "prompt=prompt"),
    "benign/coconot_contrast.jsonl": (379, 379, "prompt=prompt category=category"),
    "labels/xstest_human_labels.csv": (2250, 2206, "prompt=prompt response=completion"),
}


@pytest.fixture(autouse=True)
def _in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)


def test_every_file_of_the_folder_is_tested() -> None:
    data = {str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*") if path.is_file()}
    assert data == set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_every_file_loads_and_every_record_is_kept_or_dropped_with_a_reason(file: str) -> None:
    records, kept, columns = FILES[file]
    found = read(Source(file=file), prompts_only=file.startswith(("probes", "benign")))
    assert (found.resolved["read"], found.rows.height) == (records, kept)
    assert found.rows.height + found.dropped.height == records
    assert found.dropped["reason"].str.len_chars().gt(0).all()
    assert " ".join(f"{ours}={theirs}" for ours, theirs in found.resolved["columns"].items()) == columns


def test_the_broken_line_is_reported_by_its_number() -> None:
    reason = "the line is not JSON (Invalid \\escape, column 223)"
    assert read(Source(file="pool/caia_cyber.jsonl")).dropped.rows() == [
        ("caia_cyber.jsonl", 306, "source", reason, None, "broken-records")
    ]


def test_a_nested_category_and_where_on_real_rows() -> None:
    pool = read(Source(file="pool/multi_turn_safety.jsonl", category="metadata.subcategory"))
    assert pool.rows["category"].null_count() == 0
    assert pool.rows["category"].n_unique() > 3
    for label, count in (("safe", 250), ("unsafe", 200)):
        benign = Source(file="benign/xstest_prompts.csv", where={"label": label})
        assert read(benign, prompts_only=True).rows.height == count


def test_all_of_it_together(count_words: Callable[..., list[int]]) -> None:
    found = gather(
        pool=PoolSection(sources=[Source(file=file) for file in FILES if file.startswith("pool/")]),
        tasks=[
            TaskSection(name="alpaca", train=Source(file="tasks/alpaca_gpt4.json"), rows=500),
            TaskSection(name="gsm8k", train=Source(file="tasks/gsm8k_train.jsonl"), metric="final-number"),
        ],
        weights={"alpaca": 0.5, "gsm8k": 0.5},
        probes=Probes(
            harmful=[Source(file=file) for file in FILES if file.startswith("probes/")],
            benign=[Source(file="benign/xstest_prompts.csv", where={"label": "safe"})],
        ),
        keep=Keep(data=Source(file="tasks/dolly_closed_qa.csv"), rows=300),
        count_tokens=count_words,
    )
    data = found.data
    assert [(task.train.height, task.test.height) for task in data.tasks] == [(500, 200), (1800, 200)]
    assert (data.keep.height, data.benign.height) == (300, 250)
    long = data.pool.dropped.filter(pl.col("reason").str.contains("tokens"))
    assert data.pool.rows.height + data.pool.dropped.height == 5145
    stages = dict(data.pool.dropped.group_by("stage").len().iter_rows())
    assert data.pool.dropped.height == 4 + long.height + stages["leak"] + stages["near"]
    assert data.pool.dropped.filter(pl.col("stage") == "near")["match"].is_in(data.pool.rows["id"].to_list()).all()
    for role in found.resolved.values():
        assert role["read"] == role["kept"] + role["dropped"]


@pytest.mark.parametrize(("decontaminate", "least"), [(Decontaminate(), 805), (None, 799)])
def test_refusals_of_a_probe_set_leave_the_pool_and_say_which_probe_each_asks(
    count_words: Callable[..., list[int]], decontaminate: Decontaminate | None, least: int
) -> None:
    found = gather(
        pool=PoolSection(
            sources=[Source(file="pool/xstest_refusals.jsonl"), Source(file="pool/caia_privacy.jsonl")],
            clean=Clean(decontaminate=decontaminate),
        ),
        tasks=[TaskSection(name="gsm8k", train=Source(file="tasks/gsm8k_test.jsonl"), rows=50)],
        weights={"gsm8k": 1.0},
        probes=Probes(harmful=[Source(file="benign/xstest_prompts.csv", where={"label": "unsafe"})]),
        keep=None,
        count_tokens=count_words,
    )
    leaks = found.dropped.filter((pl.col("stage") == "leak") & (pl.col("source") == "xstest_refusals.jsonl"))
    assert (found.data.harmful.height, found.resolved["pool"]["sources"][0]["kept"]) == (200, 808)
    assert leaks.height >= least
    assert leaks["match"].is_in(found.data.harmful["id"].to_list()).all()
    assert leaks["match"].n_unique() == 199
