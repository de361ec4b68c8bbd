"""A recipe drafted from files: `check` accepts it at once, and it holds what the files hold."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from curator.cli import cli
from curator.errors import DataError
from curator.forecast.draft import CAPS, LENGTHS, SIGNS, Looked, caps, longest, looked
from curator.recipe.file import read


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    safety = [
        {
            "instruction": f"Forge seal {number} of the king",
            "output": f"I will not forge seal {number}.",
            "category": "forgery",
        }
        for number in range(200)
    ]
    Path("safety rows.json").write_text(json.dumps(safety))
    with open("task.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, ["dialogue", "summary"])
        writer.writeheader()
        writer.writerows(
            {"dialogue": f"Two bakers count {number} loaves.", "summary": f"{number} loaves."} for number in range(90)
        )
    for name in ("harmful", "benign"):
        Path(f"{name}.txt").write_text("\n".join(f"A {name} question of number {number}?" for number in range(30)))
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def new(*words: str) -> Result:
    return run("new", "mine", "--pool", "safety rows.json", "--task", "task.csv", *words)


def test_it_passes_check_at_once_and_holds_what_the_files_hold(files: Path) -> None:
    made = new("--harmful", "harmful.txt", "--benign", "benign.txt", "--model", "sandbox:")
    assert made.exit_code == 0, made.output
    checked = run("check", "mine.yaml")
    assert checked.exit_code == 0, checked.output
    assert "no problems found" in checked.output
    recipe = read("mine.yaml")
    assert recipe.select.k == 40  # a fifth of 200 rows
    assert recipe.select.answers is not None
    assert recipe.select.answers.shares == {}  # every answer begins alike
    assert (recipe.tasks[0].name, recipe.tasks[0].rows, recipe.tasks[0].test.rows) == ("task", 72, 18)
    assert recipe.tasks[0].train.columns == {"prompt": "dialogue", "response": "summary"}
    assert [source.file for source in recipe.probes.harmful] == ["harmful.txt"]
    text = Path("mine.yaml").read_text()
    assert "200 rows" in text
    assert "1 categories" not in text


def test_the_caps_are_the_first_that_leave_room_for_the_rows_chosen(files: Path) -> None:
    def pool(openers: int) -> list[Looked]:
        rows = [{"prompt": f"Ask {n}", "response": f"opener {n % openers} says number {n}"} for n in range(200)]
        Path("varied.json").write_text(json.dumps(rows))
        return [looked("varied.json", files)]

    assert caps(40, pool(200)) == CAPS[0] == (0.02, 0.05)
    assert caps(40, pool(25)) == (0.02, 0.05)  # 2 rows of each opener leave 50, which is 40 and a quarter
    assert caps(40, pool(24)) == (0.02, 0.1)
    assert caps(40, pool(2)) == (None, None)


def test_without_probes_open_ones_on_the_hub_stand_in(files: Path) -> None:
    assert new().exit_code == 0
    recipe = read("mine.yaml")
    assert all(source.hub for source in (*recipe.probes.harmful, *recipe.probes.benign))
    assert recipe.model.id == "HuggingFaceTB/SmolLM2-135M-Instruct"
    checked = run("check", "mine.yaml")
    assert checked.exit_code == 0, checked.output


def test_the_longest_row_that_is_kept_follows_the_rows(files: Path) -> None:
    short = looked("task.csv", files)
    assert longest([short]) == LENGTHS[0]
    signs = int(300 * SIGNS)
    Path("long.jsonl").write_text(
        "\n".join(json.dumps({"prompt": f"{number} " + "a" * (signs - 40), "response": "No."}) for number in range(40))
    )
    assert longest([short, looked("long.jsonl", files)]) == 512


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--pool", "safety rows.json"], "give a file for each"),
        (["--pool", "safety rows.json", "--task", "absent.json"], "absent.json"),
        (["--pool", "few.txt", "--task", "task.csv"], "few.txt"),
    ],
)
def test_what_cannot_be_drafted_is_said_and_writes_nothing(files: Path, words: list[str], expected: str) -> None:
    Path("few.txt").write_text("only a prompt\n")
    made = run("new", "mine", *words)
    assert made.exit_code != 0
    assert expected in str(made.exception)
    assert not Path("mine.yaml").exists()


def test_too_few_rows_are_refused(files: Path) -> None:
    Path("few.jsonl").write_text(json.dumps({"prompt": "Forge it", "response": "No."}))
    made = run("new", "mine", "--pool", "few.jsonl", "--task", "task.csv")
    assert isinstance(made.exception, DataError)
    assert "at least 20" in str(made.exception)


def test_two_tasks_of_one_name_and_names_of_other_scripts_are_told_apart(files: Path) -> None:
    (files / "other").mkdir()
    (files / "other" / "task.csv").write_bytes((files / "task.csv").read_bytes())
    (files / "\u4efb\u52a1.csv").write_bytes((files / "task.csv").read_bytes())
    made = new("--task", "other/task.csv", "--task", "\u4efb\u52a1.csv")
    assert made.exit_code == 0, made.output
    names = [task.name for task in read("mine.yaml").tasks]
    assert len(set(names)) == 3
