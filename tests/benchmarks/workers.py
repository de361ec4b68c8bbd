"""Tokens a second that several processes train together, each with its share of the cores, against one with all cores.

Every process trains the same model by LoRA on the same made-up rows, as a run does, and all of them start together.
What counts is the time of the slowest, without loading the model.

OMP_WAIT_POLICY=passive python -m tests.benchmarks.workers --model FOLDER [--workers 1 2] [--steps 3] [--tokens 120]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

from curator.recipe.training import Training

BATCH = 16


def trained(given, threads, start, told):
    """Trains in this process, once every other one is ready; tells (tokens, seconds) of the steps."""
    import torch
    from transformers import TrainerCallback

    from curator.model.load import load_tokenizer, quiet
    from curator.train import sft, trainer

    quiet()
    torch.set_num_threads(threads)
    spent = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *_args, **_settings):
            start.wait()
            self.begun = time.perf_counter()

        def on_step_end(self, *_args, **_settings):
            spent.append(time.perf_counter() - self.begun)

    class Clocked(trainer.PassTrainer):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.add_callback(Clock())

    trainer.PassTrainer = Clocked
    # Rows are from a third to five thirds as long as the mean, in an order of no meaning.
    words = (
        "the baker in the harbour town weighs flour and salt while gulls cry over the roofs " * given.tokens
    ).split()
    lengths = [given.tokens * (5 + 4 * (7 * number % BATCH)) // 45 for number in range(BATCH * given.steps)]
    rows = [
        [{"role": "user", "content": "What happens?"}, {"role": "assistant", "content": " ".join(words[:length])}]
        for length in lengths
    ]
    with tempfile.TemporaryDirectory() as folder:
        done = sft.train_here(
            rows, base=given.model, revision=None, adapters=(), tokenizer=load_tokenizer(given.model),
            section=Training(method="lora", batch=BATCH, micro_batch=8, steps=given.steps, max_tokens=8 * given.tokens),
            steps=given.steps, seed=0, folder=Path(folder), key="align", dtype=given.dtype,
        )  # fmt: skip
    told.put((done.tokens, spent[-1], done.peak_gib))


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="a folder of weights with a chat template")
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=120, help="about as many in each row")
    parser.add_argument("--dtype", default="bf16")
    given = parser.parse_args()
    cores, base = len(os.sched_getaffinity(0)), None
    context = multiprocessing.get_context("spawn")
    print("| processes | threads each | tokens a second | against the first | GiB each |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for workers in given.workers:
        threads, start, told = max(1, cores // workers), context.Barrier(workers), context.Queue()
        running = [context.Process(target=trained, args=(given, threads, start, told)) for _ in range(workers)]
        for process in running:
            process.start()
        results = [told.get() for _ in running]
        for process in running:
            process.join()
        rate = sum(tokens for tokens, _, _ in results) / max(seconds for _, seconds, _ in results)
        base = base or rate
        peak = max(gib for _, _, gib in results)
        print(f"| {workers} | {threads} | {rate:.0f} | {rate / base:.2f} | {peak:.1f} |", flush=True)


if __name__ == "__main__":
    main()
