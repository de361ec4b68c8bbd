"""One of the processes of a training in several, started by torch's launcher, which tells it which one it is.

Called with the folder of the job. The first process writes the result there, and one that fails what it raised.
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
from curator.train.parallel import ALIVE, JOB, RESULT, Failure


def main(folder: Path) -> None:
    """This process's share of the job.

    Raises:
        SystemExit: It failed; what it raised is in the folder.
    """
    threading.Thread(target=_end_with_owner, args=(folder / ALIVE,), daemon=True).start()
    rank = os.environ["RANK"]
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    os.environ |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
    try:
        import torch

        from curator.model.load import device, quiet
        from curator.train.sft import train_here

        quiet()
        if device() == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        trained = train_here(**pickle.loads((folder / JOB).read_bytes()))
        torch.distributed.destroy_process_group()
    except Exception as error:
        _tell(
            folder / f"error-{rank}", Failure(portable(error), "".join(traceback.format_exception(error)), time.time())
        )
        raise SystemExit(1) from error
    if rank == "0":
        _tell(folder / RESULT, trained)


def _tell(path: Path, found: object) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(pickle.dumps(found))
    os.replace(temporary, path)


def _end_with_owner(path: Path) -> None:
    """Ends this process when the one that asked for the training lets go of its lock, or has ended."""
    with path.open() as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
