"""Short forms of sections: what a recipe may write in a section's place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import JsonValue


class Shorthand(NamedTuple):
    """The short form of a section.

    Attributes:
        keys: Keys of the recipe at which the section stands; empty for items of a list.
        field: The key of the section that the short form gives.
        schema: The short form as JSON schema.
        words: The short form in messages.
        becomes: The value of `field`; null for the short form itself.
    """

    keys: tuple[str, ...]
    field: str
    schema: dict[str, JsonValue]
    words: str
    becomes: JsonValue = None

    def expanded(self, value: Any) -> Any:
        """The section that `value` is short for; any other value as it is."""
        if not _fits(value, self.schema):
            return value
        return {self.field: value if self.becomes is None else self.becomes}


SHORTHANDS: Mapping[str, Shorthand] = {
    "Arm": Shorthand((), "name", {"type": "string"}, "the name of an arm"),
    "Categorise": Shorthand(("categorise",), "least", {"type": "number"}, "a number"),
    "Category": Shorthand(("category",), "from", {"type": "string"}, "the name of a column"),
    "Decontaminate": Shorthand(("decontaminate",), "overlap", {"type": "number"}, "a number"),
    "LogOdds": Shorthand(("log_odds",), "from", {"const": "pilot"}, "pilot"),
    "NearDuplicates": Shorthand(("near_duplicates",), "jaccard", {"type": "number"}, "a number"),
    "Refusals": Shorthand(("refusals",), "judge", {"type": "string"}, "the name of a judge"),
    "RegimeSearch": Shorthand(("regime",), "auto", {"const": "auto"}, "auto", becomes=True),
    "Within": Shorthand(("within",), "by", {"type": "array"}, "a list such as [refusal]"),
}
"""Section -> its short form, which the section's validator reads."""


def expanded(key: str, value: Any) -> Any:
    """The section that `value` is short for at a key of the recipe; any other value as it is."""
    short = next((short for short in SHORTHANDS.values() if key in short.keys), None)
    return value if short is None else short.expanded(value)


def _fits(value: Any, schema: Mapping[str, JsonValue]) -> bool:
    kinds: dict[Any, type | tuple[type, ...]] = {"string": str, "number": (int, float), "array": list}
    if "const" in schema:
        return bool(value == schema["const"])
    return isinstance(value, kinds[schema["type"]]) and not isinstance(value, bool)
