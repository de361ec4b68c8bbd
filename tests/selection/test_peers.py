"""Other libraries' greedy on our own kernel: the sets they reach are worth what ours is.

They need an interpreter that has them: CURATOR_PEERS, or the one that runs the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix, save_npz

from curator.selection.problem import prepare
from curator.selection.solve import select
from tests.selection.selection_twins import facility, unit_rows

PYTHON = os.environ.get("CURATOR_PEERS", sys.executable)
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "peers.py"


def picks_of(name: str, folder: Path, k: int) -> list[int]:
    has = subprocess.run([PYTHON, "-c", f"import {name}"], capture_output=True, check=False)
    if has.returncode:
        pytest.skip(f"{name} cannot be imported by {PYTHON}; set CURATOR_PEERS to an interpreter that has it")
    ran = subprocess.run([PYTHON, str(SCRIPT), name, str(folder), str(k)], capture_output=True, text=True, check=False)
    if ran.returncode < 0:
        pytest.skip(f"{name} died of signal {-ran.returncode}")
    assert ran.returncode == 0, ran.stderr
    picks: list[int] = json.loads(ran.stdout)["picks"]
    return picks


@pytest.mark.parametrize("name", ["apricot", "submodlib"])
def test_peers_reach_our_objective_value_on_the_same_kernel(name: str, tmp_path: Path) -> None:
    x, n = unit_rows(3, 400, d=16), 400
    ours = select(x, np.zeros(n), 40, weight=0.0, neighbours=32)
    columns = prepare(x, np.zeros(n), neighbours=32).columns
    save_npz(
        tmp_path / "kernel.npz", csr_matrix((columns.cosine, columns.covered, columns.start), shape=(n, n)).T.tocsr()
    )
    theirs = facility(x, 32)(tuple(picks_of(name, tmp_path, 40)))
    assert ours.value == pytest.approx(theirs, rel=1e-4)
    assert facility(x, 32)(tuple(ours.indices)) == pytest.approx(theirs, rel=1e-4)
