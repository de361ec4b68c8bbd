"""Sources and chunks of rows as jobs for workers that stay: the same files as one process makes, whatever the order."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curator import engine
from curator.errors import DataError, RunError
from curator.pipeline import build
from curator.represent import chunks
from curator.represent.encoder import Encoded, Encoder
from curator.represent.workers import EmbedJob, Making, embed_chunk
from curator.run.files import load_frame
from curator.run.folder import TEMPORARY
from tests.small_run import recipe

SOURCES = "pool.sources=[{sandbox: pool, rows: 90}, {sandbox: pool, rows: 120}]"
TWO = "represent=[{from: hidden-states}, {from: hidden-states, layer: 1, token: mean-completion, centre: false}]"


def backwards(given: list[int], **_: Any) -> Callable[..., Iterator[Any]]:
    """A runner that takes jobs as another process would, the last first, and counts them."""

    def run(work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
        given.append(len(jobs))
        for job in reversed(jobs):
            own_work, own_job = pickle.loads(pickle.dumps((work, job)))
            yield pickle.loads(pickle.dumps(own_work(own_job)))

    return run


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs were handed out each time."""
    given: list[int] = []
    monkeypatch.setattr(chunks, "MOST_ROWS", 32)
    monkeypatch.setattr(engine, "spread", lambda section, folder: backwards(given))
    return given


def made(root: Path, *settings: str) -> dict[str, Any]:
    build(recipe(SOURCES, TWO, "engine.threads=1", *settings), root, until="represent")
    record: dict[str, Any] = json.loads((root / "2-represent" / "done.json").read_text())["record"]
    return record


def test_workers_elsewhere_read_and_embed_what_this_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handed: list[int]
) -> None:
    ours, theirs = tmp_path / "a" / "run", tmp_path / "b" / "run"
    spread = made(ours)
    assert handed == [2, 4, 2]  # sources; chunks of 120 and 40 rows
    assert len(spread["places"]) == 6
    assert all(place["seconds"] >= 0 for place in spread["places"])
    monkeypatch.setattr(engine, "spread", lambda section, folder: None)
    alone = made(theirs)
    assert alone["places"] == []
    assert {**spread, "places": []} == alone
    files = [path.relative_to(ours) for path in ours.rglob("*.npy")]
    assert len(files) == 5
    for file in files:
        assert (ours / file).read_bytes() == (theirs / file).read_bytes(), file
    for file in ("pool.arrow", "dropped.parquet"):
        assert load_frame(ours / "1-pool" / file).equals(load_frame(theirs / "1-pool" / file)), file
    assert not list(ours.rglob(f".*{TEMPORARY}"))


def test_an_interrupted_spread_goes_on_with_the_chunks_that_are_missing(tmp_path: Path, handed: list[int]) -> None:
    made(tmp_path / "run")
    (first, *_) = sorted((tmp_path / ".vectors").rglob("*.vectors"))
    first.unlink()
    (tmp_path / "run" / "2-represent" / "done.json").unlink()
    handed.clear()
    assert made(tmp_path / "run")["cached"] > 0
    assert handed == [1]


def test_a_source_that_cannot_be_read_is_told_as_ever(tmp_path: Path, handed: list[int]) -> None:
    with pytest.raises(DataError, match=r"absent\.jsonl"):
        made(tmp_path / "run", "pool.sources=[{sandbox: pool}, {file: absent.jsonl}]")


def test_a_node_that_does_not_see_the_cache_is_named(tmp_path: Path) -> None:
    chunk = chunks.Chunk(np.arange(1), np.zeros(1, dtype="S16"), {0: np.ones(1, dtype=np.bool_)})
    job = EmbedJob(Making((), "model"), "rows.arrow", (str(tmp_path / "absent"),), chunk)
    with pytest.raises(RunError, match=r"engine\.cache: node .* cannot see .*absent.*set engine\.cache to false"):
        embed_chunk(job)


def test_vectors_that_are_not_seen_here_are_an_error_and_never_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "SEEN_WITHIN", 0.0)
    rows = chunks.in_memory(["a"], [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]])

    def unused() -> Encoder:
        raise AssertionError("nothing is embedded here")

    lost = chunks.Elsewhere(3, None, lambda chunks: iter([1] * len(chunks)))
    with pytest.raises(RunError, match=r"engine\.cache: 1 row that workers embedded cannot be seen in"):
        chunks.fill([tmp_path], rows, unused, elsewhere=lost)

    def encode(piece: Any, wanted: Any, progress: Any) -> list[Encoded]:
        return [Encoded(np.ones((1, 3), dtype=np.float32), np.zeros(1, dtype=np.bool_))]

    def embedded(handed: Sequence[chunks.Chunk]) -> Iterator[int]:
        for chunk in handed:
            chunks.embed(chunk, rows, [tmp_path], Encoder((3,), encode), progress=lambda done: None)
            yield len(chunk.positions)

    told: list[tuple[int, int]] = []
    filled = chunks.fill(
        [tmp_path], rows, unused, elsewhere=chunks.Elsewhere(3, None, embedded),
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert (filled.embedded, filled.cached, told) == ((1,), (0,), [(0, 1), (1, 1)])
