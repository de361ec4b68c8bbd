from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.cli.audit import own_folder, stem
from curator.conclusions import BeforeAfter, Rate
from curator.conclusions.part import plain
from curator.conclusions.secondary import Retained
from curator.corpus import BY_PROMPT, WITHOUT, _source, audit
from curator.corpus.measure import recipe_of
from curator.corpus.model import Audit, Measured
from curator.corpus.page import html, retained, summary
from curator.corpus.request import Request, from_recipe, named, source_of
from curator.corpus.route import _same, lines, ranked
from curator.errors import DataError, RecipeError, RunError
from curator.language import words
from curator.pool.semantic import covered, redundancy
from curator.pool.sources import Read
from curator.recipe.inputs import sha256
from curator.records import Messages, Verdict
from curator.run.folder import write_json
from curator.run.readers import report_file
from curator.wording import rate
from tests.small_run import recipe

GOLDEN = Path(__file__).parents[1] / "golden" / "reports"

VERBS, THINGS = ("open", "carry", "paint"), "abcdefgh"
MILLER = "what would the miller say of all this today"
ASKS = [MILLER, *(f"how would one {verb} the {thing} of the old mill" for verb in VERBS for thing in THINGS)]


def embed(ids: Sequence[str], rows: Sequence[Messages]) -> Any:
    """Words thrown into 64 directions: texts that share words are alike."""
    out = np.zeros((len(rows), 64), dtype=np.float32)
    for number, messages in enumerate(rows):
        for turn in messages:
            for word in words(turn["content"]):
                out[number, hashlib.sha256(word.encode()).digest()[0] % 64] += 1
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    texts = {
        "corpus": [
            {"prompt": ask, "response": f"no, I will not tell of {n}", "license": "MIT"} for n, ask in enumerate(ASKS)
        ],
        "near": [{"prompt": ask, "response": f"to do so take a {n}"} for n, ask in enumerate(ASKS)],
        "far": [{"prompt": f"sum {n} plus {n}", "response": str(2 * n)} for n in range(30)],
        "probes": [{"prompt": f"Tell me: {MILLER}?"}, {"prompt": "an altogether other question about ships"}],
    }
    texts["pool"] = [
        *texts["corpus"],
        *({"prompt": f"sing {n}", "response": f"la {n}", "category": "song"} for n in range(9)),
    ]
    for name, rows in texts.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {name: str(tmp_path / f"{name}.jsonl") for name in texts}


def asked(files: dict[str, str], **more: Any) -> Request:
    tasks, probes = named([files["near"], files["far"]]), named([files["probes"]])
    return Request(source_of(files["corpus"]), tasks, probes, **more)


def test_without_an_embedder_only_what_needs_none_is_found_and_it_says_so(files: dict[str, str]) -> None:
    found = audit(asked(files))
    assert found.not_made == (*WITHOUT, *BY_PROMPT)
    assert (found.similarity, found.redundancy, found.coverage, found.near_probes) == ({}, None, None, None)
    assert found.overlap["probes"].rows == 1
    leak = next(one for one in found.findings if one.kind == "probe-leak")
    assert (leak.severity, leak.count) == ("error", 1)
    assert found.overlap["probes"].matches[0].id == leak.ids[0]
    assert "without an embedder" in dict(summary(found))
    json.dumps(plain(found), allow_nan=False)


def test_with_an_embedder_the_corpus_is_compared_with_every_task(files: dict[str, str]) -> None:
    found = audit(asked(files, embed=embed, embedder="words", pool=source_of(files["pool"])))
    assert found.not_made == ()
    assert found.exposure == ("near", "far")
    near = found.similarity["near"]
    assert near.min <= near.p10 <= near.median <= near.p90 <= near.max <= 1
    assert len(near.most) == len(near.least) == 10
    assert set(near.most).isdisjoint(near.least)
    assert 0 < near.above_pool_median < 1
    assert found.redundancy.effective <= found.redundancy.vendi <= len(ASKS)
    assert found.coverage["song"].rows == 0
    assert 0 <= found.coverage["song"].covered < 1
    assert {"missing-categories", "probe-leak"} <= {one.kind for one in found.findings}
    assert 0.8 <= found.near_probes[0].cosine < 1
    json.dumps(plain(found), allow_nan=False)
    assert "most exposed to" in dict(summary(found))


