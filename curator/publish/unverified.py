"""The mark of chosen rows that are not verified, and the rows as JSON lines. Imports nothing heavy."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from curator.errors import RecipeError
from curator.run import Run
from curator.run.folder import disk, replacing

if TYPE_CHECKING:
    import polars as pl

    from curator.recipe import Recipe
    from curator.records import Messages

NOT_VERIFIED = "This set is not verified: no model was trained on it."
TAG = "not-verified"
JSONL = ".jsonl"
"""The ending of a file of chosen rows."""


def require_rows_file(file: Path, recipe: Recipe, written: Path | None = None) -> None:
    """Checks, before any work, that the chosen rows can be written to a file and that nothing else is lost.

    Args:
        written: The file of the recipe itself; null if it has none.

    Raises:
        RecipeError: It does not end in .jsonl, is the recipe or the file of one of its sources, holds anything else
            than rows as `write_rows` writes them, or cannot be written.
    """
    from curator.recipe.inputs import sources
    from curator.recipe.package import file_of

    read = [file_of(source.file) for source in sources(recipe) if source.file is not None]
    read += [] if written is None else [written]
    if any(file.resolve() == each.resolve() for each in read):
        raise RecipeError(f"{file}: cannot hold the rows, because the recipe reads this file; name another one")
    if file.suffix != JSONL:
        raise RecipeError(
            f"{str(file)!r}: cannot hold the rows, which are JSON lines; name a file that ends in {JSONL}"
        )
    folder = next(place for place in file.absolute().parents if place.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise RecipeError(
            f"{file}: cannot hold the rows, because {folder} is not writable; name a file in another folder"
        )
    with disk(file, "--rows"):
        there = file.exists()
    if there and not _holds_rows(file):
        raise RecipeError(
            f"{file}: cannot hold the rows, because it holds something else; remove it, or name another one"
        )


def _holds_rows(file: Path) -> bool:
    """Whether every line of a file is a row as `write_rows` writes it."""
    try:
        with open(file, encoding="utf-8") as lines:
            return all(set(json.loads(line)) == {"messages"} for line in lines)
    except (OSError, ValueError, TypeError):
        return False


def write_rows(root: Path, file: Path) -> int:
    """Writes the chosen rows of a run as JSON lines, in the order picked, and returns the number of lines.

    A line is `{"messages": [{"role": ..., "content": ...}, ...]}`, which fine-tuning tools read as a conversation, and
    nothing else. If the recipe repeats rows, a row has as many lines as a pass trains on it.

    Raises:
        RunError: Stage `select` is not finished, or the file cannot be written.
    """
    run = Run.open(root, "pool", "select")
    pool: pl.DataFrame = run.data().pool.rows
    messages: dict[str, Messages] = dict(zip(pool["id"], pool["messages"].to_list(), strict=True))
    often = run.curated_repeats() or {}
    lines = [
        json.dumps({"messages": messages[row_id]}, ensure_ascii=False) + "\n"
        for row_id in run.selection().ids
        for _ in range(often.get(row_id, 1))
    ]
    with disk(file, "--rows"):
        file.parent.mkdir(parents=True, exist_ok=True)
    with disk(file, "--rows"), replacing(file) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    return len(lines)
