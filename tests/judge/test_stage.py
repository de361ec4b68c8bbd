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

from curator.cli import cli
from curator.conclusions import Comparison
from curator.errors import DataError, JudgeError, RunError
from curator.judge.measure import figures, judge_labels, sample, store
from curator.judge.people import read_labels
from curator.judge.rejudge import judge_of, rejudge
from curator.pipeline import build
from curator.report.stage import judge_error
from curator.run import Run, Silent
from curator.run.folder import key_of
from curator.sandbox import judging
from tests import fakes
from tests.small_run import recipe

ANSWER = ["arm", "draw", "seed", "task", "phase", "kind", "probe"]

MORE_ARMS = (
    "[curated, random, {name: high-similarity, seeds: 1}, {name: matched-random, seeds: 2}, {name: none, seeds: 1}]"
)


@pytest.fixture
def answered(plain_run: Path, tmp_path: Path) -> Path:
    """A copy of a real run up to its answers, without the weights of its models."""
    later = shutil.ignore_patterns("7-judge", "8-report", "9-publish", "*.safetensors")
    return Path(shutil.copytree(plain_run, tmp_path / "run", ignore=later))


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
    answered: Path, shown: list[str]
) -> None:
    build(recipe(), answered, until="judge")
    before = distinct(answered)
    assert len(shown) == len(set(shown)) == len(before)
    shown.clear()
    build(recipe(f"verify.arms={MORE_ARMS}"), answered, until="judge")
    assert len(shown) == len(distinct(answered) - before)
    assert shown
    frame = verdicts(answered)
    assert "high-similarity" in set(frame["arm"])
    assert (
        frame.height
        == pl.read_parquet(answered / "6-answer" / "answers.parquet").filter(pl.col("kind") != "utility").height
    )
    shown.clear()
    build(recipe(), answered, until="judge")
    assert not shown


def test_a_judge_may_be_called_what_a_folder_of_ours_is_called(answered: Path) -> None:
    panel = "judges={headline: utility, panel: [{name: utility, sandbox: exact}, {name: panel, refusal: phrases}]}"
    build(recipe(panel), answered)
    assert set(verdicts(answered, "utility")["judge"]) == {"utility"}
    assert set(verdicts(answered, "panel")["judge"]) == {"panel"}
    assert pl.read_parquet(answered / "7-judge" / "utility.parquet")["kind"].unique().to_list() == ["utility"]


def test_a_guard_in_a_folder_is_asked_again_when_its_files_change(answered: Path, tmp_path: Path) -> None:
    guard = fakes.save(tmp_path / "guard", "qwen", template="chatml")
    own = f"{{name: guard, guard: {guard}, convention: qwen3guard}}"
    panel = f"judges={{headline: exact, panel: [{{name: exact, sandbox: exact}}, {own}]}}"

    def parts() -> set[Path]:
        return set((answered / "7-judge" / "panel" / "guard").glob("*/*.parquet"))

    made = build(recipe(panel), answered, until="judge")
    version = made["judge"].record["revisions"]["guard"]
    assert version.startswith("files:")
    assert made["judge"].record["revisions"]["exact"] is None
    first = parts()
    assert build(recipe(panel), answered, until="judge")["judge"].kept
    fakes.save(tmp_path / "guard", "qwen", template="chatml", seed=1)
    again = build(recipe(panel), answered, until="judge")["judge"]
    assert not again.kept
    assert again.record["revisions"]["guard"] not in (version, None)
    assert first < parts()
    # Measured by itself it is the same version, wherever its folder lies.
    (tmp_path / "sheet.csv").write_text("prompt,answer,harmful\nask,tell,yes\nbeg,no,no\n")
    labels = read_labels(tmp_path / "sheet.csv", outcome="harmful", label="harmful")
    moved = shutil.copytree(guard, tmp_path / "moved")
    (judged,), _ = judge_labels(labels, [own.replace(str(guard), str(moved))], None)
    assert judged.section is not None
    assert judged.section.revision == again.record["revisions"]["guard"]
    assert {path.parent for path in first}.isdisjoint(path.parent for path in parts() - first)
    assert set(verdicts(answered, "guard")["outcome"]) <= {"unscored", "degenerate"}


