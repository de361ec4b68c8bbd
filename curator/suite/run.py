"""The runs of a suite: every recipe of a folder, at every size and for every task that its `suite` section names. They
are built one after the other in this process; a run that fails does not stop the others.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from curator.errors import CuratorError, RecipeError, RunError, first_line, machine_fault
from curator.forecast.problems import examine
from curator.pipeline import build
from curator.recipe import Recipe
from curator.recipe.file import open_file, read, refusal
from curator.run import STAGES, Progress, require
from curator.run.folder import opened, write_text
from curator.run.readers import recipe_file

SHELF = ".shelf"

TRACE = "failure.txt"


@dataclass(frozen=True)
class Variant:
    """One run of a suite, in a folder of its name.

    Attributes:
        name: `<source>-<k>-<task>`, or the recipe's name if it is not expanded.
        source: Name of the recipe file without its extension.
        recipe: The recipe to build; null if it cannot be read, and `problem` says why.
        task, k: The task and size that it was expanded to; null if it was not.
    """

    name: str
    source: str
    recipe: Recipe | None
    task: str | None = None
    k: int | None = None
    problem: str | None = None


def variants(folder: Path, settings: Sequence[str] = (), only: Sequence[str] = ()) -> list[Variant]:
    """Every run of the recipes in a folder (not in the folders below it), in the order of files, sizes and tasks.

    A recipe that cannot be read becomes a variant with a problem, so that the others continue.

    Args:
        folder: The folder of recipes.
        settings: As in `recipe.file.read`; they apply to every recipe.
        only: Names of recipes or of variants; none for all.

    Raises:
        RecipeError: There are no recipes in the folder, or none has a name in `only`.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise RecipeError(f"{folder} has no recipes (*.yaml); give a folder of recipes, for example recipes/paper")
    expanded = [variant for file in files for variant in _of_file(file, settings)]
    times = Counter(variant.name for variant in expanded if variant.recipe is not None)
    for position, variant in enumerate(expanded):
        if variant.recipe is not None and times[variant.name] > 1:
            problem = f"{variant.source}: another run is also named {variant.name!r}; rename one of the recipes"
            expanded[position] = replace(variant, recipe=None, problem=problem)
    known = {name for variant in expanded for name in (variant.name, variant.source)}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise RecipeError(f"--only: no run {unknown[0]!r} in {folder}; allowed: {', '.join(sorted(known))}")
    return [variant for variant in expanded if not only or {variant.name, variant.source} & set(only)]


def _of_file(file: Path, settings: Sequence[str]) -> Iterator[Variant]:
    try:
        recipe = read(file, settings)
        yield from list(_expanded(file, recipe))
    except CuratorError as error:
        yield Variant(file.stem, file.stem, None, problem=str(error))


def _expanded(file: Path, recipe: Recipe) -> Iterator[Variant]:
    if recipe.suite is None:
        yield Variant(recipe.name, file.stem, recipe)
        return
    for k in recipe.suite.k:
        for number, task in enumerate(recipe.tasks):
            data = recipe.model_dump(by_alias=True)
            name = f"{recipe.name}-{k}-{task.name}"
            alone = data["tasks"][number] | {"weight": 1.0, "anticipated": True}
            data |= {"name": name, "suite": None, "tasks": [alone]}
            data["select"] |= {"k": k, "budget_tokens": None}
            try:
                expanded = Recipe.model_validate(data, by_alias=True, by_name=False)
            except ValidationError as error:
                raise refusal(error, f"{file} (k {k}, task {task.name})") from None
            yield Variant(name, file.stem, expanded, task.name, k)


def problems(
    folder: Path, root: Path, settings: Sequence[str] = (), only: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
    """File of a recipe -> its problems, as `curator check` lists them, so that they are known before the first run and
    not when it is the recipe's turn. Left out are recipes without problems, and those whose runs are all finished.

    Args:
        folder, settings, only: As in `variants`.
        root: The suite's folder.

    Raises:
        RecipeError: See `variants`.
    """
    unfinished = [each for each in variants(folder, settings, only) if standing(each, root).status != "done"]
    listed = {}
    for source in dict.fromkeys(each.source for each in unfinished):
        file = folder / f"{source}.yaml"
        try:
            sentences = examine(open_file(file, settings)).problems
        except CuratorError as error:
            sentences = (str(error),)
        # A recipe that is good by itself may have a run of the same name as another's.
        sentences = sentences or tuple(
            each.problem for each in unfinished if each.source == source and each.problem is not None
        )
        if sentences:
            listed[str(file)] = sentences
    return listed


class BugError(CuratorError):
    """A bug in curator, which users cannot fix: its traceback is kept, and the other runs continue."""


@dataclass(frozen=True)
class Outcome:
    """The status of a variant: `done`, `failed` with its `reason`, or `waiting`; `bug` if curator itself failed."""

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
) -> list[Outcome]:
    """Builds every variant below `root`; pieces that one of them has made are reused by others with an equal key.

    Args:
        variants: The variants of the suite.
        root: The suite's folder.
        wanted: Names of the variants to build; the status of the others is reported too.
        progress: Called with a variant when it starts; returns the receiver of its progress.
        read: Called with each variant that is done.
        after: Called with the status of all variants, before the first one and after each.

    Raises:
        RunError: Another process is running the suite, or its folder is not writable.
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
                    build(variant.recipe, root / variant.name, progress=progress(variant), shelf=root / SHELF)
                    read(variant)

                outcomes[position] = _tried(variant, root, work)
                after(outcomes)
    return outcomes


def standing(variant: Variant, root: Path) -> Outcome:
    """The status of a variant before it is run: done if its folder holds a finished run of exactly this recipe."""
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
    """Keeps the traceback of an error that users cannot fix; the error that is raised names its file. What only the
    machine lacks is told as a build tells it.
    """
    trace.unlink(missing_ok=True)
    try:
        yield
    except CuratorError:
        raise
    except Exception as error:
        if (fault := machine_fault(error)) is not None:
            raise RunError(fault) from error
        write_text(trace, traceback.format_exc())
        raise BugError(
            f"{type(error).__name__}: {first_line(error)}; this is a bug in curator, see the traceback in {trace}"
        ) from error
