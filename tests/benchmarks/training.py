"""Training a real model: tokens a CPU second of trl as it comes, in fp32, and of ours, in one process.

Rows are those of safety_tuned_llamas, 16 a step, of which 4 or 16 are taken at a time; every way gets the same rows in
the same order. `torch` is ours with torch's attention. The first step of a training warms up and is not counted, nor is
loading. Between the ways the rate of one square matrix product in each dtype is measured, so that all saw the same
machine.

OMP_WAIT_POLICY=passive python tests/benchmarks/training.py --model FOLDER [--steps 3]
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PrinterCallback, TrainerCallback, set_seed

from curator.model.attention import take_attention
from curator.model.chat import encode_all
from curator.model.load import load_tokenizer, quiet
from curator.recipe.training import Training
from curator.train.adapter import with_adapter
from curator.train.sft import _arguments
from curator.train.trainer import PassTrainer, SFTTrainer

ROWS = Path(__file__).parents[3] / "shared" / "data" / "pool" / "safety_tuned_llamas.json"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Clock(TrainerCallback):
    """CPU seconds of every step."""

    def __init__(self):
        self.spent = []

    def on_step_begin(self, *_args, **_settings):
        self.begun = time.process_time()

    def on_step_end(self, *_args, **_settings):
        self.spent.append(time.process_time() - self.begun)


class Widths(dict):
    """Padded tokens and passes of the forward passes of a body."""

    def __call__(self, _body, _args, given):
        self["passes"] = self.get("passes", 0) + 1
        self["tokens"] = self.get("tokens", 0) + given["input_ids"].numel()


def product_rate(dtype, size=2048):
    """FLOP a CPU second of square products: the best of a few."""
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(6):
        begun = time.process_time()
        for _ in range(4):
            left @ right
        best = max(best, 4 * 2 * size**3 / (time.process_time() - begun))
    return best


def flops(model, lengths, labelled, method):
    """Of a step on these tokens: the products of the body for all, the head's for labelled ones; no padding."""
    config = model.config
    head = config.vocab_size * config.hidden_size
    body = sum(weight.numel() for weight in model.base_model.parameters()) - head
    # Forward, gradient to states, and gradient of weights, which frozen weights have none of.
    times = 3 if method == "full" else 2
    attention = sum(2 * 2 * length**2 * config.hidden_size * config.num_hidden_layers * 3 / 2 for length in lengths)
    return 2 * times * (body * sum(lengths) + head * labelled) + attention


def run(way, path, tokenizer, rows, *, method, dtype, micro_batch, steps):
    """One training; what it took a step."""
    loaded = DTYPES[dtype] if method == "lora" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(path, dtype=loaded)
    section = Training(method=method, batch=16, micro_batch=micro_batch, steps=steps + 1, learning_rate=1e-5)
    table = Dataset.from_dict(
        {
            "input_ids": [list(row.ids) for row in rows],
            "labels": [[-100] * row.start + list(row.ids[row.start :]) for row in rows],
        }
    )
    if way == "ours" and dtype == "bf16":
        take_attention(model)
    cost = flops(model, [len(row.ids) for row in rows], sum(len(row.ids) - row.start for row in rows), method)
    widths, clock = Widths(), Clock()
    model.base_model.register_forward_pre_hook(widths, with_kwargs=True)
    set_seed(0)
    if method == "lora":
        model = with_adapter(model, section)
    with tempfile.TemporaryDirectory() as folder:
        arguments = _arguments(section, steps + 1, 0, Path(folder), dtype=dtype, saves=False, tracker=None)
        settings = {"model": model, "train_dataset": table, "processing_class": tokenizer, "callbacks": [clock]}
        if way == "trl":
            arguments = replace(
                arguments, per_device_train_batch_size=micro_batch, gradient_accumulation_steps=16 // micro_batch
            )
            trainer = SFTTrainer(args=arguments, **settings)
        else:
            trainer = PassTrainer(args=arguments, blank=0, micro_batch=micro_batch, **settings)
        trainer.remove_callback(PrinterCallback)
        widths.clear()
        trainer.train()
    seen = trainer.state.num_input_tokens_seen / (steps + 1)
    spent = sum(clock.spent[1:]) / steps
    loss = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    per_token = cost / sum(len(row.ids) for row in rows)
    return {
        "rate": seen / spent, "flops": per_token * seen / spent, "waste": 1 - seen * (steps + 1) / widths["tokens"],
        "passes": widths["passes"] / (steps + 1), "loss": loss,
    }  # fmt: skip


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="a folder of weights with a chat template")
    parser.add_argument("--rows", type=Path, default=ROWS, help="safety_tuned_llamas.json")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=["lora", "full"])
    parser.add_argument("--micro", nargs="*", type=int, default=[4, 16])
    parser.add_argument("--ways", nargs="*", default=["trl fp32", "ours fp32", "torch bf16", "ours bf16"])
    given = parser.parse_args()
    quiet()
    torch.manual_seed(0)
    tokenizer = load_tokenizer(given.model)
    found = json.loads(given.rows.read_text(encoding="utf-8"))
    turns = [
        [
            {"role": "user", "content": "\n".join(filter(None, [row["instruction"], row["input"]]))},
            {"role": "assistant", "content": row["output"]},
        ]
        for row in found
    ]
    rows = encode_all(tokenizer, turns)
    print("| training | rows at a time | way | tokens a CPU s | against trl | padding | passes | of products | loss |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for method in given.methods:
        for micro_batch in given.micro:
            base = None
            for name in given.ways:
                way, dtype = name.split()
                peak = product_rate(DTYPES[dtype])
                told = run(
                    way, given.model, tokenizer, rows, method=method, dtype=dtype, micro_batch=micro_batch,
                    steps=given.steps,
                )  # fmt: skip
                gc.collect()
                peak = max(peak, product_rate(DTYPES[dtype]))
                base = base or told["rate"]
                print(
                    f"| {method} | {micro_batch} | {name} | {told['rate']:.0f} | {told['rate'] / base:.2f} | "
                    f"{told['waste']:.0%} | {told['passes']:.1f} | {told['flops'] / peak:.0%} | {told['loss']:.4f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
