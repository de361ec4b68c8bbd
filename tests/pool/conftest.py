"""What the tests of the pool share: writing small files, and counting words for tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from curator.pool.gather import Gathered
from curator.recipe.source import Source
from tests.pool.gathering import gatherer


@pytest.fixture
def lines(tmp_path: Path) -> Callable[..., Source]:
    """Writes objects as JSON Lines and gives the source that reads them."""

    def write(objects: list[dict[str, object]], name: str = "rows.jsonl", **options: object) -> Source:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in objects), encoding="utf-8")
        return Source(file=str(path), **options)  # type: ignore[arg-type]

    return write


@pytest.fixture
def count_words() -> Callable[[list[list[dict[str, str]]]], list[int]]:
    return lambda conversations: [sum(len(turn["content"].split()) for turn in turns) for turns in conversations]


@pytest.fixture
def collect(lines: Callable[..., Source], count_words: Callable[..., list[int]]) -> Callable[..., Gathered]:
    return gatherer(lines, count_words)
