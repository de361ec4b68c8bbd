"""A corpus through the whole grid on the sandbox, made as small as it goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from curator import sandbox
from curator.cli import cli
from curator.corpus.measure import recipe_of
from curator.corpus.request import request_of
from curator.errors import CuratorError
from curator.recipe.file import dump
from tests.small_run import recipe

DECISIONS = ("durable", "trade-off", "not distinguishable", "worse", "decision")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("measure")
    pool = sandbox.rows("pool")
    for name, rows in (("corpus", pool[:60]), ("pool", pool[100:400]), ("list", sandbox.rows("list"))):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tiny = ("probes.harmful.0.rows=12", "probes.benign.0.rows=4", "tasks.list.test.rows=4")
    chosen = recipe(*tiny, "verify.seeds=3", "verify.align.steps=8", "verify.finetune.steps=3")
    (root / "recipe.yaml").write_text(dump(chosen), encoding="utf-8")
    return root


def measured(folder: Path, out: str, *options: str) -> Result:
    words = ["audit", str(folder / "corpus.jsonl"), "--task", str(folder / "list.jsonl"), "--measure", "--no-embedder"]
    return CliRunner().invoke(
        cli,
        [*words, "--recipe", str(folder / "recipe.yaml"), "--out", str(folder / out), *options],
        standalone_mode=False,
        catch_exceptions=False,
    )


def test_the_audit_stays_where_its_measurement_fails(folder: Path) -> None:
    lacking = recipe("judges.panel=[{name: exact, embedding: gone}]", "pool.refusals=phrases")
    (folder / "lacking.yaml").write_text(dump(lacking), encoding="utf-8")
    with pytest.raises(CuratorError, match="gone has no head"):
        measured(folder, "failed", "--recipe", str(folder / "lacking.yaml"))
    assert json.loads((folder / "failed" / "audit.json").read_text())["measured"] is None
    assert (folder / "failed" / "audit.html").exists()


@pytest.mark.slow
def test_without_a_pool_it_says_what_is_protected_and_how_much_lasts(folder: Path) -> None:
    done = measured(folder, "alone")
    found = json.loads((folder / "alone" / "audit.json").read_text())["measured"]
    assert set(found["arms"]) == {"curated", "none"}
    before = {arm: rates["before"]["value"] for arm, rates in found["arms"].items()}
    after = {arm: rates["after"]["value"] for arm, rates in found["arms"].items()}
    assert before["none"] > before["curated"]
    expected = (after["none"] - after["curated"]) / (before["none"] - before["curated"])
    assert found["retained"]["value"] == pytest.approx(expected)
    assert found["sentence"] is None
    strict = folder / "strict.yaml"
    strict.write_text((folder / "recipe.yaml").read_text().replace("least_seeds: 3", "least_seeds: 4"))
    measured(folder, "alone", "--recipe", str(strict))
    again = json.loads((folder / "alone" / "audit.json").read_text())["measured"]["retained"]
    assert (again["value"], again["low"]) == (pytest.approx(expected), None)
    assert again["reason"] == "an interval needs 4 seeds, and the arm has 3"
    told = done.output + (folder / "alone" / "audit.html").read_text()
    assert "is left after fine-tuning (3 seeds, 12 prompts)" in " ".join(told.replace("│", " ").split())
    assert not any(word in told.lower() for word in DECISIONS)


@pytest.mark.slow
def test_with_a_pool_a_matched_random_subset_is_the_control_and_there_is_a_decision(folder: Path) -> None:
    done = measured(folder, "against", "--pool", str(folder / "pool.jsonl"))
    found = json.loads((folder / "against" / "audit.json").read_text())["measured"]
    assert set(found["arms"]) == {"curated", "matched-random", "random", "none"}
    assert "for random sets of the same size and mix (" in found["sentence"]
    assert found["outcome"] in DECISIONS
    assert "decision" in done.output
    report = json.loads((folder / "against" / "run" / "8-report" / "report.json").read_text())
    assert report["decision"]["primary"]["control"] == "matched-random"


def test_hidden_states_of_a_model_stand_in_for_an_embedder(folder: Path) -> None:
    words = ["audit", str(folder / "corpus.jsonl"), "--task", str(folder / "list.jsonl"), "--model", "sandbox:"]
    CliRunner().invoke(cli, [*words, "--out", str(folder / "hidden")], standalone_mode=False, catch_exceptions=False)
    found = json.loads((folder / "hidden" / "audit.json").read_text())
    assert found["exposure"] == ["list"]
    assert found["redundancy"]["effective"] > 1
    assert found["settings"]["embedder"] == "sandbox:, last layer"
    assert (found["coverage"], found["near_probes"]) == (None, None)
    assert "categories of hazard, and prompts that are not harmful" in found["not_made"]


def test_a_split_of_the_recipes_task_is_not_looked_for_in_a_file(tmp_path):
    rows = "".join(json.dumps({"prompt": f"ask {number}", "response": "so"}) + "\n" for number in range(4))
    (tmp_path / "rows.jsonl").write_text(rows)
    given = recipe("tasks.0.train={hub: a/b}", "tasks.0.test={rows: 10, split: test}", "tasks.0.rows=20")
    file = str(tmp_path / "rows.jsonl")
    request = request_of(file, tasks=[file], recipe=given, embedder=None)
    (task,) = recipe_of(given, request).tasks
    assert (task.train.file, task.test.split, task.test.rows) == (file, None, 10)
