"""Inputs of a recipe other than data that this machine lacks, and reasons why a run cannot decide; imports nothing
heavy.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

from curator.errors import DataError, RecipeError, first_line
from curator.forecast.bank import unseen
from curator.forecast.curve import merged
from curator.forecast.workload import unrehearsed
from curator.keys.pieces import embedder_of
from curator.model.chat import TEMPLATES
from curator.model.gguf import is_gguf
from curator.recipe import Recipe, embedders_of
from curator.recipe.file import Keys
from curator.recipe.inputs import template_text
from curator.recipe.package import is_inside, path_of
from curator.recipe.verify import NONE, Looks
from curator.wording import these

SANDBOX = "sandbox:"


def lacking(recipe: Recipe, base: Path = Path(".")) -> Iterator[tuple[Keys, str]]:
    """Missing folders of models, templates, judges' files, metrics and interpreters, by their keys."""
    for keys, model_id in _models(recipe):
        if (problem := _no_folder(model_id)) is not None:
            yield keys, problem
    templates: list[tuple[Keys, str | None]] = [(("model", "chat_template"), recipe.model.chat_template)]
    several = isinstance(recipe.represent, list)
    for number, section in enumerate(recipe.representations):
        templates.append((("represent", *((number,) if several else ()), "chat_template"), section.chat_template))
    for keys, template in templates:
        if template is None or template in TEMPLATES:
            continue
        if not _path(template).is_file():
            yield keys, f"found {template!r}; allowed: {', '.join(TEMPLATES)}, or the path of a file of Jinja text"
            continue
        try:
            template_text(_path(template))
        except RecipeError as error:
            yield keys, str(error).partition(": ")[2]
    if recipe.pool.refusals.embedding is not None:
        yield from _no_head(("pool", "refusals"), recipe.pool.refusals.embedding)
    yield from lacking_for_judges(recipe, base)
    recovery = recipe.augment.recovery
    if recovery is not None and recovery.openers is not None and not (base / _path(recovery.openers)).is_file():
        yield (
            ("augment", "recovery", "openers"),
            f"no file {recovery.openers}; give the path of a text file with one opener per line",
        )
    python = recipe.verify.generate.python
    if python is not None and shutil.which(python) is None:
        yield ("verify", "generate", "python"), f"cannot run {python}; give a Python interpreter"


def lacking_for_judges(recipe: Recipe, base: Path = Path(".")) -> Iterator[tuple[Keys, str]]:
    """Missing folders of judges' models, judges' files and metrics, by their keys."""
    for number, judge in enumerate(recipe.judges.panel):
        at: Keys = ("judges", "panel", number)
        if judge.model is not None and (problem := _no_folder(judge.model)) is not None:
            yield (*at, "guard" if judge.guard else "classifier"), problem
        if judge.embedding is not None:
            yield from _no_head(at, judge.embedding)
        if judge.error is not None and not _path(judge.error).is_file():
            yield (*at, "error"), f"no file {judge.error}; write one with `curator judge measure --store`"
    for number, task in enumerate(recipe.tasks):
        if not isinstance(task.metric, str):
            path, _, function = task.metric.python.rpartition(":")
            if (problem := _no_function(base / _path(path), function)) is not None:
                yield ("tasks", number, "metric"), problem


