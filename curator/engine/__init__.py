"""Where work runs.

An engine is one function: it calls `work` on every job and yields each result as it comes, in no promised order.
Jobs and results are small and picklable; what is large travels through the run folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from curator.engine.local import prepare_local, run_local
from curator.engine.threads import resolved_threads
from curator.recipe import Engine

Job = TypeVar("Job")
Result = TypeVar("Result")


class Runner(Protocol):
    """Runs jobs somewhere."""

    def __call__(self, work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]: ...


def runner(section: Engine, *, preload: str) -> Runner:
    """The engine that a recipe names, with its threads resolved; `preload` is the module that its workers need."""
    threads = resolved_threads(section)

    def run(work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        return run_local(work, jobs, workers=section.workers, threads=threads, preload=preload)

    return run


def prepare(section: Engine, *, preload: str) -> None:
    """Lets the engine load what its workers need, ahead of the first job."""
    prepare_local(workers=section.workers, threads=resolved_threads(section), preload=preload)
