"""Work on this machine: in this process, or in a few worker processes."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, TypeVar

from curator.errors import RunError, portable
from curator.provenance import has_gpu, own_code, release_memory, require_device, set_threads, visible_gpus

Job = TypeVar("Job")
Result = TypeVar("Result")


ENDS_WITHIN = 10.0
"""Seconds that a worker whose pipe is closed may take to end."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
FORKSERVER = "forkserver" in multiprocessing.get_all_start_methods()


class Post(NamedTuple):
    """A worker's settings, sent before its first job.

    Attributes:
        device: Its device, `cuda` or `cpu`. `gpus`: names of the GPUs that it may use, empty for all.
        threads: Its number of threads. `preload`: the module that it loads first.
    """

    device: str
    gpus: tuple[str, ...]
    threads: int
    preload: str


class Worker(NamedTuple):
    """A process, and this process's end of the pipe for jobs and results."""

    process: BaseProcess
    pipe: Connection


def run_local(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int, threads: int, preload: str, gpus: int = 1
) -> Iterator[Result]:
    """Results of `work(job)` as they are done: with one worker (or job) here and in order, else in `workers` processes.

    `preload` is a module that workers import before their first job: on a CPU once, in the server that they are forked
    from, so that a second worker costs neither time nor memory for it. Small models gain more from two processes with
    one thread than from one process with two. Several GPUs are distributed, `gpus` to a worker. An error in a job stops
    the rest and is raised here; workers end at once when the results are no longer wanted, and when this process ends
    in any way.

    Raises:
        RunError: A worker was killed, for example because memory ran out, or ended by itself, for example because it
            imported a script that starts work; or it found another device than this process.
    """
    set_threads(threads)
    if workers == 1 or len(jobs) <= 1:
        for job in jobs:
            yield work(job)
        return
    device = _device()
    context, shown = _context(preload, device), visible_gpus() if device == "cuda" else []
    release_memory()
    crew = [
        _hire(context, work, Post(device, share(number, shown, gpus), threads, preload))
        for number in range(min(workers, len(jobs)))
    ]
    busy = {worker.pipe: worker for worker in crew}
    waiting = list(reversed(jobs))
    try:
        for worker in crew:
            _give(worker, waiting.pop())
        while busy:
            for pipe in busy.keys() & wait(list(busy)):
                result = _received(busy[pipe])
                # The next job is sent before the result is yielded, because the caller may take long with it.
                if waiting:
                    _give(busy[pipe], waiting.pop())
                else:
                    del busy[pipe]
                yield result
    finally:
        # Also if the caller drops the iterator, or Ctrl-C comes while it waits. Workers are killed, since one may be in
        # the middle of a matrix product; pieces are written atomically, so no partial result is left.
        for worker in crew:
            worker.process.kill()
        for worker in crew:
            worker.process.join()
            worker.pipe.close()


def prepare_local(*, workers: int, threads: int, preload: str) -> None:
    """Starts the server that workers are forked from, so that it loads its libraries while this process continues."""
    if workers > 1 and FORKSERVER and not has_gpu():
        # Before the server starts: it passes its environment on, and numeric libraries read theirs when they are
        # loaded.
        set_threads(threads)
        _context(preload, "cpu")


def share(number: int, shown: Sequence[str], gpus: int) -> tuple[str, ...]:
    """The GPUs of worker `number`: the next `gpus` of those shown, starting again at the first when all are taken."""
    first = number % max(1, len(shown) // gpus) * gpus
    return tuple(shown[first : first + gpus])


def _device() -> str:
    """The device of this process and its workers. Without a GPU torch, which takes seconds, is not loaded."""
    if "torch" not in sys.modules and not has_gpu():
        return "cpu"
    from curator.model.load import device

    return device()


def _context(preload: str, device: str) -> BaseContext:
    # Not fork: this process has threads (torch, polars, a GPU's driver), and a lock that one of them holds at that
    # moment would stay locked in the child for ever. The server that workers are forked from only imports modules, and
    # has no threads. With a GPU the server is not used either: a library that searches for one while it is imported,
    # like bitsandbytes, leaves CUDA in a state in which forked children find no GPU.
    if device == "cuda" or not FORKSERVER:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    from multiprocessing import forkserver

    with _deaf(), own_code():
        forkserver.ensure_running()
    return context


@contextmanager
def _deaf() -> Iterator[None]:
    """Makes processes that are started while the block runs ignore Ctrl-C: a terminal sends it to every process of the
    group, and only this one reacts to it. They keep the signal mask that they start with, and pass it on.
    """
    from multiprocessing import resource_tracker

    with own_code():
        resource_tracker.ensure_running()  # first, since starting it lifts the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _showing(gpus: Sequence[str]) -> Iterator[None]:
    """Makes processes that are started while the block runs see only these GPUs, or this process's GPUs if none are
    given.
    """
    before = os.environ.get(VISIBLE)
    if gpus:
        os.environ[VISIBLE] = ",".join(gpus)
    try:
        yield
    finally:
        os.environ.pop(VISIBLE, None)
        if before is not None:
            os.environ[VISIBLE] = before


def _hire(context: BaseContext, work: Callable[[Any], Any], post: Post) -> Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(work, post, theirs), daemon=True)  # type: ignore[attr-defined]
    # A worker that is forked from the server has the server's environment and signal mask. A spawned one takes this
    # process's, before it loads a library that would search for GPUs.
    with _deaf(), _showing(post.gpus), own_code():
        process.start()
    # The worker must hold the only copy of its end, or reading from a worker that was killed would wait for ever.
    theirs.close()
    return Worker(process, ours)


def _give(worker: Worker, job: Any) -> None:
    try:
        worker.pipe.send(job)
    except (BrokenPipeError, ConnectionResetError) as end:
        raise _lost(worker.process) from end


def _lost(process: BaseProcess) -> RunError:
    """What became of a worker whose pipe is closed: a signal ended it, or it ended by itself."""
    process.join(ENDS_WITHIN)
    if (code := process.exitcode) is not None and code >= 0:
        return RunError(
            f"engine.workers: a worker process ended by itself (exit code {code}), and what it printed says why; if a "
            'script of your own calls curator, put what it does under `if __name__ == "__main__":`, because workers '
            "import the script, or set engine.workers to 1"
        )
    return RunError(
        "engine.workers: a worker process was killed, most likely because memory ran out; lower engine.workers and run "
        "the same command again (finished work is kept)"
    )


def _received(worker: Worker) -> Any:
    try:
        error, result = worker.pipe.recv()
    except (EOFError, ConnectionResetError) as end:
        raise _lost(worker.process) from end
    if error is not None:
        # Pickle drops tracebacks, so the worker's is in the cause.
        raise error from RuntimeError(f"in a worker process:\n{result}")
    return result


def _serve(work: Callable[[Any], Any], post: Post, pipe: Connection) -> None:
    """The loop of a worker: a job, its result, and the next job, until the parent closes the pipe."""
    from curator.model.load import quiet

    # A terminal sends Ctrl-C to every process of the group; only the parent reacts to it, and kills the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_threads(post.threads)
    quiet()
    importlib.import_module(post.preload)
    # The libraries collect garbage after every training; objects from earlier imports need not be traversed each time.
    gc.freeze()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            require_device(post.device)
            pipe.send((None, work(job)))
        except Exception as error:
            pipe.send((portable(error), "".join(traceback.format_exception(error))))
            raise SystemExit(1) from error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A parent that is killed does not close pipes or kill workers, but its sentinel becomes ready.
    wait([parent.sentinel])
    os._exit(1)  # SystemExit in this thread would not end the main one, which is running a job
