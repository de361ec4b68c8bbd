"""What commands say of files that are not as one wishes: reasons of drops, columns left aside, names with markup."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from curator.cli import cli
from curator.cli.show import print_table
from curator.errors import DataError
from tests.small_run import QUICKSTART


def pair(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"ask {number}", "response": f"tell {number}", **more}


def command(*words: str) -> Result:
    return CliRunner().invoke(cli, words, standalone_mode=False)


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[[str, list[dict[str, Any]]], str]:
    """Writes rows as JSON Lines into a file of any name, and gives its path."""

    def write(name: str, rows: list[dict[str, Any]]) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write


def test_audit_writes_the_reasons_as_kinds(corpus: Callable[..., str], tmp_path: Path) -> None:
    rows = [
        *(pair(n, rejected="no") for n in range(4)), pair(4, response=float("nan")), pair(5, label=False),
        pair(6, licence="\ud83d"), pair(7, response=[{"type": "image", "text": "x"}]), pair(0, rejected="no"),
    ]  # fmt: skip
    done = command(
        "audit", corpus("rows.jsonl", rows), "--task", corpus("task.jsonl", [pair(n) for n in range(50, 60)]),
        "--no-embedder", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.exception is None, done.output
    findings = {one["kind"]: one for one in json.loads((tmp_path / "out" / "audit.json").read_text())["findings"]}
    for kind in ("empty", "rejected-answers", "half-characters", "not-text", "exact-duplicates"):
        assert findings[kind]["count"] == 1
    assert "the answer is empty" in findings["empty"]["what"]
    assert "half of a surrogate pair" in findings["half-characters"]["what"]
    assert "rejected" in findings["unused-columns"]["what"]


@pytest.mark.parametrize("name", ["rows[red].jsonl", "rows[/v2].jsonl", "rows [bold]:smile:.jsonl"])
def test_audit_check_and_build_print_names_with_markup_as_they_are(
    corpus: Callable[..., str], tmp_path: Path, llama_folder: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    rows = [pair(n, rejected="no") for n in range(200)]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    file, task = corpus(name, rows), corpus("task.jsonl", [pair(n) for n in range(300, 310)])
    done = command("audit", file, "--task", task, "--no-embedder", "--out", str(tmp_path / "out"))
    assert done.exception is None
    assert f"Audit of {file}" in done.output
    settings = [f"model={{id: {llama_folder}}}", f"pool.sources=[{{file: '{file}'}}]", "select.k=5", "engine.workers=1"]
    words = [str(QUICKSTART), *(word for setting in settings for word in ("--set", setting))]
    done = command("check", *words)
    assert done.exception is None
    assert Path(name).name in done.output
    done = command("build", *words, "--until", "pool", "--out", str(tmp_path / "run"))
    assert done.exception is None
    assert f"{Path(name).name}: unused column rejected" in done.output


@pytest.mark.parametrize(
    ("name", "fault"),
    [("rows\udcff.jsonl", "the file name is not UTF-8"), ("", "is not a file"), ("hub:", "is not a file")],
)
def test_audit_refuses_a_name_that_nothing_can_be_read_from(corpus: Callable[..., str], name: str, fault: str) -> None:
    done = command("audit", name, "--task", corpus("task.jsonl", [pair(1)]), "--no-embedder")
    assert isinstance(done.exception, DataError)
    assert fault in str(done.exception)
    assert str(done.exception).encode()


def test_a_table_takes_no_text_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("runs/a [red]", [["b [bold]"]], "c [/x] :smile:")
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("runs/a [red]", "b [bold]", "c [/x] :smile:"))