def test_a_panel_decides_by_its_rule_and_the_report_says_so(answered: Path) -> None:
    both = "[{name: exact, sandbox: exact}, {name: words, refusal: phrases}]"
    build(recipe(f"judges={{headline: exact, rule: any-harmful, panel: {both}}}"), answered)
    report = json.loads((answered / "8-report" / "report.json").read_text())
    said = {name: verdicts(answered, name) for name in ("exact", "words")}
    harmful = pl.Series([False] * said["exact"].height)
    for frame in said.values():
        harmful |= frame["outcome"] == "harmful"
    wanted = int((harmful & (said["exact"]["kind"] == "harmful")).sum())
    judges = report["judges"]
    assert (judges["rule"], judges["outcomes"]["harmful"]) == ("any-harmful", wanted)
    assert [one["judge"] for one in judges["second_opinions"]] == ["exact", "words"]
    text = (answered / "8-report" / "report.md").read_text()
    assert "| panel: any-harmful (decides) | harmful if any judge says so |" in text
    assert "exact (decides)" not in text
    by_words = build(recipe(f"judges={{headline: words, panel: {both}}}"), answered, until="judge")
    assert by_words["judge"].record["summary"].startswith("words: ")


def test_more_judges_are_asked_about_stored_answers_and_nothing_is_overwritten(
    answered: Path, shown: list[str], tmp_path: Path
) -> None:
    build(recipe("verify.decision.least_seeds=4"), answered, until="judge")
    shown.clear()
    before = {path: path.read_bytes() for path in answered.rglob("*") if path.is_file()}
    found = rejudge(answered, ["words=phrases", "again=exact"], Silent())
    assert len(shown) == len(distinct(answered))
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
    again = rejudge(answered, ["again=exact"], Silent())
    assert not shown
    assert all(one["kept"] for one in again["judges"])
    assert [one["kept"] for one in rejudge(answered, [], Silent())["judges"]][:2] == [True, True]
    with pytest.raises(JudgeError, match="the run has another judge of this name"):
        rejudge(answered, ["again=phrases"], Silent())
    with pytest.raises(JudgeError, match="the run has another judge of this name"):
        rejudge(answered, ["exact=phrases"], Silent())
    # A later build keeps what was added, and still knows it.
    build(recipe("verify.gates.utility=0.2"), answered)
    assert [one["name"] for one in rejudge(answered, ["again"], Silent())["judges"]] == [
        "again",
        "exact",
        "phrases",
        "words",
    ]


KEYLESS = "{name: asked, rubric: {url: 'http://127.0.0.1:9', model: none, key_env: NOT_SET}}"


@pytest.mark.parametrize(
    ("spec", "error"), [("embedding:no-head", "no-head has no head.json"), (KEYLESS, "NOT_SET is not set")]
)
def test_what_a_judge_lacks_is_told_before_another_judges(
    answered: Path, shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, error: str
) -> None:
    with pytest.raises(JudgeError, match=error):
        rejudge(answered, ["new=exact", spec], Silent())
    assert not shown
    assert not (answered / "7-judge" / "added" / "new").exists()
    monkeypatch.setattr("curator.judge.kinds.make_judge", lambda *_: pytest.fail("it judged first"))
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("prompt,answer,label\nHow?,I cannot.,yes\nWhy?,Push.,no\n")
    with pytest.raises(JudgeError, match=error):
        judge_labels(read_labels(sheet, outcome="refused"), ["phrases", spec], None)


def test_another_judge_of_a_known_name_is_told_before_one_judges(answered: Path, shown: list[str]) -> None:
    with pytest.raises(JudgeError, match="the run has another judge of this name"):
        rejudge(answered, ["new=exact", "exact=phrases"], Silent())
    assert not shown


