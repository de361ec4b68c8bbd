"""The machine, threads and memory of a run; and hashes that show whether a model's or judge's files have changed."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache as once
from itertools import takewhile
from pathlib import Path
from typing import Any

from curator.errors import ON_THE_CPU, RunError
from curator.recipe import Engine
from curator.recipe.inputs import sha256
from curator.recipe.package import distribution_of, path_of

_MMAP_THRESHOLD, _TRIM_THRESHOLD = (-3, 2**25), (-1, 2**27)
"""Parameters of glibc's mallopt: their numbers in malloc.h, and values in bytes."""


def machine() -> dict[str, Any]:
    """Processor, cores and memory in GiB of this machine."""
    import psutil

    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_count() -> int:
    """Number of NVIDIA GPUs that the driver shows and CUDA_VISIBLE_DEVICES allows, without loading torch."""
    import shutil
    import subprocess

    left = os.environ.get("CUDA_VISIBLE_DEVICES")
    if left == "" or shutil.which("nvidia-smi") is None:
        return 0
    lines = subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).stdout.splitlines()
    count = sum(line.startswith(b"GPU") for line in lines)
    if left is None:
        return count
    names = [name.strip() for name in left.split(",")]
    # As in CUDA: everything after an unknown name is hidden too.
    known = (name.startswith(("GPU-", "MIG-")) or (name.isdigit() and int(name) < count) for name in names)
    return min(count, sum(1 for _ in takewhile(bool, known)))


def has_gpu() -> bool:
    """Whether there is an NVIDIA GPU that this process may use."""
    return gpu_count() > 0


def usable_device() -> str:
    """Where torch computes in this process: `cuda` on an NVIDIA GPU, else `cpu`. Apple's GPUs (MPS) are not used.

    Raises:
        RunError: The driver shows a GPU that this torch cannot use, so that everything would silently run on the CPU;
            or torch is a build for AMD's GPUs (ROCm) and finds one. The message says how to choose the CPU instead.
    """
    import torch

    if not torch.cuda.is_available():
        if torch.version.cuda and has_gpu():
            raise RunError(
                f"the GPU: torch {torch.__version__} cannot use the GPU that the NVIDIA driver shows; most often the "
                f"driver is older than CUDA {torch.version.cuda} needs; update it, install a torch that is built for "
                f"an older CUDA, or {ON_THE_CPU}"
            )
        return "cpu"
    if torch.version.hip:
        raise RunError(
            f"the GPU: torch {torch.__version__} is built for AMD GPUs (ROCm), which curator does not support; install "
            "a torch that is built for CUDA, or export HIP_VISIBLE_DEVICES=-1 to compute on the CPU"
        )
    return "cuda"


def require_device(announced: str) -> None:
    """Checks that this process computes on the device of the process that distributes pieces.

    Raises:
        RunError: It computes on another device.
    """
    if (here := usable_device()) != announced:
        names = {"cuda": "a GPU", "cpu": "the CPU"}
        raise RunError(
            f"engine.workers: a worker process should compute on {names[announced]}, but torch there uses "
            f"{names[here]}; nothing was computed. Run the same command again, set engine.workers to 1, or {ON_THE_CPU}"
        )


@once
def keep_freed() -> None:
    """Lets this process reuse memory that a tensor on a CPU freed, up to 128 MiB; without glibc nothing changes.

    Otherwise glibc returns the memory of every layer's result to the system and requests it again, page by page, which
    took 12% of the CPU time of a pass in bf16.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        for name, size in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            mallopt(name, size)


def return_freed() -> None:
    """Returns free memory of this process to the system, also what lies between pieces in use; without glibc nothing
    changes.

    Otherwise a process keeps the largest state of every training before: in eleven short trainings of SmolLM2-135M one
    grew from 3.2 to 7.5 GiB, though each needs less than 5.
    """
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Callable[..., int] | None:
    """A function of glibc; null where there is none."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def release_memory() -> None:
    """Frees memory that this process no longer needs, for other processes, the GPU's too."""
    import gc

    gc.collect()
    return_freed()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def visible_gpus() -> list[str]:
    """The names in CUDA_VISIBLE_DEVICES of the GPUs that torch shows this process: numbers, or its present entries."""
    import torch

    left, count = os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count()
    names = map(str, range(count)) if left is None else left.split(",")
    return [name.strip() for name in names][:count]


