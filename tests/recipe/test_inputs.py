from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from curator.errors import DataError
from curator.recipe import inputs as module
from curator.recipe.inputs import content, fingerprint, programs
from curator.recipe.source import Source
from tests.small_run import recipe


def test_a_file_is_known_by_its_path_size_time_and_sha256(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b"[]")
    found = fingerprint(Source(file="rows.json"), tmp_path)
    assert found == {
        "file": "rows.json",
        "bytes": 2,
        "mtime_ns": path.stat().st_mtime_ns,
        "sha256": hashlib.sha256(b"[]").hexdigest(),
    }


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.json").write_bytes(b"[]")
    source = Source(file="rows.json")
    known = fingerprint(source, tmp_path)
    monkeypatch.setattr(module, "sha256", lambda path: pytest.fail("the file was read again"))
    assert fingerprint(source, tmp_path, known) == known


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b"[1]")
    source = Source(file="rows.json")
    known = fingerprint(source, tmp_path)
    path.write_bytes(b"[2]")
    os.utime(path, ns=(1, known["mtime_ns"] + 1))
    changed = fingerprint(source, tmp_path, known)
    assert changed["sha256"] == hashlib.sha256(b"[2]").hexdigest() != known["sha256"]


def test_touching_a_file_changes_no_key(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b"[]")
    before = fingerprint(Source(file="rows.json"), tmp_path)
    os.utime(path, ns=(1, 1))
    after = fingerprint(Source(file="rows.json"), tmp_path, before)
    assert before != after
    assert content(before) == content(after)


def test_a_hub_data_set_is_known_by_what_the_recipe_asks() -> None:
    source = Source(hub="owner/name", config="main", split="test", revision="v1")
    assert fingerprint(source) == {"hub": "owner/name", "config": "main", "split": "test", "revision": "v1"}


def test_the_sandbox_is_known_by_its_name_and_code() -> None:
    found, again = fingerprint(Source(sandbox="pool")), fingerprint(Source(sandbox="keep"))
    assert found["sandbox"] == "pool"
    assert found["version"] == again["version"]
    assert len(found["version"]) == 64


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^none\.json: no such file \(looked for .*none\.json\); correct the path"):
        fingerprint(Source(file="none.json"), tmp_path)


def test_code_that_comes_with_a_recipe_is_named_with_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert programs(recipe()) == []
    file = Path("own.py")
    own = recipe("tasks.0.metric={python: 'own.py:score'}")
    assert "(no such file)" in programs(own)[0]
    for code in ("def score(a, b): return 0", "def score(a, b): return 1"):
        file.write_text(code)
        digest = hashlib.sha256(code.encode()).hexdigest()[:12]
        expected = f"This recipe runs code: `score` in own.py (SHA-256 {digest}), the metric of the task `list`."
        assert programs(own) == [expected]
    task = "{{name: {}, train: {{sandbox: list}}, metric: {{python: 'own.py:score'}}}}"
    both = recipe(
        f"tasks=[{task.format('one')}, {task.format('two')}]", "verify.generate={engine: vllm, python: /opt/p}"
    )
    assert programs(both)[0].endswith(", the metric of the tasks `one`, `two`.")
    assert programs(both)[1] == "This recipe runs a program: /opt/p, the Python interpreter for vLLM."


def test_it_imports_nothing_heavy() -> None:
    heavy = ("polars", "numpy", "pyarrow", "datasets", "torch", "transformers")
    code = f"import sys, curator.recipe.inputs; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
