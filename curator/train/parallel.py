"""One training in several processes of this machine: the only file that knows how they are launched.

The job and its result are passed as files. torch's elastic launcher starts the processes, as `accelerate launch` itself
does with GPUs; on a CPU `accelerate launch` would require MPI. In each process accelerate finds the others, by NCCL or
gloo over the loopback interface.
"""

from __future__ import annotations

import fcntl
import logging
import pickle
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from curator.errors import CuratorError, RunError
from curator.model.load import device
from curator.provenance import own_code, set_threads
from curator.records import Trained
from curator.run.ran import note
from curator.wording import these

CHILD = "curator.train.parallel_child"
JOB, RESULT, ALIVE, LOGS = "job", "result", "alive", "logs"


class Failure(NamedTuple):
    """What one process raised, its traceback as text, and when (seconds since 1970)."""

    error: Exception
    text: str
    when: float


class Ended(NamedTuple):
    """How a process failed: its exit code (the negative signal number if a signal ended it) and the last line that it
    wrote.
    """

    code: int
    line: str


def train_apart(settings: Mapping[str, Any], *, processes: int, key: str) -> Trained:
    """`sft.train` with these arguments, in separate processes.

    They end when this process ends, in whatever way: each waits for a lock that this one holds.

    Raises:
        CuratorError: An error that one of them raised.
        RunError: This machine has fewer GPUs, or a process was killed.
    """
    clock = time.perf_counter()
    _require_gpus(processes, key)
    # On this machine's own disk: locks do not work on all shared disks.
    with tempfile.TemporaryDirectory(prefix="curator-training-") as scratch:
        folder = Path(scratch)
        (folder / JOB).write_bytes(pickle.dumps((device(), dict(settings))))
        ended = _launch(folder, processes)
        if not ended:
            trained: Trained
            trained, facts = pickle.loads((folder / RESULT).read_bytes())
            note(**facts)
            return replace(trained, seconds=time.perf_counter() - clock)
        failures = [pickle.loads(path.read_bytes()) for path in folder.glob("error-*[0-9]")]
    # A process that fails or is killed ends the others, which then report a lost connection.
    first = min(failures, key=lambda failure: (not isinstance(failure.error, CuratorError), failure.when), default=None)
    # The launcher itself ends the remaining ones by SIGTERM.
    killed = next((-process.code for process in ended if process.code < 0 and process.code != -signal.SIGTERM), None)
    if first is not None and (killed is None or isinstance(first.error, CuratorError)):
        raise first.error from RuntimeError(f"in a training process:\n{first.text}")
    if killed is not None:
        raise RunError(
            f"{key}.processes: one of the {processes} training processes was killed (signal {killed}), most likely "
            f"because memory ran out; lower {key}.micro_batch or {key}.processes and run the same command again. "
            "Finished work is kept"
        )
    raise RunError(
        f"{key}.processes: the {processes} training processes ended without a result (exit code {ended[0].code}, "
        f"{ended[0].line}); set it to 1, or fix the cause, and run the same command again. Finished work is kept"
    )


def _require_gpus(processes: int, key: str) -> None:
    if device() == "cuda":
        import torch

        gpus = torch.cuda.device_count()
        if gpus < processes:
            raise RunError(
                f"{key}.processes: found {processes}, but this machine shows {these(gpus, 'GPU', 'GPUs')}, and every "
                "process needs its own; lower it, or check CUDA_VISIBLE_DEVICES"
            )


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Holds a lock on a file. The system releases it when this process ends, even if it is killed; see
    `parallel_child`.
    """
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _launch(folder: Path, processes: int) -> list[Ended]:
    """Runs the training; returns the processes that failed, the first one first, or none.

    The launcher runs in a thread, because in the main thread it takes over the process's signals. When this process is
    interrupted, the lock is released, the processes end, and the launcher with them.
    """
    from torch import get_num_threads
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / LOGS), redirects=Std.ALL),
    )
    # A command and not a function: workers of the local engine cannot have children by multiprocessing, and starting a
    # function would import the caller's own script again.
    launch = elastic_launch(config, sys.executable)
    set_threads(get_num_threads())  # children read the environment
    # The lock is innermost: it must be released before the executor waits for its thread, or an interrupt would hang
    # until the training ends.
    with _silent(), own_code(), ThreadPoolExecutor(1) as thread, _held(folder / ALIVE):
        try:
            thread.submit(launch, "-m", CHILD, str(folder)).result()
        except ChildFailedError as error:
            failures = sorted(error.failures.values(), key=lambda failure: failure.timestamp)
            return [Ended(failure.exitcode, _last_line(folder, failure.local_rank)) for failure in failures]
    return []


@contextmanager
def _silent() -> Iterator[None]:
    """Silences the launcher's logs, since errors are raised."""
    logger, nowhere = logging.getLogger("torch.distributed.elastic"), logging.NullHandler()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(nowhere)
    try:
        yield
    finally:
        logger.removeHandler(nowhere)
        logger.propagate = propagate


def _last_line(folder: Path, rank: int) -> str:
    log = next((folder / LOGS).glob(f"*/*/{rank}/stderr.log"))
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it wrote nothing"
