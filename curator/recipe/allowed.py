"""What a recipe may hold at a place, in the words of messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from curator.recipe import Recipe
from curator.recipe.shorthands import SHORTHANDS
from curator.wording import these

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
_KINDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}


def allowed(item: ErrorDetails, *, union: bool) -> str:
    """What may stand in place of the value that pydantic refused; with `union`, the value fits none of the forms that
    its place has.
    """
    kind, context = item["type"], item.get("ctx", {})
    forms = dict.fromkeys(_forms(_annotation(item["loc"]))) if union else {}
    if forms and (kind.endswith("_type") or kind == "literal_error"):
        return ", ".join(forms)
    if kind in ("literal_error", "enum"):
        return str(context["expected"]).replace("'", "").replace(" or ", ", ")
    bounds = {"greater_than": "more than {gt}", "greater_than_equal": "{ge} or more",
              "less_than": "less than {lt}", "less_than_equal": "{le} or less"}  # fmt: skip
    if kind in bounds:
        return bounds[kind].format(**context)
    if kind == "too_short":
        return f"at least {these(context['min_length'], 'item', 'items')}"
    if kind == "string_too_short":
        return f"at least {these(context['min_length'], 'character', 'characters')}"
    if kind == "string_too_long":
        return f"at most {these(context['max_length'], 'character', 'characters')}"
    if kind == "model_type" and context.get("class_name") in SHORTHANDS:
        return f"{_TYPES[kind]}, or {SHORTHANDS[context['class_name']].words}"
    return _TYPES.get(kind, item["msg"])


def _annotation(path: Sequence[str | int]) -> Any:
    """The type of the value at `path`; an item of a list has that of the list."""
    annotation: Any = Recipe
    for part in path:
        model = next(_models(annotation), None)
        if model is not None and not isinstance(part, int):
            fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
            annotation = fields.get(part)
    return annotation


def siblings(path: Sequence[str | int]) -> list[str]:
    """The keys that are allowed beside the last key of `path`."""
    model = next(_models(_annotation(path[:-1])), None)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _forms(annotation: object) -> Iterator[str]:
    """The forms that a type allows, in words; a union allows those of each part."""
    origin = get_origin(annotation)
    if origin is Literal:
        yield from map(str, get_args(annotation))
    elif origin is Annotated:
        yield from _forms(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from _forms(part)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "a mapping"
    elif (kind := _KINDS.get(origin or annotation)) is not None:
        yield kind