def test_the_order_of_rows_changes_nothing_but_lines(files: dict[str, str]) -> None:
    one = audit(asked(files, embed=embed, embedder="words"))
    path = Path(files["corpus"])
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    other = audit(asked(files, embed=embed, embedder="words"))
    assert one.corpus != other.corpus  # the file's own hash
    assert one.findings != other.findings  # whose rows stand on other lines
    without = [each.model_copy(update={"lines": None}) for each in other.findings]
    expected = [each.model_copy(update={"lines": None}) for each in one.findings]
    assert without == expected
    assert one == other.model_copy(update={"corpus": one.corpus, "findings": one.findings})


def test_a_judge_of_the_answers_is_heard(files: dict[str, str]) -> None:
    def judge(rows: Sequence[Messages]) -> list[Verdict]:
        bad = [messages[-1]["content"].endswith("7") for messages in rows]
        return [Verdict("harmful" if one else "safe", refused=not one) for one in bad]

    found = audit(asked(files, judge=("mine", judge)))
    harmful = next(one for one in found.findings if one.kind == "harmful-answers")
    assert (harmful.severity, harmful.count) == ("error", 2)


def test_refusals_behind_reasoning_count_and_other_languages_are_not_counted(files: dict[str, str]) -> None:
    def rewritten(answer: str) -> Audit:
        rows = [json.dumps({"prompt": ask, "response": answer}) for ask in ASKS]
        Path(files["corpus"]).write_text("\n".join(rows), encoding="utf-8")
        return audit(asked(files))

    found = rewritten("<think>\nSure, I could say.\n</think>\n\nI cannot help with that.")
    assert found.refusals == 1
    found = rewritten("抱歉，我不能帮助你。")
    assert found.refusals is None
    assert next(one for one in found.findings if one.kind == "refusals").severity == "info"
    page = html(found)
    assert "not judged<small>no answer is in English</small>" in page


def test_a_recipe_gives_thresholds_judge_tasks_and_probes(files: dict[str, str]) -> None:
    found = from_recipe(Request(source_of(files["corpus"]), {}, {}), recipe("pool.clean.semantic_duplicates=0.9"))
    assert list(found.tasks) == ["list"]
    assert list(found.probes) == ["sandbox:forbidden-probes", "sandbox:benign-probes"]
    assert found.clean.semantic_duplicates == 0.9
    assert found.judge is not None
    assert found.judge[0] == "exact"
    by_phrases = from_recipe(found, recipe("judges.headline=phrases"))
    assert by_phrases.judge is None


