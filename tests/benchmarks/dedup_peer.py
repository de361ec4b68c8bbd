"""Runs text-dedup's MinHash on a file of texts, and prints the rows that leave and its seconds as JSON.

python dedup_peer.py FILE      FILE is JSON Lines: number, text
"""

import contextlib
import json
import resource
import sys
import tempfile
import time


def spent_so_far():
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    file = sys.argv[1]
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        from datasets import load_from_disk
        from text_dedup.minhash import main

        clock, cpu = time.perf_counter(), spent_so_far()
        main.main(
            [
                *("--path", "json", "--data_files", file, "--split", "train", "--column", "text"),
                *("--output", f"{folder}/out", "--cache_dir", f"{folder}/cache", "--num_proc", "1"),
                *("--threshold", "0.8", "--ngram", "2", "--min_length", "1", "--num_perm", "128"),
            ],
            standalone_mode=False,
        )
        seconds, spent = time.perf_counter() - clock, spent_so_far() - cpu
        kept = set(load_from_disk(f"{folder}/out")["number"])
        with open(file, encoding="utf-8") as stream:
            numbers = [json.loads(line)["number"] for line in stream]
    removed = [number for number in numbers if number not in kept]
    print(json.dumps({"removed": removed, "seconds": seconds, "cpu": spent}))
