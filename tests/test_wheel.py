"""The wheel: what somebody gets who installs it by its name, without this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "curator", source / "curator", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_it_is_called_as_the_project_and_holds_every_file_of_the_package(wheel: Path) -> None:
    assert wheel.name.startswith(PROJECT["name"].replace("-", "_") + "-")
    names = set(zipfile.ZipFile(wheel).namelist())
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "curator").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here <= names, sorted(here - names)
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"curator"}


def test_its_command_runs_where_this_folder_is_not(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    work = tmp_path / "work"
    work.mkdir()
    how: dict[str, Any] = {"cwd": work, "env": environment, "capture_output": True, "text": True}

    def curator(*words: str) -> str:
        done = subprocess.run([site / "bin" / "curator", *words], **how, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import curator; print(curator.__file__)"
    found = subprocess.run([sys.executable, "-c", where], **how, check=True)
    assert found.stdout.startswith(str(site))
    assert "version" in curator("--version")
    assert "torch" in curator("env")
    curator("new", "mine")
    assert "no problems found" in curator("check", "mine.yaml")
    settings = [word for setting in ("pool.sources.0.rows=200", "select.k=10") for word in ("--set", setting)]
    assert "10 rows" in curator("build", "mine.yaml", "--until", "select", *settings)
