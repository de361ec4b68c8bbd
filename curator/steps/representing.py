"""One representation of a recipe: vectors of the pool and of every task, in a folder of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.recipe_select import Represent

if TYPE_CHECKING:
    import polars as pl


def below(folder: Path, number: int) -> Path:
    """Where a stage keeps what belongs to a representation: the first in the stage's folder, others below it."""
    return folder if number == 0 else folder / f"also-{number}"


def vectors_of(
    section: Represent,
    frames: Mapping[str, pl.DataFrame],
    folder: Path,
    *,
    model: Any,
    tokenizer: Any,
    name: str,
    revision: str | None,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Writes the vectors of every frame, centred on the first (the pool) where the section says so.

    Returns:
        `truncated` rows and the `width` of the vectors.
    """
    from curator.represent import centre, mean_of, represent
    from curator.store import save_array, save_vectors

    seen = truncated = width = 0
    mean = None
    for part, frame in frames.items():
        vectors = represent(
            frame["id"].to_list(), frame["messages"].to_list(), section=section, model=model, tokenizer=tokenizer,
            name=name, revision=revision, progress=lambda done, _, before=seen: progress(before + done),  # type: ignore[misc]
        )  # fmt: skip
        seen, truncated, width = seen + frame.height, truncated + vectors.truncated, vectors.matrix.shape[1]
        if section.centre:
            mean = mean_of(vectors) if mean is None else mean
            vectors = centre(vectors, mean)
        save_vectors(folder, part, vectors)
    if mean is not None:
        save_array(folder / "mean.npy", mean)
    return {"truncated": truncated, "width": width}