def _no_function(file: Path, name: str) -> str | None:
    """A sentence if a file of Python text does not define a function. The file is read, and not run."""
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except OSError:
        return f"no file {file}; give the path of a Python file"
    except (SyntaxError, ValueError) as error:
        return f"{file} is not Python ({first_line(error)}); fix it, or name another file"
    bound = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {
        (each.asname or each.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        for each in node.names
    }
    return None if {name, "*"} & bound else f"{file} has no function {name!r}; define it, or name another"


def _no_head(at: Keys, head: str) -> Iterator[tuple[Keys, str]]:
    """A sentence if the folder of a fitted head does not hold one, or the embedder that it was fitted with is gone."""
    if not (_path(head) / "head.json").is_file():
        yield (*at, "embedding"), f"{head} has no head.json; write one with `curator judge fit`"
    elif (embedder := embedder_of(head)) is not None and (problem := _no_folder(embedder)) is not None:
        yield (*at, "embedding"), f"{head} was fitted with an embedder that is not here: {problem}"


def unusual(recipe: Recipe, base: Path = Path(".")) -> Iterator[tuple[Keys, str]]:
    """Reasons why a run cannot decide, whatever it measures, by key; empty for a recipe that only chooses rows."""
    if recipe.lacks:
        return
    if not recipe.probes.benign:
        yield (
            ("probes", "benign"),
            "no benign probes, so over-refusal is not measured and the outcome cannot be 'durable'; add benign probes",
        )
    seeds, least = recipe.verify.seeds, recipe.verify.decision.least_seeds
    pairs = min(
        recipe.verify.seeds_of(arm) for arm in recipe.verify.arms if arm.name in ("curated", recipe.verify.control)
    )
    if not isinstance(seeds, Looks) and pairs < least:
        yield (
            ("verify", "seeds"),
            f"found {these(pairs, 'paired seed', 'paired seeds')}; a decision needs at least {least} "
            "(verify.decision.least_seeds); raise seeds",
        )
    regime, decision = recipe.verify.regime, recipe.verify.decision
    if regime is not None and (regime.after[0] < decision.floor or regime.after[1] > decision.ceiling):
        yield (
            ("verify", "regime", "after"),
            f"found {regime.after[0]:g} to {regime.after[1]:g}, so the search may choose a setting at which no set can "
            f"be better (verify.decision: floor {decision.floor:g}, ceiling {decision.ceiling:g}); give a range "
            "between these",
        )
    if (
        recipe.pool.categorise is not None
        and recipe.select.quotas is not None
        and recipe.select.quotas.by == "category"
    ):
        yield (
            ("select", "quotas"),
            "rows without a category get that of the nearest hazard (pool.categorise), and the quotas count them as if "
            "it were known; stages pool and select say how many of these categories are unsure",
        )
    yield from _by_heart(recipe, base)
    yield from _other_steps(recipe)
    yield from unrehearsed(recipe)
    if (sentence := unseen(recipe)) is not None:
        yield ("tasks",), sentence
    yield from merged(recipe)


def _other_steps(recipe: Recipe) -> Iterator[tuple[Keys, str]]:
    """A warning if the search for the regime aligns the control for fewer steps than a build does."""
    verify = recipe.verify
    if (
        verify.regime is not None
        and recipe.select.repeats is not None
        and verify.align.epochs is not None
        and verify.exposure != "epochs"
        and verify.control != NONE
    ):
        yield (
            ("verify", "regime"),
            "the search aligns the control before the curated set is known, for the epochs of a set without repeats, "
            "while a build aligns every arm for as many steps as the curated set takes with its repeats "
            "(select.repeats), so the control of a build may be less harmful than the search found; give verify.align "
            "its length in steps",
        )


def _by_heart(recipe: Recipe, base: Path) -> Iterator[tuple[Keys, str]]:
    """A warning if probes get an opening that the recovery arms are trained on."""
    recovery, probes = recipe.augment.recovery, recipe.probes
    try:
        openers = recovery.texts(base) if recovery is not None and probes.depths else ()
    except (RecipeError, DataError):  # an error of the file, which is reported where it is read
        return
    begins = probes.opens_with.split()[:2]
    if any(opener.split()[:2] == begins for opener in openers):
        yield (
            ("augment", "recovery", "openers"),
            f"an opener begins with {' '.join(begins)!r}, as probes.opening does, so harmfulness after that opening "
            "would show what the recovery arms memorised; change one of the two",
        )


def looked_at(recipe: Recipe, base: Path = Path(".")) -> tuple[list[tuple[Keys, str]], list[tuple[Keys, str]]]:
    """Reasons why the recipe's model cannot be used, and notes on how it is used, by key.

    For the sandbox model only openings of answers are checked, and for a model that is not on this machine nothing.
    Loads transformers, but no weights.
    """
    sandbox = recipe.model.id == SANDBOX
    if sandbox and not recipe.probes.depths and recipe.augment.recovery is None:
        return [], []
    from curator.experiment.base import notes_of_model, problem_of_opening, problems_of_model, trains_adapter

    lora, opening = trains_adapter(recipe), problem_of_opening(recipe, base)
    faults = [*([] if sandbox else problems_of_model(recipe.model, lora=lora)), *([opening] if opening else [])]
    problems = [problem.partition(": ") for problem in faults]
    notes = [] if sandbox else notes_of_model(recipe.model, lora=lora)
    return (
        [(tuple(key.split(".")), sentence) for key, _, sentence in problems],
        [(("model", "id"), note) for note in notes],
    )


def _path(text: str) -> Path:
    """The path that a text in the recipe means; a path that does not exist if its package is not installed."""
    try:
        return Path(path_of(text))
    except DataError:
        return Path(text)


def _models(recipe: Recipe) -> Iterator[tuple[Keys, str]]:
    """Every id of a model or an embedder that the run loads, apart from those of judges."""
    yield ("model", "id"), recipe.model.id
    several = isinstance(recipe.represent, list)
    for number, section in enumerate(recipe.representations):
        if section.id is not None:
            yield ("represent", *((number,) if several else ()), "id"), section.id
    for embedder in dict.fromkeys([*([recipe.pool.embedder] if recipe.pool.embeds else []), *embedders_of(recipe)]):
        yield ("pool" if embedder == recipe.pool.embedder else "score", "embedder", "id"), embedder.id


def _no_folder(model_id: str) -> str | None:
    """A sentence if an id can only be a folder that does not exist.

    An id of two parts may be a folder or a model on the Hub. It is taken as a folder if its parent folder exists and
    holds models.
    """
    if is_inside(model_id):
        try:
            path_of(model_id)
        except DataError as error:
            return str(error)
        return None
    path = Path(model_id).expanduser()
    if model_id == SANDBOX or path.is_dir():
        return None
    if path.is_file():
        return None if is_gguf(model_id) else f"{model_id} is a file; give the folder of the model, or a GGUF file"
    parts = model_id.split("/")
    on_hub = len(parts) <= 2 and all(part not in ("", ".", "..", "~") for part in parts)
    beside = len(parts) == 2 and any(Path(parts[0]).glob("*/config.json"))
    if on_hub and not beside:
        return None
    there = ", ".join(sorted(file.parent.name for file in path.parent.glob("*/config.json"))[:8])
    hint = f"; {path.parent} has {there}" if there else ""
    return f"no folder {model_id}{hint}; correct the path, or name a model on the Hub as owner/name"
