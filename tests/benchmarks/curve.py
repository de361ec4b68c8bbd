"""What a curve costs: the sandbox's grid with harmful probes at checkpoints, and without; prints one table.

python tests/benchmarks/curve.py [--seeds 2] [--set KEY=VALUE ...]

The quickstart with two arms and one worker of one thread, built as far as its sets, and then once with
`probe_at: [0.1, 0.25, 0.5, 1.0]` and once without, from the same sets: CPU seconds of this process in stages train,
answer and judge. One grid is built first and not counted, since libraries are loaded and caches filled in it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from curator.pipeline import build
from curator.provenance import set_threads
from curator.recipe.file import read

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
CURVE = "tasks.list.probe_at=[0.1, 0.25, 0.5, 1.0]"
STAGES = ("train", "answer", "judge")


def spent(root: Path, settings: Sequence[str]) -> dict[str, float]:
    """CPU seconds of each stage."""
    seconds = {}
    for stage in STAGES:
        clock = time.process_time()
        build(read(RECIPE, settings), root, until=stage)
        seconds[stage] = time.process_time() - clock
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    set_threads(1)
    plain = ["verify.arms=[curated, random]", f"verify.seeds={asked.seeds}", "engine.workers=1", *asked.set]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(read(RECIPE, plain), folder / "sets", until="select")
        costs: dict[str, list[dict[str, float]]] = {"end": [], "curve": []}
        for number, kind in enumerate(("end", "end", "curve", "curve", "end")):
            root = folder / f"{kind}-{number}"
            shutil.copytree(folder / "sets", root)
            costs[kind].append(spent(root, [*plain, CURVE] if kind == "curve" else plain))
            shutil.rmtree(root)
    del costs["end"][0]
    print("| what | train | answer | judge | together | ratio |\n| --- | --- | --- | --- | --- | --- |")
    means = {
        kind: {stage: sum(cost[stage] for cost in several) / len(several) for stage in STAGES}
        for kind, several in costs.items()
    }
    whole = sum(means["end"].values())
    for kind, mean in means.items():
        parts = " | ".join(f"{mean[stage]:.2f} s" for stage in STAGES)
        print(f"| {kind} | {parts} | {sum(mean.values()):.2f} s | {sum(mean.values()) / whole:.2f} |")


if __name__ == "__main__":
    main()
