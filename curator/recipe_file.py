"""Reads a recipe file: YAML 1.2, `--set` overrides, and every mistake reported at once with its place.

A mistake's sentence says where, what was found, what is allowed and what to do.
"""

from __future__ import annotations

import difflib
import io
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from curator.errors import RecipeError
from curator.recipe import Recipe


def read(path: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """The recipe of a file, checked.

    Args:
        path: A YAML file.
        settings: Overrides such as `select.k=50` or `tasks.list.rows=10`, whose value is read as YAML; they pass the
            same checks as the file. An item of a list is named by its position or by its `name`.

    Raises:
        RecipeError: The file cannot be read, is no YAML, or holds mistakes; all of them are named.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"{path}: cannot be read ({_reason(error)}); give the path of a recipe file in YAML"
        ) from error
    return parse(text, settings, place=str(path))


def parse(text: str, settings: Sequence[str] = (), *, place: str = "recipe") -> Recipe:
    """The recipe written in `text`; `place` is what messages call it. Raises and arguments as `read`."""
    data = _load(text, place)
    if not isinstance(data, dict):
        raise RecipeError(f"{place}: holds {_show(data)}; a recipe is a mapping that starts with `name:`")
    lines = _lines(data)
    for setting in settings:
        _override(data, setting)
    try:
        return Recipe.model_validate(_plain(data))
    except ValidationError as error:
        found = sorted({_sentence(item, lines, place) for item in error.errors()}, key=_by_line)
        raise RecipeError(found) from None


def template(name: str) -> str:
    """A commented recipe to fill in, which runs as it stands on the sandbox.

    Raises:
        RecipeError: The name cannot be a run folder's.
    """
    text = Path(__file__).with_name("recipe_template.yaml").read_text(encoding="utf-8").format(name=name)
    parse(text, place=name)
    return text


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML: every default written out, so that a copy runs the same later."""
    out = io.StringIO()
    _yaml("safe").dump(recipe.model_dump(by_alias=True), out)
    return out.getvalue()


def _yaml(kind: str) -> Any:
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ=kind, pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 120
    return yaml


def _load(text: str, place: str) -> Any:
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return _yaml("rt").load(text)
    except DuplicateKeyError as error:
        key = re.search(r'duplicate key "([^"]*)"', str(error.problem))
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        found = key.group(1) if key else "?"
        raise RecipeError(f"{place}:{line}: the key {found!r} stands twice; remove one") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{place}:{mark.line + 1}" if mark else place
        raise RecipeError(f"{where}: this is no YAML ({error.problem or error.context}); mend the line") from None
    except YAMLError as error:
        raise RecipeError(f"{place}: this is no YAML ({str(error).splitlines()[0]}); mend the file") from None


def _lines(data: Any, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], int]:
    """Path of every key and item -> its line in the file, from 1."""
    found: dict[tuple[str | int, ...], int] = {}
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    for key, value in items:
        position = data.lc.data.get(key)
        if position:
            found[(*path, key)] = position[0] + 1
        found.update(_lines(value, (*path, key)))
    return found


def _plain(data: Any) -> Any:
    """Built-in types only: ruamel's own numbers and strings carry formatting that strict models refuse."""
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if isinstance(data, bool) or data is None:
        return data
    for kind in (int, float, str):
        if isinstance(data, kind):
            return kind(data)
    return str(data)


def _override(data: Any, setting: str) -> None:
    path, equals, text = setting.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise RecipeError(f"--set {setting}: found no key.path=value; write for example --set select.k=50")
    place = f"--set {setting}"
    value = _plain(_load(text, place)) if text else None
    here = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(here, list):
            names = [str(item["name"]) if isinstance(item, dict) and "name" in item else "" for item in here]
            index = names.index(key) if key in names else int(key) if key.isdigit() else -1
            if not 0 <= index < len(here):
                allowed = ", ".join(name for name in names if name) or f"0 to {len(here) - 1}"
                raise RecipeError(f"{place}: {'.'.join(keys[:depth])} has no item {key!r}; allowed: {allowed}")
            if last:
                here[index] = value
            else:
                here = here[index]
        elif isinstance(here, dict):
            if last:
                here[key] = value
            elif isinstance(here.get(key), dict | list):
                here = here[key]
            else:
                here[key] = {}
                here = here[key]
        else:
            raise RecipeError(f"{place}: {'.'.join(keys[:depth])} is {_show(here)}, which has nothing inside")


def _by_line(sentence: str) -> tuple[int, str]:
    line = re.match(r".*?:(\d+): ", sentence)
    return (int(line.group(1)) if line else 0, sentence)


def _sentence(item: ErrorDetails, lines: Mapping[tuple[str | int, ...], int], place: str) -> str:
    path = item["loc"]
    known = _siblings(path)
    line = next((lines[path[:cut]] for cut in range(len(path), 0, -1) if path[:cut] in lines), None)
    where = f"{place}:{line}: {_dotted(path)}" if line else f"{place}: {_dotted(path)}"
    kind = item["type"]
    if kind == "extra_forbidden":
        key = str(path[-1])
        close = difflib.get_close_matches(key, known, 1, 0.6)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"{where}: unknown key; {hint}allowed: {', '.join(known)}"
    if kind == "missing":
        return f"{where}: missing; it has no default, add it"
    if kind == "value_error":
        return f"{where}: {item['msg'].removeprefix('Value error, ')}".replace(": : ", ": ")
    return f"{where}: found {_show(item['input'])}; allowed: {_allowed(item)}"


def _siblings(path: Sequence[str | int]) -> list[str]:
    """The keys allowed where the last key of `path` stands."""
    here: Any = Recipe
    for part in path[:-1]:
        model = next(_models(here), None)
        if model is not None and not isinstance(part, int):
            fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
            here = fields.get(part)
    model = next(_models(here), None)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models(inner)


def _dotted(path: Sequence[str | int]) -> str:
    return re.sub(r"\.(\[)", r"\1", ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in path))


_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "null",
    "string_pattern_mismatch": "letters, digits, '.', '_', '+' and '-', starting with a letter or digit",
}


def _allowed(item: ErrorDetails) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind in ("literal_error", "enum"):
        return str(context["expected"]).replace("'", "").replace(" or ", ", ")
    bounds = {"greater_than": "more than {gt}", "greater_than_equal": "{ge} or more",
              "less_than": "less than {lt}", "less_than_equal": "{le} or less"}  # fmt: skip
    if kind in bounds:
        return bounds[kind].format(**context)
    if kind == "too_short":
        return f"at least {context['min_length']} item"
    if kind == "string_too_long":
        return f"at most {context['max_length']} characters"
    return _TYPES.get(kind, item["msg"])


def _show(value: Any) -> str:
    """A value as a message shows it: short, and by kind where it is a container."""
    if isinstance(value, dict):
        return f"a mapping with {', '.join(map(str, list(value)[:5])) or 'nothing'}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _reason(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return (error.strerror or type(error).__name__).lower()
