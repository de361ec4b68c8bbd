"""The engines that run work.

An engine is one function: it calls `work` on every job and yields each result as it is done, in any order. Jobs and
results are small and picklable; large data is passed through the run folder.
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
    """Calls `work` on every job and yields the results as they are done."""

    def __call__(self, work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]: ...


def runner(section: Engine, *, preload: str, folder: Path, gpus: int = 1) -> Runner:
    """The engine that a recipe names, with its threads resolved.

    Args:
        section: The recipe's `engine`.
        preload: The module that its workers need.
        folder: The run folder, which every worker must be able to read and write.
        gpus: Number of GPUs for a worker on this machine, if there are any; Ray's workers have
            `section.gpus_per_worker`.
    """
    threads = resolved_threads(section)

    def run(work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        if section.kind == "ray":
            from curator.engine.ray import run_ray

            return run_ray(work, jobs, section=section, threads=threads, folder=folder)
        return run_local(work, jobs, workers=section.workers, threads=threads, preload=preload, gpus=gpus)

    return run


def device_of(section: Engine) -> str:
    """The device of the engine's workers: `cuda` or `cpu`."""
    if section.kind == "ray":
        return "cuda" if section.gpus_per_worker else "cpu"
    from curator.model.load import device

    return device()


def spread(section: Engine, *, folder: Path) -> Runner | None:
    """Like `runner`, with workers that run all jobs and keep what they have loaded; null for an engine on this machine:
    this process, with all threads, then loads it once.
    """
    if section.kind == "local":
        return None

    def run(work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        from curator.engine.ray import run_actors

        return run_actors(work, jobs, section=section, threads=resolved_threads(section), folder=folder)

    return run


def prepare(section: Engine, *, preload: str) -> None:
    """Lets the engine load what its workers need before the first job."""
    if section.kind == "local":
        prepare_local(workers=section.workers, threads=resolved_threads(section), preload=preload)


@contextmanager
def engaged(section: Engine) -> Iterator[None]:
    """Lets the engine keep what it has started while the block runs, and stops it at the end.

    Raises:
        RunError: The engine's library is not installed.
    """
    if section.kind == "ray":
        from curator.engine.ray import session

        with session():
            yield
    else:
        yield
