"""Work on this machine: in this process, or in a few of its own making."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from curator.errors import RunError
from curator.provenance import set_threads

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_local(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int, threads: int, preload: str
) -> Iterator[Result]:
    """Results of `work(job)` as they come: with one worker (or one job) here and in order, else in `workers` processes.

    `preload` is a module imported once in the server that workers are forked from, so that a second worker costs neither
    time nor memory for it. Small models gain more from two processes of one thread than from one process of two. An error in a job stops the
    rest and is raised here; workers end when this process does, however it ends.

    Raises:
        RunError: A worker was killed, for example for want of memory.
    """
    if workers == 1 or len(jobs) <= 1:
        set_threads(threads)
        for job in jobs:
            yield work(job)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([preload])
    set_threads(threads)
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_begin, initargs=(threads,))
    try:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool as error:
        raise RunError(
            "engine.workers: a worker process was killed, most likely for want of memory; "
            "lower engine.workers and run the same command again, what was finished is kept"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(threads: int) -> None:
    """Prepares a worker: its threads, quiet libraries, Ctrl-C left to the parent, and an end when the parent ends."""
    from curator.model import quiet

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_threads(threads)
    quiet()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