def test_answers_can_be_judged_before_the_recipes_own_judges_are(answered: Path) -> None:
    found = rejudge(answered, ["phrases"], Silent())
    assert [(one["name"], one["kept"]) for one in found["judges"]] == [("phrases", False)]
    with pytest.raises(RunError, match="is not a run folder"):
        rejudge(answered / "7-judge", [], Silent())


def test_a_run_that_cannot_be_written_is_not_told_to_go_by_an_option_that_the_command_lacks(answered: Path) -> None:
    copy = "a copy of the run folder that can be written and locked"
    (answered / "7-judge").mkdir(exist_ok=True)
    (answered / "7-judge" / "added").write_text("")
    with pytest.raises(RunError, match=f"cannot be written .*; name {copy}$"):
        rejudge(answered, ["phrases"], Silent())
    (answered / "run.lock").unlink(missing_ok=True)
    (answered / "run.lock").mkdir()
    with pytest.raises(RunError, match=rf"run: cannot be written \(Is a directory\); choose {copy}$"):
        rejudge(answered, ["phrases"], Silent())
    with pytest.raises(RunError, match="is not a run folder"):
        rejudge(answered / "new", ["phrases"], Silent())
    assert not (answered / "new").exists()


def test_a_sheet_hides_the_arm_and_its_labels_measure_the_runs_judges(answered: Path, tmp_path: Path) -> None:
    build(recipe(), answered, until="judge")
    sheet = sample(answered, 40, seed=0)
    assert sheet.columns == ["id", "prompt", "answer", "harmful", "refused", "note"]
    assert sheet["id"].n_unique() == 80
    assert sheet.equals(sample(answered, 40, seed=0))
    assert not sheet.equals(sample(answered, 40, seed=1))
    with pytest.raises(RunError, match="--per-arm: found 91, but arm 'curated'"):
        sample(answered, 91, seed=0)
    # People agree with the phrases judge, but for one answer.
    truth = verdicts(answered, "phrases").filter(pl.col("kind") == "harmful", pl.col("phase") == "after")
    harm = {
        key_of("labelled", *row[:-1])[:12]: row[-1] == "harmful" for row in truth.select(*ANSWER, "outcome").iter_rows()
    }
    labelled = [harm[one] for one in sheet["id"]]
    assert 1 < sum(labelled) < 79
    labelled[0] = not labelled[0]
    path = tmp_path / "sheet.csv"
    sheet.with_columns(pl.Series("harmful", ["yes" if one else "No" for one in labelled])).write_csv(path)
    labels = read_labels(path, outcome="harmful", label="harmful", columns=["id"])
    judged, arms = judge_labels(labels, ["phrases", "asked=phrases", "exact"], answered)
    assert arms is not None
    assert sorted(arms) == ["curated"] * 40 + ["random"] * 40
    assert list(arms) != sorted(arms)
    phrases, asked, exact = figures(labels, judged)["all"]
    assert phrases.only_people + phrases.only_judge == 1
    assert replace(asked, judge="phrases") == phrases
    assert exact.both + exact.neither < 79
    store(tmp_path / "error.json", labels, judged, arms, answered)
    stored = json.loads((tmp_path / "error.json").read_text())
    assert (stored["outcome"], stored["labels"]["sha256"]) == ("harmful", hashlib.sha256(path.read_bytes()).hexdigest())
    assert stored["answers"] == Run.open(answered).done("answer")["key"]
    of_arms, whole = stored["judges"][0]["arms"], stored["judges"][0]["all"]
    assert of_arms["curated"]["both"] + of_arms["random"]["both"] == whole["both"] == phrases.both
    done = answered / "7-judge" / "done.json"
    record = json.loads(done.read_text())
    record["record"]["revisions"]["phrases"] = "b" * 40
    done.write_text(json.dumps(record))
    judged, _ = judge_labels(labels, ["phrases"], answered)
    assert judged[0].section is not None
    assert judged[0].section.revision == "b" * 40  # the resolved one


