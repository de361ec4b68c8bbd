"""Selection and scoring against peers and against this machine's matrix product; prints one table.

python tests/benchmarks/selection.py [--peers PYTHON] [--cases peers-5k peers-20k score whole-100k whole-1m real]

PYTHON is an interpreter that has apricot-select and submodlib-py (they need not be where curator is). Every case runs in
its own process, so that peak memory is its own. Ratios are of things measured in one run; seconds are not stable.

Clustered vectors: n / 200 centres, uniform on the sphere of d = 384; a row is its centre, plus a uniform share in [0, 0.7]
of another random centre, plus noise of standard deviation 0.05 in every column, made unit. So rows of one cluster have
cosines near 0.45, and clusters overlap.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 384
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
        part += rng.uniform(0, 0.7, (size, 1)).astype(np.float32) * centres[rng.integers(len(centres), size=size)]
        part += 0.05 * rng.standard_normal((size, WIDTH), dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def against_peers(n: int, k: int, peers: str | None) -> list[Row]:
    from scipy.sparse import csr_matrix, save_npz

    from curator.select.coverage import FacilityLocation
    from curator.select.greedy import lazy_greedy, objective_value
    from curator.select.limits import limits
    from curator.select.problem import prepare

    problem = prepare(clustered(n), np.zeros(n), neighbours=32)
    start = time.perf_counter()
    found, columns = problem.graph, problem.columns
    rows = [{"what": f"n={n} graph ({found.method})", "seconds": time.perf_counter() - start}]
    bounds, penalty = limits(problem, k), np.zeros(n)
    start = time.perf_counter()
    term = FacilityLocation(problem, np.zeros(n))
    picks, _ = lazy_greedy(term, penalty, bounds)
    ours = time.perf_counter() - start
    value = objective_value(term, penalty, picks)
    rows.append({"what": f"n={n} k={k} curator", "seconds": ours, "value": value})
    if peers is None:
        return rows
    covers = csr_matrix((columns.cosine, columns.covered, columns.start), shape=(n, n))  # row s
    with tempfile.TemporaryDirectory() as folder:
        save_npz(f"{folder}/kernel.npz", covers.T.tocsr())
        for name in ("apricot", "submodlib"):
            command = [peers, str(Path(__file__).with_name("peers.py")), name, folder, str(k)]
            try:
                ran = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
            except subprocess.TimeoutExpired:
                rows.append({"what": f"n={n} k={k} {name}", "note": "more than 900 s"})
                continue
            if ran.returncode:
                last = (ran.stderr.strip().splitlines() or ["no message"])[-1]
                rows.append({"what": f"n={n} k={k} {name}", "note": f"failed ({ran.returncode}): {last[:90]}"})
                continue
            out = json.loads(ran.stdout)
            chosen = out["picks"]
            note = f"build {out['build']:.2f} s" if out["build"] else ""
            if len(set(chosen)) < k:
                note += f"; only {len(set(chosen))} different picks"
            theirs = objective_value(term, penalty, sorted(set(chosen)))
            rows.append(
                {
                    "what": f"n={n} k={k} {name}",
                    "seconds": out["seconds"],
                    "value": theirs,
                    "ratio": f"ours takes {ours / out['seconds']:.4f} of its time; value {value / theirs - 1:+.2e}",
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
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        torch.matmul(a, b.T, out=out)
        rates.append(2 * out.numel() * WIDTH / (time.perf_counter() - start) / 1e9)
    sgemm = max(rates)
    rows: list[Row] = [{"what": "sgemm (torch, 16,384 x 8,192 x 384)", "ratio": f"{sgemm:.0f} GFLOP/s"}]
    del a, b, out
    ids = tuple(f"{i:06d}" for i in range(200_000))
    vectors = Vectors(ids, pool, "test"), {"t": Vectors(ids[:20_000], task, "test")}
    for aggregate in ("max", "top-mean", "mean"):
        before, start = peak_gib(), time.perf_counter()
        cosine(*vectors, {"t": 1.0}, aggregate=aggregate, n=10)
        seconds = time.perf_counter() - start
        rate = 2 * 200_000 * 20_000 * WIDTH / seconds / 1e9
        rows.append(
            {
                "what": f"score 200,000 x 20,000 x 384, {aggregate}",
                "seconds": seconds,
                "ratio": f"{rate / sgemm:.0%} of sgemm",
                "note": f"peak memory rises by {peak_gib() - before:.2f} GiB",
            }
        )
    return rows


def whole(vectors: np.ndarray, k: int, score: np.ndarray, neighbours: int, what: str) -> list[Row]:
    from curator.select import limits, prepare, solve

    start = time.perf_counter()
    problem = prepare(vectors, score, neighbours=neighbours)
    bounds = limits(problem, k)
    prepared = time.perf_counter()
    found = problem.graph
    problem.columns  # noqa: B018 - built when first read
    graphed = time.perf_counter()
    chosen = solve(problem, bounds, weight=0.5)
    end = time.perf_counter()
    note = (
        f"graph {graphed - prepared:.1f} s ({found.method}, {found.cells} cells, {found.probes} probes, recall "
        f"{found.recall:.4f}), greedy and certificate {end - graphed:.1f} s; gap {chosen.gap:.4f}, relative gap "
        f"{chosen.relative_gap:.4f}, all pairs {chosen.all_pairs_value:.4f}; peak {peak_gib():.2f} GiB"
    )
    return [{"what": f"{what}, k={k}, whole", "seconds": end - start, "value": chosen.value, "note": note}]


def generated(n: int, k: int) -> list[Row]:
    score = np.random.default_rng(1).standard_normal(n)
    return whole(clustered(n), k, score, 32, f"n={n}")


def real() -> list[Row]:
    folder = os.environ.get("CURATOR_BENCHMARK_VECTORS")
    if not folder:
        return [{"what": "real pool", "note": "set CURATOR_BENCHMARK_VECTORS to a folder with pool.npy and score.npy"}]
    vectors, score = np.load(Path(folder) / "pool.npy"), np.load(Path(folder) / "score.npy")
    return whole(vectors, 500, score, 64, f"real pool, n={len(vectors)}")


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
        print(json.dumps(run_case(given.one, given.peers)))  # noqa: T201
        return
    print("| what | seconds | value | ratio | note |\n| --- | --- | --- | --- | --- |")  # noqa: T201
    for case in given.cases:
        command = [sys.executable, __file__, "--one", case, *(["--peers", given.peers] if given.peers else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        rows = (
            json.loads(done.stdout) if done.returncode == 0 else [{"what": case, "note": f"failed {done.returncode}"}]
        )
        for row in rows:
            seconds = f"{row['seconds']:.2f}" if "seconds" in row else ""
            value = f"{row['value']:.6f}" if "value" in row else ""
            print(f"| {row['what']} | {seconds} | {value} | {row.get('ratio', '')} | {row.get('note', '')} |")  # noqa: T201
        sys.stdout.flush()


if __name__ == "__main__":
    main()
