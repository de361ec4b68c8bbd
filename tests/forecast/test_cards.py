"""A plan for a card that this machine does not have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from curator import provenance
from curator.cli import cli
from curator.forecast import cards
from curator.forecast.cards import CARDS, LONG, SUSTAINED, on, suggestion, too_large
from curator.forecast.estimate import estimates, whole_seconds
from curator.model.size import model_size
from curator.recipe.file import read
from tests.real_runs import recipe_of
from tests.small_run import QUICKSTART, recipe

NOTHING = Path("no run here")
LLAMA = QUICKSTART.parent / "llama.yaml"


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "gpu_count", lambda: 0)


def test_the_time_is_operations_over_what_the_card_is_assumed_to_sustain() -> None:
    size = model_size("sandbox:")
    assert size is not None
    for name, peak in (("h100", 9.89e14), ("t4", 8.1e12)):
        with on(CARDS[name]):
            (found,), words = estimates(recipe("engine.workers=2", "engine.threads=1"), NOTHING)
        tokens = (found.align_tokens or 0) + (found.finetune_tokens or 0)
        assert found.train_seconds == pytest.approx(6 * size.parameters * tokens / (SUSTAINED * peak))
        assert found.answer_seconds == pytest.approx(
            2 * size.parameters * (found.answer_tokens or 0) / (0.1 * SUSTAINED * peak)
        )
        assert f"assumed: one {CARDS[name].words} sustains" in words["time"]
    assert "in fp32" not in words["time"]
    assert "fp32 peak" in words["time"]  # a T4 has no bf16


def test_a_model_that_computes_in_fp32_is_planned_in_it() -> None:
    assert CARDS["h100"].speed("fp32") == pytest.approx(SUSTAINED * 6.7e13)
    assert CARDS["h100"].speed("auto") == CARDS["h100"].speed("bf16") == pytest.approx(SUSTAINED * 9.89e14)


def test_speeds_of_the_machine_of_an_earlier_run_are_not_the_cards(full_run: Path) -> None:
    with on(CARDS["a100"]):
        (there,), words = estimates(recipe_of("full"), full_run)
    (here,), _ = estimates(recipe_of("full"), full_run)
    assert "measured" not in words["time"]
    assert there.align_tokens == here.align_tokens  # rows stay counted
    assert there.train_seconds != here.train_seconds
    assert cards.card() is None  # and the next plan is for this machine


def test_what_cannot_fit_into_the_cards_memory_is_said() -> None:
    llama = read(LLAMA)
    size = model_size("meta-llama/Llama-2-7b-hf")
    assert too_large(llama, size) is None  # of no card in particular
    fits = {}
    for name, planned in CARDS.items():
        with on(planned):
            fits[name] = too_large(llama, size) is None
            words = estimates(llama, NOTHING)[1]
            assert ("memory" in words) != fits[name]
    assert fits == {"h100": True, "a100": True, "a10g": True, "l4": True, "t4": False}  # 27 GB of fp32 weights
    whole = read(LLAMA, [f"verify.{part}={{method: full, epochs: 1}}" for part in ("align", "finetune")])
    with on(CARDS["h100"]):
        assert "needs at least 100 GiB" in str(too_large(whole, size))


def test_a_plan_of_days_without_a_gpu_names_the_option() -> None:
    assert "curator check r.yaml --on h100" in str(suggestion("r.yaml", LONG))
    assert suggestion("r.yaml", LONG - 1) is None
    assert suggestion("r.yaml", None) is None
    with on(CARDS["l4"]):
        assert suggestion("r.yaml", LONG) is None


def test_the_command_plans_for_the_card_that_it_is_given(tmp_path: Path) -> None:
    def told(*words: str) -> str:
        run = CliRunner().invoke(cli, ["check", str(LLAMA), "--out", str(tmp_path), *words], standalone_mode=False)
        assert run.exception is None
        return run.output

    assert "--on h100" in told()
    assert "--on h100" not in told("--on", "h100")
    seconds = {}
    for name in ("h100", "a100"):
        (grid,) = json.loads(told("--on", name, "--json"))["estimates"]
        seconds[name] = grid["train_seconds"]
    assert seconds["a100"] / seconds["h100"] == pytest.approx(9.89 / 3.12)
    assert whole_seconds(()) is None
