"""Section of a recipe for sources of rows, and the base class of all sections."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from curator.recipe.shorthands import SHORTHANDS

if TYPE_CHECKING:
    from curator.recipe import Recipe

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=80)]
Count = Annotated[int, Field(ge=1)]

FIELDS = ("prompt", "response", "input", "system", "history", "messages", "chosen", "label")
"""The fields that a source's `columns` may map."""


class Section(BaseModel):
    """A part of a recipe: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        """Reads the short form of a section that has one, such as `category: topic` for `category: {from: topic}`."""
        short = SHORTHANDS.get(cls.__name__)
        return data if short is None else short.expanded(data)

    def refuse_unread(self, *names: str, reason: str, prefix: str = "") -> None:
        """Refuses settings without effect that differ from their defaults.

        Args:
            names: Names of this section's settings.
            reason: The text after `NAME has no effect: `: what would read the setting, and what the recipe says
                instead.
            prefix: Path of the section below the checked one, with a dot at its end.

        Raises:
            ValueError: One of them was given.
        """
        given = [type(self).model_fields[name].alias or name for name in names if not self.is_default(name)]
        if given:
            raise ValueError("\n".join(f"{prefix}{n} has no effect: {reason}; remove it" for n in given))

    def refuse_repeated(self, *names: str) -> None:
        """Refuses settings that are a list with two equal values; other settings are passed over.

        Raises:
            ValueError: There is one; the message names the value.
        """
        for name in names:
            values = getattr(self, name)
            twice = [value for value in values if values.count(value) > 1] if isinstance(values, list) else []
            if twice:
                raise ValueError(f"duplicate value {twice[0]!r} in {name}; remove one")

    def is_default(self, name: str) -> bool:
        """Whether a setting has its default, stated or not."""
        return bool(getattr(self, name) == _default(type(self), name))

    def without_later(self, *later: str) -> dict[str, object]:
        """The settings for a key, those of `later` only if they differ from their defaults: a new setting must not
        change the keys of existing run folders.
        """
        return self.model_dump(exclude={name for name in later if self.is_default(name)})


@cache
def _default(section: type[Section], name: str) -> object:
    """The default of a setting, made once: pydantic looks up how to call its factory every time."""
    return section.model_fields[name].get_default(call_default_factory=True)


def require_all(*checks: Callable[[], None]) -> None:
    """Runs every check, and reports all refusals at once, one sentence per line.

    Raises:
        ValueError: A check raised one.
    """
    problems = []
    for check in checks:
        try:
            check()
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))


class Category(Section):
    """Where the category of a row stands. Without it, a column called `category` counts, if there is one. `category:
    topic` is short for `{from: topic}`.
    """

    column: str = Field(alias="from")
    """A column. It may hold a name, a list of names, or a mapping from names to true or false, as in BeaverTails."""
    pick: Literal["first", "rarest"] = "first"
    """Which of several categories of a row counts: the `first` in the order of the data, or the `rarest` over the
    source.
    """


class Source(Section):
    """Where rows come from: exactly one of `file`, `hub` and `sandbox`. A column inside a column is written with a dot:
    `metadata.topic`.
    """

    file: Annotated[str, Field(min_length=1)] | None = None
    """A JSON, JSONL, CSV, TSV or Parquet file, or a text file with one prompt a line; `package:NAME/PATH` for one
    inside an installed package.
    """
    hub: Annotated[str, Field(min_length=1)] | None = None
    """A data set on the Hub."""
    sandbox: str | None = None
    """A data set of the sandbox."""
    config: str | None = None
    """Configuration of the data set on the Hub."""
    split: str = "train"
    """Split of the data set on the Hub."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    where: dict[str, Any] = {}
    """Keep the rows whose column equals the value, or one of a list of values."""
    columns: dict[str, str | Annotated[int, Field(ge=0)]] = {}
    """Which column of the data holds a field (`prompt`, `response`, `input`, `system`, `history`, `messages`, `chosen`,
    `label`). In a CSV or TSV file without a header, its position from 0.
    """
    template: str | None = None
    """Build the prompt from columns."""
    category: Category | None = None
    """The column that holds the category."""
    rows: Count | None = None
    """Number of rows to take, chosen by hash so that the order of the file does not matter; null takes all."""
    weight: Annotated[float, Field(ge=0.0)] = 1.0
    """How much each row of this candidate source counts in coverage. Rows of weight 0 can be chosen and need not be
    covered.
    """
    licence: str | None = None
    """Licence of the rows, where the data does not state it."""
    broken: Share = 0.05
    """Largest share of records that may be unreadable before the source is refused. Fewer are dropped, each with its
    line.
    """

    @field_validator("where")
    @classmethod
    def _values(cls, value: dict[str, Any]) -> dict[str, Any]:
        for column, allowed in value.items():
            items = allowed if isinstance(allowed, list) else [allowed]
            if not items or not all(isinstance(item, str | int | float | bool) for item in items):
                raise ValueError(f"column {column!r} needs a text, a number, true or false, or a list of these")
        return value

    @field_validator("columns")
    @classmethod
    def _fields(cls, value: dict[str, str | int]) -> dict[str, str | int]:
        for name in value:
            if name not in FIELDS:
                raise ValueError(f"{name!r} is not a known field; allowed: {', '.join(FIELDS)}")
        if len({type(column) for column in value.values()}) > 1:
            raise ValueError(
                "names and positions are mixed; give positions alone, for a table without a header, or names alone"
            )
        return value

    @field_validator("template")
    @classmethod
    def _template(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                pieces = list(string.Formatter().parse(value))
            except ValueError as error:
                raise ValueError(f"{error}; write a column as {{column}}, and a brace as {{{{ or }}}}") from None
            if not any(name for _, name, _, _ in pieces):
                raise ValueError("the template names no column; write one as {column}")
            if any(name == "" or spec or conversion for _, name, spec, conversion in pieces):
                raise ValueError("a placeholder is not a plain column name; write {column}, without ! or :")
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> Source:
        given = [name for name in ("file", "hub", "sandbox") if getattr(self, name) is not None]
        if len(given) != 1:
            named = " and ".join(given) or "none of them"
            raise ValueError(f"needs exactly one of file, hub, sandbox; found {named}")
        if self.hub is None:
            for name in ("config", "revision"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is only valid with hub; remove it, or name a hub data set")
            if self.split != "train":
                raise ValueError("split is only valid with hub; remove it, or name a hub data set")
        if self.file is None and self.positions:
            raise ValueError("columns by position are only valid with file; give their names")
        if self.template is not None and not {"prompt", "input", "messages", "chosen"}.isdisjoint(self.columns):
            raise ValueError("template already makes the prompt; remove it, or remove prompt, input, ... from columns")
        return self

    @property
    def positions(self) -> bool:
        """Whether `columns` has positions, so that the table has no header; columns are then named 0, 1, 2 and so
        on.
        """
        return any(isinstance(column, int) for column in self.columns.values())

    @property
    def label(self) -> str:
        """The name of the source in reports: its file name, Hub id, or sandbox name."""
        if self.file is not None:
            return self.file.replace("\\", "/").rsplit("/", 1)[-1]
        return self.hub if self.hub is not None else f"sandbox:{self.sandbox}"


def labels(sources: Sequence[Source]) -> list[str]:
    """The name of each source: its label, or `label#2` and so on if an earlier one has the same."""
    names = [source.label for source in sources]
    times = [names[: position + 1].count(name) for position, name in enumerate(names)]
    return [name if count == 1 else f"{name}#{count}" for name, count in zip(names, times, strict=True)]


def sources_of_other_rows(recipe: Recipe) -> list[tuple[str, Source]]:
    """Every source that the recipe names except those of candidates, and its path in messages."""
    verify, tasks, instruction = recipe.verify, recipe.tasks, recipe.model.instruction
    named: list[tuple[str, Source | None]] = [(f"tasks: {task.name}.train", task.train) for task in tasks]
    named += [("probes: harmful", source) for source in recipe.probes.harmful]
    named += [("probes: benign", source) for source in recipe.probes.benign]
    named += [("verify: keep.data", verify.keep.data if verify.keep else None)]
    named += [(f"verify: arms.{arm.name}", arm.data) for arm in verify.arms]
    named += [(f"tasks: {task.name}.regime.data", task.regime.data if task.regime else None) for task in tasks]
    named += [(f"tasks: {task.name}.defence.data", task.defence.data if task.defence else None) for task in tasks]
    named += [("select: data", recipe.select.data)]
    named += [("model: instruction.data", instruction.data if instruction else None)]
    return [(where, source) for where, source in named if source is not None]


def rows_added(rows: int, share: float) -> int:
    """Number of rows to add to `rows` rows so that the added ones are `share` of all; `share` is in [0, 1)."""
    return round(rows * share / (1.0 - share))


def of_regime(rows: int, share: float) -> int:
    """Number of the attack's rows among `rows` training rows."""
    return round(rows * share)
