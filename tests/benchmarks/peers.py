"""Runs one peer on a saved kernel, in an interpreter that has it, and prints its picks and seconds as JSON.

python peers.py apricot|submodlib FOLDER K        FOLDER holds kernel.npz: csr, row v, column s, K(v, s)
"""

import contextlib
import json
import sys
import time

import numpy as np
from scipy.sparse import load_npz


def apricot(kernel, k):
    from apricot import FacilityLocationSelection

    covered = kernel.T.tocsr().astype(np.float64)  # its gains read row s
    built = time.perf_counter(), time.process_time()
    found = FacilityLocationSelection(k, metric="precomputed", optimizer="lazy").fit(covered)
    return found.ranking.tolist(), 0.0, built


def submodlib(kernel, k):
    from submodlib import FacilityLocationFunction

    start = time.process_time()
    function = FacilityLocationFunction(n=kernel.shape[0], mode="sparse", sijs=kernel, num_neighbors=32)
    built = time.perf_counter(), time.process_time()
    found = function.maximize(budget=k, optimizer="LazyGreedy", show_progress=False)
    return [int(row) for row, _ in found], built[1] - start, built


if __name__ == "__main__":
    name, folder, k = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with contextlib.redirect_stdout(sys.stderr):
        picks, build, built = {"apricot": apricot, "submodlib": submodlib}[name](load_npz(f"{folder}/kernel.npz"), k)
    seconds, cpu = time.perf_counter() - built[0], time.process_time() - built[1]
    print(json.dumps({"picks": picks, "build": build, "seconds": seconds, "cpu": cpu}))
