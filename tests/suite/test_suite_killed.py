"""A suite killed in the middle goes on where it was, and finds what an undisturbed one finds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.suite.small_suite import SMALL, folder, told, untimed

pytestmark = [pytest.mark.slow, pytest.mark.long]
ONE_TASK = SMALL.replace("  - {name: misdeeds", "  # {name: misdeeds").replace(
    "high-similarity, low-similarity, full, ", ""
)
COMMAND = [sys.executable, "-m", "curator", "suite"]


def started(recipes: Path, root: Path) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    return subprocess.Popen([*COMMAND, str(recipes), "--out", str(root)], **pipes)  # type: ignore[call-overload,no-any-return]


def stopped(root: Path, recipes: Path, there: str, by: int) -> tuple[int, str]:
    """Starts the suite, and sends it a signal as soon as a file is there; its exit code and what it printed."""
    process = started(recipes, root)
    deadline = time.monotonic() + 240
    while not list(root.glob(there)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no {there} appeared"
        time.sleep(0.02)
    os.kill(process.pid, by)
    said = process.communicate(timeout=60)[0]
    return process.returncode, said


def test_a_suite_that_was_killed_and_interrupted_ends_as_one_that_was_not(tmp_path: Path) -> None:
    recipes = folder(tmp_path / "recipes", small=ONE_TASK)
    calm, hurt = tmp_path / "calm", tmp_path / "hurt"
    undisturbed = started(recipes, calm)
    # In the middle of a training; and by Ctrl-C in the second run.
    assert stopped(hurt, recipes, "small-8-list/5-train/before/*/started.json", signal.SIGKILL)[0] == -signal.SIGKILL
    assert [run["status"] for run in told(hurt)["runs"]] == ["waiting", "waiting"]
    code, said = stopped(hurt, recipes, "small-16-list/5-train/after/*/*/started.json", signal.SIGINT)
    assert code == 130
    assert "run the same command again to continue" in said
    # What was finished is told of, whatever came after.
    assert [run["status"] for run in told(hurt)["runs"]] == ["done", "waiting"]
    last = started(recipes, hurt)
    said = last.communicate(timeout=240)[0]
    assert last.returncode == 0, said
    assert "Finished 2 of 2 runs" in said
    assert undisturbed.wait(timeout=240) == 0
    assert untimed(told(hurt)) == untimed(told(calm))
