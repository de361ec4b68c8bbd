"""The notebook's cells, run one after the other on a small run of the sandbox, and the examples of the docstrings."""

from __future__ import annotations

import doctest
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import curator
from curator import api
from curator.recipe.file import read
from tests.small_run import QUICKSTART, SMALL

ROOT = Path(__file__).parent.parent
NOTEBOOK = json.loads((ROOT / ".github" / "notebooks" / "smollm2.ipynb").read_text(encoding="utf-8"))
CODE = {cell["id"]: "".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"}


def run_cell(source: str, names: dict[str, Any]) -> str:
    """Runs a cell as IPython does: `%` lines install and are passed over, `!` lines are commands, in which `{name}` is
    a variable. What commands print is given back.
    """
    python, printed = [], ""
    for line in source.splitlines():
        if line.startswith("!"):
            words = shlex.split(line[1:].format(**names))
            assert words[0] == "curator"
            command = [sys.executable, "-m", *words]
            printed += subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        elif not line.startswith("%"):
            python.append(line)
    exec(compile("\n".join(python), "cell", "exec"), names)
    return printed


def test_the_notebook_stores_no_output_and_its_recipe_reads() -> None:
    for cell in NOTEBOOK["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    (parameters,) = [cell["id"] for cell in NOTEBOOK["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    names: dict[str, Any] = {}
    run_cell(CODE[parameters], names)
    found = read(ROOT / names["recipe"], names["settings"])
    assert found.name == "smollm2"
    assert [judge.kind for judge in found.judges.panel] == ["refusal"]
    assert Path(names["out"]).name == found.name


@pytest.mark.slow
def test_every_cell_runs_and_shows_what_it_says(
    copy_of_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    said: dict[str, str] = {}
    for name, source in CODE.items():
        sent = run_cell(source, names)
        if name == "parameters":  # as papermill puts a cell of other values behind it
            names |= {"recipe": str(QUICKSTART), "settings": SMALL, "out": str(copy_of_run)}
        said[name] = capsys.readouterr().out + sent
    assert "name: quickstart" in said["recipe"]
    assert "arms: " in said["check"]
    assert "report" in said["build"]
    assert names["result"].decision.sentence in said["decision"]
    assert "harm" in said["figures"]
    assert "your-name/smollm2-safety" in said["publish"]
    assert "<svg" in (copy_of_run / "harm.html").read_text(encoding="utf-8")


def test_every_figure_of_the_report_stands_alone(plain_run: Path, tmp_path: Path) -> None:
    result = curator.load(plain_run)
    drawn, page = result.drawings(), result.page.read_text(encoding="utf-8")
    assert {"decision", "harm", "gates", "gains", "distribution list"} <= set(drawn)
    for name, drawing in drawn.items():
        assert drawing.name == name
        assert "var(--a0)" in drawing.page  # its style is in it
        assert "<script" not in drawing.page
        shown = drawing._repr_html_()
        assert shown.startswith("<iframe srcdoc=")
        assert "<svg" not in shown  # escaped, so that the notebook's own style does not reach it
    harm = drawn["harm"].page.split("<figure>")[1].split("</figure>")[0]
    assert harm in page
    assert drawn["harm"].save(tmp_path / "harm.html").read_text(encoding="utf-8") == drawn["harm"].page


def test_the_examples_of_the_docstrings_say_what_they_give(
    plain_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [{"prompt": f"May I open gate {number}?", "response": "I'm sorry, I cannot."} for number in range(30)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    names = {"curator": curator, "result": curator.load(plain_run)}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    tests = [test for test in finder.find(api, "curator.api", extraglobs=names) if test.examples]
    for test in tests:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
    documented = {test.name.removeprefix("curator.api.") for test in tests}
    assert documented >= {"Result.report", "Result.decision", "Result.selection", "Result.rows", "Result.figures",
                          "Result.drawings", "load", "check", "build", "audit"}  # fmt: skip
