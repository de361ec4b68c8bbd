"""Runs one peer on what is saved in a folder, in an interpreter that has it; prints its picks and seconds as JSON.

python peers.py apricot|submodlib|pyversity-cover|pyversity-dpp FOLDER K

FOLDER holds kernel.npz (csr, row v, column s, K(v, s)) for the first two and vectors.npy for pyversity.
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


def pyversity_cover(vectors, k):
    from pyversity import Strategy, diversify

    built = time.perf_counter(), time.process_time()
    found = diversify(vectors, np.zeros(len(vectors)), k, strategy=Strategy.COVER, diversity=1.0)
    return found.indices.tolist(), 0.0, built


def pyversity_dpp(vectors, k):
    from pyversity import Strategy, diversify

    built = time.perf_counter(), time.process_time()
    found = diversify(vectors, np.zeros(len(vectors)), k, strategy=Strategy.DPP, diversity=1.0)
    return found.indices.tolist(), 0.0, built


PEERS = {
    "apricot": apricot,
    "submodlib": submodlib,
    "pyversity-cover": pyversity_cover,
    "pyversity-dpp": pyversity_dpp,
}

if __name__ == "__main__":
    name, folder, k = sys.argv[1], sys.argv[2], int(sys.argv[3])
    given = np.load(f"{folder}/vectors.npy") if name.startswith("pyversity") else load_npz(f"{folder}/kernel.npz")
    with contextlib.redirect_stdout(sys.stderr):
        picks, build, built = PEERS[name](given, k)
    seconds, cpu = time.perf_counter() - built[0], time.process_time() - built[1]
    print(json.dumps({"picks": picks, "build": build, "seconds": seconds, "cpu": cpu}))
