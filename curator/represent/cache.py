"""A cache of vectors by content: rows embedded once with the same weights and settings are not embedded again.

A cache is a folder of one representation's raw unit vectors (before centring), in shards that are written atomically
and never changed. A row is found by the SHA-256 of its exact roles and contents; a row id, which folds white space,
would not be enough. Any number of processes may read and add at once: two that embed the same row leave two shards, and
the first in the order of names counts. A shard's name is a hash of its content; a shard damaged by a full disk or a
copy is ignored, and its rows count as missing.

From a cache, vectors are copied into memory or into a file of numpy's format, and are centred there. Such files are
written and read a few rows at a time, so that memory does not grow with the number of rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curator.errors import RunError
from curator.model.dtype import TORCH, Choice
from curator.recipe.represent import Represent
from curator.records import Messages
from curator.represent.encoder import Encoded, Matrix, unit
from curator.run.folder import AGAIN, is_temporary, key_of, read_json, replacing, reserve, write_json
from curator.wording import these

Keys = NDArray[np.bytes_]

SCHEME = 2  # raised when the same settings give other vectors
SIGNS = 2  # the same for gradients, whose signs used to be drawn in another way
KEY = 16  # bytes
BYTES = 2**23  # block of a matrix in float64
ABANDONED = 3600.0  # seconds after which a half-written shard belongs to a process that was killed

_json = json.JSONEncoder(ensure_ascii=False).encode


class Located(NamedTuple):
    """The shards that hold the vectors of `n` rows.

    Attributes:
        shards: Files.
        shard: `(n,)` the number of a row's shard, -1 for a missing row. `row`: `(n,)` its position there.
    """

    shards: Sequence[Path]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]

    @property
    def missing(self) -> NDArray[np.int64]:
        """Positions of the rows that no shard holds."""
        return np.flatnonzero(self.shard < 0)


class Shard(NamedTuple):
    """A shard's content; the matrix stays on disk."""

    keys: Keys
    cut: NDArray[np.bool_]
    matrix: Matrix


def about(
    section: Represent,
    *,
    name: str,
    weights: Any,
    where: str,
    dtype: str = "fp32",
    template: str | None = None,
    lead: bool = False,
    begin: bool = False,
) -> dict[str, Any]:
    """Everything that decides the raw vector of a row, in plain values: the identity of a cache.

    `batch_tokens`, `centre` and the number of threads are left out: they change only last bits, or nothing before
    centring.

    Args:
        section: The recipe's `represent` section.
        name: Name of the model, for people who look into the cache.
        weights: What identifies these weights and their tokenizer.
        where: The device, `cpu` or `cuda`.
        dtype: The model's dtype, `fp32` or `bf16`.
        template: The text of the chat template, for hidden states. `lead`: whether it writes a frame before every
            answer. `begin`: whether the tokenizer writes a begin token by itself. Both are part of the identity only
            where they matter, as they were added later.
    """
    causal, hidden = section.kind != "sentence-transformers", section.kind == "hidden-states"
    library = "transformers" if causal else "sentence-transformers"
    gradient = [section.of, section.rank if section.of == "lora" else None, section.dimensions, section.seed, SIGNS]
    return {
        "scheme": SCHEME,
        "from": section.kind,
        "name": name,
        "weights": weights,
        "template": template,
        "layer": section.layer if hidden else None,
        "token": section.place if hidden else None,
        "gradient": None if section.kind != "gradients" else gradient,
        "max_tokens": section.max_tokens,
        "device": where,
        "dtype": TORCH[dtype],
        **({} if section.side == "both" else {"side": section.side}),
        # Before, rounding changed the frequencies of rotary positions too.
        **({"rounded": "weights"} if not causal and dtype == "bf16" else {}),
        **({"cut": "end"} if hidden and section.token in ("end-of-prompt", "first-answer") else {}),
        **({"lead": True} if hidden and lead and section.token in ("mean-completion", "first-answer") else {}),
        **({"begin": True} if causal and begin else {}),
        library: ".".join(version(library).split(".")[:2]),
    }


