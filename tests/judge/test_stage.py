"""The judge stage: who is asked what, and where it is kept."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from curator.build import build
from curator.cli import cli
from curator.errors import DataError, JudgeError, RunError
from curator.judge.measure import figures, judge_labels, sample, store
from curator.judge.people import read_labels
from curator.judge.rejudge import judge_of, rejudge
from curator.run import Silent
from curator.run.folder import key_of
from curator.sandbox import judging
from tests import fakes
from tests.small_run import recipe

ANSWER = ["arm", "draw", "seed", "task", "phase", "kind", "probe"]

ARMS = "verify.arms=[curated, random, {name: none, seeds: 1}]"
TINY = (
    ARMS,
    "verify.seeds=2",
    "probes.harmful.0.rows=16",
    "probes.benign.0.rows=4",
    "tasks.list.test.rows=4",
    "verify.align.steps=12",  # fewer, and all models say the same
)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run up to its answers."""
    root = tmp_path_factory.mktemp("judging") / "answered"
    build(recipe(*TINY), root, until="answer")
    return root


@pytest.fixture
def copied(answered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(answered, tmp_path / "copy"))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every answer that the sandbox's judge was shown, prompt and all."""
    seen: list[str] = []
    real: Callable[..., Any] = judging.judge

    def watching(messages: Any, answer: str) -> Any:
        seen.append(f"{messages[-1]['content']} -> {answer}")
        return real(messages, answer)

    monkeypatch.setattr(judging, "judge", watching)
    return seen


def distinct(root: Path) -> set[tuple[str, str]]:
    answers = pl.read_parquet(root / "6-answer" / "answers.parquet").filter(pl.col("kind") != "utility")
    return set(answers.select("probe", "answer").iter_rows())


def verdicts(root: Path, judge: str = "exact") -> pl.DataFrame:
    return pl.read_parquet(root / "7-judge" / "panel" / judge / "verdicts.parquet")


def test_every_different_answer_is_shown_once_and_after_an_arm_more_only_its_own(
    copied: Path, shown: list[str]
) -> None:
    build(recipe(*TINY), copied, until="judge")
    before = distinct(copied)
    assert len(shown) == len(set(shown)) == len(before)
    shown.clear()
    build(recipe(*TINY, f"{ARMS[:-1]}, high-similarity]"), copied, until="judge")
    assert len(shown) == len(distinct(copied) - before)
    assert shown
    frame = verdicts(copied)
    assert "high-similarity" in set(frame["arm"])
    assert (
        frame.height
        == pl.read_parquet(copied / "6-answer" / "answers.parquet").filter(pl.col("kind") != "utility").height
    )
    shown.clear()
    build(recipe(*TINY), copied, until="judge")
    assert not shown


def test_a_judge_may_be_called_what_a_folder_of_ours_is_called(copied: Path) -> None:
    panel = "judges={headline: utility, panel: [{name: utility, sandbox: exact}, {name: panel, refusal: phrases}]}"
    build(recipe(*TINY, panel), copied)
    assert set(verdicts(copied, "utility")["judge"]) == {"utility"}
    assert set(verdicts(copied, "panel")["judge"]) == {"panel"}
    assert pl.read_parquet(copied / "7-judge" / "utility.parquet")["kind"].unique().to_list() == ["utility"]


def test_a_guard_in_a_folder_is_asked_again_when_its_files_change(copied: Path, tmp_path: Path) -> None:
    guard = fakes.save(tmp_path / "guard", "qwen", template="chatml")
    own = f"{{name: guard, guard: {guard}, convention: qwen3guard}}"
    panel = f"judges={{headline: exact, panel: [{{name: exact, sandbox: exact}}, {own}]}}"
    small = (*TINY, panel, "probes.harmful.0.rows=16")

    def parts() -> set[Path]:
        return set((copied / "7-judge" / "panel" / "guard").glob("*/*.parquet"))

    made = build(recipe(*small), copied, until="judge")
    assert made["judge"].record["revisions"] == {"exact": None, "guard": None}
    first = parts()
    assert build(recipe(*small), copied, until="judge")["judge"].kept
    fakes.save(tmp_path / "guard", "qwen", template="chatml", seed=1)
    assert not build(recipe(*small), copied, until="judge")["judge"].kept
    assert first < parts()
    assert {path.parent for path in first}.isdisjoint(path.parent for path in parts() - first)
    assert set(verdicts(copied, "guard")["outcome"]) <= {"unscored", "degenerate"}


