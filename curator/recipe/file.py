"""Reads a recipe file: YAML 1.2 and `--set` overrides; reports all mistakes at once with their places."""

from __future__ import annotations

import difflib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from curator.errors import RecipeError
from curator.recipe import Recipe
from curator.recipe.allowed import allowed, siblings
from curator.recipe.shorthands import expanded
from curator.recipe.source import Name
from curator.recipe.unverified import lacking

_LAST = 10**9  # the line number of `--set`, so that its mistakes come last

ADD = "missing; add it"
"""The message about a missing section that only a verification needs."""
MISSING = f"{ADD}, or choose rows without verification with `curator select`"
"""The same message if rows can be chosen without the section."""

Keys = tuple[str | int, ...]

Place = tuple[int, str]
"""The place of a value: its line, for sorting, and the place in words."""

Located = tuple[int, str]
"""A sentence about the recipe that starts with its place, and the line, for sorting."""


def read(path: str | Path, settings: Sequence[str] = (), *, whole: bool = True, missing: str = MISSING) -> Recipe:
    """The recipe of a file, checked.

    Args:
        path: A YAML file.
        settings: Overrides such as `select.k=50` or `tasks.list.rows=10`, whose value is read as YAML; they pass the
            same checks as the file. An item of a list is named by its position or by its `name`.
        whole: Whether the sections for verification are required too.
        missing: The message about each of these sections that is missing.

    Raises:
        RecipeError: The file cannot be read, is not YAML, or has mistakes; the message names all of them.
    """
    return validated(open_file(path, settings), whole=whole, missing=missing)


def parse(text: str, settings: Sequence[str] = (), *, name: str = "recipe", whole: bool = True) -> Recipe:
    """The recipe written in `text`; `name` is its name in messages. Errors and other arguments are as in `read`."""
    return validated(load(text, settings, name=name), whole=whole)


@dataclass(frozen=True)
class Written:
    """A recipe as written, before its values are checked.

    Attributes:
        name: Name of the recipe in messages.
        data: Built-in types, with overrides applied.
        places: Path of each key and item -> its place.
        problems: Overrides that could not be applied, one sentence each.
    """

    name: str
    data: dict[str, Any]
    places: Mapping[Keys, Place]
    problems: tuple[str, ...]

    def at(self, keys: Keys, sentence: str) -> Located:
        """A sentence about a key, with its line and its place in front; if the key is not written, the place is that of
        the section around it.
        """
        line, where = next(
            (self.places[keys[:cut]] for cut in range(len(keys), 0, -1) if keys[:cut] in self.places), (0, self.name)
        )
        return line, ": ".join(part for part in (where, dotted(keys), sentence) if part)

    def for_option(self, option: str, settings: Sequence[str]) -> Written:
        """The same recipe, whose messages name an option in place of the overrides that stand for it."""
        meant = {f"--set {setting}": option for setting in settings}
        places = {keys: (line, meant.get(where, where)) for keys, (line, where) in self.places.items()}
        problems = tuple(
            next((option + text[len(where) :] for where in meant if text.startswith(f"{where}: ")), text)
            for text in self.problems
        )
        return replace(self, places=places, problems=tuple(dict.fromkeys(problems)))


def open_file(path: str | Path, settings: Sequence[str] = ()) -> Written:
    """The unchecked content of a recipe file. Arguments as in `read`.

    Raises:
        RecipeError: The file cannot be read, or is not a mapping in YAML.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"{path}: cannot be read ({_reason(error)}); give the path of a recipe file in YAML"
        ) from error
    return load(text, settings, name=str(path))


def load(text: str, settings: Sequence[str] = (), *, name: str = "recipe") -> Written:
    """The unchecked content of a recipe's text. Errors and arguments as in `open_file`."""
    try:
        loaded = _load(text, name)
        data, places = _plain(loaded), {keys: (line, f"{name}:{line}") for keys, line in _lines(loaded).items()}
    except RecursionError:
        raise RecipeError(f"{name}: is nested too deeply to be read; write it flatter") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{name}: holds {show(data)}; a recipe is a mapping that starts with `name:`")
    problems: list[str] = []
    for setting in settings:
        try:
            _override(data, setting, places)
        except RecipeError as error:
            problems += error.problems
    return Written(name, data, places, tuple(problems))


def mapping_of(text: str, name: str) -> dict[str, Any]:
    """A mapping written as YAML on the command line.

    Raises:
        RecipeError: It is not one; `name` is the option.
    """
    value = _plain(_load(text, name, numbered=False))
    if not isinstance(value, dict):
        raise RecipeError(f"{name}: found {show(value)}; write a mapping, such as '{{prompt: query, response: reply}}'")
    return value