def thread_settings(threads: int) -> dict[str, str]:
    """The environment in which every numeric library starts with this many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    return dict.fromkeys(names, str(threads)) | {"TOKENIZERS_PARALLELISM": "false"}


def set_threads(threads: int) -> None:
    """Sets the number of threads of every numeric library in this process and its children.

    Sums over another number of threads round differently, so equal results need equal threads.
    """
    os.environ.update(thread_settings(threads))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(threads)


PACKAGE = Path(__file__).resolve().parent.parent
"""The location of this curator: the folder of installed packages, or a checkout."""


@contextmanager
def own_code() -> Iterator[None]:
    """While the block runs, new Python processes use this process's curator, and no modules from the current folder:
    Python searches there first, and a file named `random.py` would break them.

    A checkout in the current folder is still found. Interpreters older than 3.11 do not know the variable.
    """
    settings, path = {"PYTHONSAFEPATH": "1"}, list(sys.path)
    standing = Path.cwd() == PACKAGE
    if standing:
        settings["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    # multiprocessing passes this list on, with the current folder in place of empty entries.
    sys.path[:] = [entry or str(PACKAGE) for entry in path if entry or standing]
    try:
        yield
    finally:
        sys.path[:] = path
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def peak_gib() -> float:
    """Peak resident memory of this process so far, in GiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**30 if sys.platform == "darwin" else 2**20)


def folder_identity(model_id: str) -> list[list[Any]] | None:
    """The identity of a model's folder, as in `weights_identity`; null for a model on the Hub.

    The included sandbox's files are identified by name, size and content, independent of place and time of
    installation.
    """
    if model_id == "sandbox:":
        folder = Path(__file__).parent / "sandbox" / "checkpoint"
        files = sorted(path for path in folder.iterdir() if path.is_file())
        return [[path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()] for path in files]
    path = Path(path_of(model_id))
    if path.is_file():  # a model in one file, such as GGUF
        return [[path.name, path.stat().st_size, sha256(path)]]
    return weights_identity(path) if path.is_dir() else None


WHOLE = 2**25
"""Bytes up to which a file of a model's folder is hashed completely."""


def weights_identity(folder: str | Path) -> list[list[Any]]:
    """Relative path, size in bytes and SHA-256 of every file below a model's folder.

    Weights can be many GiB: of a file of more than WHOLE bytes only a sample is hashed, the first and last mebibyte and
    64 pieces of 16 KiB between them, and its time of change is recorded too. The time alone is not enough: archives set
    all times equal, and two models of one shape have files of one size.
    """
    files: list[list[Any]] = []
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        status, name = path.stat(), path.relative_to(folder).as_posix()
        size, sample = status.st_size, hashlib.sha256()
        if size <= WHOLE:
            files.append([name, size, hashlib.sha256(path.read_bytes()).hexdigest()])
            continue
        with open(path, "rb") as handle:
            for start, length in [(0, 2**20), *((size * n // 65, 2**14) for n in range(1, 65)), (size - 2**20, 2**20)]:
                handle.seek(start)
                sample.update(handle.read(length))
        files.append([name, size, sample.hexdigest(), status.st_mtime_ns])
    return files


def packages(*texts: str | None) -> dict[str, dict[str, dict[str, str]]]:
    """A stage's record of the models, embedders, judges and files among `texts` that come from an installed package: as
    `packages`, each with its distribution, version and SHA-256. Empty if there are none.
    """
    known = {text: distribution for text in texts if text and (distribution := distribution_of(text))}
    return {"packages": {text: {**of, "sha256": _content(text)} for text, of in known.items()}} if known else {}


def _content(text: str) -> str:
    """SHA-256 of a file in a package; for a folder, of the names and hashes of its files."""
    path = Path(path_of(text))
    return sha256(path) if path.is_file() else hashlib.sha256(json.dumps(weights_identity(path)).encode()).hexdigest()


def file_identity(path: str) -> str | None:
    """SHA-256 of a file's bytes; null if there is no such file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if Path(path).is_file() else None


def resolved_threads(section: Engine) -> int:
    """Threads of each process: the recipe's number, or this machine's cores divided among the workers."""
    return section.threads or max(1, cores() // section.workers)


def threads_alone(section: Engine) -> int:
    """Threads of a stage that runs in one process, here: those of all local workers, which are idle then.

    Ray's workers run elsewhere, so with Ray it is the number of threads of one process.
    """
    return resolved_threads(section) * (section.workers if section.kind == "local" else 1)
