"""The run folder: one lock, one folder per stage, done markers written last, files written atomically.

`make` is the whole resume engine. A piece of work has a folder and a key, a hash of everything that decides its result.
A folder whose `done.json` holds the key is kept; one that was interrupted under the same key is continued; one made
under another key is moved to `<folder>.<its key>` and restored when its key is needed again.

If workers on several machines share the folder, a piece is made again when its worker is lost, and the lost worker may
still run on a machine that has only lost its network. All files are written atomically, the same settings write the
same bytes, and `started.json` names the attempt: only the newest attempt may mark a piece as done.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from curator.errors import FULL, RunError
from curator.run.names import DONE, LOCK, SHARED, STARTED, VECTORS
from curator.run.ran import computed_with, noting

TEMPORARY = ".curator-tmp"
"""Suffix of the names of files being written, which also start with a dot. Only curator uses it."""

_DENIED = (errno.EROFS, errno.EACCES, errno.EPERM)
_MISPLACED = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)
_facts: dict[str, object] = {"engine": "local"}


@dataclass(frozen=True)
class Made:
    """The result of `make`: the piece's key, its record, its seconds, and whether it was kept."""

    folder: Path
    key: str
    record: Mapping[str, Any]
    seconds: float
    kept: bool


def place() -> dict[str, object]:
    """The location of this process: engine, host, process id, and the facts given to `placed`."""
    return {**_facts, "host": socket.gethostname(), "process": os.getpid()}


def placed(**facts: object) -> None:
    """Adds facts, such as the GPUs of a worker, to the result of `place`."""
    _facts.update(facts)


def key_of(*parts: object) -> str:
    """16 hex digits of the SHA-256 of the parts written as JSON with sorted keys; equal settings give equal keys."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make(
    folder: Path,
    key: str,
    work: Callable[[Path], Mapping[str, Any]],
    *,
    grid: bool = False,
    shelf: Path | None = None,
    option: str | None = "--out",
) -> Made:
    """The finished piece in `folder`: kept if it exists under `key`, else taken from the shelf, or made by
    `work(folder)`.

    Args:
        folder: The piece's folder. `work` writes there and returns the record for `done.json`.
        key: From `key_of`.
        grid: The folder holds pieces with their own keys, so a changed key leaves them where they are.
        shelf: Folder in which run folders register finished pieces with this path, one file per key.
        option: See `disk`.

    Raises:
        RunError: The disk is full or the folder cannot be written.
    """
    with disk(folder, option):
        done = finished(folder)
        if not grid and (done is None or done["key"] != key):
            _set_aside(folder, key)
            done = finished(folder)
        if shelf is not None and (done is None or done["key"] != key) and _take(shelf / key, folder, key):
            done = finished(folder)
        if done is not None and done["key"] == key:
            _shelve(shelf, folder, key)
            return Made(folder, key, done["record"], done["seconds"], kept=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DONE).unlink(missing_ok=True)
        if not grid:
            # Left by an attempt that was killed after the run folder was opened; in a grid's folder others may be
            # writing.
            _clear(folder)
        started = {"key": key, "attempt": uuid.uuid4().hex, "where": place()}
        write_json(folder / STARTED, started)
        clock = time.perf_counter()
        with noting():
            record = work(folder)
            where = {**place(), **computed_with()}
        seconds = time.perf_counter() - clock
        if read_json(folder / STARTED) != started:
            raise RunError(f"{folder}: another process has started this piece since; this attempt stops")
        write_json(folder / DONE, {"key": key, "record": record, "seconds": round(seconds, 3), "where": where})
        _shelve(shelf, folder, key)
    return Made(folder, key, record, seconds, kept=False)


def finished(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's `done.json`, or null if the work in it is not finished.

    Raises:
        RunError: It is damaged.
    """
    return _marker(folder / DONE, "key", "record", "seconds") if (folder / DONE).exists() else None


def kept(folder: Path, key: str, *, shelf: Path | None = None) -> bool:
    """Whether `make` would find this piece finished: in its folder, set aside beside it, or on the shelf.

    Raises:
        RunError: The record of a finished piece is damaged.
    """
    places = (folder, folder.with_name(f"{folder.name}.{key[:8]}"))
    lies = any((done := finished(each)) is not None and done["key"] == key for each in places)
    return lies or (shelf is not None and _on_shelf(shelf / key, key) is not None)