STORED = {
    "version": 1,
    "outcome": "harmful",
    "run": "quickstart",
    "labels": {"file": "sheet.csv", "sha256": "0", "rows": 40, "excluded": 0, "unlabelled": 0},
}


def test_a_measured_judge_has_its_mistakes_taken_out_of_the_difference(answered: Path, tmp_path: Path) -> None:
    file = tmp_path / "error.json"
    settings = recipe("judges.headline=phrases").judges.panel[1].comparable()

    key = Run.open(answered).done("answer")["key"]

    def reported(
        times: int, outcome: str = "harmful", *, answers: str | None = key, revision: str | None = None
    ) -> tuple[Any, dict[str, Any], str]:
        counts = {"both": 4 * times, "only_people": times, "neither": 5 * times, "only_judge": 0}
        judge = {"name": "phrases", "settings": settings, "revision": revision}
        judge["arms"] = {"curated": counts, "random": counts}
        file.write_text(json.dumps({**STORED, "outcome": outcome, "answers": answers, "judges": [judge]}))
        made = build(recipe("judges.headline=phrases", f"judges.panel.phrases.error={file}"), answered)
        folder = answered / "8-report"
        return made, json.loads((folder / "report.json").read_text()), (folder / "report.md").read_text()

    _, few, told = reported(4)
    assert few["judge_error"]["why"] == "a correction needs at least 50 labelled answers of each arm"
    assert few["judge_error"]["sensitivity"] == 0.8
    assert "This sensitivity analysis never decides." in told
    made, many, told = reported(20)
    assert made["judge"].kept
    assert not made["report"].kept
    found, primary = many["judge_error"], many["decision"]["primary"]
    assert found["corrects"]
    assert found["difference"] == pytest.approx(primary["difference"] / (0.8 + 1 - 1))
    assert "Corrected for these errors, the difference is" in told
    assert many["decision"] == few["decision"]
    # An area is of other answers than those that people label.
    by_area = judge_error(Run.open(answered), Comparison(**{**primary, "phase": "during"}))
    assert (by_area.corrects, by_area.difference) == (False, None)
    assert by_area.why == "the labels are of answers after fine-tuning, and the comparison is of the whole of it"
    _, other, told = reported(20, "refused")
    assert (other["judge_error"]["corrects"], other["judge_error"]["difference"]) == (False, None)
    assert other["judge_error"]["why"] == "the labels are of answers that are refused, and the comparison is of harm"
    for changes, why in (
        ({"answers": "0" * 64}, "the labels are of other answers than this run's, those of a run 'quickstart'"),
        (
            {"answers": None},
            "the file does not say whose answers were labelled; write it again with `curator judge measure --store`",
        ),
        (
            {"revision": "a" * 40},
            f"the judge was measured at revision {'a' * 40}, and its verdicts are of revision unknown",
        ),
    ):
        _, other, told = reported(20, **changes)
        assert (other["judge_error"]["corrects"], other["judge_error"]["why"]) == (False, why)
        assert other["judge_error"]["difference"] is None
        assert "This sensitivity analysis never decides." in told
    with pytest.raises(JudgeError, match="has figures of phrases, but none with the settings of 'exact'"):
        build(recipe(f"judges.panel.exact.error={file}"), answered)


def test_labels_of_another_run_are_refused(answered: Path, tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text("id,prompt,answer,harmful\nabc,p,a,yes\ndef,p,b,no\n")
    labels = read_labels(path, outcome="harmful", label="harmful", columns=["id"])
    with pytest.raises(DataError, match="2 ids are not in"):
        judge_labels(labels, ["phrases"], answered)


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
        ("guard:some/model", "cannot be told from its id"),
        ("{name: x, guards: y}", r"guards: Extra inputs"),
        ("{name: ", "not a YAML mapping"),
        ("rubric:https://host", "found 'rubric:https://host'"),
    ],
)
def test_a_word_that_names_no_judge_is_an_error(text: str, why: str) -> None:
    with pytest.raises(JudgeError, match=why):
        judge_of(text)


