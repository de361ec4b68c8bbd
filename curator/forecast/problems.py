"""Every problem of a recipe at once, each with its line and key, and what is unknown before a run. Imports nothing
heavy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from curator.errors import DataError
from curator.recipe import Recipe
from curator.recipe.file import MISSING, Keys, Located, Written, examined
from curator.recipe.source import Source
from curator.sandbox import NAMES
from curator.wording import these, visible

if TYPE_CHECKING:
    import polars as pl

WHOLE, PACKED = 64 * 2**20, 16 * 2**20
"""Bytes of a text file, and of a compressed one, up to which its rows are counted."""

Part = str | type[int]

_SOURCES: tuple[tuple[Part, ...], ...] = (
    ("model", "instruction", "data"),
    ("pool", "sources", int),
    ("tasks", int, "train"),
    ("tasks", int, "regime", "data"),
    ("tasks", int, "defence", "data"),
    ("probes", "harmful", int),
    ("probes", "benign", int),
    ("select", "data"),
    ("verify", "keep", "data"),
    ("verify", "arms", int, "data"),
    ("verify", "arms", int),  # these may be written as a source with a name
)
"""Paths of sources in a recipe; `int` is a position in a list."""


@dataclass(frozen=True)
class Examined:
    """What is known about a recipe before it runs.

    Attributes:
        recipe: Null if a value in it is wrong.
        problems: What stops a run, one sentence each, in the order of the file.
        warnings: Problems that do not stop a run.
        unknown: What could not be checked here, and why.
        lengths: Role -> characters of each row that was read, for `estimates`.
    """

    recipe: Recipe | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    unknown: tuple[str, ...]
    lengths: Mapping[str, pl.Series] = field(default_factory=dict)


def examine(written: Written, *, whole: bool = True, missing: str = MISSING) -> Examined:
    """Checks everything that a recipe names: values, files, columns, folders of models, and numbers of rows.

    Files of at most WHOLE bytes (PACKED if compressed) are read and counted; only the first records of longer ones are
    read. Nothing is downloaded, and models are not loaded.

    Args:
        written: The recipe as written; one with mistakes is examined as far as its sources can be read.
        whole, missing: As in `recipe.file.read`.
    """
    from curator.forecast.panel import hub_refuses

    recipe, located = examined(written, whole=whole, missing=missing)
    problems: list[Located] = [*located]
    warnings: list[Located] = []
    fetched: list[str] = []
    unknown: list[str] = []
    lengths: Mapping[str, pl.Series] = {}
    readable: set[Keys] = set()
    sources = dict(_sources(written.data))
    for keys, source in sources.items():
        if source.hub is not None:
            if (refusal := hub_refuses(source.hub)) is None:
                fetched.append(source.hub)
            else:
                sentence = f"{source.hub}: not a valid name of a Hub data set ({refusal}); write owner/name"
                problems.append(written.at(keys, sentence))
            continue
        try:
            reason = _not_counted(source, prompts_only=keys[0] == "probes")
        except DataError as error:
            problems.append(written.at(keys, str(error)))
            continue
        if reason is None:
            readable.add(keys)
        else:
            unknown.append(reason)
    if fetched:
        unknown.append(
            f"the rows and columns of {', '.join(dict.fromkeys(fetched))}, because `curator check` downloads nothing"
        )
    for keys, sentence in _shared(sources):
        problems.append(written.at(keys, sentence))
        readable.discard(keys)  # otherwise these probes would claim every candidate, and limits could not be checked
    if recipe is not None:
        from curator.forecast.curve import flat
        from curator.forecast.models import lacking, looked_at, not_fetched, unusual
        from curator.forecast.rows import too_few

        absent = list(lacking(recipe))
        problems += [written.at(*problem) for problem in (*absent, *flat(recipe))]
        if not any(keys[0] == "model" for keys, _ in absent):
            faults, notes = looked_at(recipe)
            problems += [written.at(*fault) for fault in faults]
            warnings += [written.at(*note) for note in notes]
        unknown += not_fetched(recipe)
        counted = too_few(recipe, readable)
        lengths = counted.lengths
        problems += [written.at(*problem) for problem in counted.problems]
        warnings += [written.at(*warning) for warning in (*counted.warnings, *unusual(recipe))]
        if counted.candidates is not None:
            unknown.append(
                f"how many of {these(counted.candidates, 'candidate', 'candidates')} leave the pool because they are "
                "too long for pool.clean.max_tokens, or near duplicates of others"
            )
    return Examined(recipe, _in_order(problems), _in_order(warnings), tuple(dict.fromkeys(unknown)), lengths)


def _in_order(located: list[Located]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(sentence for _, sentence in sorted(located)))


def _sources(data: Mapping[str, Any]) -> Iterator[tuple[Keys, Source]]:
    """Every source that is valid enough to be read, by its path."""
    for pattern in _SOURCES:
        for keys, value in _at(data, pattern, ()):
            written = value
            if pattern == ("verify", "arms", int) and isinstance(value, dict):
                written = {name: value[name] for name in value if name not in ("name", "seeds")}
            try:
                yield keys, Source.model_validate(written, by_alias=True, by_name=False)
            except ValidationError:  # a mistake in the recipe, or not a source
                continue


def _at(value: Any, pattern: tuple[Part, ...], keys: Keys) -> Iterator[tuple[Keys, Any]]:
    if not pattern:
        yield keys, value
    elif pattern[0] is int and isinstance(value, list):
        for number, item in enumerate(value):
            yield from _at(item, pattern[1:], (*keys, number))
    elif isinstance(value, dict) and pattern[0] in value:
        yield from _at(value[pattern[0]], pattern[1:], (*keys, str(pattern[0])))


def _not_counted(source: Source, *, prompts_only: bool) -> str | None:
    """Why the rows of a source are not counted; null if they are.

    Raises:
        DataError: It cannot be read, or lacks a column.
    """
    from curator.recipe.inputs import locate

    if source.sandbox is not None:
        if source.sandbox not in NAMES:
            raise DataError(f"found {source.sandbox!r}; allowed for sandbox: {', '.join(NAMES)}")
        return None
    from curator.pool.files import TEXT
    from curator.pool.sources import look

    path = locate(str(source.file))
    look(source, prompts_only=prompts_only)
    size, most = path.stat().st_size, WHOLE if path.suffix in TEXT else PACKED
    if size <= most:
        return None
    return f"how many rows {source.label} has, because `curator check` does not read files above {most >> 20} MiB"


def _shared(sources: Mapping[Keys, Source]) -> Iterator[tuple[Keys, str]]:
    """Probes that are read from the same source as candidates."""
    pool = {keys: source for keys, source in sources.items() if keys[0] == "pool"}
    for keys, source in sources.items():
        if keys[0] != "probes" or source.rows is not None:  # some of its rows claim no more than themselves
            continue
        for number, candidate in enumerate(pool.values()):
            same = ("file", "hub", "config", "split", "sandbox", "where")
            if all(getattr(source, name) == getattr(candidate, name) for name in same):
                yield (
                    keys,
                    f"{source.label} is also pool.sources[{number}]; a probe cannot be a candidate, so no candidate "
                    "would be left; name other probes, or divide the rows with `where`",
                )


def told(examined: Examined) -> list[str]:
    """Warnings and unknowns, as lines for a terminal; empty if there are none."""
    lines = []
    if examined.warnings:
        count = these(len(examined.warnings), "warning", "warnings")
        lines += [f"{count}:", *(f"  {visible(warning)}" for warning in examined.warnings), ""]
    if examined.unknown:
        lines += ["Not known before the run:", *(f"  {visible(reason)}" for reason in examined.unknown), ""]
    return lines
