"""How well metagradients foretell retrained models: Spearman's rho over random subsets of the sandbox's pool (LDS).

python tests/benchmarks/metagradient.py FOLDER [--rows N] [--subsets N] [--kept SHARE] [--align N] [--finetune N]

For each subset the outcome is foretold as the sum of the scores of the rows that are left, and measured twice after
both trainings: in the course that is differentiated, with weight 0 on the rows left out, and by the product's own
trainer on the rows that are left, with as many steps. Prints Markdown; FOLDER is where runs and models go.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import torch

SETTINGS = ["verify.regime={}", "verify.log_odds={refuse: ['i cannot', sorry], comply: [sure, here, take]}"]


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("folder", type=Path)
    asked.add_argument("--rows", type=int, default=200)
    asked.add_argument("--subsets", type=int, default=30)
    asked.add_argument("--kept", type=float, default=0.5)
    asked.add_argument("--align", type=int, default=14)
    asked.add_argument("--finetune", type=int, default=8)
    options = asked.parse_args()

    from curator.decision.statistics import spearman
    from curator.model.chat import encode_all
    from curator.pipeline import build
    from curator.provenance import set_threads
    from curator.recipe.score import Score
    from curator.run import Run
    from curator.score.halves import Workshop
    from curator.score.metagradient import trial_of
    from curator.score.models import QUESTIONS, Passes
    from curator.train.job import Count
    from tests.small_run import recipe

    set_threads(1)
    settings = [f"pool.sources.0.rows={options.rows}", f"verify.align.steps={options.align}"]
    settings += [f"verify.finetune.steps={options.finetune}", "score={from: metagradient}", *SETTINGS]
    root = options.folder / "run"
    build(recipe(*settings), root, until="represent")
    run = Run.open(root, "pool")
    ids = tuple(run.data().pool.rows["id"])
    workshop = Workshop(run, root.absolute() / "models", map, Count(lambda *_: None, 0))
    (job,) = QUESTIONS["metagradient"](Score(kind="metagradient"), Passes(workshop, ids), []).jobs
    tokenizer, course = job.load_tokenizer(), job.course
    trial = trial_of(course, encode_all(tokenizer, job.rows.messages()), job.weights.load(), tokenizer)
    clock = time.process_time()
    scores = trial.gradients()["list"]
    seconds = time.process_time() - clock
    ones = torch.ones(len(ids))
    clock = time.process_time()
    whole = trial.after(ones, "list")
    once = time.process_time() - clock
    random, foretold, same, real = np.random.default_rng(0), [], [], []
    messages, keep = job.rows.messages(), [turns for rows in course.keep for turns in rows.messages()]
    tuned = [turns for rows in dict(course.tasks)["list"] for turns in rows.messages()]
    for _ in range(options.subsets):
        left = random.random(len(ids)) < options.kept
        foretold.append(float(scores[left].sum()))
        same.append(trial.after(torch.tensor(left, dtype=torch.float32), "list"))
        kept = [turns for turns, stays in zip(messages, left, strict=True) if stays]
        real.append(retrained(trial, job, [*kept, *keep], tuned, tokenizer, options.folder))
    rho = [float(spearman(np.array([foretold]), np.array([values]))[0]) for values in (same, real)]
    print("| rows | steps | subsets | outcome of the whole pool | rho, course | rho, trainer | CPU s | of one course |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    steps = f"{trial.phase(None).steps} and {trial.phase('list').steps}"
    figures = f"{whole:.2f} | {rho[0]:.2f} | {rho[1]:.2f} | {seconds:.1f} | {once:.1f}"
    print(f"| {len(ids)} | {steps} | {options.subsets} | {figures} |")
    print(f"sd of outcomes: course {np.std(same):.3f}, trainer {np.std(real):.3f}")


def retrained(trial, job, rows, tuned, tokenizer, folder):
    """The outcome after both trainings by the product's own trainer."""
    from curator.model.load import load_model
    from curator.train.sft import train

    base, revision = job.weights.base, job.weights.revision
    for number, (part, section, phase) in enumerate(((rows, trial.align, None), (tuned, trial.finetune, "list"))):
        place = folder / f"model-{number}"
        shutil.rmtree(place, ignore_errors=True)
        trained = train(
            part, base=base, revision=revision, adapters=(), tokenizer=tokenizer, section=section,
            steps=trial.phase(phase).steps, seed=number, folder=place, key="benchmark",
        )  # fmt: skip
        base, revision = trained.path, None
    return float(trial.outcome(dict(load_model(base).named_parameters())).detach())


if __name__ == "__main__":
    main()
