"""One process of a training in several, started by torch's launcher, which gives it its rank.

It is called with the folder of the job. The first process writes the result there; a process that fails writes its
error.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import sys
import threading
import time
import traceback
from pathlib import Path

from curator.errors import portable
from curator.provenance import require_device
from curator.run.ran import computed_with
from curator.train.parallel import ALIVE, JOB, RESULT, Failure


def main(folder: Path) -> None:
    """This process's share of the job.

    Raises:
        SystemExit: The process failed; its error is in the folder.
    """
    threading.Thread(target=_end_with_owner, args=(folder / ALIVE,), daemon=True).start()
    rank = os.environ["RANK"]
    # Otherwise gloo uses the host's name, which may not resolve, and NCCL another interface, which may be closed.
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    os.environ |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
    try:
        import torch

        from curator.model.load import quiet
        from curator.train.sft import train_here

        quiet()
        announced, settings = pickle.loads((folder / JOB).read_bytes())
        require_device(announced)
        if announced == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        trained = train_here(**settings)
        torch.distributed.destroy_process_group()
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        _write(folder / f"error-{rank}", Failure(portable(error), trace, time.time()))
        raise SystemExit(1) from error
    if rank == "0":
        _write(folder / RESULT, (trained, computed_with()))


def _write(path: Path, value: object) -> None:
    # Written atomically: the launcher may end this process while it writes.
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(pickle.dumps(value))
    os.replace(temporary, path)


def _end_with_owner(path: Path) -> None:
    """Ends this process when the one that started the training releases its lock or has ended."""
    with path.open() as handle:
        # Waits while the owner holds its exclusive lock, which the system releases if the owner is killed. SystemExit
        # in this thread would not end the main one, which may wait for the other processes in C.
        fcntl.flock(handle, fcntl.LOCK_SH)
        os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