def test_the_page_is_one_file_that_loads_nothing_and_shows_no_text_of_rows(files: dict[str, str]) -> None:
    rows = [json.loads(line) for line in Path(files["corpus"]).read_text().splitlines()]
    for row in rows:
        row["license"] = "<script>alert(1)</script>"
        row["category"] = "<img src=x onerror=alert(2)>"
    Path(files["corpus"]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = html(audit(asked(files, embed=embed, embedder="words")))
    assert page.count("<script") == 1, "that of the page itself"
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert not any(ask in page for ask in ASKS)
    assert "&#60;script" in page or "&lt;script" in page


def measured(**changes: Any) -> Measured:
    def share(value: float) -> Rate:
        return Rate(value=value, low=0.0, high=1.0, scored=30, unscored=0, method="m")

    protects = Retained(value=0.5, low=0.2, high=0.8, reason=None, seeds=6, prompts=30, method="m")
    arms = {arm: BeforeAfter(before=share(0.1), after=share(0.4)) for arm in ("curated", "none")}
    given = {"run": "x", "arms": arms, "retained": protects, "outcome": None, "reason": None, "sentence": None}
    return Measured(**{**given, **changes})


def test_without_a_pool_no_word_of_a_decision_is_used(files: dict[str, str]) -> None:
    found = audit(asked(files))
    alone = found.model_copy(update={"measured": measured()})
    told = f"{summary(alone)} {html(alone)}".lower()
    assert "50% [20, 80] is left" in told
    for word in ("durable", "trade-off", "not distinguishable", "worse", "decision"):
        assert word not in told
    decided = found.model_copy(update={"measured": measured(sentence="Worse. And so on.")})
    assert "Worse. And so on." in html(decided)
    nothing = measured().retained.model_copy(update={"value": None, "reason": "the set protects nothing"})
    assert retained(measured(retained=nothing)) == "How much lasts cannot be said: the set protects nothing."


def test_the_grid_stands_the_corpus_as_the_curated_arm(files: dict[str, str]) -> None:
    alone = recipe_of(recipe("verify.seeds={max: 8}"), asked(files))
    assert [arm.name for arm in alone.verify.arms] == ["curated", "none"]
    assert (alone.verify.control, alone.verify.seeds) == ("none", 8)
    assert alone.select.data is not None
    assert alone.select.data.file == files["corpus"]
    assert [task.name for task in alone.tasks] == ["near", "far"]
    arms = "verify.arms=[curated, random, curated+recovery, {name: none, seeds: 1}]"
    repeated = "select={k: 20, coverage: 0.9, answers: {}, repeats: {by: category, groups: {teas: 2}}}"
    chosen = recipe_of(recipe(repeated, "augment={recovery: {}}", arms), asked(files))
    assert (chosen.select.coverage, chosen.select.answers, chosen.select.repeats) == (None, None, None)
    assert chosen.augment.recovery is None
    against = recipe_of(recipe(), asked(files, pool=source_of(files["pool"])))
    assert against.verify.control == "matched-random"
    assert {"curated", "matched-random"} <= {arm.name for arm in against.verify.arms}
    assert against.pool.sources[0].file == files["pool"]


def test_probes_that_the_audit_names_are_asked_in_place_of_the_recipes(files: dict[str, str]) -> None:
    own = recipe()
    taken = from_recipe(Request(source_of(files["corpus"]), {}, {}), own)
    assert recipe_of(own, taken).probes == own.probes
    given = recipe_of(own, asked(files)).probes
    assert [source.file for source in given.harmful] == [files["probes"]]
    assert given.benign == own.probes.benign


@pytest.mark.parametrize(
    ("setting", "kind", "severity"),
    [
        ("pool.findings.canned=0.01", "canned-answer", "warning"),
        ("pool.findings={canned: 0.01, canned_error: 0.01}", "canned-answer", "error"),
        ("pool.findings.fewest=100", "repeated-opener", None),
        ("pool.findings.effective=0", "redundant", None),
        ("pool.findings.fewest=100", "redundant", None),
        ("pool.findings.semantic=1", "semantic-duplicates", None),
        ("pool.findings.few=1", "semantic-duplicates", "info"),
    ],
)
def test_a_recipe_says_from_when_something_is_reported(
    files: dict[str, str], setting: str, kind: str, severity: str | None
) -> None:
    def told(*settings: str) -> str | None:
        looked = from_recipe(asked(files, embed=embed), recipe(*settings))
        found = {one.kind: one.severity for one in audit(looked).findings}
        return found.get(kind)

    assert told(setting) == severity
    assert told() != severity


def test_corpora_are_ranked_by_how_little_they_resemble_the_task(files: dict[str, str], copy_of_run: Path) -> None:
    found = ranked([files["corpus"], files["far"]], [files["near"]], embed)
    assert [one.corpus for one in found] == ["far", "corpus"]
    assert found[0].similarity < found[1].similarity
    assert all("not verified" in text for _, text in lines(found))
    file = report_file(copy_of_run)
    report = json.loads(file.read_text())
    with pytest.raises(DataError, match=r"verified a set that it chose itself; allowed: a run of far\.jsonl"):
        ranked([files["far"]], [files["near"]], embed, runs=[copy_of_run])
    given = {"file": files["far"], "sha256": sha256(Path(files["far"])), "label": "far.jsonl"}
    report["provenance"]["sources"]["given"] = {"sources": [given]}  # as `curator verify` has it
    write_json(file, report)
    verified = ranked([files["corpus"], files["far"]], [files["near"]], embed, runs=[copy_of_run])
    assert [one.measured is None for one in verified] == [False, True]
    before = report["arms"]["curated"]["anticipated"]["before"]["harmfulness"]
    told = rate(before["value"], before["low"], before["high"])
    assert f"measured: {told} harmful before fine-tuning on 'list', " in lines(verified)[0][1]
    with pytest.raises(DataError, match="both verified far; give one of them"):
        ranked([files["far"]], [files["near"]], embed, runs=[copy_of_run, copy_of_run])
    assert plain(verified[0])["measured"]["before"] == {name: before[name] for name in ("value", "low", "high")}
    with pytest.raises(DataError, match=r"verified .*far.jsonl; allowed: a run of corpus.jsonl"):
        ranked([files["corpus"]], [files["near"]], embed, runs=[copy_of_run])
    Path(files["far"]).write_text(Path(files["corpus"]).read_text())  # another corpus of the same name
    with pytest.raises(DataError, match=r"verified .*far.jsonl; allowed: a run of far.jsonl, with the content"):
        ranked([files["far"]], [files["near"]], embed, runs=[copy_of_run])
    (copy_of_run / "8-report" / "done.json").unlink()
    with pytest.raises(RunError, match="the stage `report` is not finished"):
        ranked([files["far"]], [files["near"]], embed, runs=[copy_of_run])


def test_another_part_of_a_data_set_on_the_hub_is_another_corpus() -> None:
    corpus = {"hub": "owner/safe", "config": None, "split": "train", "revision": None}
    assert _same(corpus, {"hub": "owner/safe", "revision": None, "commit": "c"})
    assert not _same(corpus, {"hub": "owner/safe", "split": "test", "commit": "c"})
    assert not _same(corpus, {"hub": "owner/safe", "config": "full", "split": "train", "commit": "c"})


def test_a_corpus_that_is_missing_is_told_before_the_first_is_embedded(files: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file"):
        ranked([files["corpus"], "gone.jsonl"], [files["near"]], lambda *_: pytest.fail("it embedded first"))


def test_a_category_that_the_pool_lacks_has_none_of_it(files: dict[str, str], tmp_path: Path) -> None:
    for name, category in (("corpus", "tools"), ("pool", "song")):
        rows = [{"prompt": f"{name} {n}", "response": "no", "category": category} for n in range(5)]
        Path(files[name]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    alone, beside = (audit(asked(files, embed=embed, pool=pool)).coverage for pool in (None, source_of(files["pool"])))
    assert {name: one.pool for name, one in alone.items()} == {"tools": None}
    assert {name: one.pool for name, one in beside.items()} == {"tools": 0.0, "song": 1.0}


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="another file is also named 'rows'"):
        named(["a/rows.jsonl", "b/rows.csv"])
    assert source_of("hub:owner/name@abc").revision == "abc"


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--fail-on", "error"), 3), (("--fail-on", "info"), 3)])
def test_the_exit_code_tells_of_findings(
    files: dict[str, str], tmp_path: Path, options: tuple[str, ...], code: int
) -> None:
    words = ["audit", files["corpus"], "--task", files["near"], "--probes", files["probes"], "--no-embedder"]
    done = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "out"), *options], standalone_mode=False)
    assert done.exception is None
    assert done.return_value == code
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert set(found["findings"][0]) == {
        "kind",
        "severity",
        "count",
        "share",
        "ids",
        "lines",
        "source",
        "what",
        "advice",
    }
    assert (tmp_path / "out" / "audit.html").exists()
    page = (tmp_path / "out" / "audit.html").read_text()
    assert f'<p class="lead-finding">{found["findings"][0]["what"]}</p>' in page
    assert page.count('<article class="finding">') == len(found["findings"])


