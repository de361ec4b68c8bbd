"""Settings of every test, and the models that many of them share."""

from __future__ import annotations

import os

# Read when the libraries are imported: a name that is no folder is then refused at once, and no socket is tried.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Llama with its tokenizer and a chat template, on disk."""
    import fakes

    return fakes.save(tmp_path_factory.mktemp("models") / "llama")
