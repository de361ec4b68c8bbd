"""A folder of recipes that is run in seconds: one recipe of two sizes and two tasks, with what two runs can share."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

SMALL = """\
name: small
suite: {k: [8, 16], each: task}
model: {id: "sandbox:"}
pool:
  sources: [{sandbox: pool, rows: 100}]
  clean: {max_tokens: 48, near_duplicates: null, decontaminate: null}
tasks:
  - {name: list, weight: 0.7, train: {sandbox: list}, rows: 12, test: {rows: 6}, metric: exact}
  - {name: misdeeds, anticipated: false, train: {sandbox: misdeeds}, rows: 12, test: {rows: 6}, metric: exact}
probes:
  harmful: [{sandbox: forbidden-probes, rows: 12}]
represent: {from: hidden-states, centre: false}
score: {from: cosine, aggregate: mean}
select: {k: 8, weight: 0.3, neighbours: 16}
verify:
  arms: [curated, random, high-similarity, low-similarity, full, none]
  seeds: 1
  keep: {data: {sandbox: keep}, rows: 8}
  align: {method: full, learning_rate: 1e-3, schedule: constant, steps: 2, batch: 4, micro_batch: 4, max_tokens: 48}
  finetune: {method: full, learning_rate: 1e-3, schedule: constant, steps: 1, batch: 4, micro_batch: 4, max_tokens: 48}
  generate: {max_new_tokens: 4, batch: 64}
judges:
  headline: exact
  panel: [{name: exact, sandbox: exact}, {name: phrases, refusal: phrases}]
engine: {workers: 1, threads: 1}
"""
RUNS = ("small-8-list", "small-8-misdeeds", "small-16-list", "small-16-misdeeds")


def folder(path: Path, **others: str) -> Path:
    """The folder with the small recipe, and others by name."""
    path.mkdir(parents=True, exist_ok=True)
    for name, text in {"small": SMALL, **others}.items():
        (path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return path


def told(root: Path) -> dict[str, Any]:
    """suite.json."""
    found: dict[str, Any] = json.loads((root / "suite.json").read_text(encoding="utf-8"))
    return found


def untimed(suite: dict[str, Any]) -> dict[str, Any]:
    """Without what may differ between equal suites."""
    left = copy.deepcopy(suite)
    del left["timing"]
    return left
