"""The commands: `curator publish`, and `curator build --push`; and a stranger's view of what they pushed."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.conclusions.part import plain
from curator.errors import PublishError, RunError
from curator.pipeline import build
from curator.publish.stage import publish
from curator.report.model import read_report
from curator.run import Run
from curator.run.folder import write_json
from curator.run.readers import dataset_folder, report_file
from tests.publish import hub_server
from tests.publish.test_push import hashes, local, remote
from tests.report.invented import changed
from tests.small_run import QUICKSTART, recipe

REPO = "owner/safe"


@pytest.fixture
def root(plain_run, tmp_path):
    """A copy of a real run, without its weights."""
    return shutil.copytree(plain_run, tmp_path / "run", ignore=shutil.ignore_patterns("*.safetensors"))


def invoked(*words):
    result = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_dry_run_shows_files_sizes_and_card_and_asks_nobody(hub, root):
    text, folder = invoked("publish", root, REPO), dataset_folder(root)
    for path in (one for one in folder.rglob("*") if one.is_file()):
        name, size = path.relative_to(folder).as_posix(), f"{path.stat().st_size:,}"
        assert any(name in line and size in line for line in text.splitlines()), name
    assert (folder / "README.md").read_text() in text
    assert "(private if it is new)" in text
    assert f"The decision of this run: {read_report(report_file(root)).decision.outcome}." in text
    assert text.splitlines()[-1] == "This was a dry run. To push, add --push."
    assert not hub.asked


def test_the_recipe_in_the_folder_is_the_one_that_the_folder_was_written_by(root, tmp_path):
    run = Run.open(root, "report")
    later = run.recipe.model_copy(update={"publish": run.recipe.publish.model_copy(update={"controls": True})})
    publish(replace(run, recipe=later), tmp_path)
    assert (tmp_path / "dataset" / "data" / "controls").is_dir()
    assert "controls: true" in (tmp_path / "dataset" / "recipe.yaml").read_text()
    evidence = json.loads((tmp_path / "dataset" / "evidence" / "report.json").read_text())
    assert evidence["provenance"]["recipe"]["publish"] == {"controls": True}


@pytest.mark.parametrize("name", ["safe", "owner/safe/more", "bad name!", "owner/a--b", "owner/" + "a" * 97, "o/x.git"])
@pytest.mark.parametrize("how", [(), ("--json",), ("--push",)])
def test_a_name_that_the_hub_does_not_allow_is_refused_before_anything(hub, root, name, how):
    with pytest.raises(PublishError, match=r"is not a repository name.*; write owner/name$"):
        invoked("publish", root / "nowhere", name, *how)
    assert not hub.asked


def test_a_machine_reads_the_dry_run_as_json(root):
    told = json.loads(invoked("publish", root, REPO, "--json"))
    assert told["files"]["README.md"] == (dataset_folder(root) / "README.md").stat().st_size
    assert told["decision"] == read_report(report_file(root)).decision.outcome


def test_push_sends_it_and_says_where_it_is(hub, root):
    text = invoked("publish", root, REPO, "--push", "--tag", "v1")
    assert f"Pushed {len([one for one in dataset_folder(root).rglob('*') if one.is_file()])} files" in text
    assert "every file and every row matches what was pushed" in text
    assert text.splitlines()[-1] == f"{hub.place}/datasets/{REPO}"
    assert hub_server.WRITER not in text
    assert invoked("publish", root, REPO, "--push").startswith("The repository is up to date.")
    told = json.loads(invoked("publish", root, REPO, "--push", "--json"))
    assert told["commit"] == hub.repos["dataset", REPO].head.sha


def test_a_run_that_is_not_finished_or_of_another_recipe_is_refused(root):
    build(recipe("select.weight=-1"), root, until="select")
    with pytest.raises(RunError, match="is not finished; run `curator build` again"):
        invoked("publish", root, REPO)
    with pytest.raises(RunError, match="is not a run folder"):
        invoked("publish", root / "nowhere", REPO)


@pytest.fixture
def building(monkeypatch, root):
    """`curator build` with the pipeline left out: the run folder is there. Gives the order of what happened."""
    happened = []
    monkeypatch.setattr("curator.pipeline.build", lambda *_, **__: happened.append("build"))

    def command(*words, outcome="durable"):
        file = report_file(root)
        write_json(file, plain(changed(read_report(file), decision={"outcome": outcome})))
        return invoked("build", QUICKSTART, "--out", root, *words)

    command.happened = happened
    return command


def test_build_pushes_at_the_end_and_asks_the_hub_before_the_work(hub, building, monkeypatch):
    assert f"datasets/{REPO}" in building("--push", REPO).splitlines()[-1]
    assert hub.repos["dataset", REPO].private
    monkeypatch.setenv("HF_TOKEN", hub_server.READER)
    building.happened.clear()
    with pytest.raises(PublishError, match="can only read"):
        building("--push", REPO)
    assert not building.happened, "hours of work are not begun for a token that cannot write"


@pytest.mark.parametrize("outcome", ["worse", "trade-off"])
def test_an_unfavourable_set_is_not_pushed_unless_told_to(hub, building, outcome):
    with pytest.raises(PublishError, match=f"nothing was pushed, because the decision is '{outcome}'"):
        building("--push", REPO, outcome=outcome)
    assert building.happened == ["build"]
    assert not hub.repos
    building("--push", REPO, "--push-anyway", "--public", outcome=outcome)
    assert not hub.repos["dataset", REPO].private


@pytest.mark.parametrize("how", [("--push",), ("--push", "--json"), ("--push", "--pr"), ("--push", "--tag", "v1")])
@pytest.mark.parametrize("outcome", ["worse", "trade-off"])
def test_publish_refuses_what_build_refuses(hub, root, outcome, how):
    file = report_file(root)
    write_json(file, plain(changed(read_report(file), decision={"outcome": outcome})))
    with pytest.raises(PublishError) as refused:
        invoked("publish", root, REPO, *how)
    assert f"nothing was pushed, because the decision is '{outcome}'" in str(refused.value)
    assert str(refused.value).endswith(f"curator publish {root} {REPO} --push --push-anyway")
    assert not hub.asked
    assert f"The decision of this run: {outcome}." in invoked("publish", root, REPO), "a dry run shows it"
    if "--json" in how:
        invoked("publish", root, REPO, *how, "--push-anyway")
        assert ("dataset", REPO) in hub.repos


def test_push_anyway_needs_push(hub, root):
    import click

    with pytest.raises(click.UsageError, match="needs --push; add it"):
        invoked("publish", root, REPO, "--push-anyway")
    assert not hub.asked


def test_a_folder_of_an_earlier_version_is_shown_and_not_sent(hub, root):
    """Its card and its report may hold what is not published any more."""
    file = dataset_folder(root) / "evidence" / "files.json"
    write_json(file, {**json.loads(file.read_text()), "version": 1})
    assert "cannot be pushed: an earlier version of curator wrote" in invoked("publish", root, REPO)
    with pytest.raises(PublishError, match="Run `curator build` again"):
        invoked("publish", root, REPO, "--push", "--push-anyway")
    assert not hub.asked


def removed(folder, name):
    (folder / name).unlink()


def shortened(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])


def data_of(folder):
    (file,) = (folder / "data" / "curated").iterdir()
    return file.relative_to(folder).as_posix()


# What was done to the folder -> what the refusal says of it.
DAMAGE = {
    "a data file is missing": (lambda folder: removed(folder, data_of(folder)), "(missing: data/curated/train-"),
    "a data file is cut": (lambda folder: shortened(folder, data_of(folder)), "(changed: data/curated/train-"),
    "evidence is changed": (
        lambda folder: write_json(folder / "evidence" / "report.json", {}),
        "(changed: evidence/report.json)",
    ),
    "the card is missing": (lambda folder: removed(folder, "README.md"), "(missing: README.md)"),
    "the card is empty": (
        lambda folder: (folder / "README.md").write_text(""),
        "(changed: README.md (the configs in its metadata))",
    ),
    "the manifest is missing": (
        lambda folder: removed(folder, "evidence/files.json"),
        "(missing: evidence/files.json)",
    ),
    "the manifest is cut": (
        lambda folder: shortened(folder, "evidence/files.json"),
        "(changed: evidence/files.json)",
    ),
    "another file is there": (
        lambda folder: (folder / "evidence" / "notes-private.txt").write_text("mine"),
        "(not written by curator: evidence/notes-private.txt); move what curator did not write somewhere else",
    ),
    "everything is gone": (shutil.rmtree, "(missing: README.md, evidence/files.json)"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("how", [(), ("--json",), ("--push", "--push-anyway"), ("build",)], ids=" ".join)
def test_a_folder_that_is_not_as_it_was_written_is_not_pushed(hub, building, root, damage, how):
    harm, words = DAMAGE[damage]
    folder = dataset_folder(root)
    harm(folder)
    with pytest.raises(PublishError) as refused:
        building("--push", REPO) if how == ("build",) else invoked("publish", root, REPO, *how)
    told = str(refused.value)
    assert told.startswith(f"{folder}: cannot be pushed, because it is not as curator wrote it ")
    assert words in told
    anew = f"remove {folder.parent} and run the `curator build` or `curator select` that wrote it again"
    assert told.endswith(anew) or damage == "another file is there"
    assert not hub.repos


def test_a_card_that_its_owner_edited_is_pushed_and_hidden_files_stay_here(hub, root):
    folder = dataset_folder(root)
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\nWords of mine.\n")
    (folder / "data" / ".DS_Store").write_bytes(b"x")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "notes.txt").write_text("mine")
    assert json.loads(invoked("publish", root, REPO, "--json"))["files"].keys() == set(local(folder))
    invoked("publish", root, REPO, "--push")
    assert hashes(remote(hub)) == hashes(local(folder))
    assert b"Words of mine." in remote(hub)["README.md"]
    assert not any(part[0] == "." for name in remote(hub) for part in name.split("/"))


@pytest.mark.parametrize(
    "words", [("--push-anyway",), ("--public",), ("--push", REPO, "--until", "report")], ids=" ".join
)
def test_options_that_make_no_sense_together_are_refused(building, words):
    import click

    with pytest.raises(click.UsageError):
        building(*words)
    assert not building.happened


def test_the_real_program_pushes_and_a_stranger_loads_it_with_one_line(root, tmp_path):
    """Processes of their own, told of the Hub by the environment alone."""
    with hub_server.serving() as server:
        environment = {
            **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "HF_ENDPOINT": server.place,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": hub_server.WRITER,
        }
        pushed = subprocess.run(
            [sys.executable, "-m", "curator", "publish", str(root), REPO, "--push", "--public"],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert pushed.returncode == 0, pushed.stderr
        assert hub_server.WRITER not in pushed.stdout + pushed.stderr
        code = (
            "import datasets, json\n"
            f"rows = datasets.load_dataset('{REPO}', split='train')\n"
            f"print(json.dumps([rows['id'][:], rows[0], {{n: str(k) for n, k in rows.features.items()}}]))"
        )
        del environment["HF_TOKEN"]
        loaded = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert loaded.returncode == 0, loaded.stderr
    ids, first, kinds = json.loads(loaded.stdout.splitlines()[-1])
    made = Run.open(root)
    assert ids == list(made.selection().ids)
    assert first["messages"] == made.data().pool.rows.row(by_predicate=pl.col("id") == ids[0], named=True)["messages"]
    assert kinds["coverage"] == "Value('int64')"


def test_what_is_gated_opens_only_for_those_who_may(hub, folder, tmp_path):
    import datasets

    from curator.publish.push import push

    push(folder, REPO, public=True)
    hub.repos["dataset", REPO].gated = True

    def rows(token):
        return datasets.load_dataset(
            REPO, "curated", split="train", token=token, cache_dir=str(tmp_path / token)
        ).num_rows

    assert rows(hub_server.WRITER) == 12
    with pytest.raises(datasets.exceptions.DatasetNotFoundError, match="gated"):
        rows(hub_server.STRANGER)


def test_folder_and_hub_give_the_rows_and_types_of_the_selection(hub, run, report, write, tmp_path):
    """Whatever stands in them: markup, quotes, marks that turn the direction of writing, a megabyte."""
    import datasets

    from curator.publish.dataset import dataset_rows
    from curator.publish.push import push

    odd = [
        "<script>alert(1)</script>",
        "---\nlicense: x\n---",
        "\u202e\u2066\x00 \\ \" ' \U0001f600",
        "y" * 1_000_000,
        "",
    ]
    texts = [odd[place % len(odd)] for place in range(run.data.pool.rows.height)]
    messages = [[{"role": "user", "content": one}, {"role": "assistant", "content": one[::-1]}] for one in texts]
    rows = run.data.pool.rows.with_columns(
        pl.Series("messages", messages, dtype=run.data.pool.rows.schema["messages"]),
        category=pl.Series(texts), licence=pl.Series(texts),
    )  # fmt: skip
    pool = replace(run.data.pool, rows=rows)
    coverage = dict.fromkeys(run.selection.ids, 3)
    folder = write(tmp_path / "dataset", run, report, pool=pool, coverage=coverage)
    push(folder, REPO)
    expected = dataset_rows(pool, run.scores, run.selection, coverage)
    found = [
        datasets.load_dataset(place, split="train", cache_dir=str(tmp_path / name), token=hub_server.WRITER)
        for name, place in (("a", str(folder)), ("b", REPO))
    ]
    for one in found:
        assert one.features == datasets.Features.from_arrow_schema(expected.schema)
        assert one.to_list() == expected.to_pylist()