def _marker(path: Path, *names: str) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict) or not all(name in found for name in names):
        raise RunError(f"{path}: the file needs {', '.join(names)}; remove its folder and build again")
    return found


def repeat(root: Path, source: str, folder: str, key: str) -> None:
    """Puts a finished piece of the run folder `root` into another of its folders too, as links if the disk supports
    them, unless that holds the piece already. Both folders are relative to `root`, as are the paths in the record. Its
    seconds become 0, since it took none.

    Raises:
        RunError: The disk is full or the folder cannot be written.
    """
    target = root / folder
    with disk(target):
        if kept(target, key):
            return
        _set_aside(target, key)
        with _copied(root / source, target) as temporary:
            done = _marker(temporary / DONE, "record")
            record = {name: _moved(value, source, folder) for name, value in done["record"].items()}
            spent = {"seconds": 0.0}
            record |= spent if "seconds" in record else {}
            write_json(temporary / DONE, {**done, **spent, "record": record})


def _moved(value: object, source: str, folder: str) -> object:
    """A record whose paths below one folder are below another."""
    if isinstance(value, Mapping):
        return {name: _moved(each, source, folder) for name, each in value.items()}
    if isinstance(value, list):
        return [_moved(each, source, folder) for each in value]
    if isinstance(value, str) and value.startswith(f"{source}/"):
        return folder + value.removeprefix(source)
    return value


def _take(place: Path, folder: Path, key: str) -> bool:
    """Puts the piece that a shelf names into `folder`, as links if the disk supports them; false if there is none."""
    source = _on_shelf(place, key)
    if source is None or source.resolve() == folder.resolve():
        return False
    with _copied(source, folder) as temporary:
        write_json(temporary / SHARED, {"from": os.path.relpath(source, place.parent)})
    return True


@contextmanager
def _copied(source: Path, folder: Path) -> Iterator[Path]:
    """A copy of a piece, as links if the disk supports them, which replaces `folder` if the block succeeds."""
    with replacing_folder(folder) as temporary:
        shutil.copytree(source, temporary, copy_function=_link, dirs_exist_ok=True)
        yield temporary


def _shelve(shelf: Path | None, folder: Path, key: str) -> None:
    """Registers a finished piece on the shelf, unless another one with its key is there."""
    if shelf is not None and _on_shelf(shelf / key, key) is None:
        write_text(shelf / key, os.path.relpath(folder, shelf))


def _on_shelf(place: Path, key: str) -> Path | None:
    if not place.is_file():
        return None
    source = place.parent / place.read_text(encoding="utf-8")
    try:
        done = finished(source)
    except RunError:  # damaged there, which its own run reports
        return None
    return source if done is not None and done["key"] == key else None


def _link(source: str, target: str) -> None:
    # Finished files are never written to again, only replaced.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _set_aside(folder: Path, key: str) -> None:
    if folder.exists():
        started = folder / STARTED
        old = _marker(started, "key")["key"] if started.exists() else "unknown"
        if old == key:
            return
        rest = folder.with_name(f"{folder.name}.{old[:8]}")
        if rest.exists():
            shutil.rmtree(rest)
        folder.rename(rest)
    former = folder.with_name(f"{folder.name}.{key[:8]}")
    if former.exists():
        former.rename(folder)


@contextmanager
def opened(folder: Path, option: str | None = "--out") -> Iterator[Path]:
    """The run folder, created if missing and locked while the block runs; the kernel releases the lock of a dead
    process. For `option` see `disk`.

    Partial files of a killed process are removed: no other process can be writing.

    Raises:
        RunError: Another process holds it, it cannot be written or locked, the disk is full, or it is a URL.
    """
    import fcntl

    other = _other("folder", option)
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+:", folder.parts[0] if folder.parts else "") and not folder.exists():
        raise RunError(
            f"{folder}: a run folder must be a path, and this is the address of a store; mount the store (with engine "
            "ray, on every node) and give its path as --out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror}); choose {other}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            raise RunError(
                f"{folder}: in use by another curator (process {owner}); wait for it, or name {other}"
            ) from None
        except OSError as error:
            raise RunError(f"{folder}: the disk does not support locks ({error.strerror}); name {other}") from error
        with disk(folder, option):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            _clear(folder)
            yield folder
    finally:
        os.close(handle)


