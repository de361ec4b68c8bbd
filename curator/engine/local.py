"""Work on this machine: in this process, or in a few of its own making."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, TypeVar

from curator.errors import RunError, portable
from curator.provenance import own_code, set_threads

Job = TypeVar("Job")
Result = TypeVar("Result")


class Worker(NamedTuple):
    """A process, and this process's end of the pipe that jobs and results go through."""

    process: BaseProcess
    pipe: Connection


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
    crew = [_hire(_context(preload), work, threads) for _ in range(min(workers, len(jobs)))]
    busy = {worker.pipe for worker in crew}
    waiting = list(reversed(jobs))
    try:
        for pipe in busy:
            _give(pipe, waiting.pop())
        while busy:
            for pipe in busy.intersection(wait(list(busy))):
                result = _received(pipe)
                # The next job goes out before the result does: the caller may take its time with it.
                if waiting:
                    _give(pipe, waiting.pop())
                else:
                    busy.discard(pipe)
                yield result
    finally:
        # Also where the caller drops the iterator, or Ctrl-C comes while it waits. Killed and not asked to end, as a
        # worker may be deep in a matrix product; a piece is written whole or not at all, so nothing half-made is left.
        for worker in crew:
            worker.process.kill()
        for worker in crew:
            worker.process.join()
            worker.pipe.close()


def prepare_local(*, workers: int, threads: int, preload: str) -> None:
    """Starts the server that workers are forked from, so that it loads its libraries while this process goes on."""
    if workers > 1 and "forkserver" in multiprocessing.get_all_start_methods():
        # Before the server starts: it hands its environment on, and numeric libraries read theirs when they are loaded.
        set_threads(threads)
        _context(preload)


def _context(preload: str) -> BaseContext:
    # Not fork: this process has threads (torch, polars, a GPU's driver), and a lock that one of them holds just then
    # would stay locked in the child for ever. The server that workers are forked from only imports, and has none.
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    from multiprocessing import forkserver, resource_tracker

    # A terminal sends Ctrl-C to every process of the group, and this one alone acts on it. The server keeps the mask
    # that it starts with, and hands it on. The tracker is started first, since starting it lifts the mask.
    with own_code():
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _hire(context: BaseContext, work: Callable[[Any], Any], threads: int) -> Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(work, threads, theirs), daemon=True)  # type: ignore[attr-defined]
    with own_code():
        process.start()
    # The worker must hold the only copy of its end, or reading from a worker that was killed would wait for ever.
    theirs.close()
    return Worker(process, ours)


def _give(pipe: Connection, job: Any) -> None:
    try:
        pipe.send(job)
    except (BrokenPipeError, ConnectionResetError) as end:
        raise _lost() from end


def _lost() -> RunError:
    return RunError(
        "engine.workers: a worker process was killed, most likely for want of memory; "
        "lower engine.workers and run the same command again, what was finished is kept"
    )


def _received(pipe: Connection) -> Any:
    try:
        error, result = pipe.recv()
    except (EOFError, ConnectionResetError) as end:
        raise _lost() from end
    if error is not None:
        # Pickle leaves tracebacks behind, so the worker's stands in the cause.
        raise error from RuntimeError(f"in a worker process:\n{result}")
    return result


def _serve(work: Callable[[Any], Any], threads: int, pipe: Connection) -> None:
    """The life of a worker: a job, its result, and the next job, until the parent closes the pipe."""
    from curator.model.load import quiet

    # A terminal sends Ctrl-C to every process of the group; the parent alone acts on it, and kills the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_threads(threads)
    quiet()
    # The libraries collect garbage after every training; what was imported before need not be walked each time.
    gc.freeze()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((None, work(job)))
        except Exception as error:
            pipe.send((portable(error), "".join(traceback.format_exception(error))))
            raise SystemExit(1) from error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A parent that is killed itself closes no pipe and kills no worker; its sentinel is ready all the same.
    wait([parent.sentinel])
    os._exit(1)  # SystemExit in this thread would not end the main one, which is at work on a job
