"""The JSON schema of a recipe, for completion and checks in editors, and for the reference in the documentation."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from typing import get_args

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from curator.recipe import Recipe
from curator.recipe.shorthands import SHORTHANDS
from curator.recipe.source import Section
from curator.recipe.unverified import SECTIONS

Values = dict[str, JsonValue]


def meanings(section: type[Section]) -> dict[str, str]:
    """Key as written in a recipe -> its meaning: the docstring below the field, on one line.

    Keys without a docstring are left out. They are read from the source on demand: pydantic would read them at every
    import, which would take half as long again.
    """
    meant: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        if not issubclass(kind, Section) or kind is Section:
            continue
        (body,) = ast.parse(inspect.getsource(kind)).body
        assert isinstance(body, ast.ClassDef)
        for key, text in pairwise(body.body):
            if isinstance(key, ast.AnnAssign) and isinstance(key.target, ast.Name) and isinstance(text, ast.Expr):
                name = kind.model_fields[key.target.id].alias or key.target.id
                meant[name] = " ".join(str(ast.literal_eval(text.value)).split())
    return meant


def sections() -> dict[str, type[Section]]:
    """Every section that a recipe can hold, by the name of its class, including the recipe itself."""
    known: dict[str, type[Section]] = {}
    waiting: list[type[Section]] = [Section]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            known[kind.__name__] = kind
            waiting.append(kind)
    return known


def switched_off() -> frozenset[str]:
    """Keys for which null is meaningful: it is not their default."""
    nulls = {"answers"}  # its default depends on how rows are chosen
    for section in sections().values():
        for name, field in section.model_fields.items():
            if not field.is_required() and field.get_default(call_default_factory=True) and _optional(field.annotation):
                nulls.add(field.alias or name)
    return frozenset(nulls)


def _optional(annotation: object) -> bool:
    return annotation is type(None) or any(_optional(part) for part in get_args(annotation))


def schema() -> Values:
    """The JSON schema of a recipe, with the meaning and the default of every key. It has no rules between keys;
    `curator check` checks those.
    """
    generated: Values = Recipe.model_json_schema()
    definitions = _inner(generated, "$defs")
    for name, kind in sections().items():
        if kind is not Recipe and name not in definitions:
            continue
        properties = _inner(generated if kind is Recipe else _inner(definitions, name), "properties")
        for key, meaning in meanings(kind).items():
            _inner(properties, key)["description"] = meaning
        for field, info in kind.model_fields.items():
            if info.default_factory is not None:
                default = info.get_default(call_default_factory=True)
                _inner(properties, info.alias or field)["default"] = to_jsonable_python(default, exclude_none=True)
    for name in SECTIONS:  # their placeholders are not defaults to copy
        del _inner(_inner(generated, "properties"), name)["default"]
    flat = _flat_arm(definitions)
    for name, short in SHORTHANDS.items():
        whole = _inner(definitions, name)
        forms: list[JsonValue] = [whole, short.schema]
        definitions[name] = {"description": whole.pop("description"), "anyOf": forms}
        if name == "Arm":
            forms.append(flat)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | generated | {"title": "A recipe of curator"}


def _flat_arm(definitions: Values) -> Values:
    """An arm that is written with the keys of its data beside its own: `{name: mine, file: rows.jsonl}`."""
    arm, source = _inner(definitions, "Arm"), _inner(definitions, "Source")
    keys = {name: value for name, value in _inner(arm, "properties").items() if name != "data"}
    return {**source, "properties": _inner(source, "properties") | keys, "required": ["name"]}


def _inner(node: Values, key: str) -> Values:
    found = node[key]
    assert isinstance(found, dict)
    return found