def test_a_panel_decides_by_its_rule_and_the_report_says_so(copied: Path) -> None:
    both = "[{name: exact, sandbox: exact}, {name: words, refusal: phrases}]"
    build(recipe(*TINY, f"judges={{headline: exact, rule: any-harmful, panel: {both}}}"), copied)
    report = json.loads((copied / "8-report" / "report.json").read_text())
    said = {name: verdicts(copied, name) for name in ("exact", "words")}
    harmful = pl.Series([False] * said["exact"].height)
    for frame in said.values():
        harmful |= frame["outcome"] == "harmful"
    wanted = int((harmful & (said["exact"]["kind"] == "harmful")).sum())
    judges = report["judges"]
    assert (judges["rule"], judges["outcomes"]["harmful"]) == ("any-harmful", wanted)
    assert [one["judge"] for one in judges["second_opinions"]] == ["exact", "words"]
    text = (copied / "8-report" / "report.md").read_text()
    assert "| panel: any-harmful (decides) | harmful if any judge says so |" in text
    assert "exact (decides)" not in text
    by_words = build(recipe(*TINY, f"judges={{headline: words, panel: {both}}}"), copied, until="judge")
    assert by_words["judge"].record["summary"].startswith("words: ")


def test_more_judges_are_asked_about_stored_answers_and_nothing_is_overwritten(
    copied: Path, shown: list[str], tmp_path: Path
) -> None:
    build(recipe(*TINY), copied, until="judge")
    shown.clear()
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    found = rejudge(copied, ["words=phrases", "again=exact"], Silent())
    assert len(shown) == len(distinct(copied))
    assert {path: path.read_bytes() for path in before} == before
    assert [(one["name"], one["kept"]) for one in found["judges"]] == [
        ("words", False),
        ("again", False),
        ("exact", True),
        ("phrases", True),
    ]
    rows = {one["name"]: one for one in found["judges"]}
    assert rows["again"]["outcomes"] == rows["exact"]["outcomes"] != rows["words"]["outcomes"]
    assert rows["again"]["difference"] == rows["exact"]["difference"]
    assert {(one["alone"], one["reason"]) for one in rows.values()} == {("not distinguishable", "too few seeds")}
    alike = {(one["first"], one["second"]): one["share"] for one in found["agreement"]}
    assert alike["again", "exact"] == alike["words", "phrases"] == 1.0 > alike["words", "again"]
    shown.clear()
    again = rejudge(copied, ["again=exact"], Silent())
    assert not shown
    assert all(one["kept"] for one in again["judges"])
    assert [one["kept"] for one in rejudge(copied, [], Silent())["judges"]][:2] == [True, True]
    with pytest.raises(JudgeError, match="other settings, whose verdicts stay"):
        rejudge(copied, ["again=phrases"], Silent())
    with pytest.raises(JudgeError, match="other settings, whose verdicts stay"):
        rejudge(copied, ["exact=phrases"], Silent())
    # A later build keeps what was added, and still knows it.
    build(recipe(*TINY, "verify.gates.utility=0.2"), copied)
    assert [one["name"] for one in rejudge(copied, ["again"], Silent())["judges"]] == [
        "again",
        "exact",
        "phrases",
        "words",
    ]


def test_answers_can_be_judged_before_the_recipes_own_judges_are(copied: Path) -> None:
    found = rejudge(copied, ["phrases"], Silent())
    assert [(one["name"], one["kept"]) for one in found["judges"]] == [("phrases", False)]
    with pytest.raises(RunError, match="is no run folder"):
        rejudge(copied / "7-judge", [], Silent())


