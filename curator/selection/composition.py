"""The composition of sets and of their pool: refusals, answers, openers, lengths, formats and categories.

Similarity to a task is first of all similarity in the kind of answer, so that sets of different similarity may also
teach different behaviour. These figures show that before anything is trained.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from statistics import fmean

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.neighbours import nearest
from curator.recipe.verify import CURATED, HIGH_MATCHED, HIGH_SIMILARITY, LOW_MATCHED, LOW_SIMILARITY, MATCHED_END
from curator.records import Scores, Vectors

POOL = "pool"
FEW_REFUSALS = 0.8
"""A set has unusually few refusals if its share of refusals is below this fraction of the pool's. On SmolLM2 a set with
48% (pool 64%) aligned less than random ones (recipes/README.md)."""
FEWEST_REFUSALS = 0.1
"""The least share of refusals in the pool for which this is reported."""
APART = 0.2
"""Largest difference between the shares of refusals of the least and the most similar rows that is not reported."""
COVERED = 2000
"""Most rows of the pool on which coverage is measured; evenly spaced by id."""
_INSTEAD = {end: f"; the arm `{matched}` has the pool's share" for end, matched in MATCHED_END.items()}


@dataclass(frozen=True)
class Composition:
    """The composition of a set; for an arm, means over its draws.

    Attributes:
        set: `pool`, or an arm.
        rows: At least 1.
        refusals: Share of refusals among the rows that the judge of refusals could judge; null if it could judge none.
        unjudged: Share of rows that it could not judge.
        answers, openers: Number of distinct answers (word for word) and of distinct openers (first words).
        openers_by_chance: Mean number of distinct openers of as many random rows of the pool.
        top_answer, top_opener: Share of rows with the most frequent answer, and opener.
        words: Median number of words in an answer.
        formats: Format of the answer -> share of the rows.
        categories: Number of distinct categories; rows without a category count as one more. `category_entropy`:
            entropy of their shares, in nats.
        similarity: Mean of the score that the curated set was chosen by.
        coverage: Mean over the pool's rows of the largest cosine, clipped at 0, to a row of the set, in [0, 1]; null if
            it was not measured.
        vulnerable: Share of rows that are among those forgotten most; null if the recipe sets no such share.
    """

    set: str
    rows: float
    refusals: float | None
    unjudged: float
    answers: float
    openers: float
    openers_by_chance: float
    top_answer: float
    top_opener: float
    words: float
    formats: Mapping[str, float]
    categories: float
    category_entropy: float
    similarity: float
    coverage: float | None
    vulnerable: float | None = None


def compositions(
    rows: pl.DataFrame,
    traits: pl.DataFrame,
    scores: Scores,
    drawn: pl.DataFrame,
    vectors: Vectors | None = None,
    *,
    vulnerable: Set[str] | None = None,
) -> list[Composition]:
    """The composition of the pool, then that of each arm, in the order drawn. Arms without rows, or with rows from
    outside the pool, are left out.

    Args:
        rows, traits: The pool, in the columns of ROW_SCHEMA and of `pool.traits`.
        scores: Scores of the same rows.
        drawn: The sets of all arms, in the columns of ARM_SCHEMA.
        vectors: Vectors of the same rows, for coverage; null to leave coverage out.
        vulnerable: Ids of the pool's vulnerable rows; null if the recipe sets no share of them.
    """
    similarity = pl.DataFrame({"id": scores.ids, "similarity": scores.combined})
    # In a fixed order whatever joins do, so that sums round in the same way.
    pool = rows.select("id", "category").join(traits, on="id", maintain_order="left")
    pool = pool.join(similarity, on="id", maintain_order="left")
    if vulnerable is not None:
        pool = pool.with_columns(pl.col("id").is_in(list(vulnerable)).alias("vulnerable"))
    openers = Counter(Counter(pool["opener"].to_list()).values())
    cover = None if vectors is None else _Cover(vectors)
    composed = [_composition(POOL, pool, openers, None if cover is None else 1.0)]
    for arm, sets in _draws(drawn):
        frames = [pool.join(ids.to_frame(), on="id", how="semi") for ids in sets]
        if all(frame.height == len(ids) for frame, ids in zip(frames, sets, strict=True)):
            composed.append(
                _mean(
                    _composition(arm, frame, openers, None if cover is None else cover.of(frame["id"]))
                    for frame in frames
                )
            )
    return composed


def expected_distinct(repeats: Mapping[int, int], k: int) -> float:
    """Expected number of distinct values among `k` rows drawn without replacement (Hurlbert 1971).

    Args:
        repeats: Number of rows that share a value -> number of such values.
        k: At most the number of rows.
    """
    total = sum(count * values for count, values in repeats.items())

    def missed(count: int) -> float:
        """The probability that a value of `count` rows is not drawn."""
        if count > total - k:
            return 0.0
        logs = (math.lgamma(size + 1) for size in (total - count, total - k, total - count - k, total))
        others, unpicked, left, all_rows = logs
        return math.exp(others + unpicked - left - all_rows)

    return sum(values * (1.0 - missed(count)) for count, values in repeats.items())


def refusals(traits: pl.DataFrame, drawn: pl.DataFrame) -> dict[str, float | None]:
    """The shares of refusals of the pool and of each arm's sets together, for `remarks`; arguments as in
    `compositions`.
    """
    labelled = drawn.join(
        traits.select("id", "refusal", inside=pl.lit(True)), on="id", how="left", maintain_order="left"
    )
    sets = ((str(arm), part) for (arm,), part in labelled.group_by("arm", maintain_order=True))
    shares = {arm: _refusals(part["refusal"]) for arm, part in sets if not part["inside"].null_count()}
    return {POOL: _refusals(traits["refusal"]), **shares}


def remarks(shares: Mapping[str, float | None], *, composable: bool) -> list[str]:
    """Sentences about sets with far fewer refusals than the pool, and about ends of the similarity scale that differ in
    kind.

    Args:
        shares: Of refusals, of the pool and of each arm.
        composable: Whether the recipe may compose the chosen set by refusals, see `Select.may_compose`.
    """
    sentences, pool = [], shares.get(POOL)
    instead = {CURATED: "; select.within: [refusal] gives it the pool's share"} if composable else {}
    instead |= _INSTEAD
    low, high = shares.get(LOW_SIMILARITY), shares.get(HIGH_SIMILARITY)
    if pool is not None and pool >= FEWEST_REFUSALS:
        sentences += [
            f"{'the chosen set' if arm == CURATED else f'the arm `{arm}`'} has a smaller share of refusals than the "
            f"pool ({share:.0%}, the pool {pool:.0%}), so it teaches another kind of answer{instead.get(arm, '')}"
            for arm, share in shares.items()
            if share is not None and share < FEW_REFUSALS * pool
        ]
    if low is not None and high is not None and abs(low - high) > APART:
        sentences.append(
            f"the arms `{LOW_SIMILARITY}` ({low:.0%} of refusals) and `{HIGH_SIMILARITY}` ({high:.0%} of refusals) "
            "differ in more than similarity; compare the arms "
            f"`{LOW_MATCHED}` and `{HIGH_MATCHED}` to see the effect of similarity alone"
        )
    return sentences


class _Cover:
    """How well sets cover the pool: exact, on at most COVERED of its rows."""

    def __init__(self, vectors: Vectors) -> None:
        order = np.argsort(vectors.ids, kind="stable")
        spaced = np.unique(np.linspace(0, len(order) - 1, min(COVERED, len(order))).round().astype(np.int64))
        self._matrix, self._position = vectors.matrix, {name: row for row, name in enumerate(vectors.ids)}
        self._queries = np.ascontiguousarray(vectors.matrix[order[spaced]])

    def of(self, ids: Iterable[str]) -> float:
        rows = [self._position[row_id] for row_id in ids]
        if len(rows) == len(self._position):
            return 1.0
        cosine, _ = nearest(self._queries, np.ascontiguousarray(self._matrix[rows]), 1)
        return float(np.clip(cosine[:, 0], 0.0, 1.0).mean())


def _draws(drawn: pl.DataFrame) -> Iterator[tuple[str, list[pl.Series]]]:
    """Each arm with its distinct sets; an arm that is the same at every seed has one."""
    for (arm,), part in drawn.group_by("arm", maintain_order=True):
        sets: list[pl.Series] = []
        for _, each in part.group_by("seed", maintain_order=True):
            if not sets or not sets[-1].equals(each["id"]):
                sets.append(each["id"])
        yield str(arm), sets


def _composition(name: str, part: pl.DataFrame, openers: Mapping[int, int], coverage: float | None) -> Composition:
    categories, formats = (
        _shares(part["category"]),
        part["format"].value_counts().sort("count", "format", descending=[True, False]),
    )
    return Composition(
        set=name,
        rows=part.height,
        refusals=_refusals(part["refusal"]),
        unjudged=part["refusal"].null_count() / part.height,
        answers=part["answer"].n_unique(),
        openers=part["opener"].n_unique(),
        openers_by_chance=expected_distinct(openers, part.height),
        top_answer=float(_shares(part["answer"]).max()),
        top_opener=float(_shares(part["opener"]).max()),
        words=float(np.median(part["words"])),
        formats={str(form): count / part.height for form, count in formats.iter_rows()},
        categories=len(categories),
        category_entropy=float(-(categories * np.log(categories)).sum()) + 0.0,
        similarity=float(part["similarity"].to_numpy().mean()),
        coverage=coverage,
        vulnerable=float(part["vulnerable"].to_numpy().mean()) if "vulnerable" in part.columns else None,
    )


def _refusals(labels: pl.Series) -> float | None:
    judged = labels.drop_nulls()
    return float((judged == "refusal").sum()) / len(judged) if len(judged) else None


def _shares(values: pl.Series) -> NDArray[np.float64]:
    counts = values.value_counts()["count"].sort().to_numpy().astype(np.float64)
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares


def _mean(draws: Iterable[Composition]) -> Composition:
    first, *_ = every = [asdict(each) for each in draws]

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return fmean(known) if len(known) == len(values) else None

    forms = sorted({form for each in every for form in each["formats"]})
    formats = {form: fmean(each["formats"].get(form, 0.0) for each in every) for form in forms}
    numbers = {name: mean([each[name] for each in every]) for name in first if name not in ("set", "formats")}
    return Composition(set=first["set"], formats=formats, **numbers)  # type: ignore[arg-type]
