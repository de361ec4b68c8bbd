from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import httpx2
import huggingface_hub
import pytest
from huggingface_hub import errors

from curator.errors import DataError
from curator.pool.gather import gather
from curator.pool.sources import read
from curator.recipe import Probes
from curator.recipe.pool import PoolSection
from curator.recipe.source import Source
from curator.recipe.task import TaskSection
from curator.recipe.task import Test as HeldOut
from tests.pool.loopback_hub import COMMIT, LoopbackHub

real_load = datasets.load_dataset


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, Any]]:
    """A Hub whose every data set is a small local one, loaded by the real library; gives what it was asked."""
    asked: list[tuple[str, Any]] = []
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"prompt": "ask", "response": "tell"}\n', encoding="utf-8")
    (tmp_path / "data" / "test.jsonl").write_text('{"prompt": "other", "response": "tell"}\n', encoding="utf-8")

    def dataset_info(self: Any, repo_id: str, *, revision: str | None = None, timeout: float | None = None) -> Any:
        asked.append((repo_id, revision))
        return SimpleNamespace(sha=COMMIT)

    def load_dataset(path: str, name: str | None = None, *, split: str, revision: str) -> Any:
        asked.append((path, revision))
        return real_load(str(tmp_path / "data"), name, split=split, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def fail(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def dataset_info(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)


def answer(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    request = httpx2.Request("GET", "http://127.0.0.1/api/datasets/owner/name")
    return kind("refused", response=httpx2.Response(status, request=request))


def test_the_revision_is_resolved_to_a_commit_and_written_down(hub: list[tuple[str, Any]]) -> None:
    found = read(Source(hub="owner/name", revision="main"))
    assert hub == [("owner/name", "main"), ("hf://datasets/owner/name", COMMIT)]
    assert found.resolved == {
        "hub": "owner/name",
        "config": None,
        "split": "train",
        "revision": "main",
        "commit": COMMIT,
        "label": "owner/name",
        "columns": {"prompt": "prompt", "response": "response"},
        "read": 1,
        "kept": 1,
        "dropped": 0,
        "unused": [],
        "kinds": {},
    }


@pytest.mark.usefixtures("hub")
def test_the_split_is_the_one_asked() -> None:
    assert read(Source(hub="owner/name", split="test")).rows["messages"][0][0]["content"] == "other"


@pytest.mark.usefixtures("hub")
def test_a_task_may_take_its_test_rows_from_another_split(
    lines: Callable[..., Source], count_words: Callable[..., list[int]]
) -> None:
    def collect(rows: int) -> Any:
        return gather(
            pool=PoolSection(sources=[lines([{"prompt": "pool", "response": "x"}], "pool.jsonl")]),
            tasks=[TaskSection(name="t", train=Source(hub="owner/name"), test=HeldOut(rows=rows, split="test"))],
            weights={"t": 1.0},
            probes=Probes(harmful=[lines([{"prompt": "probe"}], "probes.jsonl")]),
            keep=None,
            count_tokens=count_words,
        )

    (task,) = collect(1).data.tasks
    assert [rows["messages"][0][0]["content"] for rows in (task.train, task.test)] == ["ask", "other"]
    with pytest.raises(DataError) as error:
        collect(2)
    assert str(error.value) == (
        "test of t: needs 2 rows, but the split 'test' has 1 (1 read; dropped: none); set test.rows to at most 1"
    )


@pytest.mark.usefixtures("hub")
def test_an_unknown_split_or_config_lists_the_known_ones() -> None:
    with pytest.raises(DataError) as error:
        read(Source(hub="owner/name", split="nope"))
    assert str(error.value) == (
        "owner/name: cannot be loaded with config default, split nope "
        "(Unknown split \"nope\". Should be one of ['train', 'test'].); correct config or split"
    )
    with pytest.raises(DataError, match=r"config other, split train \(BuilderConfig 'other' not found\. Available: "):
        read(Source(hub="owner/name", config="other"))


def test_without_a_network_the_hub_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for revision, place in ((None, "owner/name"), (COMMIT, f"owner/name at revision '{COMMIT}'")):
        with pytest.raises(DataError) as error:
            read(Source(hub="owner/name", revision=revision))
        assert str(error.value) == (
            f"{place}: the Hub cannot be reached ([Errno 111] Connection refused); check the network, use a cached "
            "commit with HF_HUB_OFFLINE=1, or give the rows as a file"
        )


def test_offline_a_branch_is_refused_and_a_commit_goes_to_the_cache(
    hub: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, errors.OfflineModeIsEnabled("offline"))
    with pytest.raises(DataError) as error:
        read(Source(hub="owner/name"))
    assert str(error.value) == (
        "owner/name: the commit is unknown, and HF_HUB_OFFLINE forbids contacting the Hub; give the "
        "commit of an earlier run as revision, or unset HF_HUB_OFFLINE"
    )
    assert read(Source(hub="owner/name", revision=COMMIT)).resolved["commit"] == COMMIT
    assert hub == [("hf://datasets/owner/name", COMMIT)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            answer(errors.GatedRepoError, 403),
            "owner/name: the data set is gated; request access at https://huggingface.co/datasets/owner/name, "
            "then log in: hf auth login",
        ),
        (
            answer(errors.RepositoryNotFoundError, 404),
            "owner/name: no such data set on the Hub, or it is private; correct the id, or log in: hf auth login",
        ),
        (
            answer(errors.RevisionNotFoundError, 404),
            "owner/name: the data set has no revision 'v9'; give a branch, a tag or a commit",
        ),
        (
            answer(errors.HfHubHTTPError, 503),
            "owner/name at revision 'v9': the Hub cannot be reached (refused); check the network, use a cached "
            "commit with HF_HUB_OFFLINE=1, or give the rows as a file",
        ),
    ],
    ids=["gated", "missing", "revision", "server"],
)
def test_what_the_hub_refuses_is_said_in_words(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    fail(monkeypatch, error)
    with pytest.raises(DataError) as raised:
        read(Source(hub="owner/name", revision="v9"))
    assert str(raised.value) == message


def test_a_name_that_is_none_is_refused_without_a_network() -> None:
    with pytest.raises(DataError, match=r"^a b/c: not a valid name of a Hub data set \(.*\); write owner/name$"):
        read(Source(hub="a b/c"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'owner/name' is a gated dataset"),
            "owner/name: the data set is gated; ",
        ),
        (datasets.exceptions.DatasetNotFoundError("Dataset doesn't exist"), "owner/name: no such data set on the Hub"),
        (RuntimeError("Dataset scripts are no longer supported"), "owner/name: cannot be loaded with config default, "),
        (ConnectionError("Couldn't reach"), "owner/name at 01234567: the Hub cannot be reached (Couldn't reach); "),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_the_loader_refuses_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def load_dataset(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError) as raised:
        read(Source(hub="owner/name"))
    assert str(raised.value).startswith(message)


def test_another_commit_than_the_one_asked_is_refused(
    hub: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = "f" * 40
    found = datasets.Dataset.from_list([{"prompt": "ask", "response": "tell"}])
    found.save_to_disk(str(tmp_path / other))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.load_from_disk(str(tmp_path / other)))
    with pytest.raises(DataError) as error:
        read(Source(hub="owner/name"))
    assert str(error.value) == (
        f"owner/name: the cache has commit {other}, not {COMMIT}, and the Hub cannot be reached; give the cached "
        "commit as revision, or connect once to download this one"
    )
    assert hub == [("owner/name", None)]


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a process whose Hub is a server on this machine that knows one data set, owner/name."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), LoopbackHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_address[1]}"
    yield {**os.environ, "HF_ENDPOINT": place, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    server.shutdown()
    server.server_close()


def say(environment: dict[str, str], source: str) -> str:
    """What a fresh process says of a source: its resolved form, or the error in words."""
    code = (
        "from curator.errors import DataError\n"
        "from curator.pool.sources import read\n"
        "from curator.recipe.source import Source\n"
        f"try: print(read(Source({source})).resolved)\nexcept DataError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_the_real_clients_read_a_hub_on_this_machine_and_then_the_cache(loopback: dict[str, str]) -> None:
    assert f"'commit': '{COMMIT}'" in say(loopback, "hub='owner/name'")
    assert say(loopback, "hub='owner/none'").startswith("owner/none: no such data set on the Hub, or it is private;")
    offline = {**loopback, "HF_HUB_OFFLINE": "1"}
    assert f"'commit': '{COMMIT}'" in say(offline, f"hub='owner/name', revision='{COMMIT}'")
    refused = say(offline, f"hub='owner/name', revision='{'1' * 40}'")
    assert refused.startswith(f"owner/name: the cache has commit {COMMIT}, not 1111")
