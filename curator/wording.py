"""Figures and foreign text as a reader sees them, on a terminal and in Markdown pages.

In a page, every value that a template prints is made inert unless a filter of this module made it: a category named
`<script>` or `| x |` is shown as these characters.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

UNKNOWN = "not measured"
_LONGEST = 1000
_JOINERS = "\u200c\u200d"  # needed to spell words in some scripts, and harmless
# Characters that Markdown or HTML could read as structure or as a link. Underscores between letters or digits are
# neither. Of other underscores the whole run is escaped, because one after a character reference follows punctuation
# and may open emphasis.
_STRUCTURE = re.compile(
    r"[^\w\s,.;:()!?%'\"/+=\u2026-]"
    r"|(?<!\w)_++|_++(?![^\W_])"
    r"|:(?=//)|(?<=[wW])\."
)


def percent(share: float | None) -> str:
    """A share in percent: `12%`, one decimal below one percent and from 99.5% on; `100%` is exactly 1."""
    return UNKNOWN if share is None else f"{_figure(share)}%"


def most_frequent(shares: Mapping[str, float]) -> str:
    """The name with the largest share, and the share: `prose 86%`; of equal ones the first by name."""
    name = min(shares, key=lambda each: (-shares[each], each))
    return f"{name} {percent(shares[name])}"


def rate(value: float | None, low: float | None, high: float | None) -> str:
    """A share with its limits: `12% [8, 17]`."""
    if value is None or low is None or high is None:
        return percent(value)
    return f"{percent(value)} [{_figure(low)}, {_figure(high)}]"


def points(share: float | None) -> str:
    """A difference of shares in signed percentage points with one decimal, without the unit."""
    return UNKNOWN if share is None else f"{round(100 * share, 1) + 0.0:+.1f}"


def reach(low: float | None, high: float | None) -> str:
    """Limits of a difference of shares, in points: `[-13.1, -0.2]`."""
    return UNKNOWN if low is None or high is None else f"[{points(low)}, {points(high)}]"


def probability(p: float | None) -> str:
    """A p-value: three digits below 0.1, two above."""
    if p is None:
        return UNKNOWN
    return "below 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def at_least(share: float) -> str:
    """A share in percent rounded down to one decimal, for proven figures."""
    return f"{math.floor(1000 * share + 1e-9) / 10:.1f}%"


def of_the_gain(gap: float, over: str = "random sets") -> str:
    """What share of the possible gain over random sets a set is proven to reach.

    Args:
        gap: The share that it is not proven to reach, at least 0; above 1 its value is below the mean of random sets.
        over: The random sets in words.
    """
    return f"at least {at_least(1.0 - gap)} of the possible gain over {over}" + (
        ", below their mean" if gap > 1 else ""
    )


def confidence(level: float | None) -> str:
    """The confidence of an interval in percent, from its two-sided error in [0, 1]: `95%`, `97.7%`, `99.98%`; `100%` is
    an error of exactly 0.
    """
    if level is None:
        return UNKNOWN
    covered = 100 * (1 - level)
    texts = (f"{covered:.{digits}g}" for digits in range(3, 16))
    return next((text for text in texts if float(text) < 100), "100") + "%"


def these(count: int, singular: str, plural: str) -> str:
    """A count with the words for one or for several: `1 row is`, `2,000 rows are`."""
    return f"{count:,} {singular if count == 1 else plural}"


def in_lines(source: str) -> bool:
    """Whether the records of a file are its lines, by its name; else they have positions in a list or a table."""
    ending = source.lower().removesuffix(".gz").removesuffix(".zst").rpartition(".")[2]
    return ending in ("jsonl", "ndjson", "txt")


def record_of(source: str, record: int) -> str:
    """Where a record stands: `rows.jsonl:7` where it is that line, else `rows.json, record 7`."""
    return f"{source}:{record}" if in_lines(source) else f"{source}, record {record:,}"


def number(value: float | None, digits: int = 3) -> str:
    """A plain number: with thousands separated if whole or at least 1,000, else to `digits` significant digits."""
    if value is None:
        return UNKNOWN
    whole = abs(value) >= 1000 or value == int(value)
    return f"{value:,.0f}" if whole and abs(value) < 1e15 else f"{value:.{digits}g}"


def duration(seconds: float | None) -> str:
    """Seconds in readable units: `4.2 s`, `42 s`, `3 min 5 s`, `2 h 10 min`, `1,200 h`."""
    if seconds is None:
        return UNKNOWN
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 6000 else f"{minutes / 60:,.0f} h"


def gibibytes(size: float | None) -> str:
    """A number of bytes: `0.08 GiB`, `2.5 GiB`, `1,200 GiB`; at least `0.01 GiB`."""
    if size is None:
        return UNKNOWN
    value = max(size / 2**30, 0.01)
    digits = 2 if value < 0.995 else 1 if value < 9.95 else 0
    return f"{value:,.{digits}f} GiB"


def model_name(model_id: str) -> str:
    """The name of a model in texts: `sandbox:` is the sandbox model, any other model has its id."""
    return "the sandbox model" if model_id == "sandbox:" else model_id


def visible(text: str) -> str:
    """Text on one line: white space folded, control and direction marks shown as U+FFFD, cut at 1,000 characters."""
    shown = "".join(
        c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn") or c in _JOINERS or c.isspace() else "\ufffd"
        for c in text[: 10 * _LONGEST]
    )
    folded = " ".join(shown.split())
    return folded if len(folded) <= _LONGEST and len(text) <= 10 * _LONGEST else folded[: _LONGEST - 1] + "\u2026"


def inert(text: str) -> str:
    """`visible` text with everything that Markdown or HTML could act on written as character references."""
    return _STRUCTURE.sub(lambda match: "".join(f"&#{ord(sign)};" for sign in match[0]), visible(text))


def page(folder: str, template: str, /, **values: object) -> str:
    """A template of `curator/<folder>/` filled in, with at most one empty line in a row.

    Filters are the functions above; `these` is a function there too. Strings are made inert, whole numbers get their
    thousands separated, null reads 'not measured'; a value that is already Markdown comes as `markupsafe.Markup`.

    Raises:
        jinja2.TemplateError: The template names a value that it was not given, which is a bug in curator.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("curator", folder),
        autoescape=True,
        finalize=_finished,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({each.__name__: _markup(each) for each in _FILTERS})
    environment.globals["these"] = these
    text = environment.get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


_FILTERS: tuple[Callable[..., str], ...] = (
    percent, rate, points, reach, probability, at_least, confidence, number, duration, gibibytes, inert,
)  # fmt: skip


def _markup(function: Callable[..., str]) -> Callable[..., Markup]:
    from markupsafe import Markup

    return lambda *values: Markup(function(*values))


def _finished(value: object) -> Markup:
    from markupsafe import Markup

    if isinstance(value, Markup):
        return value
    if value is None or isinstance(value, float):
        return Markup(number(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return Markup(f"{value:,}")
    return Markup(inert(str(value)))


def _figure(share: float) -> str:
    if 0.995 <= share < 1:
        return f"{min(100 * share, 99.9):.1f}"  # 100% would claim that it holds without exception
    digits = 1 if 0 < abs(share) < 0.0095 else 0
    return f"{100 * share + 0.0:.{digits}f}"
