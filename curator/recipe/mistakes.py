"""What is wrong with a recipe, in sentences: where, what was found, what is allowed, what to do."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from curator.recipe import Recipe

Keys = tuple[str | int, ...]
Place = tuple[int, str]
"""Where a value stands: its line, for sorting, and what a sentence calls the place."""


def mistakes(error: ValidationError, places: Mapping[Keys, Place], file: str) -> list[str]:
    """One sentence a mistake, in the order of the file, those of `--set` last."""
    found = sorted({_placed(item, places, file) for item in error.errors()})
    return list(dict.fromkeys(sentence for _, sentence in found))


def show(value: Any) -> str:
    """A value as a message shows it: short, and by kind where it is a container."""
    if isinstance(value, dict):
        return f"a mapping with {', '.join(map(str, list(value)[:5])) or 'nothing'}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _placed(item: ErrorDetails, places: Mapping[Keys, Place], file: str) -> tuple[int, str]:
    # Parts that start with "@" name the branch of a union, and stand nowhere in the file.
    item = {**item, "loc": tuple(part for part in item["loc"] if not str(part).startswith("@"))}
    path, text = item["loc"], _told(item)
    section, _, rest = text.partition(": ")
    if not path and (section,) in places:  # a check of the whole recipe, which names the section that it is about
        path, text = (section,), rest
    line, where = next((places[path[:cut]] for cut in range(len(path), 0, -1) if path[:cut] in places), (0, file))
    return line, ": ".join(part for part in (where, dotted(path), text) if part)


def _told(item: ErrorDetails) -> str:
    path, kind = item["loc"], item["type"]
    if kind == "extra_forbidden":
        key, known = str(path[-1]), _siblings(path)
        close = difflib.get_close_matches(key.lower(), known, 1, 0.7)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"unknown key; {hint}allowed: {', '.join(known)}"
    if kind == "missing":
        return "missing; it has no default, add it"
    if kind == "value_error":
        return item["msg"].removeprefix("Value error, ")
    return f"found {show(item['input'])}; allowed: {_allowed(item)}"


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


def dotted(path: Sequence[str | int]) -> str:
    """A path as messages write it: `pool.sources[0].where`."""
    return re.sub(r"\.(\[)", r"\1", ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in path))


_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
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