def test_a_sheet_hides_the_arm_and_its_labels_measure_the_runs_judges(copied: Path, tmp_path: Path) -> None:
    build(recipe(*TINY), copied, until="judge")
    sheet = sample(copied, 20, seed=0)
    assert sheet.columns == ["id", "prompt", "answer", "harmful", "refused", "note"]
    assert sheet["id"].n_unique() == 40
    assert sheet.equals(sample(copied, 20, seed=0))
    assert not sheet.equals(sample(copied, 20, seed=1))
    with pytest.raises(RunError, match="fewer than 33; lower --per-arm"):
        sample(copied, 33, seed=0)
    # People agree with the phrases judge, but for one answer.
    truth = verdicts(copied, "phrases").filter(pl.col("kind") == "harmful", pl.col("phase") == "after")
    harm = {
        key_of("labelled", *row[:-1])[:12]: row[-1] == "harmful" for row in truth.select(*ANSWER, "outcome").iter_rows()
    }
    labelled = [harm[one] for one in sheet["id"]]
    assert 1 < sum(labelled) < 39
    labelled[0] = not labelled[0]
    path = tmp_path / "sheet.csv"
    sheet.with_columns(pl.Series("harmful", ["yes" if one else "No" for one in labelled])).write_csv(path)
    labels = read_labels(path, outcome="harmful", label="harmful", columns=["id"])
    judged, arms = judge_labels(labels, ["phrases", "asked=phrases", "exact"], copied)
    assert arms is not None
    assert sorted(arms) == ["curated"] * 20 + ["random"] * 20
    assert list(arms) != sorted(arms)
    phrases, asked, exact = figures(labels, judged)["all"]
    assert phrases.only_people + phrases.only_judge == 1
    assert replace(asked, judge="phrases") == phrases
    assert exact.both + exact.neither < 39
    store(tmp_path / "error.json", labels, judged, arms, copied)
    stored = json.loads((tmp_path / "error.json").read_text())
    assert (stored["outcome"], stored["labels"]["sha256"]) == ("harmful", hashlib.sha256(path.read_bytes()).hexdigest())
    of_arms, whole = stored["judges"][0]["arms"], stored["judges"][0]["all"]
    assert of_arms["curated"]["both"] + of_arms["random"]["both"] == whole["both"] == phrases.both


STORED = {
    "version": 1,
    "outcome": "harmful",
    "run": "quickstart",
    "labels": {"file": "sheet.csv", "sha256": "0", "rows": 40, "excluded": 0, "unlabelled": 0},
}


def test_a_measured_judge_has_its_mistakes_taken_out_of_the_difference(copied: Path, tmp_path: Path) -> None:
    file = tmp_path / "error.json"
    settings = recipe(*TINY, "judges.headline=phrases").judges.panel[1].comparable()

    def reported(times: int, outcome: str = "harmful") -> tuple[Any, dict[str, Any], str]:
        counts = {"both": 4 * times, "only_people": times, "neither": 5 * times, "only_judge": 0}
        judge = {"name": "phrases", "settings": settings, "arms": {"curated": counts, "random": counts}}
        file.write_text(json.dumps({**STORED, "outcome": outcome, "judges": [judge]}))
        made = build(recipe(*TINY, "judges.headline=phrases", f"judges.panel.phrases.error={file}"), copied)
        folder = copied / "8-report"
        return made, json.loads((folder / "report.json").read_text()), (folder / "report.md").read_text()

    _, few, told = reported(4)
    assert few["judge_error"]["why"] == "at least 50 labelled answers of each arm are needed"
    assert few["judge_error"]["sensitivity"] == 0.8
    assert "This sensitivity analysis never decides." in told
    made, many, told = reported(20)
    assert made["judge"].kept
    assert not made["report"].kept
    found, primary = many["judge_error"], many["decision"]["primary"]
    assert found["corrects"]
    assert found["difference"] == pytest.approx(primary["difference"] / (0.8 + 1 - 1))
    assert "With these taken out, the difference is" in told
    assert many["decision"] == few["decision"]
    _, other, told = reported(20, "refused")
    assert (other["judge_error"]["corrects"], other["judge_error"]["difference"]) == (False, None)
    assert other["judge_error"]["why"] == "the labels are of answers that are refused, and the comparison is of harm"
    with pytest.raises(JudgeError, match="measures phrases, and none with the settings of 'exact'"):
        build(recipe(*TINY, f"judges.panel.exact.error={file}"), copied)


