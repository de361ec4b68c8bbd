"""Waiting for processes to end, for the tests of every engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil


def assert_all_end(pids: list[int]) -> None:
    assert pids
    wait_until(lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(holds: Callable[[], bool]) -> None:
    """Waits for what must come; the limit only keeps a broken test from hanging."""
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come within a minute")


def trap(folder: Path) -> Path:
    """A folder in which whoever looks for Python's own modules, or for libraries, is ended."""
    folder.mkdir()
    for name in ("random", "json", "torch", "numpy", "polars", "logging", "socket", "tempfile", "vllm"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('this is not {name}')\n")
    return folder
