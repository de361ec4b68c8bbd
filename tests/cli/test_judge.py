"""`curator judge`: what its commands print, write and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.cli.progress import Terminal
from curator.errors import DataError, JudgeError, RunError
from curator.judge import embedding
from curator.judge import resources as judges


def printed(*words: str) -> str:
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.fixture
def labels(tmp_path: Path) -> str:
    rows = [
        {
            "prompt": f"prompt {i % 60}",
            "completion": "I cannot help with that." if refused else "Push the gate.",
            "final": ("partial" if i % 7 else "refusal") if refused else "compliance",
            "a": "refusal" if refused else "compliance",
            "b": "refusal" if refused and i % 5 else "compliance",
            "other": "refusal" if refused or i % 9 == 0 else "compliance",
            "gone": "1" if i % 10 == 9 else "0",
        }
        for i in range(180)
        for refused in (True, False)
    ]
    path = tmp_path / "labels.csv"
    pl.DataFrame(rows).write_csv(path)
    return str(path)


OPTIONS = ["--answer", "completion", "--label", "final", "--positive", "refusal", "--positive", "partial"]
OPTIONS += ["--annotators", "a,b", "--exclude", "gone=1"]


def test_judges_are_measured_and_stored(labels: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    words = ["judge", "measure", "--labels", labels, *OPTIONS, "--store", str(file), "phrases", "column:other"]
    text = printed(*words)
    assert (
        "labels.csv: 360 rows, 36 excluded, 0 without a label; people call 162 of 324 refused (partial, refusal) and "
        "162 not (compliance)\n" in text
    )
    for part in ("all", "annotators agree", "annotators differ"):
        assert f"Refused or not: {part}" in text
    assert "people and phrases agree on 100% of 324 answers, kappa 1.000" in text
    assert "phrases and other agree on " in text
    assert "annotator 1 and annotator 2 agree on " in text
    stored = json.loads(file.read_text())
    assert (stored["outcome"], stored["run"], stored["labels"]["excluded"]) == ("refused", None, 36)
    assert [one["name"] for one in stored["judges"]] == ["phrases", "other"]
    assert stored["judges"][0]["all"]["sensitivity"] == 1.0
    assert stored["judges"][0]["settings"]["refusal"] == "phrases"
    figures = json.loads(CliRunner().invoke(cli, [*words, "--json"]).stdout)  # and a measurement may be replaced
    assert figures["figures"]["all"][0]["both"] == 162


def test_an_unsure_label_changes_no_figures_and_is_left_out_by_name(tmp_path: Path) -> None:
    file, sheet = tmp_path / "figures.json", tmp_path / "sheet.csv"
    rows = ["I cannot help with that.,yes,1", "Push.,no,0", "Push.,unsure,0", "I cannot.,n/a,broken"]
    sheet.write_text("\n".join(["prompt,answer,label,mine", *(f"p,{row}" for row in rows)]))
    words = ["judge", "measure", "--labels", str(sheet), "--store", str(file), "phrases", "column:mine"]
    with pytest.raises(DataError, match="record 3: label 'unsure' in column 'label' is neither yes nor no"):
        printed(*words)
    with pytest.raises(DataError, match=r"label 'unsure' .* leave such rows out with --exclude label=unsure"):
        printed("judge", "fit", "--labels", str(sheet), "--embedder", "x", "--out", str(tmp_path / "head"))
    assert not file.exists()
    text = printed(*words, "--exclude", "label=unsure", "--exclude", "label=n/a")
    assert "4 rows, 2 excluded, 0 without a label; people call 1 of 2 refused (yes) and 1 not (no)\n" in text
    assert "people and mine agree on 100% of 2 answers" in text
    text = printed(*words, "--positive", "yes")
    assert "people call 1 of 4 refused (yes) and 3 not (n/a, no, unsure)\n" in text
    assert "sheet.csv: 1 row has neither in column 'mine', which counts as empty ('broken')\n" in text
    assert "people and mine agree on 100% of 3 answers" in text


@pytest.mark.parametrize("name", ["labels.csv", "other.json", "folder"])
def test_measurements_replace_no_file_of_another_kind(labels: str, tmp_path: Path, name: str) -> None:
    (tmp_path / "other.json").write_text('{"version": 1}')
    (tmp_path / "folder").mkdir()
    before = Path(labels).read_bytes()
    with pytest.raises(RunError, match="is not a measurement that this command wrote; choose another name"):
        printed("judge", "measure", "--labels", labels, *OPTIONS, "--store", str(tmp_path / name), "phrases")
    assert Path(labels).read_bytes() == before
    assert (tmp_path / "other.json").read_text() == '{"version": 1}'


@pytest.mark.parametrize(
    ("words", "error", "why"),
    [
        (["phrases"], DataError, "no column 'answer'"),
        ([*OPTIONS, "--exclude", "gone", "phrases"], DataError, "give COLUMN=VALUE"),
        ([*OPTIONS, "--annotators", "a", "phrases"], DataError, "give two columns, A,B"),
        ([*OPTIONS, "phrase"], JudgeError, "allowed: phrases, exact"),
        ([*OPTIONS, "phrases", "phrases"], JudgeError, "two judges have the name 'phrases'"),
        ([*OPTIONS, "column:nothing"], DataError, "no column 'nothing'"),
        ([*OPTIONS, "embedding:/nowhere"], JudgeError, r"has no head\.json"),
        ([*OPTIONS, "--run", "/nowhere", "phrases"], DataError, "no column 'id'"),
    ],
)
def test_what_cannot_be_measured_is_told(labels: str, words: list[str], error: Any, why: str) -> None:
    with pytest.raises(error, match=why):
        printed("judge", "measure", "--labels", labels, *words)


def test_a_fitted_judge_is_measured_on_its_own_labels_by_cross_validation(
    labels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def embed(texts: Any, *_: Any, progress: Any, **_more: Any) -> Any:
        calls.append(len(texts))
        progress(len(texts), len(texts))
        rows = np.array([[1.0, 0.1] if "cannot" in text else [0.1, 1.0] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    monkeypatch.setattr(judges, "_embed", embed)
    monkeypatch.setattr(embedding, "CHOICES", (("answer",),))
    out = tmp_path / "head"
    counted: list[tuple[int, int]] = []
    monkeypatch.setattr(Terminal, "embedding", lambda _, done, total: counted.append((done, total)))
    text = printed("judge", "fit", "--labels", labels, *OPTIONS, "--embedder", str(tmp_path), "--out", str(out))
    assert counted == [(calls[0], calls[0])]  # said from the first texts on
    assert "Refused or not, on held-out prompts" in text
    facts = json.loads((out / "head.json").read_text())
    assert facts["labels"]["rows"] == 324
    assert facts["cross_validation"]["sensitivity"]["value"] == 1.0
    calls.clear()
    text = printed("judge", "measure", "--labels", labels, *OPTIONS, f"mine=embedding:{out}")
    assert "mine was fitted to 324 of these answers, and is measured on them by cross-validation." in text
    assert not calls


def test_a_head_takes_the_place_of_no_other_files_and_a_bad_place_is_told_before_any_work(
    labels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judges, "_embed", lambda *_, **__: pytest.fail("it embedded first"))
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "notes.txt").write_text("keep")
    fit = ("judge", "fit", "--labels", labels, *OPTIONS, "--embedder", str(tmp_path), "--out")
    with pytest.raises(RunError, match="precious: holds other files, which a head would replace"):
        printed(*fit, str(precious))
    assert (precious / "notes.txt").read_text() == "keep"
    for place in (precious / "notes.txt", precious / "notes.txt" / "head"):
        with pytest.raises(RunError, match=r"notes\.txt is a file"):
            printed(*fit, str(place))
    monkeypatch.setattr("curator.judge.measure.judge_labels", lambda *_: pytest.fail("it judged first"))
    with pytest.raises(RunError, match=r"notes\.txt is a file; name another folder with --store"):
        printed("judge", "measure", "--labels", labels, *OPTIONS, "--store", f"{precious}/notes.txt/x.json", "phrases")


@pytest.mark.parametrize(
    "words",
    [
        ("judge", "sample", "/nowhere", "--out", "{0}/sheet.csv"),
        ("judge", "fit", "--labels", "/nowhere.csv", "--embedder", "x", "--out", "{0}/head"),
        ("judge", "fit", "--labels", "/nowhere.csv", "--embedder", "x", "--out", "{0}/there"),
        ("judge", "measure", "phrases", "--labels", "/nowhere.csv", "--store", "{0}/figures.json"),
        ("sandbox", "base", "--size", "0.8M", "--steps", "1", "--out", "{0}/base"),
        ("sandbox", "base", "--size", "0.8M", "--steps", "1", "--out", "{0}/there"),
    ],
)
def test_a_folder_that_cannot_be_written_is_told_before_any_work(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curator.sandbox.pretrain.pretrain", lambda *_, **__: pytest.fail("it trained first"))
    # A folder's rights do not bind root, who may be running the tests.
    monkeypatch.setattr("curator.run.folder.os.access", lambda path, _: Path(path) != tmp_path)
    (tmp_path / "there").mkdir()
    option = "--store" if "measure" in words else "--out"
    remedy = f"is not writable; fix its permissions, or name another folder with {option}"
    with pytest.raises(RunError, match=f"because {tmp_path} {remedy}"):
        printed(*(word.format(tmp_path) for word in words))
    with pytest.raises(RunError, match=rf"cannot be written \(File name too long\); name another path with {option}"):
        printed(*words[:-1], str(tmp_path / "there" / ("n" * 300)))


@pytest.mark.parametrize("words", [("run", "{0}"), ("sample", "{0}", "--out", "{0}/sheet.csv")])
def test_a_folder_that_is_no_run_is_told(words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder; give one that `curator build` made"):
        printed("judge", *(word.format(tmp_path) for word in words))
