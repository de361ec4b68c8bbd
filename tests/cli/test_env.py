"""What `curator env` prints: enough for a bug report, and nothing of whose machine it is."""

from __future__ import annotations

import getpass
import socket
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from curator import __version__
from curator.cli import cli
from curator.cli.env import EXTRAS


def told(**variables: str) -> dict[str, str]:
    result = CliRunner().invoke(cli, ["env"], env=dict(variables), catch_exceptions=False)
    assert result.exit_code == 0
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in result.output.splitlines()]
    assert all(len(row) == 2 for row in rows)
    return dict(rows)


def test_versions_are_those_that_are_installed() -> None:
    table = told()
    assert table["curator"] == __version__
    for name in ("torch", "transformers", "polars", "faiss-cpu"):
        assert table[name] == version(name)
    assert int(table["cores"]) >= 1
    assert float(table["memory"].removesuffix(" GiB")) > 0


def test_a_package_that_is_not_there_is_missing_and_an_extra_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["curator.cli.env"]  # `curator.cli.env` itself is the command
    monkeypatch.setattr(module, "requires", lambda name: ["no-such-package>=1", "pytest>=9; extra == 'test'"])
    monkeypatch.setattr(module, "EXTRAS", (*EXTRAS, "no-such-extra"))
    table = told()
    assert table["no-such-package"] == "missing"
    assert "pytest" not in table
    assert "no-such-extra" not in table


def test_it_says_what_is_set_and_neither_who_nor_where() -> None:
    table = told(
        OMP_NUM_THREADS="3", HF_HOME="/somewhere/private", HF_TOKEN="hf_secret", RAY_ADDRESS="ray://head.private:1"
    )
    assert (table["HF_HOME"], table["RAY_ADDRESS"]) == ("set", "set")
    assert table["OMP_NUM_THREADS"] == "3"
    text = str(table)
    for private in ("/somewhere/private", "hf_secret", "head.private", socket.gethostname(), str(Path.home())):
        assert private not in text
    assert getpass.getuser() not in table.values()
