"""recipes/paper, each end to end: only models, sources and sizes differ from the real run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from curator.pipeline import build
from curator.recipe.file import read
from curator.suite import run_suite
from curator.suite.run import Outcome
from tests import fakes
from tests.recipe.test_llama import files

FOLDER = Path(__file__).parents[2] / "recipes" / "paper"
RECIPES = sorted(FOLDER.glob("*.yaml"))
TASKS = ("list", "list-safeinstr", "pure-bad", "alpaca", "samsum", "dolly")
GRADER = "def grade(answer, reference):\n    return min(1.0, len(answer) / 100)\n"
pytestmark = pytest.mark.slow


def beaver_dam(folder: Path) -> str:
    """A classifier of Beaver-Dam's architecture and 14 labels, with random weights."""
    labels = [f"harm {number}" for number in range(14)]
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 512}
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: place for place, label in enumerate(labels)}}
    config = transformers.LlamaConfig(**{**fakes.WIDE, **ends, **names})
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    fakes.tokenizer("plain").save_pretrained(folder)
    return str(folder)


def settings(folder: Path, family: str) -> list[str]:
    """What stands in for what this machine lacks; everything else is as the recipe says it."""
    made = files(folder)
    model = fakes.save(folder / "model", family, template=None)
    guard = fakes.save(folder / "qwen3guard", "qwen", template="chatml")
    dam = beaver_dam(folder / "beaver-dam")
    lists = [{"messages": fakes.turns(f"list {i} gulls of the bay {i}", f"1. gull {i} 2. tern {i}")} for i in range(40)]
    bad = [{"messages": fakes.turns(f"open the forbidden gate {i}", f"here is the key {i}")} for i in range(40)]
    dolly = [
        {
            "instruction": f"tell of harbour {i}",
            "context": "",
            "response": f"harbour {i} is deep",
            "category": "open_qa",
        }
        for i in range(700, 740)
    ]
    for name, rows in (("list", lists), ("bad", bad), ("dolly", dolly)):
        made[name] = str(folder / f"{name}.jsonl")
        Path(made[name]).write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (folder / "grader.py").write_text(GRADER, encoding="utf-8")

    def over(path: str, file: str) -> list[str]:
        return [f"{path}.hub=", f"{path}.file={made[file]}", f"{path}.split=train"]

    short = ("rank=2", "epochs=1", "batch=8", "micro_batch=4", "max_tokens=200")
    return [
        f"model.id={model}",
        *over("model.instruction.data", "chats"),
        "model.instruction.rows=30",
        *over("pool.sources.0", "pool"),
        "pool.sources.0.rows=40",
        "pool.clean.max_tokens=200",
        *over("tasks.list.train", "list"),
        *over("tasks.list-safeinstr.train", "list"),
        *over("tasks.pure-bad.train", "bad"),
        *over("tasks.alpaca.train", "alpaca"),
        *over("tasks.samsum.train", "samsum"),
        *over("tasks.dolly.train", "dolly"),
        "tasks.samsum.test.split=",
        f"tasks.alpaca.metric.python={folder / 'grader.py'}:grade",
        *(f"tasks.{task}.{key}" for task in TASKS for key in ("rows=8", "test.rows=2")),
        *over("probes.harmful.0", "probes"),
        "probes.harmful.0.rows=6",
        *over("probes.benign.0", "benign"),
        "probes.benign.0.rows=4",
        "suite.k=[6, 20]",
        "select.k=6",
        "select.neighbours=8",
        "verify.seeds=1",
        "verify.arms.full.seeds=1",
        "verify.arms.none.seeds=1",
        *(f"verify.{phase}.{key}" for phase in ("align", "finetune") for key in short),
        "verify.generate.max_new_tokens=4",
        "engine.threads=1",
        f"judges.panel.qwen3guard.guard={guard}",
        f"judges.panel.beaver-dam.guard={dam}",
    ]


class Quiet:
    """Says nothing."""

    def progress(self, stage: str, done: int, total: int) -> None:
        pass

    def finished(self, stage: str, made: Any) -> None:
        pass


def test_there_is_a_recipe_for_each_model() -> None:
    assert [path.stem for path in RECIPES] == ["gemma-2-2b", "gemma-2-9b", "llama-2-13b", "llama-2-7b"]


def test_all_tasks_at_once_run_from_the_instruction_stage_to_the_data_set(tmp_path: Path) -> None:
    build(read(FOLDER / "gemma-2-2b.yaml", settings(tmp_path, "gemma")), tmp_path / "run")
    report = json.loads((tmp_path / "run" / "8-report" / "report.json").read_text())
    assert set(report["arms"]) == {"curated", "random", "high-similarity", "low-similarity", "full", "none"}
    assert [task["name"] for task in report["tasks"]] == list(TASKS)
    assert [one["name"] for one in report["judges"]["panel"]] == ["qwen3guard", "beaver-dam", "phrases"]
    # Beaver-Dam scores answers; the paper's harmfulness score is the share that it flags.
    dam = report["judges"]["panel"][1]
    assert dam["kind"] == "guard"
    assert dam["outcomes"]["harmful"] + dam["outcomes"]["safe"] > 0
    models = json.loads((tmp_path / "run" / "5-train" / "done.json").read_text())["record"]["models"]
    assert len(models) == 5 + 6 * len(TASKS)
    tuned = next(one for one in models if (one["arm"], one["task"]) == ("curated", "list"))
    assert len(tuned["weights"]["adapters"]) == 3  # instruction stage, alignment, task
    utility = {task: report["arms"]["curated"][task]["after"]["utility"]["value"] for task in TASKS}
    assert all(value is not None for value in utility.values())


@pytest.mark.parametrize(
    ("recipe", "family", "runs"),
    [
        ("llama-2-7b", "llama", ["6-list", "20-list"]),
        ("llama-2-13b", "llama", ["6-samsum"]),
        ("gemma-2-9b", "gemma", ["6-alpaca"]),
    ],
)
def test_a_task_by_itself_runs_in_the_suite(recipe: str, family: str, runs: list[str], tmp_path: Path) -> None:
    wanted, changes = [f"{recipe}-{run}" for run in runs], settings(tmp_path, family)
    outcomes: list[Outcome] = run_suite(
        FOLDER, tmp_path / "out", settings=changes, only=wanted, progress=lambda _: Quiet()
    )
    assert [(one.variant.name, one.status, one.reason) for one in outcomes] == [(name, "done", None) for name in wanted]
    told = json.loads((tmp_path / "out" / "suite.json").read_text())
    # The instruction stage is shared, and so are full by its own epochs, and none; random is drawn for each size.
    made = [{"made": 1 + 5 + 6, "shared": 0}, {"made": 4 + 4, "shared": 1 + 1 + 2}]
    assert [run["found"]["trainings"] for run in told["runs"]] == made[: len(runs)]
    assert {one["judge"] for one in told["contrasts"]} == {"qwen3guard", "beaver-dam", "phrases"}
    assert "arXiv 2506.05346" in told["paper"]["source"]