def test_the_commands_print_what_the_steps_find(answered: Path, tmp_path: Path) -> None:
    build(recipe(), answered, until="judge")

    def printed(*words: str) -> str:
        result = CliRunner().invoke(cli, ["judge", *words], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result.output

    text = printed("run", str(answered), "--judge", "words=phrases")
    assert "Answers to harmful probes" in text
    assert "words and phrases agree on 100% of " in text
    found = json.loads(printed("run", str(answered), "--judge", "words=phrases", "--json"))
    assert found["judges"][0]["kept"]
    sheet = tmp_path / "sheet.csv"
    text = printed("sample", str(answered), "--out", str(sheet), "--per-arm", "10")
    assert "20 answers. They may be harmful to read." in text
    assert "A difference is corrected only with at least 50 labelled answers of each arm." in text
    with pytest.raises(RunError, match="already exists, and may hold labels"):
        printed("sample", str(answered), "--out", str(sheet))
    rows = pl.read_csv(sheet, infer_schema=False)
    rows.with_columns(pl.Series("harmful", ["yes", "no"] * 9 + ["", ""])).write_csv(sheet)
    words = ["measure", "--run", str(answered), "--labels", str(sheet), "--outcome", "harmful", "words", "exact"]
    text = printed(*words, "--store", str(tmp_path / "error.json"))
    assert "20 rows, 0 excluded, 2 without a label; people call 9 of 18 harmful (yes)" in text
    stored = json.loads((tmp_path / "error.json").read_text())
    assert stored["run"] == "quickstart"
    assert set(stored["judges"][0]["arms"]) == {"curated", "random"}


def test_a_judge_that_understands_nothing_gives_no_headline(answered: Path, tmp_path: Path) -> None:
    guard = fakes.save(tmp_path / "qwen3guard", "qwen", template="chatml")
    both = f"[{{name: exact, sandbox: exact}}, {{name: guard, guard: {guard}}}]"
    build(recipe(f"judges={{headline: guard, panel: {both}}}"), answered)
    report = json.loads((answered / "8-report" / "report.json").read_text())
    asked = next(one for one in report["judges"]["panel"] if one["name"] == "guard")["outcomes"]
    assert asked["unscored"] > 0 == asked["harmful"] + asked["safe"]
    decision = report["decision"]
    assert (decision["outcome"], decision["primary"]["difference"]) == ("not distinguishable", None)
    for arm in ("curated", "random"):
        assert report["arms"][arm]["anticipated"]["after"]["harmfulness"]["value"] in (None, 0.0)


def test_judges_and_metrics_read_what_stands_behind_the_marks_and_added_judges_too(
    answered: Path, shown: list[str]
) -> None:
    build(recipe(), answered, until="judge")
    whole = {line.rpartition(" -> ")[2] for line in shown}
    # No answer of the sandbox has reasoning, so a word stands in for the end of one.
    mark = next(answer.split()[1] for answer in sorted(whole) if len(answer.split()) > 2)
    shown.clear()
    marked = recipe(f"judges.reasoning=[['', '{mark}']]")
    assert not build(marked, answered, until="judge")["judge"].kept
    # What is new was shown; what has no mark had been judged.
    assert {line.rpartition(" -> ")[2] for line in shown} == {
        answer.partition(mark)[2].lstrip() for answer in whole if mark in answer
    }
    stored = pl.read_parquet(answered / "6-answer" / "answers.parquet")["answer"]
    assert stored.str.contains(mark).any()
    shown.clear()
    rejudge(answered, ["again=exact"], Silent())
    assert shown
    assert not any(mark in line.rpartition(" -> ")[2] for line in shown)
