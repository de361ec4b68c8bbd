"""Work on this machine: in this process, or in a few of its own making."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from curator.errors import RunError
from curator.provenance import set_threads

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_local(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int, threads: int, preload: str
) -> Iterator[Result]:
    """Results of `work(job)` as they come: with one worker (or job) here and in order, else in `workers` processes.

    `preload` is a module imported once in the server that workers are forked from, so that a second worker costs
    neither time nor memory for it. Small models gain more from two processes of one thread than from one process of
    two. An error in a job stops the rest and is raised here; workers end at once when the results are no longer wanted,
    and when this process ends, however it does.

    Raises:
        RunError: A worker was killed, for example for want of memory.
    """
    set_threads(threads)
    if workers == 1 or len(jobs) <= 1:
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
    # Only this process holds the writing end, so the reading end tells workers when it lets go, or is no more.
    watched, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_begin, initargs=(threads, watched))
    try:
        for future in as_completed([pool.submit(_carried, work, job) for job in jobs]):
            yield future.result()
        pool.shutdown()
    except BrokenProcessPool as error:
        raise RunError(
            "engine.workers: a worker process was killed, most likely for want of memory; "
            "lower engine.workers and run the same command again, what was finished is kept"
        ) from error
    finally:
        held.close()
        pool.shutdown(cancel_futures=True)
        watched.close()


def _begin(threads: int, watched: Connection) -> None:
    """Prepares a worker: its threads, quiet libraries, Ctrl-C left to the parent, an end when the parent wants it."""
    from curator.model import quiet

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()
    set_threads(threads)
    quiet()
    # The libraries collect garbage after every training; what was imported before need not be walked each time.
    gc.freeze()


def _end_with(watched: Connection) -> None:
    wait([watched])
    os._exit(1)


def _carried(work: Callable[[Job], Result], job: Job) -> Result:
    """`work(job)`, where an error that cannot be sent to another process is told in words."""
    try:
        return work(job)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # noqa: BLE001 - whatever another library's error does when it is put together again
            raise RuntimeError("".join(traceback.format_exception(error))) from None
        raise
