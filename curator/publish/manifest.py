"""What curator wrote into a data set, so that a later push can tell its own files from those of others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "evidence/files.json"
CARD = "README.md"


@dataclass(frozen=True)
class Digest:
    """A file's size in bytes, and its two names on the Hub: the SHA-256, and the SHA-1 that git gives a blob."""

    size: int
    sha256: str
    blob: str


def digest(content: bytes) -> Digest:
    """The digest of a file's content."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return Digest(len(content), hashlib.sha256(content).hexdigest(), blob)


def files_of(folder: Path) -> dict[str, Path]:
    """Path from the folder on -> file, sorted."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def manifest(folder: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The content of MANIFEST: size and digests of every file but the card and the manifest itself, and the card's
    metadata as curator wrote it.
    """
    digests = {name: digest(path.read_bytes()) for name, path in files_of(folder).items()}
    return {
        "made_by": "curator",
        "version": 1,
        "files": {name: vars(one) for name, one in digests.items() if name not in (CARD, MANIFEST)},
        "metadata": dict(metadata),
    }


def written(found: Any) -> tuple[dict[str, Digest], dict[str, Any]]:
    """Files and metadata of a manifest as read back; both empty where it is none of ours."""
    if not isinstance(found, dict) or found.get("made_by") != "curator":
        return {}, {}
    files, metadata = found.get("files"), found.get("metadata")
    if not isinstance(files, dict) or not isinstance(metadata, dict):
        return {}, {}
    try:
        return {str(name): Digest(**one) for name, one in files.items()}, metadata
    except TypeError:
        return {}, {}
