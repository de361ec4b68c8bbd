"""Sources that workers of a cluster read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from curator.errors import DataError
from curator.pool.ledger import Ledger
from curator.pool.workers import TURNED, reader
from curator.recipe.source import Source
from curator.run import Run
from tests.small_run import recipe


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Reads by workers that stand in a folder of their own, for a run that stands beside it."""
    for folder in ("here", "there", "run"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def execute(work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
        with chdir(tmp_path / "there"):
            done = [work(job) for job in reversed(jobs)]
        yield from done

    monkeypatch.setattr("curator.engine.spread", lambda section, folder: execute)
    start = {"tokenizer": "", "revision": None}
    run = SimpleNamespace(recipe=recipe(), root=tmp_path / "run", record=lambda stage: start)
    return Ledger(0, read_all=reader(cast(Run, run), tmp_path / "run", []))


def test_a_worker_that_stands_elsewhere_reads_what_this_process_would(apart: Ledger, tmp_path: Path) -> None:
    sources = [Source(file=name) for name in ("first.jsonl", os.path.join("..", "here", "second.jsonl"))]
    for number, name in enumerate(("first.jsonl", "second.jsonl")):
        rows = [{"prompt": f"ask {number} {row}", "response": "tell"} for row in range(5)]
        Path(name).write_text("\n".join(map(json.dumps, rows)))
        (tmp_path / "there" / name).write_text('{"prompt": "of another file", "response": "tell"}')
    rows, alone = apart.read("pool", sources), Ledger(0)
    assert rows.equals(alone.read("pool", sources))
    assert apart.sources == alone.sources
    assert [source["file"] for source in apart.sources["pool"]] == [source.file for source in sources]
    assert not (tmp_path / "run" / TURNED).exists()


def test_a_missing_file_is_named_as_written_and_with_where_it_was_looked_for(apart: Ledger, tmp_path: Path) -> None:
    (tmp_path / "there" / "gone.jsonl").touch()
    looked_for = tmp_path / "here" / "gone.jsonl"
    with pytest.raises(DataError) as error:
        apart.read("pool", [Source(file="gone.jsonl"), Source(sandbox="pool")])
    assert str(error.value) == f"gone.jsonl: no such file (looked for {looked_for}); correct the path"
