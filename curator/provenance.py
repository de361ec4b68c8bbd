"""What ran: versions, machine, threads and memory; and what tells whether a model's or judge's files have changed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from curator.recipe import Engine

LIBRARIES = (
    "torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "sentence-transformers", "faiss-cpu",
    "faiss-gpu-cu12", "polars", "pyarrow", "datasets", "numpy", "scipy",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Version of curator, Python and every installed library that can change a number."""
    import curator

    present = {"curator": curator.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            present[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return present


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


def has_gpu() -> bool:
    """Whether the driver shows an NVIDIA GPU, found without loading torch."""
    import shutil
    import subprocess

    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).stdout.startswith(b"GPU")


def thread_settings(threads: int) -> dict[str, str]:
    """The environment in which every numeric library starts with that many threads."""
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


def peak_gib() -> float:
    """Peak resident memory of this process so far, in GiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**30 if sys.platform == "darwin" else 2**20)


def folder_identity(model_id: str) -> list[list[Any]] | None:
    """Name, bytes and time of change of every file of a model folder; null for a model on the Hub.

    Weights run to many GiB, so their time of change stands for their content; the embedded sandbox's are small and its
    time of change is that of the installation, so there the content is hashed.
    """
    embedded = model_id == "sandbox:"
    folder = Path(__file__).parent / "sandbox" / "checkpoint" if embedded else Path(model_id)
    if not folder.is_dir():
        return None
    return [
        [
            path.name,
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest() if embedded else path.stat().st_mtime_ns,
        ]
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]


def weights_identity(folder: str | Path) -> list[list[Any]]:
    """Path within it, bytes, time of change and a sample of the content of every file below a model's folder.

    For what runs share: two folders may hold files of one size whose times were all set alike, as archives do. The
    sample is the first and last mebibyte and 64 pieces of 16 KiB between them.
    """
    files: list[list[Any]] = []
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        size, sample = path.stat().st_size, hashlib.sha256()
        with open(path, "rb") as handle:
            for start, length in [(0, 2**20), *((size * n // 65, 2**14) for n in range(1, 65)), (size - 2**20, 2**20)]:
                handle.seek(max(start, 0))
                sample.update(handle.read(length))
        files.append([path.relative_to(folder).as_posix(), size, path.stat().st_mtime_ns, sample.hexdigest()])
    return files


def file_identity(path: str) -> str | None:
    """SHA-256 of a file's bytes; null where there is none."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if Path(path).is_file() else None


def resolved_threads(section: Engine) -> int:
    """Threads of each process: as given, or this machine's cores shared between the workers."""
    return section.threads or max(1, cores() // section.workers)


def threads_alone(section: Engine) -> int:
    """Threads of a stage that runs in one process, here: those of all local workers, which have nothing to do then.

    Ray's workers are elsewhere and leave nothing here, so there it is the threads of one.
    """
    return resolved_threads(section) * (section.workers if section.kind == "local" else 1)
