"""What judges and metrics lack on this machine, found before a run: they are used after hours of training."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from curator.errors import DataError, RecipeError, first_line
from curator.keys.pieces import embedder_of
from curator.model.gguf import is_gguf
from curator.recipe import Recipe
from curator.recipe.file import Keys, dotted
from curator.recipe.judge import Judge
from curator.recipe.package import is_inside, path_of
from curator.run import Run

SANDBOX = "sandbox:"


def require(run: Run, judges: Sequence[Judge], *, metrics: bool, error: bool) -> None:
    """Looks for everything that judges read, so that the end of a run does not fail for want of it. It takes no time:
    no model is loaded, and of one on the Hub only the commit is looked up.

    Args:
        run: The run.
        judges: The judges that will be used.
        metrics: Whether metrics are needed; files of own ones are executed, as they will be for judging.
        error: Whether the deciding judge's measured errors are needed.

    Raises:
        RecipeError, JudgeError, ModelError: Something is missing, or is not what its judge reads.
    """
    from curator.judge.measure import read_stored
    from curator.judge.metrics import own_metric
    from curator.judge.resources import ready
    from curator.judge.stage import has_verdicts

    recipe = run.recipe
    absent = [
        *_of_judges(recipe, judges, guess=False, error=error),
        *(_of_metrics(recipe) if metrics else ()),
    ]
    if absent:
        raise RecipeError([f"{dotted(at)}: {sentence}" for at, sentence in absent])
    for judge in judges:
        # An endpoint whose verdicts are stored may have none left to give; only its stage knows.
        ready(judge, key=judge.rubric is not None and not has_verdicts(run, judge))
        if error and judge.error is not None:
            read_stored(judge, judge.error, judge.revision)
    for task in recipe.tasks if metrics else ():
        if not isinstance(task.metric, str):
            own_metric(task.metric.python)


def lacking(recipe: Recipe) -> Iterator[tuple[Keys, str]]:
    """Missing folders of judges' models, judges' files and metrics, by their keys; imports nothing heavy."""
    yield from _of_judges(recipe, recipe.judges.panel, guess=True, error=True)
    yield from _of_metrics(recipe)


def _of_metrics(recipe: Recipe) -> Iterator[tuple[Keys, str]]:
    for number, task in enumerate(recipe.tasks):
        if not isinstance(task.metric, str):
            path, _, function = task.metric.python.rpartition(":")
            if (problem := _no_function(place(path), function)) is not None:
                yield ("tasks", number, "metric"), problem


def _of_judges(recipe: Recipe, judges: Sequence[Judge], *, guess: bool, error: bool) -> Iterator[tuple[Keys, str]]:
    for number, judge in enumerate(recipe.judges.panel):
        at: Keys = ("judges", "panel", number)
        if judge not in judges:
            continue
        if judge.model is not None and (problem := no_folder(judge.model, guess=guess)) is not None:
            yield (*at, "guard" if judge.guard else "classifier"), problem
        if judge.embedding is not None:
            yield from no_head(at, judge.embedding)
        if error and judge.error is not None and not place(judge.error).is_file():
            yield (*at, "error"), f"no file {judge.error}; write one with `curator judge measure --store`"


def no_head(at: Keys, head: str) -> Iterator[tuple[Keys, str]]:
    """A sentence if the folder of a fitted head does not hold one, or the embedder that it was fitted with is gone."""
    if not (place(head) / "head.json").is_file():
        yield (*at, "embedding"), f"{head} has no head.json; write one with `curator judge fit`"
    elif (embedder := embedder_of(head)) is not None and (problem := no_folder(embedder, guess=False)) is not None:
        yield (*at, "embedding"), f"{head} was fitted with an embedder that is not here: {problem}"


def no_folder(model_id: str, *, guess: bool = True) -> str | None:
    """A sentence if an id names neither a folder, a GGUF file, the sandbox model nor anything that the Hub could have.

    An id of two parts may be a folder or a model on the Hub. With `guess` it is taken as a folder if its parent folder
    exists and holds models.
    """
    if is_inside(model_id):
        try:
            path_of(model_id)
        except DataError as error:
            return str(error)
        return None
    if model_id == SANDBOX or os.path.isdir(model_id):
        return None
    if os.path.isfile(model_id):
        return None if is_gguf(model_id) else f"{model_id} is a file; give the folder of the model, or a GGUF file"
    if model_id.startswith(SANDBOX):
        return f"no sandbox model {model_id}; allowed: {SANDBOX} alone; write that, or name a folder or a Hub model"
    parts, parent = model_id.split("/"), Path(model_id).parent
    if is_gguf(model_id):
        there = ", ".join(sorted(file.name for file in _inside(parent, "*") if is_gguf(file.name))[:8])
        return f"no file {model_id}{f'; {parent} has {there}' if there else ''}; correct the path of the GGUF file"
    refusal = hub_refuses(model_id)
    beside = guess and len(parts) == 2 and any(_inside(parent, "*/config.json"))
    if refusal is None and not beside:
        return None
    there = ", ".join(sorted(file.parent.name for file in _inside(parent, "*/config.json"))[:8])
    hint = f"; {parent} has {there}" if there else "; write the path in full, without ~" if parts[0] == "~" else ""
    if refusal is not None and len(parts) <= 2 and parts[0].strip(".~"):
        hint = f", and the Hub allows no such name ({refusal}){hint}"
    return f"no folder {model_id}{hint}; correct the path, or name a model on the Hub as owner/name"


def on_hub(model_id: str) -> bool:
    """Whether an id that `no_folder` accepts can only be that of a model on the Hub."""
    return not (is_inside(model_id) or model_id == SANDBOX or os.path.exists(model_id))


def hub_refuses(name: str) -> str | None:
    """Why the Hub can have no model or data set of this name, in the words of its client; null if it can. Contacts no
    server.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # loaded on demand

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        return first_line(error).rstrip(".")
    return None


def _inside(folder: Path, pattern: str) -> Iterator[Path]:
    """The files of a folder that fit a pattern; none where no folder can have this name."""
    return folder.glob(pattern) if os.path.isdir(folder) else iter(())


def place(text: str) -> Path:
    """The path that a text in the recipe means; a path that does not exist if its package is not installed."""
    try:
        return Path(path_of(text))
    except DataError:
        return Path(text)


def _no_function(file: Path, name: str) -> str | None:
    """A sentence if a file of Python text does not define a function. The file is read, and not run."""
    try:
        tree = ast.parse(file.read_bytes(), str(file))  # in whatever encoding the file names
    except OSError:
        return f"no file {file}; give the path of a Python file"
    except (SyntaxError, ValueError) as error:
        return f"{file} is not Python ({first_line(error)}); fix it, or name another file"
    inside = {id(child) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for child in ast.walk(node)}
    nodes = [node for node in ast.walk(tree) if id(node) not in inside or isinstance(node, ast.ClassDef)]
    bound = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom | ast.Import)]
    bound |= {each.asname or each.name for node in imports for each in node.names}
    # A name may also be bound in ways that only running the file tells.
    sure = "*" not in bound and "globals" not in {node.id for node in nodes if isinstance(node, ast.Name)}
    return f"{file} has no function {name!r}; define it, or name another" if sure and name not in bound else None
