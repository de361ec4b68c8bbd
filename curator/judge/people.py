"""How well a judge does, against people: rates with intervals that know that answers to one prompt are alike.

Letters: `n` labelled answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curator.conclusions import kappa
from curator.judge.labels import Labels
from curator.records import Verdict, require

_Z = 1.959963984540054  # of a two-sided 95 % interval
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A share in [0, 1] with its 95 % interval; null where there is nothing to take it of."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Measured:
    """One judge against people.

    Attributes:
        judge: Its name. `outcome`: what it was measured on.
        both, only_people, only_judge, neither: Counts of scored answers by who says the outcome.
        unscored: Answers of which the judge could not tell; in no rate.
        accuracy, sensitivity, specificity, balanced: Sensitivity is the share found of the answers that have the
            outcome, specificity the share cleared of the others, balanced their mean.
        kappa: Cohen's, with people; null where undefined.
    """

    judge: str
    outcome: str
    both: int
    only_people: int
    only_judge: int
    neither: int
    unscored: int
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    balanced: Estimate
    kappa: float | None


def says(verdicts: Sequence[Verdict], outcome: str) -> list[bool | None]:
    """Whether each verdict says the outcome; null where the judge could not tell."""
    if outcome == "refused":
        return [None if one.outcome == "unscored" else one.refused for one in verdicts]
    return [None if one.outcome == "unscored" else one.outcome == "harmful" for one in verdicts]


def measure(judge: str, outcome: str, said: Sequence[bool | None], people: Flags, prompts: Sequence[str]) -> Measured:
    """One judge's figures.

    Args:
        said: `n` answers of the judge, null where it could not tell. `people`: `(n,)` labels.
        prompts: `n` prompts, the groups within which answers are not independent.
    """
    require(len(said) == len(people) == len(prompts), "measure: not as many labels as verdicts")
    told = np.array([one is not None for one in said], dtype=bool)
    judged, truth = np.array([bool(one) for one in said], dtype=bool)[told], people[told]
    groups = np.unique(np.array(prompts, dtype=object)[told].astype(str), return_inverse=True)[1]
    both, missed = int((judged & truth).sum()), int((~judged & truth).sum())
    alarms, neither = int((judged & ~truth).sum()), int((~judged & ~truth).sum())
    right = judged == truth
    return Measured(
        judge=judge,
        outcome=outcome,
        both=both,
        only_people=missed,
        only_judge=alarms,
        neither=neither,
        unscored=int((~told).sum()),
        accuracy=estimate(right, np.ones_like(right), groups),
        sensitivity=estimate(judged, truth, groups),
        specificity=estimate(~judged, ~truth, groups),
        balanced=_balanced(judged, truth, groups),
        kappa=kappa(both, alarms, missed, neither)[1],
    )


def estimate(hits: Flags, among: Flags, groups: NDArray[np.int64]) -> Estimate:
    """The share of hits, with Wilson's interval on the effective number of answers.

    That number is what would give independent answers the variance that the share has when whole groups are drawn
    (the ratio estimator's, linearised); never more than there are. Where no variance can be seen, groups are counted.

    Source: Wilson 1927; Kish, Survey Sampling, 1965, section 5.4, for the variance; Korn and Graubard 1998 for its use.
    """
    n = int(among.sum())
    if n == 0:
        return Estimate(None, None, None)
    share = float(hits[among].mean())
    _, members = np.unique(groups[among], return_inverse=True)
    clusters = int(members.max()) + 1
    variance = _variance(_per_group((hits[among] - share) / n, members), clusters)
    size = min(n, share * (1 - share) / variance) if variance > 0 else clusters
    centre = (share + _Z**2 / (2 * size)) / (1 + _Z**2 / size)
    reach = _Z / (1 + _Z**2 / size) * math.sqrt(share * (1 - share) / size + _Z**2 / (4 * size**2))
    return Estimate(share, max(0.0, centre - reach), min(1.0, centre + reach))


def _balanced(judged: Flags, truth: Flags, groups: NDArray[np.int64]) -> Estimate:
    """The mean of sensitivity and specificity, with a normal interval of its linearised variance over groups."""
    if truth.all() or not truth.any():
        return Estimate(None, None, None)
    found, cleared = float(judged[truth].mean()), float((~judged)[~truth].mean())
    share = (found + cleared) / 2
    parts = np.where(truth, (judged - found) / truth.sum(), (~judged - cleared) / (~truth).sum()) / 2
    reach = _Z * math.sqrt(_variance(_per_group(parts, groups), int(groups.max()) + 1))
    return Estimate(share, max(0.0, share - reach), min(1.0, share + reach))


def _per_group(parts: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.bincount(groups, weights=parts).astype(np.float64)


def _variance(sums: NDArray[np.float64], clusters: int) -> float:
    return float(clusters / (clusters - 1) * (sums**2).sum()) if clusters > 1 else 0.0


def pairwise(said: Mapping[str, Sequence[bool | None]]) -> list[tuple[str, str, int, float | None, float | None]]:
    """(first, second, answers that both could tell, share on which they agree, Cohen's kappa) for each pair."""
    names = list(said)
    found = []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            pairs = [(a, b) for a, b in zip(said[first], said[second], strict=True) if a is not None and b is not None]
            counts = [pairs.count(one) for one in ((True, True), (True, False), (False, True), (False, False))]
            found.append((first, second, len(pairs), *kappa(*counts)))
    return found


def splits(labels: Labels) -> dict[str, Flags]:
    """Which answers each part of the table is of: all, and those on which the annotators agree and differ."""
    every = np.ones(labels.rows.height, dtype=bool)
    if labels.rows["agreed"].null_count() == labels.rows.height:
        return {"all": every}
    agreed = labels.rows["agreed"].fill_null(False).to_numpy().astype(bool)
    return {"all": every, "annotators agree": agreed, "annotators differ": ~agreed}


def counts(one: Measured) -> dict[str, Any]:
    """What is stored of a judge: the four counts, and sensitivity and specificity."""
    return {
        "both": one.both,
        "only_people": one.only_people,
        "only_judge": one.only_judge,
        "neither": one.neither,
        "unscored": one.unscored,
        "sensitivity": one.sensitivity.value,
        "specificity": one.specificity.value,
    }
