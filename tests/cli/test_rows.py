"""`curator rows`: what an id or a finding stands for, with file and record, and no text unless it is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

import curator.errors
from curator.cli import cli
from curator.run import Run
from curator.run.folder import write_json
from curator.run.names import arm_file, task_file
from curator.run.readers import pool_findings, sources_by_role


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["rows", *map(str, words)])


def rows(*words: str | Path) -> list[dict[str, Any]]:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.exception
    return [json.loads(line) for line in result.output.splitlines()]


def test_the_chosen_rows_of_a_run_are_what_it_chose(plain_run: Path) -> None:
    listed = rows(plain_run)
    assert [row["id"] for row in listed] == list(Run.open(plain_run, "select").selection().ids)
    assert {row["role"] for row in listed} == {"pool"}
    assert all(row["source"] == "sandbox:pool" and row["line"] >= 1 and row["text"] is None for row in listed)


def test_the_start_of_an_id_finds_the_row_in_whatever_role_it_has(plain_run: Path) -> None:
    data = Run.open(plain_run, "pool").data()
    probe, row = data.harmful["id"][0], data.pool.rows.row(0, named=True)
    (found,) = rows(plain_run, row["id"][:14])
    assert (found["id"], found["role"], found["line"]) == (row["id"], "pool", row["line"])
    assert "harmful" in {each["role"] for each in rows(plain_run, probe)}


def test_a_finding_of_a_run_lists_its_rows(plain_run: Path) -> None:
    kind, ids = next(iter(pool_findings(plain_run).items()))
    assert ids
    assert [row["id"] for row in rows(plain_run, kind)] == ids


def test_text_is_printed_on_request_alone(plain_run: Path) -> None:
    pool = Run.open(plain_run, "pool").data().pool.rows
    row = pool.row(0, named=True)
    answer = row["messages"][-1]["content"]
    assert answer not in run(plain_run, row["id"]).output
    assert answer in run(plain_run, row["id"], "--text").output


def test_files_of_one_name_are_told_apart_by_role(tmp_path: Path) -> None:
    files = {
        "pool": "safety/data.jsonl",
        "task letters": "letters/data.jsonl",
        "test of letters": "tests/data.jsonl",
        "harmful probes": "probes/data.jsonl",
        "arm mine": "mine/data.jsonl",
    }
    resolved = {role: {"sources": [{"label": "data.jsonl", "file": file}]} for role, file in files.items()}
    folder = tmp_path / "1-pool"
    write_json(folder / "done.json", {"record": {"resolved": resolved}})
    write_json(folder / "data.json", {"tasks": [{"name": "letters"}], "arms": ["mine"]})
    for inside in ("tasks", "arms"):
        (folder / inside).mkdir()
    for name in ("pool.arrow", "probes-harmful.parquet", "probes-pilot.parquet", arm_file("mine")):
        (folder / name).touch()
    for part in ("train", "test", "defence"):
        (folder / task_file("letters", part)).touch()
    assert sources_by_role(tmp_path) == {
        ("pool", "data.jsonl"): files["pool"],
        ("train letters", "data.jsonl"): files["task letters"],
        ("test letters", "data.jsonl"): files["test of letters"],
        ("defence letters", "data.jsonl"): files["pool"],
        ("harmful", "data.jsonl"): files["harmful probes"],
        ("pilot", "data.jsonl"): files["harmful probes"],
        ("arm mine", "data.jsonl"): files["arm mine"],
    }


@pytest.fixture
def audited(tmp_path: Path) -> Path:
    corpus = tmp_path / "corpus.jsonl"
    answers = ["I cannot open it."] * 20 + [f"I will not open gate {number}, since it is shut." for number in range(20)]
    lines = [{"prompt": f"Open gate {number}", "response": answer} for number, answer in enumerate(answers)]
    corpus.write_text("\n".join(map(json.dumps, lines)))
    words = ["audit", str(corpus), "--task", "sandbox:list", "--no-embedder", "--out", str(tmp_path / "audit")]
    assert CliRunner().invoke(cli, words).exit_code == 0
    return tmp_path / "audit"


def test_a_finding_of_an_audit_names_the_lines_of_the_corpus(audited: Path) -> None:
    listed = rows(audited, "canned-answer")
    assert sorted(row["line"] for row in listed) == list(range(1, 21))
    assert all(row["source"] == "corpus.jsonl" for row in listed)
    assert "canned-answer" in run(audited).output
    assert rows(audited, listed[0]["id"][:15]) == [listed[0]]


def test_the_text_of_an_audited_row_is_read_from_the_corpus(audited: Path) -> None:
    assert "I cannot open it." not in run(audited, "canned-answer").output
    listed = rows(audited, "canned-answer", "--text")
    assert all("I cannot open it." in row["text"] for row in listed)
    corpus = audited.parent / "corpus.jsonl"
    corpus.write_text(corpus.read_text() + '\n{"prompt": "one more", "response": "row"}')
    refused = run(audited, "canned-answer", "--text")
    assert "has changed" in str(refused.exception)


def test_a_finding_without_ids_and_texts_of_a_task_are_said_and_not_denied(tmp_path: Path) -> None:
    lines = [{"prompt": f"Open {n}", "response": "No, it is shut." if n else ""} for n in range(30)]
    task = [{"prompt": f"Name all {n} parts of the old iron gate", "response": "Hinges."} for n in range(30)]
    for name, written in (("corpus", lines), ("task", task), ("asked", task[:3])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, written)))
    words = ["audit", str(tmp_path / "corpus.jsonl"), "--no-embedder", "--out", str(tmp_path / "audit")]
    for option, name in (("--task", "task"), ("--probes", "asked")):
        words += [option, str(tmp_path / f"{name}.jsonl")]
    assert CliRunner().invoke(cli, words).exit_code == 0
    found = json.loads((tmp_path / "audit" / "audit.json").read_text())["findings"]
    without = [finding for finding in found if not finding["ids"]]
    assert "empty" in {finding["kind"] for finding in without}
    for finding in without:
        told = str(run(tmp_path / "audit", finding["kind"]).exception)
        assert "this finding has no rows with an id" in told
        assert finding["what"] in told
    of_task = [finding for finding in found if finding.get("source") == "task.jsonl" and finding["ids"]]
    assert of_task
    name = of_task[0]["ids"][0]
    assert rows(tmp_path / "audit", name)[0]["role"] == "task"
    assert "reads texts of its corpus alone" in str(run(tmp_path / "audit", name, "--text").exception)


@pytest.mark.parametrize("name", ["zzz", ""])
def test_what_is_called_so_by_nothing_is_said(plain_run: Path, audited: Path, name: str) -> None:
    for folder in (plain_run, audited):
        refused = run(folder, name)
        assert isinstance(refused.exception, curator.errors.CuratorError)
        assert "findings: canned-answer" in str(refused.exception)


def test_a_folder_that_is_neither_is_said(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        assert isinstance(run(folder).exception, curator.errors.CuratorError)


def test_an_audit_of_an_earlier_version_has_no_lines(audited: Path) -> None:
    file = audited / "audit.json"
    contents = json.loads(file.read_text())
    for finding in contents["findings"]:
        del finding["lines"]
    file.write_text(json.dumps(contents))
    listed = pl.DataFrame(rows(audited, "canned-answer"))
    assert listed["line"].null_count() == listed.height == 20


def test_a_record_is_named_as_a_line_only_where_it_is_one(tmp_path: Path) -> None:
    rows_of = [{"prompt": f"Open gate {number}", "response": "I cannot open it."} for number in range(1200)]
    table = "prompt,response\n" + "".join(f'{row["prompt"]},"{row["response"]}"\n' for row in rows_of)
    (tmp_path / "list.json").write_text(json.dumps(rows_of, indent=1))
    (tmp_path / "table.csv").write_text(table)
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, rows_of)))
    for name, expected in (
        ("list.json", "list.json, record 1,101"),
        ("table.csv", "table.csv, record 1,101"),
        ("lines.jsonl", "lines.jsonl:1101"),
    ):
        folder = tmp_path / f"audit-{name}"
        words = ["audit", str(tmp_path / name), "--no-embedder", "--out", str(folder)]
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, done.exception
        named = [line.rpartition("  corpus  ")[2] for line in run(folder, "canned-answer").output.splitlines()]
        assert len(named) == 1200
        assert expected in named
        page = (folder / "audit.html").read_text()
        assert (f"({name}, record " in page) == (name != "lines.jsonl")
        assert ("(lines.jsonl:" in page) == (name == "lines.jsonl")
        assert "state it as <code>licence</code> of the source" in page
        assert "`" not in page.partition("<main")[2].partition("<script")[0]


def test_the_start_of_many_ids_asks_for_more_of_it(plain_run: Path, tmp_path: Path) -> None:
    ids = Run.open(plain_run, "pool").data().pool.rows["id"].to_list()
    start = max("0123456789abcdef", key=lambda sign: sum(row.startswith(sign) for row in ids))
    refused = run(plain_run, start)
    assert f"row ids start with '{start}'; give more characters of the id" in str(refused.exception)
    assert run(plain_run, ids[0]).exit_code == 0
    advice = str(run(plain_run, "zzz").exception)
    assert advice.endswith(f"`curator rows {plain_run}` lists the chosen rows with their ids")
    why = CliRunner().invoke(cli, ["show", str(plain_run), "--why", "zzz"])
    assert "`curator rows RUN` lists the chosen rows" in str(why.exception)
