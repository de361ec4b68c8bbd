"""The errors that a user can act on.

Every subclass of `CuratorError` is shown without a traceback and ends the program with exit code 2; its text says
where, what was found, what is allowed and what to do. Any other exception that escapes is a bug in curator (exit code
1).
"""

from __future__ import annotations

import errno
import pickle
import re
import traceback
from collections.abc import Sequence


class CuratorError(Exception):
    """An error that the user can fix: in input, settings, machine or model. Lone surrogates in its text are escaped."""

    def __init__(self, *words: object) -> None:
        super().__init__(*(printable(word) if isinstance(word, str) else word for word in words))


class RecipeError(CuratorError):
    """One or more mistakes in a recipe, reported together.

    Args:
        problems: One sentence per mistake, which starts with its place.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        count = len(self.problems)
        head = "" if count == 1 else f"{count} problems:\n  "
        super().__init__(head + "\n  ".join(self.problems))


class DataError(CuratorError):
    """A data file or data set cannot be read, or has too few rows."""


class ModelError(CuratorError):
    """A model, tokenizer or embedder cannot be loaded, or cannot be used as the recipe says."""


class SelectionError(CuratorError):
    """A selection is impossible with these vectors, scores or constraints."""


class JudgeError(CuratorError):
    """A judge cannot be loaded or cannot judge these answers."""


class RunError(CuratorError):
    """A run folder is busy, unreadable, or cannot be written."""


class PublishError(CuratorError):
    """A data set folder or a Hub repository cannot be written."""


def printable(text: str) -> str:
    r"""The text with each half of a surrogate pair, which files and terminals refuse, escaped as `\ud83d`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def first_line(error: BaseException) -> str:
    """The first line of another library's error, at most 200 characters; the error's class if it has no text."""
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__


_MEMORY = re.compile(
    r"out of memory|can(no|')t allocate memory|not enough memory|std::bad_alloc|ErrorOutOfMemory|_ALLOC(ATION)?_FAILED"
    # cuBLAS's message if its own workspace does not fit.
    r"|CUBLAS_STATUS_NOT_INITIALIZED when calling .?cublasCreate",
    re.IGNORECASE,
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a CPU or a GPU.

    torch has an error class for its allocator of GPU memory; the CPU's allocator, the driver, cuBLAS, cuDNN, HIP and
    faiss only have messages.
    """
    text = str(error)
    kind = type(error).__name__
    return isinstance(error, MemoryError) or kind == "OutOfMemoryError" or _MEMORY.search(text) is not None


ON_THE_CPU = "export CUDA_VISIBLE_DEVICES= to compute on the CPU"

_FAULTS = (
    (
        r"driver on your system is too old|driver version is insufficient",
        "the NVIDIA driver is older than this torch needs; update it, install a torch that is built for an older CUDA, "
        f"or {ON_THE_CPU}",
    ),
    (
        r"no kernel image is available|not compiled with .{0,20}CUDA enabled",
        f"this build of torch has no code for this GPU; install one that has (pytorch.org lists them), or {ON_THE_CPU}",
    ),
    (
        r"device-side assert",
        "an index was out of range on the GPU, most often a token without an embedding; "
        f"{ON_THE_CPU}, where the message names it",
    ),
    (
        r"busy or unavailable|No CUDA GPUs are available",
        "another process uses the GPU exclusively; wait for it (nvidia-smi lists processes), lower engine.workers, "
        f"or {ON_THE_CPU}",
    ),
    (
        r"CUDA error|cuDNN error|CUBLAS_STATUS_|CUDNN_STATUS_",
        f"the GPU or its driver failed; run the same command again (finished work is kept), or {ON_THE_CPU}",
    ),
)


def gpu_fault(error: BaseException) -> str | None:
    """What to do about an error of a GPU or its driver; null for any other error, and if memory ran out."""
    if not isinstance(error, RuntimeError) or out_of_memory(error):
        return None
    remedy = next((remedy for words, remedy in _FAULTS if re.search(words, str(error))), None)
    return None if remedy is None else f"the GPU: {first_line(error).rstrip('.')}: {remedy}"


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of errors of a disk that has no room."""


def machine_fault(error: BaseException) -> str | None:
    """What to do about an error of memory, of a full disk, of links between GPUs, or of `gpu_fault`, whatever setting
    caused it; null for others.
    """
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            f"{error.filename or 'the output'}: cannot be written ({error.strerror}); free some space, and run the "
            "same command again (finished work is kept)"
        )
    if out_of_memory(error):
        return (
            f"out of memory ({first_line(error)}); lower engine.workers, or use fewer rows, a smaller model or a "
            "larger machine, and run the same command again (finished work is kept)"
        )
    # Not a fault of one GPU: processes whose peer was killed raise it too, and then the killed peer is reported.
    if isinstance(error, RuntimeError) and re.search(r"\bNCCL\b|nccl[A-Z]\w+Error", str(error)):
        return (
            f"the processes of one training lost contact ({first_line(error)}); run the same command again (finished "
            "work is kept), or set processes to 1 (NCCL_DEBUG=INFO shows more)"
        )
    return gpu_fault(error)


def portable(error: Exception) -> Exception:
    """The error, if it can be pickled and restored in another process; else a plain error with its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except (TypeError, ValueError, AttributeError, pickle.PicklingError):
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
