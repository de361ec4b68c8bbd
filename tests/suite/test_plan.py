"""The plan of a suite: what it trains, shares and costs, said without a heavy library or a network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from curator.forecast.estimate import estimates
from curator.recipe.file import read
from curator.suite.plan import planned, table
from curator.suite.run import variants
from tests.suite.small_suite import SMALL, folder

RECIPES = Path(__file__).parents[2] / "recipes" / "paper"
ALONE = """\
import socket, sys
def refuse(*_, **__):
    raise AssertionError("the network was asked")
socket.socket.connect = socket.getaddrinfo = refuse
from curator.cli import cli
cli.main(["suite", *sys.argv[1:], "--plan"], standalone_mode=False)
heavy = {"torch", "transformers", "datasets", "peft", "trl", "polars"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("place", [RECIPES, RECIPES / "sandbox"], ids=["paper", "sandbox"])
def test_the_plan_needs_neither_torch_nor_a_network(place: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ALONE, str(place), "--out", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stderr
    assert "GPU hours" in done.stdout
    assert "total " in done.stdout
    assert not (tmp_path / "none").exists()


def _environment() -> dict[str, str]:
    import os

    # What says 'offline' to the Hub's client would hide that it was asked.
    return {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}


def test_every_figure_of_the_papers_plan_is_known(tmp_path: Path) -> None:
    found = planned(variants(RECIPES), tmp_path)
    assert len(found["runs"]) == 4 * 2 * 6
    assert set(found["recipes"]) == {"gemma-2-2b", "gemma-2-9b", "llama-2-13b", "llama-2-7b"}
    for name in ("trainings", "shared", "tokens", "answers", "hours", "disk"):
        assert found["total"][name] == pytest.approx(sum(one[name] for one in found["runs"]))
        assert found["total"][name] == pytest.approx(sum(one[name] for one in found["recipes"].values()))
        assert found["total"][name] > 0
    # Larger models cost more for the same trainings.
    hours = [found["recipes"][name]["hours"] for name in ("gemma-2-2b", "llama-2-7b", "gemma-2-9b", "llama-2-13b")]
    assert hours == sorted(hours)


@pytest.mark.parametrize("changes", [[], ["tasks.list.sweep={learning_rate: [1e-3, 1e-4], rows: [6, 12]}"]])
def test_a_suite_of_one_run_costs_what_its_recipe_costs(changes: list[str], tmp_path: Path) -> None:
    place = folder(tmp_path, small=SMALL.replace("suite: {k: [8, 16], each: task}\n", ""))
    found = planned(variants(place, changes), tmp_path / "out")
    [one] = estimates(read(place / "small.yaml", changes), tmp_path / "out" / "small")[0]
    assert one.finetuned == 6 * (2 if not changes else 5)
    assert found["total"]["trainings"] == one.aligned + one.finetuned
    assert one.align_tokens is not None
    assert one.finetune_tokens is not None
    assert found["total"]["tokens"] == one.align_tokens + one.finetune_tokens
    assert (found["total"]["answers"], found["total"]["disk"]) == (one.answers, one.disk)
    assert found["total"]["shared"] == 0


def test_a_plan_holds_the_instruction_stage_and_the_pilot(tmp_path: Path) -> None:
    more = [
        "model.instruction={data: {sandbox: keep}, rows: 10}",
        "select.weight=auto",
        "verify.pilot={weights: [0, 1], random_draws: 1, seeds: 2}",
    ]
    place = folder(tmp_path, small=SMALL.replace("suite: {k: [8, 16], each: task}\n", ""))
    total = planned(variants(place, more), tmp_path / "out")["total"]
    [one] = estimates(read(place / "small.yaml", more), tmp_path / "out" / "small")[0]
    assert one.pilot is not None
    assert one.pilot.aligned == one.pilot.finetuned == 3 * 2  # of the two tasks one is anticipated
    parts = [one, one.pilot]
    assert total["trainings"] == 1 + sum(part.aligned + part.finetuned for part in parts)
    assert one.instruct_tokens == (4 + 4) * 48  # two steps, of the three that an epoch has
    assert total["tokens"] == one.instruct_tokens + sum(part.align_tokens + part.finetune_tokens for part in parts)
    assert total["answers"] == sum(part.answers for part in parts)
    assert total["disk"] == sum(part.disk for part in parts)


def counts(place: Path, out: Path, *changes: str) -> tuple[int, int]:
    total = planned(variants(place, changes), out)["total"]
    return total["trainings"], total["shared"]


EPOCHS = "verify.align={method: full, epochs: 1, batch: 4, micro_batch: 4}"


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        # As it stands: random of a size by its tasks (2), full by all (3), full and none fine-tuned by sizes (4).
        (["seed=1"], 2 + 3 + 4),
        # Steps from epochs of the curated arm's rows: full of another size is aligned for longer.
        ([EPOCHS], 2 + 2 + 2),
        # Steps from each arm's own rows: full is the same again.
        ([EPOCHS, "verify.exposure=epochs"], 2 + 3 + 4),
        # Equal tokens: how long any arm is aligned hangs on which rows were chosen.
        (["verify.exposure=tokens"], 2),
    ],
)
def test_what_is_shared_follows_from_what_decides_a_training(changes: list[str], shared: int, tmp_path: Path) -> None:
    trained, found = counts(folder(tmp_path), tmp_path / "out", *changes)
    assert found == shared
    assert trained + found == 4 * 11


def test_recipes_of_another_seed_or_model_share_nothing(tmp_path: Path) -> None:
    one = counts(folder(tmp_path / "one"), tmp_path / "out")
    other = SMALL.replace("name: small", "name: other\nseed: 7")
    both = counts(folder(tmp_path / "two", other=other), tmp_path / "out")
    assert both == (2 * one[0], 2 * one[1])


def test_a_recipe_that_cannot_be_read_stands_in_the_plan_with_its_reason(tmp_path: Path) -> None:
    place = folder(tmp_path, broken=SMALL.replace("select:", "selcet:"))
    found = planned(variants(place), tmp_path / "out")
    assert found["runs"][0]["status"] == "failed"
    assert "selcet" in found["notes"][0]
    assert [line[0] for line in table(found)][1] == "broken (failed)"
    assert len(table(found)) == 1 + 1 + 4 + 1
    assert json.loads(json.dumps(found)) == found