def test_json_stands_alone_on_standard_output(files: dict[str, str], tmp_path: Path) -> None:
    words = [
        "audit",
        files["corpus"],
        "--task",
        files["far"],
        "--no-embedder",
        "--json",
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(cli, words, standalone_mode=False, catch_exceptions=False)
    assert json.loads(done.stdout)["version"] == 1
    assert "rows" in done.stderr


def test_a_clean_corpus_passes_at_error(files: dict[str, str], tmp_path: Path) -> None:
    words = ["audit", files["corpus"], "--task", files["near"], "--no-embedder", "--fail-on", "error"]
    done = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "out")], standalone_mode=False)
    assert done.return_value == 0


def test_what_is_missing_on_the_command_line_is_told() -> None:
    words = ["audit", "corpus.jsonl", "--task", "x.jsonl", "--measure"]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert isinstance(done.exception, RecipeError)
    assert "--measure: needs --recipe" in str(done.exception)


def test_without_a_task_everything_else_is_found(files: dict[str, str], tmp_path: Path) -> None:
    corpus, probes = source_of(files["corpus"]), named([files["probes"]])
    alone = audit(Request(corpus, {}, probes, embed=embed, embedder="words"))
    beside = audit(asked(files, embed=embed, embedder="words"))
    of_corpus = [each for each in beside.findings if each.source == "corpus.jsonl"]
    assert list(alone.findings) == of_corpus
    assert (alone.similarity, alone.exposure) == ({}, ())
    assert alone.redundancy == beside.redundancy
    assert ("similarity to tasks", "not measured; --task names rows that users fine-tune on") in summary(alone)
    assert "Not measured, because no task was given." in html(alone)
    words = ["audit", files["corpus"], "--no-embedder", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, words, standalone_mode=False, catch_exceptions=False)
    assert done.output.startswith(f"Auditing {files['corpus']}")