def folder_of(root: Path, about: Mapping[str, Any]) -> Path:
    """The folder of the representation that `about` describes, created if missing; `about.json` in it holds the same.

    Args:
        root: Folder of all caches.
        about: Everything that decides a vector except the row: weights, template, layer, token, limit, dtype, device.
    """
    folder = root / key_of(about)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "about.json").exists():
        write_json(folder / "about.json", dict(about))
    for leftover in folder.glob(".*"):
        if is_temporary(leftover.name):
            _remove_abandoned(leftover)
    return folder


def remembered(root: Path | None, of: Mapping[str, Any], choose: Callable[[], Choice]) -> Choice:
    """The dtype chosen earlier for `of`, else the one chosen now, which is stored. Another measurement could give
    another dtype, whose vectors are stored elsewhere.

    Args:
        root: Folder of all caches; null if there is none, and nothing is stored.
    """
    if root is None:
        return choose()
    path = root / f"{key_of(of)}.json"
    if path.exists():
        known = read_json(path, AGAIN)
        return Choice(known["dtype"], known["reason"])
    choice = choose()
    root.mkdir(parents=True, exist_ok=True)
    write_json(path, {**of, **choice._asdict()})
    return choice


def _remove_abandoned(leftover: Path) -> None:
    try:
        if time.time() - leftover.stat().st_mtime > ABANDONED:
            leftover.unlink()
    except FileNotFoundError:  # another process has just finished it
        pass


def keys_of(rows: Sequence[Messages]) -> Keys:
    """The keys of `n` conversations, `(n,)`."""
    return np.array([content_key(messages) for messages in rows], dtype=f"S{KEY}")


def content_key(messages: Messages) -> bytes:
    """A hash of 16 bytes of the exact conversation, which differs even for a single space."""
    text = _json([[message["role"], message["content"]] for message in messages])
    # A lone surrogate, which broken escapes in JSON can leave, is legal in a Python string but not in UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:KEY]


def add(folder: Path, keys: Keys, vectors: Encoded) -> Path:
    """Writes the vectors of some rows as one shard and returns its file: three arrays of numpy's format in a row."""
    parts = [np.ascontiguousarray(part) for part in (keys, vectors.cut, vectors.matrix)]
    path = folder / f"{_digest(parts)}.vectors"
    with replacing(path) as temporary, open(temporary, "wb") as handle:
        for part in parts:
            np.save(handle, part)
    return path


def locate(folder: Path, keys: Keys) -> Located:
    """The shards that hold the vectors of these rows. A shard with any of them is read completely once, to check it."""
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    shards: list[Path] = []
    shard, row = np.full(len(keys), -1, dtype=np.int32), np.full(len(keys), -1, dtype=np.int32)
    for path in sorted(folder.glob("*.vectors")):
        shard_keys = _keys_in(path)
        if shard_keys is None or not len(shard_keys) or not len(keys):
            continue
        shard_order = np.argsort(shard_keys, kind="stable")
        sorted_shard = shard_keys[shard_order]
        # A key beyond the shard's last one is compared with the last, and differs.
        positions = np.minimum(np.searchsorted(sorted_shard, sorted_keys), len(shard_keys) - 1)
        hits = np.flatnonzero((sorted_shard[positions] == sorted_keys) & (shard[order] < 0))
        if hits.size and _is_whole(str(path), _stamp(path)):
            shard[order[hits]], row[order[hits]] = len(shards), shard_order[positions[hits]]
            shards.append(path)
    return Located(shards, shard, row)


def gathered(cache: Path, keys: Keys) -> Encoded:
    """The vectors of rows that a cache holds, in memory.

    Raises:
        RunError: A row is missing.
    """
    located = locate(cache, keys)
    matrix = np.zeros((len(keys), width_of(located)), dtype=np.float32)
    return Encoded(matrix, _copy(located, matrix.__setitem__))


