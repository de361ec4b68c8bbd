"""How a data set folder is merged into a repository that may hold other people's work: what is written and removed.

A file belongs to curator if the manifest of an earlier push names it with the digest that it still has. Everything else
belongs to somebody else, and is neither overwritten nor removed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from curator.errors import PublishError
from curator.publish.card import BEGIN, END, yaml_of

MANIFEST, CARD = "evidence/files.json", "README.md"
VERSION = 2
"""Version of a manifest. Folders of version 1 were written before `record` listed what may be published."""
# A card's metadata stands between two lines of `---`; what curator says, between its two marks.
_FRONT = re.compile(r"\A---[^\S\n]*\n(.*?)^---[^\S\n]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_OURS = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END) + r"\n?", re.DOTALL)
# Files that `datasets` takes for data by their names alone, and metadata whose lists of both sides are united.
_DATA = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".arrow", ".txt", ".zip", ".gz", ".tar", ".zst")
_LISTS = ("tags", "task_categories", "language")


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


@dataclass(frozen=True)
class Plan:
    """What a push does.

    Attributes:
        write: Paths to upload, new or changed; the card is not among them.
        remove: Paths of an earlier push of curator that are no longer part of the data set.
        notes: Sentences on files that others changed and that are left alone.
    """

    write: tuple[str, ...]
    remove: tuple[str, ...]
    notes: tuple[str, ...]


def plan(
    local: Mapping[str, Digest], remote: Mapping[str, tuple[str | None, str]], former: Mapping[str, Digest]
) -> Plan:
    """What to do so that the repository holds the data set.

    Args:
        local: Path -> digest of what is to be pushed.
        remote: Path -> (SHA-256 where the Hub knows it, git's blob SHA-1) of what is there.
        former: What the manifest in the repository says of the last push.

    Raises:
        PublishError: A path to be written is taken by a file that curator did not write.
    """
    write, taken = [], []
    for path, digest in local.items():
        if path == CARD or (path in remote and _same(remote[path], digest)):
            continue
        if path in remote and path != MANIFEST and not (path in former and _same(remote[path], former[path])):
            taken.append(path)
        write.append(path)
    if taken:
        which, them = ("this file", "it") if len(taken) == 1 else ("these files", "them")
        raise PublishError(
            f"{', '.join(taken)}: the repository already has {which}, and curator did not write {them} (or somebody "
            f"has changed {them} since); choose another repository, or remove {them} there first"
        )
    gone = [path for path in former if path not in local and path in remote]
    remove = tuple(path for path in gone if _same(remote[path], former[path]))
    kept = "is left in the repository, because somebody has changed it since the last push"
    notes = tuple(f"{path} {kept}" for path in gone if path not in remove)
    return Plan(tuple(write), remove, notes)


def _same(there: tuple[str | None, str], digest: Digest) -> bool:
    sha256, blob = there
    return sha256 == digest.sha256 if sha256 else blob == digest.blob


def refuse_clash(
    ours: Mapping[str, object], remote: Mapping[str, object], former: Mapping[str, Digest], theirs: str | None
) -> None:
    """Refuses a repository in which the configs of the data set would make other data unreadable. That is data found by
    the names of its files alone, which a card with configs hides, and data of another format, because `datasets` reads
    one format per repository.

    Raises:
        PublishError: The configs would.
    """
    named = _metadata(theirs)[0].get("configs") if theirs else None
    strangers = [path for path in remote if path.endswith(_DATA) and path not in ours and path not in former]
    if strangers and not named:
        raise PublishError(
            f"{strangers[0]}: the repository holds data that no config of its card names, and the configs of this "
            "data set would hide it; name its files in the card's configs first, or push to another repository"
        )
    other = [text for text in _strings(named) if text.endswith(_DATA) and not text.endswith(".parquet")]
    if other:
        raise PublishError(
            f"README.md: a config of the repository has data in {other[0]!r}, and this data set is Parquet. `datasets` "
            "reads one format per repository; push to another repository"
        )


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def merged_card(ours: str, theirs: str | None, former: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The card to write, and notes on values that are kept instead of curator's.

    The part of curator goes between BEGIN and END, and what its owner wrote around it stays. In the metadata, keys that
    still have the value of the last push, `former`, are replaced; others stay as they are. Lists of tags are united.
    Configs are matched by name, and one of curator is the default only if there is no other config.

    Raises:
        PublishError: The card in the repository cannot be read, or has a config of the same name that curator did not
            write.
    """
    if theirs is None:
        return ours, ()
    (new, body), (merged, rest), before = _metadata(ours), _metadata(theirs), _metadata(theirs)
    notes: list[str] = []
    for key in [key for key in former if key not in new and merged.get(key) == former[key]]:
        del merged[key]
    for key, value in new.items():
        if key == "configs":
            merged[key] = _configs(merged.get(key) or [], value, former.get(key) or [])
        elif key == "license_name" and merged.get("license") != new.get("license"):
            continue  # it names the former licence, not this one
        elif key in _LISTS and isinstance(merged.get(key), list):
            merged[key] = [*merged[key], *(item for item in value if item not in merged[key])]
        elif key not in merged or merged[key] == former.get(key) or merged[key] == value:
            merged[key] = value
        else:
            notes.append(f"the card's {key} stays {merged[key]!r} (curator would write {value!r})")
    marked = _OURS.search(body)
    part = marked.group() if marked else body
    whole = _OURS.sub(lambda _: part, rest, count=1) if _OURS.search(rest) else f"{rest.rstrip()}\n\n{part}"
    if (merged, whole) == before:
        return theirs, tuple(notes)
    gap = "" if whole.startswith("\n") else "\n"
    return f"---\n{yaml_of(merged, comments=True)}---\n{gap}{whole}", tuple(notes)


def _configs(theirs: list[Any], ours: list[Any], former: list[Any]) -> list[Any]:
    names, before = {config["config_name"] for config in ours}, {config["config_name"] for config in former}
    others = [config for config in theirs if not (isinstance(config, dict) and config.get("config_name") in before)]
    for config in others:
        name = config.get("config_name") if isinstance(config, dict) else config
        if name in names:
            raise PublishError(
                f"README.md: the repository has a config {name!r} that curator did not write; rename it there, or push "
                "to another repository"
            )
    if others:
        ours = [{key: value for key, value in config.items() if key != "default"} for config in ours]
    return [*others, *ours]


def _metadata(text: str) -> tuple[dict[str, Any], str]:
    """A card's metadata, in its own order and with its comments, and the rest of the page."""
    front = _FRONT.match(text)
    if front is None:
        return {}, text
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        facts = YAML(typ="rt").load(front[1])
    except YAMLError as error:
        raise PublishError(
            "README.md: invalid YAML in the metadata of the card in the repository "
            f"({str(error).splitlines()[0]}); fix it there first, or push to another repository"
        ) from error
    if facts is None:
        return {}, text[front.end() :]
    if not isinstance(facts, dict):
        raise PublishError("README.md: the metadata of the card in the repository is not a mapping; fix it there first")
    return facts, text[front.end() :]


def manifest(folder: Path, metadata: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The content of MANIFEST: size and digests of every file except the card and the manifest itself, and the metadata
    of the card as curator wrote it.
    """
    digests = {name: digest(path.read_bytes()) for name, path in files_of(folder).items()}
    return {
        "made_by": "curator",
        "version": VERSION,
        "files": {name: dict(vars(file)) for name, file in digests.items() if name not in (CARD, MANIFEST)},
        "metadata": dict(metadata),
    }


def files_of(folder: Path) -> dict[str, Path]:
    """Path from the folder on -> file, sorted, without hidden ones: file managers, editors and caches leave these."""
    paths = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name.as_posix(): path for name, path in paths.items() if not any(part[0] == "." for part in name.parts)}


def checked(folder: Path) -> dict[str, bytes]:
    """Path -> content of every file of a data set folder, which must hold what its manifest lists and nothing else. The
    card is not listed: its owner may have edited it, except for the configs.

    Raises:
        PublishError: A file is missing or unreadable, is not what was written, or is not listed.
    """
    contents: dict[str, bytes] = {}
    unread: dict[str, str] = {}
    for name, path in files_of(folder).items():
        try:
            contents[name] = path.read_bytes()
        except OSError as error:
            unread[name] = f"{name} (cannot be read: {(error.strerror or type(error).__name__).lower()})"
    listed, metadata = written(json_of(contents.get(MANIFEST, b"")))
    missing = [name for name in (CARD, MANIFEST, *listed) if name not in contents and name not in unread]
    changed = [name for name, former in listed.items() if name in contents and digest(contents[name]) != former]
    changed += unread.values()
    if MANIFEST in contents and not listed:
        changed.append(MANIFEST)
    if listed and CARD in contents and _configs_of(contents[CARD]) != metadata.get("configs"):
        changed.append(f"{CARD} (the configs in its metadata)")
    strange = [name for name in contents if listed and name not in (CARD, MANIFEST, *listed)]
    if missing or changed or strange:
        raise PublishError(_altered(folder, missing, changed, strange))
    return contents


def _altered(folder: Path, missing: Sequence[str], changed: Sequence[str], strange: Sequence[str]) -> str:
    kinds = (("missing", missing), ("changed", changed), ("not written by curator", strange))
    what = "; ".join(f"{kind}: {_some(names)}" for kind, names in kinds if names)
    anew = f"remove {folder.parent} and run the `curator build` or `curator select` that wrote it again"
    todo = ["move what curator did not write somewhere else"] * bool(strange) + [anew] * bool(missing or changed)
    return f"{folder}: cannot be pushed, because it is not as curator wrote it ({what}); {', then '.join(todo)}"


def _some(names: Sequence[str]) -> str:
    rest = len(names) - 8
    return ", ".join(names[:8]) + (f" and {rest:,} more" if rest > 0 else "")


def _configs_of(card: bytes) -> object:
    try:
        return _metadata(card.decode("utf-8", errors="replace"))[0].get("configs")
    except PublishError:
        return None


def json_of(content: bytes) -> Any:
    """The value of a JSON file; null if it is not JSON."""
    try:
        return json.loads(content)
    except ValueError:
        return None


def written(contents: object) -> tuple[dict[str, Digest], dict[str, JsonValue]]:
    """Files and metadata of a manifest as read back; both empty if curator did not write it."""
    if not isinstance(contents, dict) or contents.get("made_by") != "curator":
        return {}, {}
    files, metadata = contents.get("files"), contents.get("metadata")
    if not isinstance(files, dict) or not isinstance(metadata, dict):
        return {}, {}
    try:
        return {str(name): Digest(**sizes) for name, sizes in files.items()}, metadata
    except TypeError:
        return {}, {}
