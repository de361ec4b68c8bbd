"""What every set is made of beside the pool, as report.json says it, and as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from curator.report.cells import Made, number, share
from curator.report.part import Absent, AtLeastZero, Number, Part, Share, ShareOrNull

if TYPE_CHECKING:
    import curator.selection.composition as measured
    from curator.report.figures import Figures
    from curator.report.model import Report


class Composition(Part):
    """What a set is made of; of an arm, means over its draws. Kinds of answers are those of stage `pool`."""

    set: str
    """`pool`, or an arm."""
    rows: AtLeastZero
    refusals: ShareOrNull
    """Of the rows of which the judge of the pool's refusals can tell; null where it can of none."""
    unjudged: Share
    """Rows of which it cannot."""
    answers: AtLeastZero
    """Different ones, word for word."""
    openers: AtLeastZero
    """Different first words of an answer."""
    openers_by_chance: AtLeastZero
    """How many as many random rows of the pool would have."""
    top_answer: Share
    """Rows with the most frequent answer."""
    top_opener: Share
    """Rows with the most frequent opener."""
    words: AtLeastZero
    """Median of an answer."""
    formats: dict[str, Share]
    """Format of the answer -> share of the rows."""
    categories: AtLeastZero
    """Different ones; no category is one."""
    category_entropy: AtLeastZero
    """Of their shares, in nats."""
    similarity: Number
    """Mean of the score that the curated set was chosen by."""
    coverage: ShareOrNull
    """Mean over the pool of the largest cosine, clipped at 0, to a row of the set."""
    vulnerable: Share | Absent = None
    """Rows among those that fine-tuning makes a model forget most; absent where the recipe states no share of them."""


def made_of(composition: measured.Composition) -> Composition:
    """What a set is made of, as report.json says it."""
    values = asdict(composition)
    if values["vulnerable"] is None:
        del values["vulnerable"]
    return Composition.model_validate(values)


def _composition(report: Report, _: Figures) -> Made:
    sets = report.composition or ()
    formats = sorted({form for each in sets for form in each.formats})
    vulnerable = any(each.vulnerable is not None for each in sets)
    rows = (
        (each.set, number(each.rows), share(each.refusals), share(each.unjudged), number(each.answers),
         number(each.openers), number(each.openers_by_chance), share(each.top_answer), share(each.top_opener),
         number(each.words), *(share(each.formats.get(form, 0.0)) for form in formats), number(each.categories),
         number(each.category_entropy), number(each.similarity), number(each.coverage),
         *([share(each.vulnerable)] if vulnerable else []))
        for each in sets
    )  # fmt: skip
    columns = "set|rows|refusals|not judged|answers|openers|openers by chance|top answer|top opener|median words"
    caption = (
        "Composition of the sets beside the pool's, means over draws. Refusals are told by "
        f"{report.pool.refusals_by or 'phrases'}. Openers by chance: "
        "how many different openers as many random rows would have. Coverage: the mean over the pool of the cosine to "
        "the nearest row of the set."
    )
    rest = ["categories", "category entropy", "similarity", "coverage", *(["vulnerable"] if vulnerable else [])]
    return caption, [*columns.split("|"), *formats, *rest], rows


TABLES: dict[str, Callable[[Report, Figures], Made]] = {"composition": _composition}