def _clear(folder: Path) -> None:
    """Removes partial files, but not in run folders below, which have their own locks, nor among vectors, which other
    processes may be writing. Other programs' `.tmp` files are kept.
    """
    for here, folders, files in os.walk(folder):
        for name in filter(is_temporary, folders):
            shutil.rmtree(Path(here) / name, ignore_errors=True)
        for name in filter(is_temporary, files):
            (Path(here) / name).unlink(missing_ok=True)
        folders[:] = [
            name
            for name in folders
            if name != VECTORS and not is_temporary(name) and not (Path(here) / name / LOCK).exists()
        ]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling to write to; it replaces `path` if the block succeeds, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Like `replacing`, for a whole folder; an older `path` is removed once the new one is complete."""
    temporary = _temporary(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    # Machines that share the folder may have equal process ids.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")


def is_temporary(name: str) -> bool:
    """Whether this is the name of a file or folder that curator is writing, or was writing when it was killed."""
    return name.startswith(".") and name.endswith(TEMPORARY)


def reserve(file: IO[Any], size: int) -> None:
    """Reserves disk space for `size` bytes of an open file: on a full disk a map of a sparse file ends the process with
    a signal, while this raises an error.

    Raises:
        OSError: The disk is full.
    """
    if hasattr(os, "posix_fallocate") and size:
        os.posix_fallocate(file.fileno(), 0, size)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file, atomically; an infinite number or NaN is a bug in curator (ValueError)."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def shared_beside(folder: Path) -> Path | None:
    """The folder of the vectors shared by everything written beside `folder`, created if missing; null if it is not
    writable.
    """
    shared = folder.absolute().parent / VECTORS
    try:
        shared.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return shared if os.access(shared, os.W_OK) else None


AGAIN = "remove this file and build again"
"""What to do about a damaged file that stands beside the stages: a folder to remove would be the whole run's."""
ANEW = "remove its folder and build again"
"""The same for a file of a stage or of a piece."""


def read_json(path: Path, advice: str = ANEW) -> Any:
    """The value of a JSON file that curator wrote.

    Args:
        advice: What to do if it is damaged.

    Raises:
        RunError: It is damaged, which only another program can have caused.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); {advice}") from error


@contextmanager
def disk(folder: Path, option: str | None = "--out") -> Iterator[None]:
    """Turns errors of a full or read-only disk, from any library, and of a path that cannot be written into a RunError
    that says what to do: to name another path with this option of the command, or a copy of its run folder if null.
    """
    try:
        yield
    except RunError:
        raise
    except Exception as error:  # inspected only for its cause, and raised again if that is another
        if any(_is_full(cause) for cause in _causes(error)):
            there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
            free = shutil.disk_usage(there).free / 2**30
            raise RunError(
                f"{folder}: the disk is full ({free:.2f} GiB free). Free some space, or copy the run folder to a "
                "larger disk, and run the same command again; finished work is kept"
            ) from error
        number = _number(error) if isinstance(error, OSError) else None
        where = f"{getattr(error, 'filename', None) or folder}: cannot be written"
        if number in _DENIED:
            remedy = f"fix its permissions, or name {_other('folder', option)}"
            raise RunError(f"{where} or read ({os.strerror(number)}); {remedy}") from error
        if number in _MISPLACED:
            raise RunError(f"{where} ({os.strerror(number)}); name {_other('path', option)}") from error
        raise


def _number(error: OSError) -> int | None:
    # Of an error about a path; polars, written in Rust, has it only in its message.
    text = re.search(r"\(os error (\d+)\)", str(error))
    return error.errno if error.filename else int(text[1]) if text else None


def _other(what: str, option: str | None) -> str:
    return f"another {what} with {option}" if option else "a copy of the run folder that can be written and locked"


def require_writable(folder: Path, option: str = "--out") -> None:
    """Checks, before any work, that a folder can be written or created; for `option` see `disk`.

    Raises:
        RunError: It or a folder around it is a file or may not be written, or its name is too long.
    """
    with disk(folder, option):
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    failed, other = f"{folder}: cannot be written, because {there} is", _other("folder", option)
    if not there.is_dir():
        raise RunError(f"{failed} a file; name {other}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RunError(f"{failed} not writable; fix its permissions, or name {other}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    # Libraries written in Rust and C++ report it only in the message.
    return bool(re.search(r"No space left|os error 28\b|Disk quota exceeded|File too large|os error 27\b", str(error)))