def validated(written: Written, *, whole: bool = True, missing: str = MISSING) -> Recipe:
    """The checked recipe; `whole` and `missing` as in `read`.

    Raises:
        RecipeError: It has mistakes; the message names all of them, in the order of the file, those of overrides last.
    """
    recipe, problems = examined(written, whole=whole, missing=missing)
    if recipe is None or problems:
        raise RecipeError([sentence for _, sentence in problems])
    return recipe


def examined(written: Written, *, whole: bool = True, missing: str = MISSING) -> tuple[Recipe | None, list[Located]]:
    """The recipe (null if a value is wrong), and every mistake in it, sorted by line; `whole` and `missing` as
    in `read`.
    """
    overrides = [(_LAST, problem) for problem in written.problems]
    others = list(_half_characters(written.data, written))
    if whole:
        others += [written.at((name,), missing) for name in lacking(written.data)]
    try:
        return Recipe.model_validate(written.data, by_alias=True, by_name=False), [*others, *overrides]
    except ValidationError as error:
        return None, [*sorted({*mistakes(error, written), *others}), *overrides]


def _half_characters(data: Any, written: Written, path: Keys = ()) -> Iterator[Located]:
    """A sentence for each text with a lone surrogate, which cannot be written to a file."""
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _half_characters(value, written, (*path, key))
    texts = [text for text in (data, *path[-1:]) if isinstance(text, str)]
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        yield written.at(path, "holds half of a surrogate pair, which is not a character; correct the text")


