"""Settings of every test, and the models that many of them share."""

from __future__ import annotations

import gc
import os

# Read when the libraries are imported: a name that is no folder is then refused at once, and no socket is tried.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from curator.provenance import set_threads


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
    import fakes

    return fakes.save(tmp_path_factory.mktemp("models") / "llama")
