"""Three small runs that `build` made, one of each a test session, for every test that reads a run folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from curator.pipeline import build
from curator.provenance import set_threads
from curator.recipe import Recipe
from curator.run import FOLDERS, STAGES
from curator.run.folder import finished
from tests.small_run import recipe

PLAIN: list[str] = []
# What a recipe may ask beyond the quickstart, as far as it stays fast: instruction tuning, a pilot over weights and
# scores, its best draw as an arm, forgetting. A panel of two judges and an arm that is never aligned are in both.
FULL = [
    "model.instruction={data: {sandbox: keep}, rows: 48}",
    "select.weight=auto",
    "verify.pilot={weights: [-0.5, 0.5], scores: [{from: cosine, aggregate: mean}, {from: cosine, aggregate: max}], "
    "random_draws: 2, seeds: 1, share_of_probes: 0.4}",
    "verify.arms=[curated, random, best-random, {name: none, seeds: 1}]",
    "verify.seeds=2",
    "verify.forgetting={rows: 20, seeds: 1, interference: false}",
]
# Models are evaluated on the way through fine-tuning, the area decides, and looks and a pilot stand before it.
CURVE = [
    "tasks.list.probe_at=[0.1, 0.25, 0.5, 1.0]",
    "verify.curve={level: 0.4, primary: area}",
    "verify.finetune.steps=8",
    "select.weight=auto",
    "verify.pilot={weights: [-0.5, 0.5], random_draws: 1, seeds: 1, share_of_probes: 0.4}",
    "verify.arms=[curated, random]",
    "verify.seeds={max: 3, first: 3, every: 1}",
]
RECIPES = {"plain": PLAIN, "full": FULL, "curve": CURVE}


def recipe_of(name: str, *settings: str) -> Recipe:
    """The recipe of a run of RECIPES, with other settings where some are given."""
    return recipe(*RECIPES[name], *settings)


def run_of(name: str, factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of RECIPES, made by whichever worker of the session asks first."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # whose own folder lies in one that all workers of the session share
        folder = folder.parent
    root = folder / "real-runs" / name
    root.parent.mkdir(exist_ok=True)
    with FileLock(f"{root}.lock"):
        if finished(root / FOLDERS[STAGES[-1]]) is None:
            set_threads(1)
            build(recipe_of(name), root)
    return root