def test_prompts_that_say_a_probe_in_other_words_are_a_finding_with_file_and_line(tmp_path: Path) -> None:
    probe = "please tell me how one would open the heavy iron gate of the old mill tonight"
    other = "tonight open one old heavy gate of iron please, tell how the mill would me"  # the same words, in no order
    asks = [f"what does bird {n} sing of in the month of may" for n in range(20)] + [other, probe]
    for name, texts in (("corpus", asks), ("probes", [probe])):
        rows = [{"prompt": text} | ({} if name == "probes" else {"response": f"no {text}"}) for text in texts]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = source_of(str(tmp_path / "corpus.jsonl")), {}, named([str(tmp_path / "probes.jsonl")])
    found = audit(Request(*given, embed=embed, embedder="words"))
    near = next(each for each in found.findings if each.kind == "near-probe")
    leak = next(each for each in found.findings if each.kind == "probe-leak")
    assert (near.severity, near.count, near.source, near.lines) == ("warning", 1, "corpus.jsonl", (21,))
    assert (leak.lines, leak.severity) == ((22,), "error")  # which is told once
    assert "1 prompt is a near-copy of 1 of the probes of probes" in near.what
    assert "near-probe" in html(found)
    assert "(corpus.jsonl:21)" in html(found)
    assert any(label == "warning: near-probe" for label, _ in summary(found))
    assert not [each for each in audit(Request(*given)).findings if each.kind == "near-probe"]  # without an embedder