def write_matrix(path: Path, located: Located, width: int) -> NDArray[np.bool_]:
    """Writes the vectors of rows that a cache holds to a file of numpy's format, shard by shard.

    Returns:
        `(n,)` bool, which rows were cut.

    Raises:
        RunError: A row is missing.
    """
    n = len(located.shard)
    if not n:  # numpy cannot map an empty array
        with open(path, "wb") as handle:
            np.save(handle, np.zeros((0, width), dtype=np.float32))
        return np.zeros(0, dtype=np.bool_)
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, width))
    # The map creates a sparse file; on a full disk, writing into it ends the process with SIGBUS instead of an error.
    with open(path, "r+b") as whole:
        reserve(whole, os.path.getsize(path))

    def put(rows: NDArray[np.int64], matrix: Matrix) -> None:
        # Opened for each shard: pages of a map count as memory while it is open.
        np.load(path, mmap_mode="r+")[rows] = matrix

    return _copy(located, put)


def _copy(located: Located, put: Callable[[NDArray[np.int64], Matrix], Any]) -> NDArray[np.bool_]:
    """Calls `put` with the positions and the vectors of each shard's rows, and returns which rows were cut, `(n,)`."""
    if located.missing.size:
        raise RunError(
            f"engine.cache: the vectors of {these(located.missing.size, 'row', 'rows')} disappeared or changed during "
            "the run; run the same command again"
        )
    cut = np.zeros(len(located.shard), dtype=np.bool_)
    for number, path in enumerate(located.shards):
        rows = np.flatnonzero(located.shard == number)
        shard = _read(path)
        put(rows, shard.matrix[located.row[rows]])
        cut[rows] = shard.cut[located.row[rows]]
    return cut


def width_of(located: Located) -> int:
    """Width of the vectors in these shards, 0 without shards."""
    return int(_read(located.shards[0]).matrix.shape[1]) if located.shards else 0


def mean_of_file(path: Path) -> NDArray[np.float32]:
    """The mean row of a matrix on disk, `(d,)`, added up in float64."""
    rows, width = np.load(path, mmap_mode="r").shape
    total = np.zeros(width)
    for span in _spans(rows, width):
        total += np.load(path, mmap_mode="r")[span].sum(axis=0, dtype=np.float64)
    return np.asarray(total / max(rows, 1), dtype=np.float32)


def centre_file(path: Path, mean: NDArray[np.float32]) -> None:
    """Subtracts the mean from every row of a matrix on disk and rescales the rows to unit length; see `centre`."""
    rows, width = np.load(path, mmap_mode="r").shape
    for span in _spans(rows, width):
        matrix = np.load(path, mmap_mode="r+")
        matrix[span] = unit(matrix[span] - mean)


def _spans(rows: int, width: int) -> Iterator[slice]:
    step = max(1, BYTES // (8 * max(width, 1)))
    return (slice(start, start + step) for start in range(0, rows, step))


def _read(path: Path) -> Shard:
    """A shard's content.

    Raises:
        OSError, ValueError, EOFError, KeyError: The file is damaged.
    """
    with open(path, "rb") as handle:
        keys, cut = np.load(handle), np.load(handle)
        # Like np.load(mmap_mode=...) for a file of one array; here the matrix is the third.
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = header[np.lib.format.read_magic(handle)](handle)
        if 0 in shape:
            return Shard(keys, cut, np.zeros(shape, dtype=np.float32))
        return Shard(keys, cut, np.memmap(path, dtype=dtype, mode="r", offset=handle.tell(), shape=shape))


def _keys_in(path: Path) -> Keys | None:
    """The keys in a shard; null if it is damaged."""
    try:
        with open(path, "rb") as handle:
            keys: Keys = np.load(handle)
            return keys if keys.dtype == np.dtype(f"S{KEY}") else None
    except (OSError, ValueError, EOFError):
        return None


def _stamp(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=65536)
def _is_whole(path: str, stamp: tuple[int, int]) -> bool:
    """Whether a shard's content matches its name. `stamp` is its size and time of change, so that a changed file is
    read again.
    """
    try:
        shard = _read(Path(path))
    except (OSError, ValueError, EOFError, KeyError):
        return False
    return Path(path).stem == _digest([shard.keys, shard.cut, shard.matrix])


def _digest(parts: Sequence[NDArray[Any]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(f"{part.dtype.str}{part.shape}".encode())
        digest.update(part.view(np.uint8).data if part.size else b"")
    return digest.hexdigest()
