"""Sources read by workers of a cluster, several at once; rows are passed through the run folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.run import Run
from curator.run.folder import TEMPORARY, place
from curator.run.ran import computed_with

if TYPE_CHECKING:
    from curator.pool.ledger import ReadAll, Reading
    from curator.pool.sources import Read

TURNED = f".reading{TEMPORARY}"
"""Below the stage's folder: rows read by workers, until they are collected."""


@dataclass(frozen=True)
class ReadJob:
    """One source, as a job small enough to send to another process; `base` is the folder that a relative path starts
    from, as a worker's own folder is another where its machine lacks this one.
    """

    reading: Reading
    base: Path
    number: int
    folder: str
    tokenizer: str
    revision: str | None
    chat_template: str | None


def reader(run: Run, folder: Path, places: list[dict[str, Any]]) -> ReadAll | None:
    """A function that reads the sources of one role all at once, below `folder`, and adds to `places` where each was
    read; null if the engine reads them one by one.
    """
    from curator.engine import spread

    execute = spread(run.recipe.engine, folder=run.root)
    if execute is None:
        return None
    start, below = run.record("base"), folder.absolute() / TURNED
    tokenizer = (start["tokenizer"], start["revision"], run.recipe.model.chat_template)

    def read_all(readings: Sequence[Reading]) -> Sequence[Read]:
        from curator.pool.sources import Read
        from curator.run.files import load_frame, mapped

        jobs = [
            ReadJob(replace(reading, scratch=below), Path.cwd(), number, str(below), *tokenizer)
            for number, reading in enumerate(readings)
        ]
        resolved = {}
        for number, how, where in execute(read_source, jobs):
            resolved[number] = how
            places.append(where)
        results = [
            Read(mapped(rows_file(below, number)), load_frame(dropped_file(below, number)), resolved[number])
            for number in range(len(readings))
        ]
        # A mapped file keeps its content for as long as it is mapped.
        shutil.rmtree(below)
        return results

    return read_all


def read_source(job: ReadJob) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Reads one source into files; returns its number, how it was read, and where. Raises like `sources.read`."""
    from curator.pool.ledger import read_one
    from curator.run.files import save_frame, save_mapped

    clock = time.perf_counter()
    counter = _counter(job.tokenizer, job.revision, job.chat_template) if job.reading.limited else None
    result = read_one(job.reading, counter, job.base)
    save_mapped(rows_file(Path(job.folder), job.number), result.rows)
    save_frame(dropped_file(Path(job.folder), job.number), result.dropped)
    return job.number, result.resolved, {**place(), **computed_with(), "seconds": round(time.perf_counter() - clock, 3)}


def rows_file(folder: Path, number: int) -> Path:
    """The rows that a source gave."""
    return folder / f"{number}.arrow"


def dropped_file(folder: Path, number: int) -> Path:
    """The records of a source that give no row."""
    return folder / f"{number}-dropped.parquet"


@cache
def _counter(tokenizer: str, revision: str | None, chat_template: str | None) -> Any:
    from curator.model.chat import token_counter
    from curator.model.load import load_tokenizer

    return token_counter(load_tokenizer(tokenizer, revision=revision, chat_template=chat_template))
