"""Pools larger than memory: their text stays on the disk, and nothing else about them changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from curator.pool import rows as pool_rows
from curator.pool.near import near_duplicates
from curator.pool.sources import read
from curator.recipe.source import Source
from curator.records import CHUNK, Conversations
from curator.run.files import load_frame, save_mapped
from tests.benchmarks.pool import resampled

# Gathers a pool from a file, saves it, and goes through it as later stages do; prints the most memory of its own, in
# MiB, that the process held above what it held at first. Pages mapped from a file are not its own: the system takes
# them back.
GATHERED = """
import json, os, sys, threading, time
from pathlib import Path
from curator.records import Conversations
from curator.pool.gather import gather
from curator.pool.near import near_duplicates
from curator.recipe import Probes
from curator.recipe.task import TaskSection
from curator.recipe.pool import PoolSection
from curator.run.files import load_data, save_data

def own():
    return next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("RssAnon"))

folder, first, most = Path(sys.argv[1]), own(), [0]

def watch():
    while True:
        most[0] = max(most[0], own())
        time.sleep(0.01)

threading.Thread(target=watch, daemon=True).start()
os.chdir(folder)
found = gather(
    pool=PoolSection.model_validate({"sources": [{"file": "pool.jsonl"}]}),
    tasks=[TaskSection.model_validate({"name": "task", "train": {"file": "task.jsonl"}, "test": {"rows": 2}})],
    weights={"task": 1.0},
    probes=Probes.model_validate({"harmful": [{"file": "probes.jsonl"}]}),
    keep=None, count_tokens=lambda rows: [1 for _ in rows], scratch=folder / "stage",
)
(folder / "stage").mkdir(exist_ok=True)
save_data(folder / "stage", found.data)
rows = found.data.pool.rows.height
del found
again = load_data(folder / "stage").pool.rows
characters = sum(len(turn["content"]) for messages in Conversations(again) for turn in messages)
print(json.dumps({"rows": rows, "characters": characters, "most": most[0] - first}))
"""


def lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.slow
def test_the_text_of_a_large_pool_is_never_in_memory(tmp_path: Path) -> None:
    small, large = gathered(tmp_path / "small", 1500), gathered(tmp_path / "large", 6000)
    text = (large["characters"] - small["characters"]) / 2**20
    assert text > 250
    assert large["most"] - small["most"] < 0.25 * text, f"{small['most']} MiB became {large['most']}"


def gathered(folder: Path, count: int, length: int = 64 * 1024) -> dict[str, int]:
    (folder / "stage").mkdir(parents=True)
    with (folder / "pool.jsonl").open("w", encoding="utf-8") as stream:
        for row in range(count):
            word = f"{row:08x}".ljust(512, "x")
            text = " ".join(f"{word}{place}" for place in range(length // 515))
            stream.write(json.dumps({"prompt": f"Question {row} of the pool?", "response": text}) + "\n")
    lines(folder / "task.jsonl", [{"prompt": f"Task {row}", "response": f"Done {row}"} for row in range(10)])
    lines(folder / "probes.jsonl", [{"prompt": f"Probe number {row} of a few"} for row in range(10)])
    done = subprocess.run(
        [sys.executable, "-c", GATHERED, str(folder)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    assert found["rows"] == count
    assert not [left for left in (folder / "stage").iterdir() if left.name.startswith(".")], "scratch files are left"
    return found


def test_rows_are_the_same_whether_their_text_lies_in_a_file_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{name: row[name] for name in ("prompt", "response")} for row in resampled(3000, seed=4)]
    lines(tmp_path / "pool.jsonl", rows)
    for source in (Source(file="pool.jsonl"), Source(file="pool.jsonl", rows=500)):
        held = read(source, base=tmp_path)
        monkeypatch.setattr(pool_rows, "CHUNK", 100)
        monkeypatch.setattr(pool_rows, "SPILL", 0)
        (tmp_path / "scratch").mkdir(exist_ok=True)
        spilled = read(source, base=tmp_path, scratch=tmp_path / "scratch")
        monkeypatch.undo()
        assert spilled.rows.equals(held.rows)
        assert spilled.dropped.sort("line").equals(held.dropped.sort("line"))
        assert spilled.resolved == held.resolved
        assert not list((tmp_path / "scratch").iterdir())


def test_a_sequence_of_conversations_is_the_list_of_them(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "messages": [
                [{"role": "user", "content": f"q{row}"}, {"role": "assistant", "content": "a" * (row % 7)}]
                for row in range(2 * CHUNK + 5)
            ]
        }
    )
    save_mapped(tmp_path / "rows.arrow", frame)
    whole = frame["messages"].to_list()
    for rows in (frame, load_frame(tmp_path / "rows.arrow")):
        found = Conversations(rows)
        assert len(found) == len(whole)
        assert list(found) == whole
        assert found[3:9] == whole[3:9]
        assert [found[0], found[-1]] == [whole[0], whole[-1]]
        with pytest.raises(IndexError):
            found[len(whole)]
    asked = Conversations(frame, lambda messages: messages[:1])
    assert list(asked) == [one[:1] for one in whole]
    assert asked[1:3] == [one[:1] for one in whole[1:3]]


def test_near_duplicates_of_rows_with_many_companions_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": "One answer for all."},
        ]
        for row in resampled(400, seed=5)
    ]
    few = near_duplicates(rows, threshold=0.8)
    monkeypatch.setattr("curator.pool.near._MANY", 5)
    assert near_duplicates(rows, threshold=0.8) == few
