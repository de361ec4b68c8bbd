"""What every set is made of, beside the pool: the part of report.json, a table and a figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from curator import wording
from curator.conclusions.part import Absent, AtLeastZero, Number, Part, Share, ShareOrNull
from curator.recipe.verify import RANDOM_CAPPED
from curator.report import drawing
from curator.report.cells import Cell, Made, Row, number, share

if TYPE_CHECKING:
    from markupsafe import Markup

    import curator.selection.composition as measured
    from curator.report.figures import Figures
    from curator.report.model import Report


class Composition(Part):
    """What a set is made of; for an arm, means over its draws. Kinds of answers are those of stage `pool`."""

    set: str
    """`pool`, or an arm."""
    rows: AtLeastZero
    refusals: ShareOrNull
    """Share of refusals among the rows that the judge of the pool's refusals can judge; null if it can judge none."""
    unjudged: Share
    """Share of the rows that it cannot judge."""
    answers: AtLeastZero
    """Number of answers that differ word for word."""
    openers: AtLeastZero
    """Number of different openers, the first words of an answer."""
    openers_by_chance: AtLeastZero
    """Number of different openers in as many random rows of the pool."""
    top_answer: Share
    """Share of the rows with the most frequent answer."""
    top_opener: Share
    """Share of the rows with the most frequent opener."""
    words: AtLeastZero
    """Median number of words of an answer."""
    formats: dict[str, Share]
    """Format of the answer -> share of the rows."""
    categories: AtLeastZero
    """Number of different categories; rows without a category count as one."""
    category_entropy: AtLeastZero
    """Entropy of the shares of the categories, in nats."""
    similarity: Number
    """Mean of the score that the curated set was chosen by."""
    coverage: ShareOrNull
    """Mean over the pool of the largest cosine, clipped at 0, to a row of the set."""
    vulnerable: Share | Absent = None
    """Share of rows that are among those fine-tuning makes a model forget most; absent if the recipe sets no share."""

    @property
    def commonest_format(self) -> str:
        """The most frequent format of the answer and its share, in words."""
        return wording.most_frequent(self.formats)


def made_of(composition: measured.Composition) -> Composition:
    """What a set is made of, as report.json says it."""
    values = asdict(composition)
    if values["vulnerable"] is None:
        del values["vulnerable"]
    return Composition.model_validate(values)


_MEASURED: tuple[tuple[str, Callable[[Composition], Cell]], ...] = (
    ("rows", lambda each: number(each.rows)),
    ("refusals", lambda each: share(each.refusals)),
    ("rows that are not judged", lambda each: share(each.unjudged)),
    ("distinct answers", lambda each: number(each.answers)),
    ("most frequent answer", lambda each: share(each.top_answer)),
    ("distinct openers", lambda each: number(each.openers)),
    ("distinct openers in as many random rows", lambda each: number(each.openers_by_chance)),
    ("most frequent opener", lambda each: share(each.top_opener)),
    ("median words of an answer", lambda each: number(each.words)),
    ("categories", lambda each: number(each.categories)),
    ("entropy of categories, nats", lambda each: number(each.category_entropy)),
    ("mean similarity to the tasks", lambda each: number(each.similarity)),
    ("coverage of the pool, mean cosine", lambda each: number(each.coverage)),
)
"""What is measured of a set, and its cell; shares by format follow."""


def _formats(report: Report) -> list[str]:
    return sorted({form for each in report.composition or () for form in each.formats})


def _composition(report: Report, _: Figures) -> Made:
    sets = report.composition or ()

    def rows() -> Iterator[Row]:
        for name, measure in _MEASURED:
            yield name, *map(measure, sets)
        for form in _formats(report):
            yield f"format: {form}", *(share(each.formats.get(form, 0.0)) for each in sets)
        if any(each.vulnerable is not None for each in sets):
            yield "vulnerable rows", *(share(each.vulnerable) for each in sets)

    caption = (
        "Each set beside the pool; means over draws. Refusals are identified by "
        f"{report.pool.refusals_by or 'English phrases'}. An opener is the first words of an answer."
    )
    if any(each.set == RANDOM_CAPPED for each in sets):
        caption += (
            f" '{RANDOM_CAPPED}' stands for random sets within the caps on answers; other random sets obey no caps."
        )
    return caption, ["measure", *(each.set for each in sets)], rows() if sets else ()


def figure(report: Report, styles: Mapping[str, str]) -> Markup | None:
    """Shares of the rows of each set (dots) and of the pool (ring): refusals, the most frequent answer and opener,
    and formats where there are several.
    """
    sets = [each for each in report.composition or () if each.set in styles]
    if not sets:
        return None
    shares: dict[str, list[float | None]] = {
        "refusals": [each.refusals for each in sets],
        "most frequent answer": [each.top_answer for each in sets],
        "most frequent opener": [each.top_opener for each in sets],
    }
    forms = _formats(report)
    if len(forms) > 1:
        shares |= {f"format: {form}": [each.formats.get(form, 0.0) for each in sets] for form in forms}
    lanes = []
    for name, values in shares.items():
        known = {each.set: value for each, value in zip(sets, values, strict=True) if value is not None}
        marks = [drawing.Mark(known[of], None, None, styles[of], hollow=of == "pool") for of in known]
        words = " against ".join(wording.percent(known[of]) for of in ("curated", "pool") if of in known)
        lanes.append(drawing.Lane(name, marks, words))
    label = "Shares of the rows of each set (dots) and of the pool (ring)"
    return drawing.dots(lanes, drawing.shares(), label=label, axis=["share of the rows"])


TABLES: dict[str, Callable[[Report, Figures], Made]] = {"composition": _composition}