def template(name: str) -> str:
    """A commented recipe to fill in, which runs unchanged on the sandbox.

    Raises:
        RecipeError: The name cannot be that of a run folder.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise refusal(error, "NAME") from None
    return Path(__file__).with_name("template.yaml").read_text(encoding="utf-8").format(name=name)


def quoted(value: object) -> str:
    """A value in a line of YAML that any text survives: JSON, which writes characters beyond the first 65,536 as two
    halves that YAML refuses, with these as they are.
    """
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda sign: f"\\u{ord(sign[0]):04x}", text)


def dump(recipe: Recipe | Mapping[str, object]) -> str:
    """The resolved recipe as YAML: every default is written, so that a copy gives the same run later. For a mapping,
    its content.

    Raises:
        RecipeError: The mapping holds a value that YAML cannot express.
    """
    from ruamel.yaml.representer import RepresenterError

    out = io.StringIO()
    try:
        _yaml("safe").dump(recipe.model_dump(by_alias=True) if isinstance(recipe, Recipe) else dict(recipe), out)
    except RepresenterError as error:
        raise RecipeError(f"recipe: {error}; give text, numbers, lists and mappings, as in a recipe file") from None
    return out.getvalue()


def _yaml(kind: str) -> Any:
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ=kind, pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 120
    return yaml


def _load(text: str, name: str, *, numbered: bool = True) -> Any:
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    def where(mark: Any) -> str:
        return f"{name}:{mark.line + 1}" if mark and numbered else name

    try:
        return _yaml("rt").load(text)
    except DuplicateKeyError as error:
        match = re.search(r'duplicate key "([^"]*)"', str(error.problem))
        key = match[1] if match else "?"
        raise RecipeError(f"{where(error.problem_mark)}: duplicate key {key!r}; remove one") from None
    except MarkedYAMLError as error:
        problem = str(error.problem or error.context)
        quotes = "; text that contains ': ' or ends with ':' needs quotes" if "mapping values" in problem else ""
        at = where(error.problem_mark or error.context_mark)
        raise RecipeError(f"{at}: invalid YAML ({problem}); fix this line{quotes}") from None
    except YAMLError as error:
        raise RecipeError(f"{name}: invalid YAML ({str(error).splitlines()[0]}); fix the file") from None
    except AttributeError:  # raised by ruamel.yaml for a mapping that merges itself
        raise RecipeError(f"{name}: a mapping includes itself with '<<'; write it out") from None


def _lines(data: Any, path: Keys = ()) -> dict[Keys, int]:
    """Path of every key and item -> its line in the file, from 1."""
    lines: dict[Keys, int] = {}
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    for key, value in items:
        name = key if isinstance(data, list) else str(key)
        position = (data.lc.data or {}).get(key)
        if position:
            lines[(*path, name)] = position[0] + 1
        lines.update(_lines(value, (*path, name)))
    return lines


def _plain(data: Any) -> Any:
    """The data in built-in types without shared objects: ruamel's numbers and strings carry formatting that strict
    models refuse, and an override of one place must not change an alias of it.
    """
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


def _override(data: Any, setting: str, places: dict[Keys, Place]) -> None:
    path, equals, text = setting.partition("=")
    where = f"--set {setting}"
    if not equals or not all(path.split(".")):
        raise RecipeError(f"{where}: expected KEY.PATH=VALUE, for example --set select.k=50")
    # `sandbox:` is the name of a model, and a mapping in YAML.
    value = text if re.fullmatch(r"[\w.-]+:", text) else _plain(_load(text, where, numbered=False))
    section: Any = data
    key: str | int
    keys: Keys = ()
    changed: Keys = ()
    rest = path
    while rest:
        if isinstance(section, list):
            key, rest = _item(section, rest, f"{where}: {dotted(keys)}")
        else:
            key, _, rest = rest.partition(".")
        keys = (*keys, key)
        if not rest:
            section[key] = value
            break
        inner = section.get(key) if isinstance(section, dict) else section[key]
        if isinstance(key, str) and not rest.partition(".")[0].isdecimal() and (whole := expanded(key, inner)) != inner:
            changed = changed or keys
            inner = section[key] = whole
        if not isinstance(inner, dict | list):
            changed = changed or keys
            inner = section[key] = {"name": inner} if isinstance(section, list) else {}
        section = inner
    changed = changed or keys
    for old in [old for old in places if old[: len(changed)] == changed]:
        del places[old]
    places[changed] = (_LAST, where)


def _item(items: list[Any], rest: str, where: str) -> tuple[int, str]:
    """The item that the path continues with, by name (which may contain dots) or by position, and the rest of the
    path.
    """
    names = [str(item.get("name", "") if isinstance(item, dict) else item) for item in items]
    for index, item_name in enumerate(names):
        if item_name and (rest == item_name or rest.startswith(item_name + ".")):
            return index, rest[len(item_name) + 1 :]
    key, _, left = rest.partition(".")
    if key.isdecimal() and int(key) < len(items):
        return int(key), left
    positions = f"0 to {len(items) - 1}" if items else "none, the list is empty"
    raise RecipeError(f"{where} has no item {key!r}; allowed: {', '.join(filter(None, names)) or positions}")


def _reason(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return (error.strerror or type(error).__name__).lower()


def mistakes(error: ValidationError, written: Written) -> list[Located]:
    """One sentence per mistake, in the order of the file; mistakes in `--set` come last, without repetitions."""
    found = sorted((part for item in error.errors() for part in _located(item, written)), reverse=True)
    return sorted((line, sentence) for sentence, line in {sentence: line for line, sentence in found}.items())


def refusal(error: ValidationError, name: str) -> RecipeError:
    """The error for values that do not come from a file; `name` is their name in messages."""
    return RecipeError([sentence for _, sentence in mistakes(error, Written(name, {}, {}, ()))])


def show(value: Any) -> str:
    """A value for a message: shortened, and a container by its kind."""
    if isinstance(value, dict):
        return f"a mapping with {', '.join(map(str, list(value)[:5])) or 'nothing'}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _located(item: ErrorDetails, written: Written) -> Iterator[Located]:
    # Parts that start with "@" name the branch of a union, and are not in the file.
    union = bool(item["loc"]) and str(item["loc"][-1]).startswith("@")
    item = {**item, "loc": tuple(part for part in item["loc"] if not str(part).startswith("@"))}
    path = item["loc"]
    # A check of a section may find several mistakes, one per line.
    for sentence in _sentence(item, union=union).splitlines():
        section, _, rest = sentence.partition(": ")
        # A check of the whole recipe names the section that it is about.
        whole = not path and (section,) in written.places
        yield written.at((section,), rest) if whole else written.at(path, sentence)


def _sentence(item: ErrorDetails, *, union: bool) -> str:
    path, kind = item["loc"], item["type"]
    if kind == "extra_forbidden":
        key, known = str(path[-1]), siblings(path)
        close = difflib.get_close_matches(key.lower(), known, 1, 0.7)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"unknown key; {hint}allowed: {', '.join(known)}"
    if kind == "missing":
        return "this key is required; add it"
    if kind == "value_error":
        return item["msg"].removeprefix("Value error, ")
    return f"found {show(item['input'])}; allowed: {allowed(item, union=union)}"


def dotted(path: Sequence[str | int]) -> str:
    """A path in the form used in messages: `pool.sources[0].where`."""
    return re.sub(r"\.(\[)", r"\1", ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in path))
