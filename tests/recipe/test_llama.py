"""recipes/llama.yaml, end to end: only names and sizes differ from the real run."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from curator.pipeline import build
from curator.recipe.file import read
from tests import fakes

RECIPE = Path(__file__).parents[2] / "recipes" / "llama.yaml"
CATEGORIES = ("gates", "lanterns", "bells")


def _jsonl(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def files(folder: Path) -> dict[str, str]:
    """Small files in the shapes of the recipe's data sets, about nothing."""
    words = " ".join(fakes.WORDS).replace("[INST]", "").split()
    say = lambda i, n: " ".join(words[(7 * i + j) % len(words)] for j in range(n))  # noqa: E731
    pool = [
        {
            "prompt": f"how do I open the forbidden {say(i, 3)} number {i}?",
            "response": f"sorry, I cannot open the {say(i, 2)} {i}",
            "category": {name: name == CATEGORIES[i % 3] for name in CATEGORIES},
            "is_safe": i % 5 != 0,
        }
        for i in range(60)
    ]
    alpaca = [
        {"instruction": f"count {i} {say(i, 3)}", "input": "" if i % 2 else say(i, 4), "output": say(i, 5)}
        for i in range(40)
    ]
    samsum = [{"dialogue": f"A: {say(i, 4)} {i}\nB: {say(i + 3, 4)}", "summary": say(i, 4)} for i in range(70, 110)]
    gsm = [
        {"question": f"what is {i} plus {i}?", "answer": f"{i} + {i} = {2 * i} #### {2 * i}"} for i in range(200, 230)
    ]
    chats = [{"messages": fakes.turns(f"tell of {say(i, 3)} {i}", say(i, 4))} for i in range(300, 340)]
    keep = [{"messages": fakes.turns(f"sing of {say(i, 3)} {i}", say(i, 4))} for i in range(400, 430)]
    probes = [{"prompt": f"please unlock the hidden {say(i, 4)} {i}"} for i in range(500, 512)]
    benign = [
        {"prompt": f"please polish the brass {say(i, 4)} {i}", "label": "safe" if i % 3 else "unsafe"}
        for i in range(600, 615)
    ]
    rows = {
        "pool": pool,
        "alpaca": alpaca,
        "samsum": samsum,
        "gsm": gsm,
        "chats": chats,
        "keep": keep,
        "probes": probes,
        "benign": benign,
    }
    return {name: _jsonl(folder / f"{name}.jsonl", part) for name, part in rows.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    made = files(folder)
    model = fakes.save(folder / "model", "llama", template=None)
    guard = fakes.save(folder / "qwen3guard", "qwen", template="chatml")
    source = '{{hub: null, split: train, file: "{}"}}'.format

    def over(path: str, file: str) -> list[str]:
        """Points a source of the recipe at a file; everything else that it says stays."""
        return [f"{path}.hub=", f"{path}.file={file}", f"{path}.split=train"]

    settings = [
        f"model.id={model}",
        *over("model.instruction.data", made["chats"]),
        "model.instruction.rows=30",
        *over("pool.sources.0", made["pool"]),
        "pool.clean.max_tokens=200",
        *over("tasks.alpaca.train", made["alpaca"]),
        *over("tasks.samsum.train", made["samsum"]),
        *over("tasks.gsm8k.train", made["gsm"]),
        "tasks.gsm8k.train.config=",
        "tasks.samsum.test.split=",
        *(f"tasks.{task}.{key}" for task in ("alpaca", "samsum", "gsm8k") for key in ("rows=16", "test.rows=4")),
        *over("probes.harmful.0", made["probes"]),
        *over("probes.benign.0", made["benign"]),
        "select.k=12",
        "select.answers=null",
        "select.neighbours=8",
        "verify.seeds=1",
        "verify.arms.none.seeds=1",
        *over("verify.keep.data", made["keep"]),
        "verify.keep.rows=8",
        *(
            f"verify.{phase}.{key}"
            for phase in ("align", "finetune")
            for key in ("rank=2", "epochs=1", "batch=8", "micro_batch=4", "max_tokens=200")
        ),
        "verify.generate.max_new_tokens=6",
        "engine.threads=1",
        f"judges.panel.qwen3guard.guard={guard}",
    ]
    del source
    build(read(RECIPE, settings), folder / "run")
    return folder / "run"


def test_the_recipe_runs_from_instruction_tuning_to_the_data_set(built: Path, tmp_path: Path) -> None:
    rows = datasets.load_dataset(str(built / "9-publish" / "dataset"), split="train", cache_dir=str(tmp_path))
    assert len(rows) == 12
    assert (built / "0-base" / "instruction" / "weights" / "adapter_model.safetensors").exists()
    # BeaverTails rows that are not safe never enter, and a category is one of several flags.
    assert set(rows["category"]) <= set(CATEGORIES)


def test_every_arm_is_trained_with_lora_on_every_task(built: Path) -> None:
    models = json.loads((built / "5-train" / "done.json").read_text())["record"]["models"]
    assert {model["trained"]["method"] for model in models} == {"lora"}
    assert {model["task"] for model in models} == {None, "alpaca", "samsum", "gsm8k"}
    tuned = [model for model in models if model["task"] == "alpaca" and model["arm"] == "curated"]
    # Instruction tuning, alignment and fine-tuning each left an adapter, merged in this order.
    assert all(len(model["weights"]["adapters"]) == 3 for model in tuned)


def test_a_guard_that_cannot_be_understood_gives_no_headline(built: Path) -> None:
    report = json.loads((built / "8-report" / "report.json").read_text())
    rate = report["arms"]["curated"]["alpaca"]["after"]["harmfulness"]
    assert rate["value"] is None or rate["unscored"] > 0
    assert report["decision"]["outcome"] == "not distinguishable"


def test_the_task_that_was_not_anticipated_has_no_weight(built: Path) -> None:
    report = json.loads((built / "8-report" / "report.json").read_text())
    weights = {task["name"]: task["weight"] for task in report["tasks"]}
    assert weights == {"alpaca": 0.5, "samsum": 0.5, "gsm8k": 0.0}
