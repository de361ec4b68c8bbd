"""Where work runs.

An engine is one function: it calls `work` on every job and yields each result as it comes, in no promised order.
Jobs and results are small and picklable; what is large travels through the run folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from curator.engine.local import prepare_local, run_local
from curator.provenance import resolved_threads
from curator.recipe import Engine

Job = TypeVar("Job")
Result = TypeVar("Result")


class Runner(Protocol):
    """Calls `work` on every job and yields the results as they come."""

    def __call__(self, work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]: ...


def runner(section: Engine, *, preload: str, folder: Path, gpus: int = 1) -> Runner:
    """The engine that a recipe names, with its threads resolved.

    Args:
        section: The recipe's.
        preload: The module that its workers need.
        folder: The run folder, which every worker must see.
        gpus: GPUs that a worker of this machine needs, if there are any; Ray's have `section.gpus_per_worker`.
    """
    threads = resolved_threads(section)

    def run(work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        if section.kind == "ray":
            from curator.engine.ray import run_ray

            return run_ray(work, jobs, section=section, threads=threads, folder=folder)
        return run_local(work, jobs, workers=section.workers, threads=threads, preload=preload, gpus=gpus)

    return run


def device_of(section: Engine) -> str:
    """Where the engine's workers compute: `cuda` or `cpu`."""
    if section.kind == "ray":
        return "cuda" if section.gpus_per_worker else "cpu"
    from curator.model.load import device

    return device()


def spread(section: Engine, *, folder: Path) -> Runner | None:
    """As `runner`, by workers that stay for all jobs and keep what they have loaded; null for an engine whose workers
    are this machine's: one process of all its threads, this one, then loads it once.
    """
    if section.kind == "local":
        return None

    def run(work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        from curator.engine.ray import run_actors

        return run_actors(work, jobs, section=section, threads=resolved_threads(section), folder=folder)

    return run


def prepare(section: Engine, *, preload: str) -> None:
    """Lets the engine load what its workers need, ahead of the first job."""
    if section.kind == "local":
        prepare_local(workers=section.workers, threads=resolved_threads(section), preload=preload)


@contextmanager
def engaged(section: Engine) -> Iterator[None]:
    """While the block runs, the engine may keep what it has started; at the end of it that is stopped.

    Raises:
        RunError: The engine's library is not installed.
    """
    if section.kind == "ray":
        from curator.engine.ray import session

        with session():
            yield
    else:
        yield
