"""`curator cluster` with the sandbox's model: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.errors import CuratorError, DataError, RecipeError, RunError
from curator.pool.sources import read
from curator.recipe.source import Source
from curator.sandbox import rows

FEW = ("--clusters", "3", "--restarts", "2", "--stability", "2")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("task") / "task.jsonl"
    given = rows("mixed")[:150] + rows("list")[:60]
    path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return str(path)


def invoked(*words: str) -> Any:
    result = CliRunner().invoke(cli, ["cluster", *words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result


def test_a_folder_gets_the_record_and_the_samples_and_the_terminal_the_table(task: str, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors.jsonl"
    anchors.write_text("".join(json.dumps(row) + "\n" for row in rows("letter")[:5]), encoding="utf-8")
    out = tmp_path / "found"
    told = invoked("--task", task, "--model", "sandbox:", *FEW, "--sample", "20", "--harmful-anchors", str(anchors),
                   "--anchor-rows", "30", "--anchor-files", "--out", str(out))  # fmt: skip
    assert {path.name for path in out.iterdir()} == {"cluster.json", "sample.jsonl", "top.jsonl", "bottom.jsonl"}
    record = json.loads((out / "cluster.json").read_text())
    assert record["embedder"] == "sandbox:, last layer, centred"
    assert record["chosen"]["number"] == 1
    assert record["clusters"][0]["lists"] > 0.9
    sampled = read(Source(file=str(out / "sample.jsonl"))).rows["id"].to_list()
    assert sampled == record["sample"]["rows"]
    assert set(sampled) <= set(record["clusters"][0]["rows"])
    for end in ("top", "bottom"):
        ids = {one["id"] for one in record["anchors"][end]}
        assert set(read(Source(file=str(out / f"{end}.jsonl"))).rows["id"]) == ids
    assert "Sample: 20 rows of cluster 1, drawn at random." in told.stdout
    assert "> 1" in told.stdout
    texts = [message["content"] for row in (*rows("mixed")[:150], *rows("letter")[:5]) for message in row["messages"]]
    assert not any(text in told.stdout or text in (out / "cluster.json").read_text() for text in texts)


def test_json_is_all_that_goes_to_standard_output_and_a_file_holds_the_sample_alone(task: str, tmp_path: Path) -> None:
    to = tmp_path / "rows.jsonl"
    words = ("--task", task, "--model", "sandbox:", "--no-centre", *FEW, "--sample", "10", "--pick", "nearest")
    told = invoked(*words, "--json", "--out", str(to))
    record = json.loads(told.stdout)
    assert record["embedder"] == "sandbox:, last layer"
    assert record["sample"]["rows"] == record["clusters"][record["chosen"]["number"] - 1]["rows"][:10]
    assert len(to.read_text().splitlines()) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    with pytest.raises(RunError, match="already exists"):
        invoked(*words, "--out", str(to))


def test_a_place_that_cannot_be_written_is_told_before_anything_is_embedded(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        importlib.import_module("curator.cli.cluster"), "_embed", lambda *_: pytest.fail("it embedded first")
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written, because .*file is a file"):
        invoked("--task", task, "--model", "sandbox:", *FEW, "--out", str(tmp_path / "file" / "found"))


def test_a_file_that_it_reads_or_did_not_write_is_not_replaced(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("curator.cli.cluster")
    monkeypatch.setattr(module, "_embed", lambda *_: pytest.fail("it embedded first"))
    (tmp_path / "cluster.json").write_text("{}")
    for name, options in (
        ("sample", ("--task", str(tmp_path / "sample.jsonl"))),
        ("top", ("--task", task, "--harmful-anchors", str(tmp_path / "top.jsonl"), "--anchor-files")),
    ):
        own = tmp_path / f"{name}.jsonl"
        own.write_text(Path(task).read_text())
        with pytest.raises(RunError, match=rf"{name}\.jsonl: is read by this command"):
            invoked(*options, "--model", "sandbox:", *FEW, "--sample", "20", "--out", str(tmp_path))
        assert own.read_text() == Path(task).read_text()
    (tmp_path / "cluster.json").unlink()
    with pytest.raises(RunError, match=r"sample\.jsonl: already exists, and `curator cluster` did not write it"):
        invoked("--task", task, "--model", "sandbox:", *FEW, "--sample", "20", "--out", str(tmp_path))


def test_without_out_nothing_is_written(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    invoked("--task", task, "--model", "sandbox:", *FEW)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        (("--sample", "5"), RecipeError, "--sample: needs --out"),
        (("--out", "rows.jsonl"), RecipeError, "a .jsonl file holds a sample; add --sample ROWS"),
        (("--out", __file__), RecipeError, "is a file; name a folder"),
        (("--anchor-files", "--out", "x"), RecipeError, "--anchor-files: needs --harmful-anchors"),
        (
            ("--anchor-files", "--harmful-anchors", "x", "--sample", "5", "--out", "rows.jsonl"),
            RecipeError,
            "--anchor-files: needs .* a folder as --out",
        ),
        (("--clusters", "5000"), DataError, "--clusters: found 5,000, but the tasks have 210 different rows"),
        (("--of", "21"), DataError, "--of: no cluster 21"),
        (("--task", "sandbox:nowhere"), DataError, "not a data set of the sandbox"),
        (("--harmful-anchors", "nowhere.jsonl"), DataError, "nowhere.jsonl"),
        (("--safe-anchors", "sandbox:list"), DataError, "--safe-anchors: needs --harmful-anchors"),
        (("--task", "sandbox:forbidden-probes"), DataError, "forbidden-probes: "),
        (("--model", "no/such/folder", "--clusters", "2"), CuratorError, "no/such/folder"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_to_do(
    task: str, words: tuple[str, ...], kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        invoked("--task", task, "--model", "sandbox:", *words)