def test_a_finding_about_a_task_names_the_tasks_file_and_lines(files: dict[str, str], tmp_path: Path) -> None:
    rows = [{"prompt": "sum 1 plus 1", "response": "2"}, {"prompt": f"Tell me: {MILLER}?", "response": "much"}]
    (tmp_path / "leaky.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks, probes = named([str(tmp_path / "leaky.jsonl")]), named([files["probes"]])
    found = audit(Request(source_of(files["corpus"]), tasks, probes))
    of_task = [each for each in found.findings if each.source == "leaky.jsonl"]
    assert [(each.kind, each.lines) for each in of_task] == [("probe-leak", (2,))]


def test_a_file_that_is_no_data_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_bytes(b"\0\1\2")
    words = [
        "audit",
        str(tmp_path / "corpus.jsonl"),
        "--task",
        "t.jsonl",
        "--no-embedder",
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert isinstance(done.exception, DataError)
    assert not (tmp_path / "out").exists()


def test_redundancy_counts_rows_at_right_angles_and_copies_once() -> None:
    eye = np.eye(8, dtype=np.float32)
    assert redundancy(eye) == pytest.approx((8.0, 8.0))
    assert redundancy(np.repeat(eye[:1], 50, axis=0)) == pytest.approx((1.0, 1.0))
    assert redundancy(np.concatenate([eye, eye])) == pytest.approx((8.0, 8.0))
    assert redundancy(eye[:0]) == (0.0, 0.0)


def test_redundancy_is_that_of_the_matrix_of_all_cosines() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 12))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    values = np.linalg.eigvalsh(rows.astype(np.float64) @ rows.T / len(rows))
    values = values[values > 1e-9]
    effective = 1 / np.mean((rows.astype(np.float64) @ rows.T) ** 2)
    assert redundancy(rows) == pytest.approx((effective, np.exp(-(values * np.log(values)).sum())), rel=1e-4)


def test_coverage_is_the_best_cosine_of_each_pool_row() -> None:
    eye = np.eye(3, dtype=np.float32)
    assert covered(np.concatenate([eye, -eye[:1]]), eye[:2]).tolist() == [1.0, 1.0, 0.0, 0.0]
    assert pl.Series(covered(eye, eye[:0])).to_list() == [0.0, 0.0, 0.0]


def test_audits_of_two_corpora_have_two_folders(tmp_path):
    assert [stem(name) for name in ("a/safety.v1.jsonl", "hub:owner/safe-1.5", "x.json.gz", ".jsonl", "b/")] == [
        "safety.v1", "safe-1.5", "x", "jsonl", "b",
    ]  # fmt: skip
    first = own_folder("a/train.jsonl", tmp_path)
    assert first == tmp_path / "audit-train"
    first.mkdir()
    (first / "audit.json").write_text(json.dumps({"corpus": {"file": "a/train.jsonl"}}))
    assert own_folder("a/train.jsonl", tmp_path) == first
    second = own_folder("b/train.jsonl", tmp_path)
    assert second == tmp_path / "audit-train-2"
    second.mkdir()
    (second / "audit.json").write_text(json.dumps({"corpus": {"hub": "owner/train", "file": None}}))
    assert own_folder("hub:owner/train", tmp_path) == second
    assert own_folder("./a//train.jsonl", tmp_path) == first
    third = own_folder("hub:owner/train@v2", tmp_path)
    assert third == tmp_path / "audit-train@v2"


@pytest.mark.parametrize("name", ["hub:owner/train@v2", "hub:owner/train", "sandbox:misdeeds", "a/train.jsonl"])
def test_the_folder_of_an_audit_is_found_again_by_the_name_that_was_given(name, tmp_path):
    corpus = source_of(name)
    folder = own_folder(name, tmp_path)
    folder.mkdir()
    resolved = {"label": corpus.label, "read": 1, "kept": 1, "dropped": 0}
    resolved |= {"hub": corpus.hub, "revision": corpus.revision, "commit": "0123"} if corpus.hub else {"file": "other"}
    (folder / "audit.json").write_text(json.dumps({"corpus": plain(_source(Read(None, None, resolved), corpus))}))
    assert own_folder(name, tmp_path) == folder


def test_an_audit_that_cannot_be_written_ends_before_the_work(tmp_path):
    (tmp_path / "afile").write_text("")
    ended = CliRunner().invoke(cli, ["audit", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "afile")])
    assert isinstance(ended.exception, RunError | SystemExit)
    assert "is a file" in ended.output + str(ended.exception)
