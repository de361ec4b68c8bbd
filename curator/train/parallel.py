"""One training in several processes of this machine: the only file that knows how they are launched.

The job goes to them as a file, and what came of it comes back as one. `torch.distributed.run` starts them, which
`accelerate launch` itself calls where there are GPUs; on a CPU `accelerate launch` would ask for MPI. In them
accelerate finds the others, by NCCL or gloo over the loopback interface.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from curator.errors import CuratorError, RunError
from curator.model.load import device
from curator.provenance import thread_settings
from curator.records import Trained

CHILD = "curator.train.parallel_child"
JOB, RESULT, ALIVE, LOG = "job", "result", "alive", "log"
ENDED_WITHIN = 15.0  # seconds for the launcher to end its processes when it is asked to


class Failure(NamedTuple):
    """What one process raised, its traceback in words, and when (seconds since 1970)."""

    error: Exception
    text: str
    when: float


def train_apart(settings: Mapping[str, Any], *, processes: int, key: str) -> Trained:
    """As `sft.train` with these arguments, by processes of their own.

    They end when this process ends, however it does: each waits for a lock that this one holds.

    Raises:
        CuratorError: What one of them raised.
        RunError: This machine has fewer GPUs, or a process was killed.
    """
    clock = time.perf_counter()
    _require_gpus(processes, key)
    # On this machine's own disk: locks do not work on every one that machines share.
    with tempfile.TemporaryDirectory(prefix="curator-training-") as made:
        folder = Path(made)
        (folder / JOB).write_bytes(pickle.dumps(dict(settings)))
        with _held(folder / ALIVE):
            code = _launch(folder, processes)
        if code == 0 and (folder / RESULT).exists():
            trained: Trained = pickle.loads((folder / RESULT).read_bytes())
            return replace(trained, seconds=time.perf_counter() - clock)
        failures = [pickle.loads(path.read_bytes()) for path in folder.glob("error-*[0-9]")]
        said = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    # One that fails or is killed takes the others with it, which then tell of a lost connection.
    first = min(failures, key=lambda one: (not isinstance(one.error, CuratorError), one.when), default=None)
    killed = _killed_by(said)
    if first is not None and (killed is None or isinstance(first.error, CuratorError)):
        raise first.error from RuntimeError(f"in a training process:\n{first.text}")
    if killed is not None:
        raise RunError(
            f"{key}.processes: one of the {processes} training processes was killed (signal {killed}), most likely for "
            f"want of memory; lower {key}.micro_batch or {key}.processes and run the same command again, what was "
            "finished is kept"
        )
    raise RunError(
        f"{key}.processes: the {processes} training processes ended without a result (exit code {code}, "
        f"{_last_line(said)}); set it to 1, or mend that and run the same command again, what was finished is kept"
    )


def _require_gpus(processes: int, key: str) -> None:
    if device() == "cuda":
        import torch

        found = torch.cuda.device_count()
        if found < processes:
            raise RunError(
                f"{key}.processes: found {processes}, and this machine shows {found} GPU(s), one for each; lower it, "
                "or see CUDA_VISIBLE_DEVICES"
            )


@contextmanager
def _held(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _launch(folder: Path, processes: int) -> int:
    """Exit code of the launcher; when this process is interrupted, it ends the launcher and with it all others."""
    with (folder / LOG).open("w") as log:
        launcher = subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", str(processes)),
                *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--rdzv-id", uuid.uuid4().hex),
                *("--local-addr", "127.0.0.1", "--max-restarts", "0", "--module", CHILD, str(folder)),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,  # Ctrl-C comes to this process alone
        )
        try:
            return launcher.wait()
        finally:
            if launcher.poll() is None:
                launcher.terminate()
                try:
                    launcher.wait(ENDED_WITHIN)
                except subprocess.TimeoutExpired:
                    launcher.kill()
                    launcher.wait()


def _environment() -> dict[str, str]:
    import torch

    loopback = "lo0" if sys.platform == "darwin" else "lo"
    return {
        **os.environ,
        **thread_settings(torch.get_num_threads()),
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
    }


def _killed_by(log: str) -> int | None:
    """The signal that ended a process, by what the launcher says; null for none. The launcher itself ends those that
    are left by SIGTERM, and says so in the table of all of them but not in the line about the first.
    """
    first = re.findall(r"failed \(exitcode: -(\d+)\)", log)
    table = [code for code in re.findall(r"exitcode +: -(\d+)", log) if int(code) != signal.SIGTERM]
    return next((int(code) for code in (*first, *table)), None)


def _last_line(log: str) -> str:
    said = [line.strip() for line in log.splitlines() if line.strip(" =-")]
    return said[-1][:200] if said else "the launcher said nothing"
