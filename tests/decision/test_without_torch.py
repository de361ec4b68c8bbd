"""Deciding needs no model: the whole room loads without the libraries that train one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import curator.decision

ROOM = Path(curator.decision.__file__).parent
MODULES = sorted(f"curator.decision.{path.stem}".removesuffix(".__init__") for path in ROOM.glob("*.py"))


def test_every_module_of_the_room_leaves_the_training_libraries_alone() -> None:
    assert "curator.decision.decide" in MODULES
    code = (
        f"import importlib, sys\nfor module in {MODULES}: importlib.import_module(module)\n"
        "print([name for name in ('torch', 'transformers', 'peft', 'trl') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
