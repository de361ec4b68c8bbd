"""The mark of chosen rows that are not verified, and the rows as JSON lines. Imports nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from curator.run import Run
from curator.run.folder import disk, replacing

if TYPE_CHECKING:
    import polars as pl

    from curator.records import Messages

NOT_VERIFIED = "This set is not verified: no model was trained on it."
TAG = "not-verified"


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
    with disk(file), replacing(file) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    return len(lines)
