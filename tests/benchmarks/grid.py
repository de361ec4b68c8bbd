"""The verification grid against the plain way, in one run; prints one table.

python tests/benchmarks/grid.py [--seeds 3] [--plain 2]

Ours: 4 arms (curated, random, matched random, none) x 2 tasks x SEEDS seeds of the sandbox by `curator build`, from
nothing. Plain: PLAIN runs of `plain_arm.py`, one script an arm, seed and task, each in a process of its own, with as
many rows, the same steps, batch and learning rates, and the same probes before and after, asked one by one. An arm-run
is one arm, seed and task, trained and asked before and after. Half of the plain scripts run before ours and half after,
so that a machine that slows down meanwhile slows both.
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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "quickstart.yaml"
TASKS = ("list", "dialogue")


def plain_job(folder: Path, seed: int, task: str) -> Path:
    from curator.recipe.file import read
    from curator.sandbox import path, rows

    verify = read(RECIPE).verify
    draw = random.Random(seed)

    def clean(name: str) -> list[Any]:
        found = [one["messages"] for one in rows(name)]
        return [one for one in found if all(turn.get("role") and turn.get("content") for turn in one) and len(one) > 1]

    def settings(section: Any) -> dict[str, Any]:
        names = ("steps", "batch", "learning_rate")
        return {**{name: getattr(section, name) for name in names}, "folder": str(folder / "trl")}

    prompts = [one["messages"] for one in [*rows("forbidden-probes"), *rows("benign-probes")]]
    test = clean(task)[400:500]
    job = {
        "model": str(path()),
        "seed": seed,
        "rows": {
            "align": draw.sample(clean("pool"), 100) + draw.sample(clean("keep"), 200),
            "finetune": clean(task)[:400],
        },
        "align": settings(verify.align),
        "finetune": settings(verify.finetune),
        "prompts": [*prompts, *(one[:-1] for one in test)],
        "limit": verify.generate.max_new_tokens,
    }
    file = folder / f"job-{task}-{seed}.json"
    file.write_text(json.dumps(job))
    return file


def run_plain(folder: Path, number: int) -> dict[str, float]:
    file = plain_job(folder, number, TASKS[number % 2])
    clock = time.perf_counter()
    command = [sys.executable, str(Path(__file__).with_name("plain_arm.py")), str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(ran.stderr)
    told = next(line for line in ran.stdout.splitlines() if line.startswith("RESULT "))
    return {**json.loads(told.removeprefix("RESULT ")), "wall": time.perf_counter() - clock}


def run_ours(folder: Path, seeds: int) -> dict[str, Any]:
    tasks = [
        f"{{name: {name}, train: {{sandbox: {name}}}, rows: 400, test: {{rows: 100}}, metric: exact}}" for name in TASKS
    ]
    settings = [f"tasks=[{', '.join(tasks)}]", f"verify.seeds={seeds}"]
    settings.append("verify.arms=[curated, random, matched-random, none]")
    command = [sys.executable, "-m", "curator", "build", str(RECIPE), "--out", str(folder / "run")]
    clock = time.perf_counter()
    subprocess.run([*command, *(word for one in settings for word in ("--set", one))], cwd=ROOT, check=True,
                   capture_output=True)  # fmt: skip
    wall = time.perf_counter() - clock
    stages = json.loads((folder / "run" / "8-report" / "report.json").read_text())["timing"]["stages"]
    return {"wall": wall, "stages": stages, "peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--plain", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = [run_plain(folder, number) for number in range(asked.plain // 2)]
        ours = run_ours(folder, asked.seeds)
        plain += [run_plain(folder, number) for number in range(asked.plain // 2, asked.plain)]
    runs, stages = 4 * len(TASKS) * asked.seeds, ours["stages"]
    one = sum(each["wall"] for each in plain) / len(plain)
    rate, theirs = runs / ours["wall"] * 3600, 3600 / one
    told = ", ".join(
        f"{key} {sum(each[key] for each in plain) / len(plain):.1f} s" for key in ("loading", "train", "generate")
    )
    parts = {"train": "5-train", "generate": "6-answer", "judge": "7-judge"}
    spent = {key: stages[stage] for key, stage in parts.items()}
    spent["overhead"] = ours["wall"] - sum(spent.values())
    print("| what | arm-runs | seconds | arm-runs an hour | where the time goes |\n| --- | --- | --- | --- | --- |")
    print(
        f"| a trl script an arm, seed and task | {len(plain)} | {one * len(plain):.0f} | {theirs:.0f} | {told}, each |"
    )
    shares = ", ".join(f"{key} {value:.0f} s ({value / ours['wall']:.0%})" for key, value in spent.items())
    print(f"| `curator build`, from nothing | {runs} | {ours['wall']:.0f} | {rate:.0f} | {shares} |")
    print(f"\nRatio {rate / theirs:.1f}; largest process {ours['peak']:.2f} GiB.")


if __name__ == "__main__":
    main()
