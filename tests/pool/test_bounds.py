"""Files that are no data: told in words, at once, in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TWO_GIB = 2 * 2**30

# Reads a source in a process of its own, and prints its error and its peak memory in MiB.
MEASURED = """
import json, sys
from curator.errors import DataError
from curator.pool.sources import read
from curator.recipe.source import Source
source = Source(**json.loads(sys.argv[1]))
try:
    read(source)
except DataError as error:
    print(error)
    # Not getrusage: what it tells starts at the peak of the process that started this one.
    print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def a_long_line(path: Path) -> None:
    """Two GiB without a line end; what follows the first 32 MiB is a hole that takes no disk."""
    with path.open("wb") as stream:
        stream.write(b'{"prompt": "' + b"x" * 2**25)
        stream.truncate(TWO_GIB)


def sized(path: Path, start: bytes, size: int) -> None:
    with path.open("wb") as stream:
        stream.write(start)
        stream.truncate(size)


CASES = {
    "garbage.jsonl": (lambda path: path.write_bytes(b"some words\n" * 5000), "can be read"),
    "binary.jsonl": (lambda path: path.write_bytes(os.urandom(64) + b"\0" * 2**20), "binary"),
    "empty.json": (lambda path: path.touch(), "no rows found"),
    "folder.json": (lambda path: path.mkdir(), "is a folder"),
    "line.jsonl": (a_long_line, "longer than 16 MiB"),
    "line.csv": (a_long_line, "longer than 16 MiB"),
    "line.json": (a_long_line, "larger than 256 MiB"),
    "large.parquet": (lambda path: sized(path, b"PAR1", TWO_GIB), "cannot be read as Parquet"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_file_that_is_no_data_costs_little_and_is_told_in_words(tmp_path: Path, name: str) -> None:
    make, message = CASES[name]
    make(tmp_path / name)
    _refused({"file": str(tmp_path / name)}, message)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"hub": "nobody/has-such-a-data-set"}, "the Hub cannot be reached"),
        ({"file": "no-such-file.jsonl"}, "no such file"),
    ],
)
def test_a_missing_data_set_and_no_network_are_told_at_once(source: dict[str, str], message: str) -> None:
    _refused(source, message, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="0")


def _refused(source: dict[str, str], message: str, **environment: str) -> None:
    made = subprocess.run(
        [sys.executable, "-c", MEASURED, json.dumps(source)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, **environment},
    )
    told, peak = made.stdout.strip().rsplit("\n", 1)
    assert message in told
    assert int(peak) < 1024
