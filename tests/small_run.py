"""The quickstart, made small: the same stages, real training and real answers, in seconds."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curator.recipe import Recipe
from curator.recipe.file import read

QUICKSTART = Path(__file__).parent.parent / "recipes" / "quickstart.yaml"
SMALL = [
    "pool.sources.0.rows=300",
    "tasks.list.rows=40",
    "tasks.list.test.rows=20",
    "probes.harmful.0.rows=30",
    "probes.benign.0.rows=15",
    "pool.refusals=phrases",
    "select.k=20",
    "select.neighbours=16",
    "select.weight=0.3",
    "select.answers=null",  # a share of so few rows leaves none of most openers
    "verify.keep.rows=20",
    "verify.seeds=3",
    "verify.align.steps=4",
    "verify.finetune.steps=2",
    "judges.panel=[{name: exact, sandbox: exact}, {name: phrases, refusal: phrases}]",
    "engine.workers=1",
]


def recipe(*settings: str) -> Recipe:
    return read(QUICKSTART, [*SMALL, *settings])


def report_of(root: Path) -> dict[str, Any]:
    """report.json without what may differ from run to run."""
    report = copy.deepcopy(json.loads((root / "8-report" / "report.json").read_text()))
    del report["timing"]
    return report


def forked(work: Callable[..., Any], *args: Any) -> int | None:
    """Exit code of `work(*args)` in a process of its own, forked from a server that has loaded torch already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["curator.train.trainer", "curator.decision.findings", "curator.pool.gather"])
    process = context.Process(target=_traced, args=(work, *args))
    process.start()
    process.join(timeout=240)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError("the process did not end")
    return process.exitcode


def _traced(work: Callable[..., Any], *args: Any) -> None:
    # A server that the engine has started hands on that it does not hear Ctrl-C.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        work(*args)
    except Exception:  # noqa: BLE001 - shown, and told by an exit code of its own
        traceback.print_exc()
        os._exit(7)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
