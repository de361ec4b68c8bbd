"""What `check` says of costs, against sums done the long way and against runs that were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from small_run import QUICKSTART, recipe

from curator.check import estimate as estimating
from curator.check.estimate import PRIOR, estimates
from curator.check.outline import Measured, measured
from curator.cli import cli
from curator.decision.sequential import detectable
from curator.model.size import model_size
from curator.recipe import Recipe
from curator.recipe.file import dump
from curator.records import ROW_SCHEMA
from curator.run.folder import write_json, write_text

NOTHING = Path("no run here")


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "has_gpu", lambda: False)


def rows_of(count: int, tokens: int) -> pl.DataFrame:
    ids = {"id": [f"{i}" for i in range(count)], "tokens": [tokens] * count}
    return pl.DataFrame(ids).select(
        pl.col(name) if name in ids else pl.lit(None, kind).alias(name) for name, kind in ROW_SCHEMA.items()
    )


def earlier(root: Path, chosen: Recipe) -> Path:
    """A run folder with round figures: 10 tokens a row, 200 tokens and 50 answers a second."""
    write_text(root / "recipe.yaml", dump(chosen))

    def done(folder: str, **record: Any) -> None:
        write_json(root / folder / "done.json", {"key": "key", "record": record, "seconds": 4.0})

    done("1-pool")
    sizes = {"pool": 300, "keep": 20, "probes-harmful": 28, "probes-benign": 15, "tasks/list-train": 40}
    for name, count in (sizes | {"tasks/list-test": 20}).items():
        file = root / "1-pool" / f"{name}.parquet"
        file.parent.mkdir(exist_ok=True)
        rows_of(count, 10).write_parquet(file)
    for folder in ("before/curated-0", "before/random-0", "after/list/curated-0"):
        done(f"5-train/{folder}", tokens=1000, seconds=5.0)
        done(f"6-answer/{folder}", answers=200)
    done("8-report")
    primary = {"sd_seed": 0.3, "sd_prompt": 0.2, "sd_residual": 0.4}
    write_json(root / "8-report" / "report.json", {"decision": {"primary": primary}})
    return root


def test_rows_tokens_and_answers_are_those_of_the_grid() -> None:
    (found,), told = estimates(recipe(), NOTHING)
    # three arms at three, three and two seeds are aligned; the arm none is fine-tuned at one
    assert (found.aligned, found.finetuned, found.asked) == (8, 9, 18)
    assert found.align_rows == 8 * 4 * 32
    assert found.finetune_rows == 9 * 2 * 32
    assert (found.align_tokens, found.finetune_tokens) == (8 * 4 * 32 * 48, 9 * 2 * 32 * 48)
    assert found.answers == 18 * (30 + 15 + 20)
    assert found.answer_tokens == found.answers * 14
    assert "max_tokens a row" in told["alignment in all"]


def test_epochs_are_whole_batches_of_the_rows_and_unknown_rows_are_unknown() -> None:
    epochs = "verify.align={method: full, epochs: 2.5, batch: 16, micro_batch: 16, max_tokens: 48}"
    (found,), _ = estimates(recipe(epochs), NOTHING)
    assert found.align_rows == 8 * 8 * 16  # 20 + 20 rows are 3 batches; 2.5 epochs of them 8 steps
    (found,), told = estimates(recipe(epochs, "select.k=null", "select.budget_tokens=500"), NOTHING)
    assert found.align_rows is found.align_tokens is found.train_seconds is None
    assert "rows unknown before they are chosen" in told["alignment in all"]
    assert "training unknown" in told["time"]


def test_the_time_without_a_run_is_operations_over_a_stated_speed() -> None:
    size = model_size("sandbox:")
    assert size is not None
    (found,), told = estimates(recipe("engine.workers=2", "engine.threads=1"), NOTHING)
    tokens = (found.align_tokens or 0) + (found.finetune_tokens or 0)
    assert found.train_seconds == pytest.approx(6 * size.parameters * tokens / (2 * 2e10))
    assert found.answer_seconds == pytest.approx(2 * size.parameters * (found.answer_tokens or 0) / (2 * 2e9))
    assert "assumed: 20 GFLOP/s a core" in told["time"]
    lora = "verify.align={method: lora, rank: 4, steps: 4, batch: 32, micro_batch: 32, max_tokens: 48, "
    lora += "checkpointing: true}"
    (adapted,), _ = estimates(recipe("engine.workers=2", "engine.threads=1", lora), NOTHING)
    assert adapted.train_seconds == pytest.approx(found.train_seconds)  # 4 + 2 operations instead of 6
    assert adapted.disk == 8 * 4 * 4 * size.linear + 9 * 4 * size.parameters
    assert found.disk == (8 + 9) * 4 * size.parameters


def test_an_earlier_run_gives_counts_speeds_and_spread(tmp_path: Path) -> None:
    chosen = recipe("verify.seeds=4")
    (found,), told = estimates(chosen, earlier(tmp_path, chosen))
    assert found.align_tokens == (found.align_rows or 0) * 10
    assert found.train_seconds == pytest.approx(((found.align_tokens or 0) + (found.finetune_tokens or 0)) / 200)
    assert found.answers == found.asked * (28 + 15 + 20)
    assert found.answer_seconds == pytest.approx((found.answers or 0) / 50)
    assert found.detectable == detectable(4, 28, sd_seed=0.3, sd_prompt=0.2, sd_residual=0.4)
    assert f"measured in {tmp_path}" in told["time"]
    assert f"measured in {tmp_path}" in told["difference seen"]
    assert f"as counted in {tmp_path / '1-pool'}" in told["alignment in all"]


@pytest.mark.parametrize(
    ("setting", "left"),
    [
        ("verify.seeds=2", {"rows", "tokens", "align", "finetune", "answers", "spread"}),
        ("select.k=21", {"rows", "tokens", "align", "finetune", "answers", "spread"}),
        ("probes.benign.0.rows=14", {"align", "finetune", "answers", "spread"}),
        ("verify.generate.max_new_tokens=13", {"rows", "tokens", "align", "finetune", "spread"}),
        ("verify.finetune.max_tokens=47", {"rows", "tokens", "align", "answers"}),
        ("verify.align.steps=5", {"rows", "tokens", "align", "finetune", "answers"}),
        ("engine.threads=2", {"rows", "tokens", "spread"}),
        ("model.chat_template=chatml", set()),
    ],
)
def test_only_what_is_still_about_the_same_thing_is_used(tmp_path: Path, setting: str, left: set[str]) -> None:
    found = measured(recipe(setting), earlier(tmp_path, recipe("verify.seeds=3")))
    assert {name for name, value in vars(found).items() if value} == left


def test_a_run_of_a_version_that_reads_otherwise_is_no_measurement(tmp_path: Path) -> None:
    earlier(tmp_path, recipe())
    write_text(tmp_path / "recipe.yaml", "name: old\nunknown: 1\n")
    assert measured(recipe(), tmp_path) == Measured()


def test_a_run_of_a_version_that_wrote_fewer_files_gives_what_it_has(tmp_path: Path) -> None:
    earlier(tmp_path, recipe())
    for file in tmp_path.rglob("probes-pilot.parquet"):
        file.unlink()
    assert "pilot" not in measured(recipe(), tmp_path).rows
    assert measured(recipe(), tmp_path).rows["pool"] > 0


def test_the_spread_is_a_stated_prior_until_one_is_measured() -> None:
    (found,), told = estimates(recipe(), NOTHING)
    assert found.detectable == detectable(3, 30, **PRIOR)
    assert "seed 0.15, prompt 0.15, residual 0.50, a stated prior" in told["difference seen"]
    (one,), told = estimates(recipe("verify.arms=[curated, random]", "verify.seeds=1"), NOTHING)
    assert one.detectable is None
    assert "two paired seeds at least" in told["difference seen"]


def test_looks_are_told_at_their_most_and_at_the_first(tmp_path: Path) -> None:
    found, told = estimates(recipe("verify.seeds={max: 20}"), NOTHING)
    assert [one.seeds for one in found] == [20, 6]
    assert [one.aligned for one in found] == [42, 14]
    last, first = (one.detectable or 0 for one in found)
    assert detectable(20, 30, **PRIOR) < last < first  # type: ignore[operator]
    assert told["disk for weights"].startswith("at 20 seeds ")
    assert "; at 6 seeds " in told["time"]
    assert [one.seeds for one in estimates(recipe("verify.seeds={max: 6}"), NOTHING)[0]] == [6]


def test_a_model_that_is_not_here_is_said_to_be_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (found,), told = estimates(recipe("model.id=owner/model"), NOTHING)
    assert found.train_seconds is found.disk is None
    assert "owner/model is not on this machine" in told["time"]
    assert told["disk for weights"].startswith("unknown")


def test_check_prints_the_estimates_and_gives_them_as_json() -> None:
    told = CliRunner().invoke(cli, ["check", str(QUICKSTART), "--json"])
    whole = json.loads(told.output)
    assert whole["estimates"][0]["aligned"] == 14
    assert "difference seen" in whole["plan"]
