"""Settings of every test, and the models that many of them share."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from pathlib import Path

# Read when the libraries are imported: a name that is no folder is then refused at once, and no socket is tried.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from curator.provenance import set_threads

# A shell has its background jobs ignore Ctrl-C, which every process that a test starts and interrupts would take over.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _quick_training() -> None:
    """One thread, whatever the module before asked for: two are slower on models this small, above all on busy cores.

    And no walk over every object of every earlier test: training libraries collect garbage each time.
    """
    set_threads(1)
    gc.freeze()


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Llama with its tokenizer and a chat template, on disk."""
    from tests import fakes

    return fakes.save(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of `small_run.recipe()`. Do not write there; `copy_of_run` is for that."""
    from tests.real_runs import run_of

    return run_of("plain", tmp_path_factory)


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of all that `real_runs.FULL` asks for. Do not write there."""
    from tests.real_runs import run_of

    return run_of("full", tmp_path_factory)


@pytest.fixture(scope="session")
def curve_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of `real_runs.CURVE`. Do not write there."""
    from tests.real_runs import run_of

    return run_of("curve", tmp_path_factory)


@pytest.fixture
def copy_of_run(plain_run: Path, tmp_path: Path) -> Path:
    """A copy of `plain_run` that a test may change."""
    return Path(shutil.copytree(plain_run, tmp_path / "run"))
