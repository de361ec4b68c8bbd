"""Runs a suite: one variant after the other in this process, each to its end or to the reason why not."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curator.build import build
from curator.errors import CuratorError, first_line
from curator.recipe.file import read
from curator.run import STAGES, Progress, recipe_file, require
from curator.run.folder import opened, write_text
from curator.suite.variants import Variant

SHELF = ".shelf"
TRACE = "failure.txt"


class BugError(CuratorError):
    """Something that no user can mend: its traceback is kept, and the other runs go on."""


@dataclass(frozen=True)
class Outcome:
    """How a variant stands: `done`, `failed` with its `reason`, or `waiting`; `bug` where the failure is ours."""

    variant: Variant
    status: Literal["done", "failed", "waiting"]
    reason: str | None = None
    bug: bool = False


def run(
    variants: Sequence[Variant],
    root: Path,
    wanted: Set[str],
    *,
    progress: Callable[[Variant], Progress],
    read: Callable[[Variant], None],
    after: Callable[[Sequence[Outcome]], None],
    base: Path = Path("."),
) -> list[Outcome]:
    """Builds every variant below `root`; what one of them has made under an equal key is taken and not made again.

    Args:
        wanted: Names of those to build; how the others stand is reported too.
        progress: Called with a variant when it starts; gives where to report its progress.
        read: Called with each variant that is done.
        after: Called with how all variants stand, before the first one and after each.
        base: Folder that relative paths of sources start from.

    Raises:
        RunError: Another process is at work on the suite, or its folder cannot be written.
    """
    with opened(root):
        outcomes = [standing(variant, root) for variant in variants]
        outcomes = [
            _tried(outcome.variant, root, read) if outcome.status == "done" else outcome for outcome in outcomes
        ]
        after(outcomes)
        for position, variant in enumerate(variants):
            if variant.name in wanted:

                def work(variant: Variant) -> None:
                    assert variant.recipe is not None
                    build(variant.recipe, root / variant.name, base=base, tell=progress(variant), shelf=root / SHELF)
                    read(variant)

                outcomes[position] = _tried(variant, root, work)
                after(outcomes)
    return outcomes


def standing(variant: Variant, root: Path) -> Outcome:
    """How a variant stands before it is run: done where its folder holds a finished run of this very recipe."""
    if variant.recipe is None:
        return Outcome(variant, "failed", variant.problem)
    folder = root / variant.name
    try:
        require(folder, *STAGES)
        recipe = read(recipe_file(folder))
    except (OSError, CuratorError):
        return Outcome(variant, "waiting")
    return Outcome(variant, "done" if recipe == variant.recipe else "waiting")


def _tried(variant: Variant, root: Path, work: Callable[[Variant], None]) -> Outcome:
    if variant.recipe is None:
        return Outcome(variant, "failed", variant.problem)
    try:
        with _traced(root / variant.name / TRACE):
            work(variant)
    except CuratorError as error:
        return Outcome(variant, "failed", str(error), bug=isinstance(error, BugError))
    return Outcome(variant, "done")


@contextmanager
def _traced(trace: Path) -> Iterator[None]:
    """Keeps the traceback of what no user can mend; the error that is raised names its file."""
    trace.unlink(missing_ok=True)
    try:
        yield
    except CuratorError:
        raise
    except Exception as error:
        write_text(trace, traceback.format_exc())
        raise BugError(
            f"{type(error).__name__}: {first_line(error)}; a mistake of curator's, told in full in {trace}"
        ) from error
