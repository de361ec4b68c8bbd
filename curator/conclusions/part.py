"""What report.json, suite.json, audit.json and cluster.json are made of: frozen parts that give their own schema."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError
from pydantic.json_schema import SkipJsonSchema

from curator.errors import RunError

Item = TypeVar("Item")


MIX = "anticipated"
"""The name of the weighted mix of the anticipated tasks, beside the tasks, in every rate of a report."""
ROUNDING = 1e-9
"""How far a share may lie outside its range: a weighted mean of ones is not always one to the last bit."""


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _clipped(low: float, high: float) -> Callable[[object], object]:
    def clip(value: object) -> object:
        if isinstance(value, float) and low - ROUNDING <= value <= high + ROUNDING:
            return min(max(value, low), high)
        return value

    return clip


Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(_clipped(0.0, 1.0))]
Correlation = Annotated[float, Field(ge=-1, le=1), BeforeValidator(_clipped(-1.0, 1.0))]
AtLeastZero = Annotated[float, Field(ge=0), BeforeValidator(_clipped(0.0, math.inf))]
# What is not a finite number is null: JSON knows neither infinity nor NaN.
Number = Annotated[float | None, BeforeValidator(_finite)]
ShareOrNull = Annotated[Share | None, BeforeValidator(_finite)]
CorrelationOrNull = Annotated[Correlation | None, BeforeValidator(_finite)]
# Stages hand over tuples, and JSON lists.
Many = Annotated[tuple[Item, ...], Field(strict=False)]
Values = dict[str, JsonValue]
Absent = SkipJsonSchema[None]
"""Type of a key that may be left out, and that is never null if it is there."""
Quantity = Literal["harmfulness", "over_refusal", "utility", "degenerate"]
Phase = Literal["before", "after", "during"]
Outcome = Literal["durable", "trade-off", "not distinguishable", "worse"]


class Part(BaseModel):
    """A part of a file that curator writes: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        from_attributes=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def filled(cls, **values: object) -> Self:
        """The part with null for every key that is not given, which then is written too."""
        return cls.model_validate({**dict.fromkeys(cls.model_fields), **values})


def plain(part: Part) -> Values:
    """The part as JSON values, with the keys that it was given: what an older version did not write is not added."""
    return part.model_dump(mode="json", exclude_unset=True)


def schema(kind: type[Part], file: str) -> Values:
    """The JSON schema of a file, generated from its type."""
    generated: Values = kind.model_json_schema()
    dialect: Values = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    newest = get_args(kind.model_fields["version"].annotation)[-1]
    return dialect | generated | {"title": f"{file} of curator, version {newest}"}


def unreadable(path: object, error: ValidationError) -> RunError:
    """The error for a file of curator that does not match its schema."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    return RunError(
        f"{path}: does not match its schema ({key}: {first['msg']}). Another version of curator wrote it, or another "
        "program changed it. Remove its folder and build again"
    )


class Quantiles(Part):
    """Mean and quantiles."""

    mean: float
    min: float
    p5: float
    p25: float
    median: float
    p75: float
    p95: float
    max: float
