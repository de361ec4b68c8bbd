"""The runs of a suite: every recipe of a folder, at every size and for every task that its `suite` section names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from curator.errors import CuratorError, RecipeError
from curator.recipe import Recipe
from curator.recipe.file import mistakes, read


@dataclass(frozen=True)
class Variant:
    """One run of a suite, in a folder of its name.

    Attributes:
        name: `<source>-<k>-<task>`, or that of the recipe where it is not expanded.
        source: The recipe file, without its ending.
        recipe: What to build; null where it cannot be read, and `problem` says why.
        task, k: What it was expanded to; null where it was not.
    """

    name: str
    source: str
    recipe: Recipe | None
    task: str | None = None
    k: int | None = None
    problem: str | None = None


def variants(folder: Path, settings: Sequence[str] = (), only: Sequence[str] = ()) -> list[Variant]:
    """Every run of the recipes in a folder (not in the folders below it), in the order of files, sizes and tasks.

    A recipe that cannot be read is a variant with a problem, so that the others go on.

    Args:
        settings: As `recipe.file.read` takes them; they hold for every recipe.
        only: Names of recipes or of variants; none for all.

    Raises:
        RecipeError: There is no recipe in the folder, or none of a name in `only`.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise RecipeError(f"{folder}: holds no recipe (*.yaml); give a folder of recipes, for example recipes/paper")
    expanded = [variant for file in files for variant in _of_file(file, settings)]
    times = Counter(variant.name for variant in expanded if variant.recipe is not None)
    for position, variant in enumerate(expanded):
        if variant.recipe is not None and times[variant.name] > 1:
            problem = f"{variant.source}: another run is called {variant.name!r} too; rename a recipe"
            expanded[position] = replace(variant, recipe=None, problem=problem)
    known = {name for variant in expanded for name in (variant.name, variant.source)}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise RecipeError(f"--only {unknown[0]}: {folder} has no such run; allowed: {', '.join(sorted(known))}")
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
        for task in recipe.tasks:
            data = recipe.model_dump(by_alias=True)
            name = f"{recipe.name}-{k}-{task.name}"
            data |= {"name": name, "suite": None, "tasks": [task.model_dump() | {"weight": 1.0, "anticipated": True}]}
            data["select"] |= {"k": k, "budget_tokens": None}
            try:
                expanded = Recipe.model_validate(data, by_alias=True, by_name=False)
            except ValidationError as error:
                raise RecipeError(mistakes(error, {}, f"{file} (k {k}, task {task.name})")) from None
            yield Variant(name, file.stem, expanded, task.name, k)
