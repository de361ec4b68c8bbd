"""Ingest, duplicates and decontamination of a large pool, and near duplicates beside text-dedup. Prints a table.

python tests/benchmarks/pool.py [--rows 100000] [--probes 2000] [--peers PYTHON] [--peer-rows 20000]

Rows are resampled from a clean made-up pool with word edits: see `resampled`. PYTHON is an interpreter with text-dedup
0.4.0 (pip install text-dedup==0.4.0); it is given the same rows, and its own defaults but for the threshold.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.pool.planted import edited, sentence

PEER = Path(__file__).with_name("dedup_peer.py")


def resampled(count: int, seed: int) -> list[dict[str, Any]]:
    """`count` rows: 85% of their own, 5% copies, 10% near copies (one word in 25 edited) of rows before them; `own`
    is the row that each stems from.
    """
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        draw = rng.random()
        if number < 10 or draw < 0.85:
            response = sentence(rng, rng.randrange(20, 120))
            rows.append({"prompt": sentence(rng, rng.randrange(8, 30)), "response": response, "own": number})
            continue
        source = rows[rng.randrange(number)]
        row = dict(source)
        if draw >= 0.9:
            length = len(f"{row['prompt']} {row['response']}".split())
            row["response"] = edited(row["response"], rng, max(1, round(length / 25)))
        rows.append(row)
    return rows


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    clock, cpu = time.perf_counter(), time.process_time()
    made = work()
    return made, time.perf_counter() - clock, time.process_time() - cpu


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def line(what: str, clock: float, cpu: float, note: str) -> None:
    print(f"| {what} | {clock:.1f} | {cpu:.1f} | {note} |", flush=True)


def whole(count: int, probes: int, folder: Path) -> None:
    from curator.pool.decontaminate import ProbeIndex
    from curator.pool.near import near_duplicates
    from curator.pool.sources import read
    from curator.recipe.source import Source

    rows = resampled(count, 0)
    rng = random.Random(1)
    asked = [{"prompt": sentence(rng, rng.randrange(8, 20))} for _ in range(probes)]
    for place in rng.sample(range(count), count // 100):
        rows[place]["prompt"] = f"{sentence(rng, 5)} {rng.choice(asked)['prompt']}"
    for name, made in (("rows", rows), ("probes", asked)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    del rows
    found, clock, cpu = timed(lambda: read(Source(file="rows.jsonl"), base=folder))
    total, spent = clock, cpu
    line(
        f"ingest and exact duplicates, {count:,} rows", clock, cpu, f"{found.rows.height:,} kept; peak {peak():.2f} GiB"
    )
    asks = read(Source(file="probes.jsonl"), base=folder, prompts_only=True).rows

    def clean() -> int:
        ready = ProbeIndex([("probes", asks)], ngram=3, overlap=0.8, shortest=5)
        parts = (ready.leaks(part["messages"].to_list()) for part in found.rows.iter_slices(8192))
        return sum(leak is not None for part in parts for leak in part)

    leaks, clock, cpu = timed(clean)
    total, spent = total + clock, spent + cpu
    line(f"decontamination against {probes:,} probes", clock, cpu, f"{leaks:,} rows leave; peak {peak():.2f} GiB")
    near, clock, cpu = timed(lambda: near_duplicates(found.rows["messages"].to_list(), threshold=0.8))
    total, spent = total + clock, spent + cpu
    line("near duplicates, Jaccard 0.8", clock, cpu, f"{len(near):,} rows leave; peak {peak():.2f} GiB")
    line("**all of it**", total, spent, f"peak {peak():.2f} GiB")


def against(count: int, python: str | None, folder: Path) -> None:
    """Near duplicates among `count` rows without copies, by ours and by text-dedup, judged by what was edited."""
    from curator.pool.near import near_duplicates

    made = resampled(count, 2)
    texts, families, seen = [], [], set()
    for row in made:
        text = (row["prompt"], row["response"])
        if text not in seen:
            seen.add(text)
            texts.append(text)
            families.append(row["own"])
    rows = [[{"role": "user", "content": one}, {"role": "assistant", "content": other}] for one, other in texts]
    # A family is one row and all its edited copies; every row of it but one must leave.
    surplus = len(families) - len(set(families))

    def judged(left: set[int]) -> str:
        stays = {family for number, family in enumerate(families) if number not in left}
        right = len(left) - (len(set(families)) - len(stays))  # a family that left whole lost one row too many
        recall, precision = right / surplus, right / max(len(left), 1)
        return f"{len(left):,} of {surplus:,} leave, F1 {2 * recall * precision / (recall + precision):.4f}"

    found, clock, cpu = timed(lambda: near_duplicates(rows, threshold=0.8))
    line(f"near duplicates of {len(rows):,} rows, curator", clock, cpu, judged({match.row for match in found}))
    if python is None:
        return
    (folder / "peer.jsonl").write_text(
        "".join(
            json.dumps({"number": number, "text": f"{one} {other}"}) + "\n" for number, (one, other) in enumerate(texts)
        ),
        encoding="utf-8",
    )
    done = subprocess.run([python, str(PEER), str(folder / "peer.jsonl")], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    line("the same, text-dedup 0.4.0", told["seconds"], told["cpu"], judged(set(told["removed"])))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--probes", type=int, default=2000)
    parser.add_argument("--peers")
    parser.add_argument("--peer-rows", type=int, default=20_000)
    options = parser.parse_args()
    print("| what | seconds | CPU s | note |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as made:
        whole(options.rows, options.probes, Path(made))
        against(options.peer_rows, options.peers, Path(made))
