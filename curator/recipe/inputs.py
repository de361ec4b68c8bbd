"""The files that a recipe reads, and cheap fingerprints of their content. Imports nothing heavy."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curator.errors import DataError, RecipeError
from curator.recipe import Recipe
from curator.recipe.package import distribution_of, path_of
from curator.recipe.source import Source, sources_of_other_rows


def fingerprint(source: Source, base: Path = Path("."), known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The identity of a source's content.

    A file gives its path as written, bytes, mtime_ns and sha256; a Hub data set its id, config, split and revision as
    written (the commit that it resolves to is in `read`'s third value); the sandbox its name and its code's version.

    Args:
        source: What to identify.
        base: Folder that a relative path starts from.
        known: An earlier fingerprint of the same source. Its sha256 is reused without reading the file if path, bytes
            and mtime_ns are unchanged.

    Raises:
        DataError: The file is missing, is a folder, or cannot be read.
    """
    if source.hub is not None:
        return {"hub": source.hub, "config": source.config, "split": source.split, "revision": source.revision}
    if source.file is None:
        return {"sandbox": source.sandbox, "version": sandbox_version()}
    path = locate(source.file, base)
    status = path.stat()
    identity = {"file": source.file, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    identity |= distribution_of(source.file) or {}
    if known is not None and "sha256" in known and all(known.get(name) == value for name, value in identity.items()):
        return {**identity, "sha256": known["sha256"]}
    return {**identity, "sha256": sha256(path)}


def content(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a fingerprint that a cache key should hold: touching a file changes its mtime_ns, not its content."""
    return {name: value for name, value in identity.items() if name != "mtime_ns"}


def sources(recipe: Recipe) -> list[Source]:
    """Every source that the recipe names."""
    return [*recipe.pool.sources, *(source for _, source in sources_of_other_rows(recipe))]


def locate(file: str, base: Path) -> Path:
    """The path of a source's file, which is a regular file.

    Raises:
        DataError: It is missing, a folder or a device, or access is denied.
    """
    path = base / Path(path_of(file)).expanduser()
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise DataError(f"{file}: no such file (looked for {path.absolute()}); correct the path") from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file}: cannot be accessed ({_reason(error)}); correct the path or its permissions"
        ) from error
    if stat.S_ISDIR(mode):
        raise DataError(f"{file}: this is a folder; name a file in it, or several files as several sources")
    if not stat.S_ISREG(mode):
        raise DataError(f"{file}: this is a device or a pipe; write its rows to a file first")
    return path


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path.name}: cannot be read ({_reason(error)}); correct its permissions") from error


def sandbox_version() -> str:
    """SHA-256 of the sandbox's own code, which makes its data, without the model's checkpoint."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent.parent / "sandbox"
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def template_text(file: Path) -> str:
    """The text of the file of the model's chat template.

    Raises:
        RecipeError: It cannot be read as text.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else _reason(error)
        raise RecipeError(
            f"model.chat_template: {file} cannot be read ({reason}); save the template as text in UTF-8"
        ) from error


def missing_metrics(recipe: Recipe, base: Path) -> list[str]:
    """One sentence for each of the user's own metrics whose file does not exist."""
    gone = [file for file in metric_files(recipe, base) if not file.is_file()]
    return [f"tasks.metric.python: {file} is not a file; give the path of a Python file" for file in gone]


def metric_files(recipe: Recipe, base: Path) -> list[Path]:
    """The files of the user's own metrics."""
    metrics = [task.metric.python for task in recipe.tasks if not isinstance(task.metric, str)]
    return [base / path_of(metric.rpartition(":")[0]) for metric in metrics]


def programs(recipe: Recipe, base: Path = Path(".")) -> list[str]:
    """One sentence for each program that a run of the recipe executes and that does not come with curator.

    Users must read these before they run a recipe from others.
    """
    tasks: dict[str, list[str]] = {}
    for task in recipe.tasks:
        if not isinstance(task.metric, str):
            tasks.setdefault(task.metric.python, []).append(f"`{task.name}`")
    sentences = []
    for metric, names in tasks.items():
        file, _, function = metric.rpartition(":")
        path = base / path_of(file)
        content = f"SHA-256 {sha256(path)[:12]}" if path.is_file() else "no such file"
        of = f"the task {names[0]}" if len(names) == 1 else f"the tasks {', '.join(names)}"
        sentences.append(f"This recipe runs code: `{function}` in {file} ({content}), the metric of {of}.")
    if recipe.verify.generate.python is not None:
        sentences.append(
            f"This recipe runs a program: {recipe.verify.generate.python}, the Python interpreter for vLLM."
        )
    return sentences


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
