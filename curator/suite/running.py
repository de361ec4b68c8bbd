"""Runs a suite: one variant after the other in this process, each to its end or to the reason why not."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curator.build import build
from curator.errors import CuratorError
from curator.recipe_file import dump
from curator.run import finished, opened, read_json, write_text
from curator.steps.site import FOLDERS, STAGES, Tell
from curator.suite.variants import Variant

SHELF = ".shelf"
TRACE = "failure.txt"
# What code of ours or of a library raises when it is wrong. Days of other runs do not end with it; its traceback is
# kept, and the command ends with the exit code of a bug.
_MISTAKES = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MemoryError, OSError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip


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
    tell: Callable[[Variant], Tell],
    after: Callable[[Sequence[Outcome]], None],
    base: Path = Path("."),
) -> list[Outcome]:
    """Builds every variant below `root`; what one of them has made under an equal key is taken and not made again.

    Args:
        wanted: Names of those to build; how the others stand is told too.
        tell: Whom to tell of a variant's progress; called when it starts.
        after: Called with how all variants stand, before the first one and after each.
        base: Folder that relative paths of sources start from.

    Raises:
        RunError: Another process is at work on the suite, or its folder cannot be written.
    """
    with opened(root):
        outcomes = [standing(variant, root) for variant in variants]
        after(outcomes)
        for place, variant in enumerate(variants):
            if variant.name in wanted:
                outcomes[place] = _built(variant, root, base, tell)
                after(outcomes)
    return outcomes


def standing(variant: Variant, root: Path) -> Outcome:
    """How a variant stands before it is run: done where its folder holds a finished run of this very recipe."""
    if variant.recipe is None:
        return Outcome(variant, "failed", variant.problem)
    folder = root / variant.name
    try:
        recipe = (folder / "recipe.yaml").read_text(encoding="utf-8")
        keys = read_json(folder / "run.json")["stages"]
        done = {stage: finished(folder / FOLDERS[stage]) for stage in STAGES}
    except (OSError, CuratorError):
        return Outcome(variant, "waiting")
    whole = all(one is not None and one["key"] == keys[stage] for stage, one in done.items())
    return Outcome(variant, "done" if whole and recipe == dump(variant.recipe) else "waiting")


def _built(variant: Variant, root: Path, base: Path, tell: Callable[[Variant], Tell]) -> Outcome:
    if variant.recipe is None:
        return Outcome(variant, "failed", variant.problem)
    folder = root / variant.name
    told = tell(variant)
    try:
        build(variant.recipe, folder, base=base, tell=told, shelf=root / SHELF)
    except CuratorError as error:
        return Outcome(variant, "failed", str(error))
    except _MISTAKES as error:
        write_text(folder / TRACE, traceback.format_exc())
        reason = f"{type(error).__name__}: {error}; a mistake of curator's, told in full in {folder / TRACE}"
        return Outcome(variant, "failed", reason, bug=True)
    (folder / TRACE).unlink(missing_ok=True)
    return Outcome(variant, "done")