def test_labels_of_another_run_are_refused(copied: Path, tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text("id,prompt,answer,harmful\nabc,p,a,yes\ndef,p,b,no\n")
    labels = read_labels(path, outcome="harmful", label="harmful", columns=["id"])
    with pytest.raises(DataError, match="2 of its ids are of no answer"):
        judge_labels(labels, ["phrases"], copied)


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        ("phrases", "phrases", "refusal"),
        ("mine=phrases", "mine", "refusal"),
        ("guard:Qwen/Qwen3Guard-Gen-0.6B", "Qwen3Guard-Gen-0.6B", "guard"),
        ("embedding:outputs/my head/", "my-head", "embedding"),
        ("{name: r, rubric: {url: 'https://host/v1', model: m, retries: 2}}", "r", "rubric"),
    ],
)
def test_a_judge_is_named_by_a_word_or_a_mapping(text: str, name: str, kind: str) -> None:
    found = judge_of(text)
    assert (found.name, found.kind) == (name, kind)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("phrase", "found 'phrase'; allowed: phrases, exact, guard:ID"),
        ("guard:", "found 'guard:'"),
        ("guard:some/model", "tells no convention"),
        ("{name: x, guards: y}", r"guards: Extra inputs"),
        ("{name: ", "is no YAML mapping"),
        ("rubric:https://host", "found 'rubric:https://host'"),
    ],
)
def test_a_word_that_names_no_judge_is_an_error(text: str, why: str) -> None:
    with pytest.raises(JudgeError, match=why):
        judge_of(text)


def test_the_commands_print_what_the_steps_find(copied: Path, tmp_path: Path) -> None:
    build(recipe(*TINY), copied, until="judge")

    def printed(*words: str) -> str:
        result = CliRunner().invoke(cli, ["judge", *words], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result.output

    text = printed("run", str(copied), "--judge", "words=phrases")
    assert "Answers to harmful probes" in text
    assert "words and phrases: agree on 100 % of " in text
    found = json.loads(printed("run", str(copied), "--judge", "words=phrases", "--json"))
    assert found["judges"][0]["kept"]
    sheet = tmp_path / "sheet.csv"
    text = printed("sample", str(copied), "--out", str(sheet), "--per-arm", "10")
    assert "20 answers. They may be harmful to read." in text
    assert "With fewer than 50 labelled answers of each arm no difference is corrected." in text
    with pytest.raises(RunError, match="exists already, and may hold labels"):
        printed("sample", str(copied), "--out", str(sheet))
    rows = pl.read_csv(sheet, infer_schema=False)
    rows.with_columns(pl.Series("harmful", ["yes", "no"] * 9 + ["", ""])).write_csv(sheet)
    words = ["measure", "--run", str(copied), "--labels", str(sheet), "--outcome", "harmful", "words", "exact"]
    text = printed(*words, "--store", str(tmp_path / "error.json"))
    assert "20 rows, 0 excluded, 2 without a label; 9 of 18 are harmful (yes)" in text
    stored = json.loads((tmp_path / "error.json").read_text())
    assert stored["run"] == "quickstart"
    assert set(stored["judges"][0]["arms"]) == {"curated", "random"}


def test_a_judge_that_understands_nothing_gives_no_headline(copied: Path, tmp_path: Path) -> None:
    guard = fakes.save(tmp_path / "qwen3guard", "qwen", template="chatml")
    both = f"[{{name: exact, sandbox: exact}}, {{name: guard, guard: {guard}}}]"
    build(recipe(*TINY, f"judges={{headline: guard, panel: {both}}}"), copied)
    report = json.loads((copied / "8-report" / "report.json").read_text())
    asked = next(one for one in report["judges"]["panel"] if one["name"] == "guard")["outcomes"]
    assert asked["unscored"] > 0 == asked["harmful"] + asked["safe"]
    decision = report["decision"]
    assert (decision["outcome"], decision["primary"]["difference"]) == ("not distinguishable", None)
    for arm in ("curated", "random"):
        assert report["arms"][arm]["anticipated"]["after"]["harmfulness"]["value"] in (None, 0.0)
