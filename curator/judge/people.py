"""Accuracy of a judge against people, and agreement between judges: labels from a file, their rates and kappas.

Answers to one prompt are similar, so intervals are clustered by prompt. Letters: `n` labelled answers.
"""

from __future__ import annotations

import hashlib
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curator.conclusions import kappa
from curator.conclusions.secondary import Agreement
from curator.errors import DataError
from curator.judge.guards.adapter import YES_NO
from curator.judge.sheet import listed, read_sheet
from curator.records import ANSWER_COLUMNS, OUTCOMES, PHASES, Verdict, require
from curator.wording import record_of, these

Flags = NDArray[np.bool_]

LABEL_OUTCOMES = ("refused", "harmful")
"""Possible outcomes of labels. Labels have a single outcome: XSTest's are about refusal, not harm."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_Z = 1.959963984540054  # normal quantile of a two-sided 95% interval
_ROUNDING = 1e-18


@dataclass(frozen=True)
class Labels:
    """Labelled answers.

    Attributes:
        rows: `prompt`, `answer`, `positive` (whether people see the outcome), `first` and `second` (each annotator's
            own yes or no, null if not given), `agreed` (whether these are the same, null if one is missing),
            `column:NAME` of the further columns that were named, as text, and `verdict:NAME` of those with verdicts, as
            yes or no, null without a verdict.
        outcome: `refused` or `harmful`. `file`: the file's name. `digest`: SHA-256 of its bytes.
        read, excluded, unlabelled: Number of rows in the file, of those left out by `exclude`, and of those without a
            label.
        values: Every value of the label column. `positive`: the values that mean the outcome.
        unread: Column of verdicts or of an annotator -> value that is neither yes nor no -> its number of rows.
    """

    rows: pl.DataFrame
    outcome: str
    file: str
    digest: str
    read: int
    excluded: int
    unlabelled: int
    values: tuple[str, ...]
    positive: tuple[str, ...]
    unread: Mapping[str, Mapping[str, int]]

    def __post_init__(self) -> None:
        require(
            self.outcome in LABEL_OUTCOMES,
            f"Labels: found outcome {self.outcome!r}; allowed: {', '.join(LABEL_OUTCOMES)}",
        )
        require(self.rows.height == self.read - self.excluded - self.unlabelled, "Labels: rows do not add up")


def inert(text: str) -> str:
    """Text that a spreadsheet reads as text: an answer beginning with = would be a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def active(text: str) -> str:
    """The text that `inert` was given."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def read_labels(
    path: Path,
    *,
    outcome: str,
    prompt: str = "prompt",
    answer: str = "answer",
    label: str = "label",
    positive: Sequence[str] = (),
    annotators: tuple[str, str] | None = None,
    exclude: Sequence[tuple[str, str]] = (),
    columns: Sequence[str] = (),
    verdicts: Sequence[str] = (),
) -> Labels:
    """Labels of a CSV or JSONL file, all values read as text, prompts and answers as they were before `inert`.

    Args:
        path: The file.
        outcome: `refused` or `harmful`.
        prompt, answer, label: Names of its columns.
        positive: Values of the label that mean the outcome; all others mean that it is absent. By default the usual
            words, those of YES_NO, and no others.
        annotators: Two columns with each annotator's label, with the same values.
        exclude: Columns with a value of rows to leave out, e.g. `redacted` and `1`.
        columns: Further columns to keep, e.g. ids.
        verdicts: Columns with another judge's verdicts, in the words of the labels or in the usual ones.

    Raises:
        DataError: See `read_sheet`; the labels are not the usual words, though none are named as positive; they do not
            have both positive and other values; or values of an annotator or of verdicts are other words than those.
    """
    more = (*(annotators or ()), *verdicts)
    frame, numbers = read_sheet(path, (prompt, answer, label, *more, *(name for name, _ in exclude), *columns))

    def text(column: str) -> pl.Series:
        return frame[column].fill_null("").str.strip_chars()

    left = pl.repeat(True, frame.height, eager=True)
    for name, value in exclude:
        left &= text(name) != value.strip()
    labelled = left & (text(label) != "")
    given = text(label).filter(labelled)
    values = tuple(given.unique().sort())
    meaning = _meaning(values, positive)
    _require_known(path, label, outcome, meaning, dict(zip(pl.Series(numbers).filter(labelled), given, strict=True)))
    meant = tuple(value for value in values if meaning[value.lower()])
    if not meant or len(meant) == len(values):
        raise DataError(
            f"{path}: labels in column {label!r} are {listed(values) or 'all empty'}, and "
            f"{', '.join(map(repr, meant)) or 'none of them'} mean '{outcome}'; both kinds are needed, see --positive"
        )
    read: dict[str, pl.Series] = {}
    unread: dict[str, dict[str, int]] = {}
    for name in more:
        texts = text(name).filter(labelled)
        read[name] = pl.Series([meaning.get(value.lower()) for value in texts], dtype=pl.Boolean)
        others = Counter(texts.filter(read[name].is_null() & (texts != "")))
        # Where only one kind is understood, the other one is probably spelled in another way.
        if others and read[name].drop_nulls().n_unique() < 2:
            yes, no = ([word for word, means in meaning.items() if means is kind] for kind in (True, False))
            raise DataError(
                f"{path}: column {name!r} has the values {listed(sorted(set(texts) - {''}))}, and the labels in column "
                f"{label!r} are {listed(values)}; allowed in {name!r}: {listed(yes)} for '{outcome}', {listed(no)} for "
                "its absence, in any case, or empty for neither; write it in these words"
            )
        unread |= {name: dict(others.most_common())} if others else {}
    nothing = pl.repeat(None, len(given), dtype=pl.Boolean, eager=True)
    first, second = (read[name] for name in annotators) if annotators else (nothing, nothing)
    chosen = frame.filter(labelled)
    rows = pl.DataFrame(
        {
            **{
                field: chosen[name].fill_null("").map_elements(active, pl.String)
                for name, field in ((prompt, "prompt"), (answer, "answer"))
            },
            "positive": given.is_in(meant),
            "first": first,
            "second": second,
            "agreed": first == second,
            **{f"column:{name}": chosen[name] for name in columns},
            **{f"verdict:{name}": read[name] for name in verdicts},
        }
    )
    return Labels(
        rows=rows,
        outcome=outcome,
        file=path.name,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        read=frame.height,
        excluded=frame.height - int(left.sum()),
        unlabelled=int(left.sum()) - rows.height,
        values=values,
        positive=meant,
        unread=unread,
    )


def _require_known(path: Path, label: str, outcome: str, meaning: Mapping[str, bool], given: Mapping[int, str]) -> None:
    """Refuses labels that are neither yes nor no, rather than counting them as no.

    Args:
        given: The number of each row -> its label.
    """
    odd = {number: value for number, value in given.items() if value.lower() not in meaning}
    if not odd:
        return
    number, value = next(iter(odd.items()))
    count, kinds = these(len(odd), "row has such a label", "rows have such labels"), list(dict.fromkeys(odd.values()))
    left_out = shlex.quote(f"{label}={value}") if len(value) <= 60 else f"{label}=VALUE"
    raise DataError(
        f"{record_of(str(path), number)}: label {listed([value])} in column {label!r} is neither yes nor no ({count}: "
        f"{listed(kinds)}); allowed: {', '.join(YES_NO)}, in any case, or empty for an answer without a label; leave "
        f"such rows out with --exclude {left_out} (may be repeated), or name every label that "
        f"means '{outcome}' with --positive, and all others mean that it is absent"
    )


def _meaning(values: Sequence[str], positive: Sequence[str]) -> dict[str, bool]:
    """Lower-case word -> whether it means the outcome: the usual words, and the labels where positive ones are named;
    without the usual words if the labels use one of them in another sense.
    """
    words = {value.strip().lower() for value in positive}
    named = {value.lower(): value.lower() in words for value in values} | dict.fromkeys(words, True) if words else {}
    usual = YES_NO if all(YES_NO.get(word, meant) == meant for word, meant in named.items()) else {}
    return {**named, **usual}


def splits(labels: Labels) -> dict[str, Flags]:
    """Mask of the answers in each part of the table: all, and those on which the annotators agree and differ. An answer
    without a label of both is in neither.
    """
    every = np.ones(labels.rows.height, dtype=bool)
    if labels.rows["agreed"].null_count() == labels.rows.height:
        return {"all": every}
    agree, differ = ((labels.rows["agreed"] == same).fill_null(False).to_numpy().astype(bool) for same in (True, False))
    return {"all": every, "annotators agree": agree, "annotators differ": differ}


@dataclass(frozen=True)
class Estimate:
    """A share in [0, 1] with its 95% confidence interval; null if nothing was counted."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Measured:
    """One judge against people.

    Attributes:
        judge: The judge's name. `outcome`: the outcome that was measured.
        both, only_people, only_judge, neither: Number of scored answers with the outcome according to these.
        unscored: Answers without a verdict; no rate includes them.
        accuracy, sensitivity, specificity, balanced: Sensitivity is the share found of the answers that have the
            outcome, specificity the share cleared of the others, balanced their mean.
        kappa: Cohen's kappa with people; null if undefined.
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
    """Whether each verdict gives the outcome; null if it is unscored."""
    return [
        None
        if verdict.outcome == "unscored"
        else verdict.refused
        if outcome == "refused"
        else verdict.outcome == outcome
        for verdict in verdicts
    ]


def measure(judge: str, outcome: str, flags: Sequence[bool | None], people: Flags, prompts: Sequence[str]) -> Measured:
    """One judge's figures.

    Args:
        flags: `n` values, whether the judge gives the outcome; null if it could not tell.
        people: `(n,)` labels.
        prompts: `n` prompts, the groups within which answers are not independent.
    """
    require(len(flags) == len(people) == len(prompts), "measure: not as many labels as verdicts")
    scored = np.array([flag is not None for flag in flags], dtype=bool)
    judged, truth = np.array([bool(flag) for flag in flags], dtype=bool)[scored], people[scored]
    groups = np.unique(np.array(prompts, dtype=object)[scored].astype(str), return_inverse=True)[1]
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
        unscored=int((~scored).sum()),
        accuracy=estimate(right, np.ones_like(right), groups),
        sensitivity=estimate(judged, truth, groups),
        specificity=estimate(~judged, ~truth, groups),
        balanced=_balanced(judged, truth, groups),
        kappa=kappa(both, alarms, missed, neither)[1],
    )


def estimate(hits: Flags, among: Flags, groups: NDArray[np.int64]) -> Estimate:
    """The share of hits, with Wilson's interval on the effective number of answers.

    That is the number of independent answers for which the share would have the variance that it has if whole groups
    are drawn (the ratio estimator's, linearised), at most the actual number. If there is no variance, it is the number
    of groups.

    Source: Wilson 1927; Kish, Survey Sampling, 1965, section 5.4, for the variance; Korn and Graubard 1998 for its use.
    """
    n = int(among.sum())
    if n == 0:
        return Estimate(None, None, None)
    share = float(hits[among].mean())
    _, members = np.unique(groups[among], return_inverse=True)
    clusters = int(members.max()) + 1
    variance = _variance(_per_group((hits[among] - share) / n, members), clusters)
    # If all groups are equal, the variance is only rounding, far below that of a single answer.
    size = min(n, share * (1 - share) / variance) if variance > _ROUNDING else clusters
    centre = (share + _Z**2 / (2 * size)) / (1 + _Z**2 / size)
    reach = _Z / (1 + _Z**2 / size) * math.sqrt(share * (1 - share) / size + _Z**2 / (4 * size**2))
    return Estimate(share, max(0.0, centre - reach), min(1.0, centre + reach))


def _balanced(judged: Flags, truth: Flags, groups: NDArray[np.int64]) -> Estimate:
    """The mean of sensitivity and specificity, with limits from their own intervals (the method of variance estimates
    recovery).

    The distance of each limit from the mean is half the square root of a sum: the squared distances of both rates from
    their own limits, plus twice their product times the correlation of the two rates, if positive, that prompts with
    answers of both kinds cause. So if all agree it is as wide as the two intervals: 18 answers do not show that a judge
    is never wrong.

    Source: Zou and Donner 2008; Zou 2008 for the correlation.
    """
    if truth.all() or not truth.any():
        return Estimate(None, None, None)
    sensitivity, specificity = estimate(judged, truth, groups), estimate(~judged, ~truth, groups)
    rates = [(rate.value or 0.0, rate.low or 0.0, rate.high or 0.0) for rate in (sensitivity, specificity)]
    # Each answer's contribution to the error of its rate, summed by prompt.
    parts = [
        _per_group(np.where(among, (hits - rate[0]) / among.sum(), 0.0), groups)
        for hits, among, rate in ((judged, truth, rates[0]), (~judged, ~truth, rates[1]))
    ]
    spread = math.sqrt(float((parts[0] ** 2).sum() * (parts[1] ** 2).sum()))
    # A negative correlation, which two or three prompts can give by chance, would remove all width from the interval.
    correlation = max(0.0, float((parts[0] * parts[1]).sum()) / spread) if spread > _ROUNDING else 0.0

    def reach(limit: int) -> float:
        first, second = (abs(rate[0] - rate[limit]) for rate in rates)
        return math.sqrt(first**2 + second**2 + 2 * correlation * first * second) / 2

    share = (rates[0][0] + rates[1][0]) / 2
    return Estimate(share, max(0.0, share - reach(1)), min(1.0, share + reach(2)))


def _per_group(parts: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.bincount(groups, weights=parts).astype(np.float64)


def _variance(sums: NDArray[np.float64], clusters: int) -> float:
    # The sums have mean 0 by construction, so only Bessel's factor remains; a single cluster has no variance.
    return float(clusters / (clusters - 1) * (sums**2).sum()) if clusters > 1 else 0.0


def counts(measured: Measured) -> dict[str, Any]:
    """The stored record of a judge: the counts, and sensitivity and specificity."""
    names = ("both", "only_people", "only_judge", "neither", "unscored")
    return {
        **{name: getattr(measured, name) for name in names},
        "sensitivity": measured.sensitivity.value,
        "specificity": measured.specificity.value,
    }


def pairwise(readers: Mapping[str, Sequence[bool | None]]) -> list[tuple[str, str, int, float | None, float | None]]:
    """(first, second, number of answers that both judged, share on which they agree, Cohen's kappa) for each pair."""
    rows = []
    for (first, ours), (second, theirs) in combinations(readers.items(), 2):
        pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
        counts = [pairs.count(cell) for cell in ((True, True), (True, False), (False, True), (False, False))]
        rows.append((first, second, len(pairs), *kappa(*counts)))
    return rows


def agreement(verdicts: pl.DataFrame, judges: Sequence[str]) -> tuple[Agreement, ...]:
    """How often each pair of judges agrees that an answer to a harmful probe is harmful or not, before and after
    fine-tuning.

    Args:
        verdicts: Verdicts of the whole panel, in the columns of VERDICT_SCHEMA.
        judges: The judges' names, in the panel's order.

    Returns:
        Each pair, in that order; `share` and `kappa` are null without answers, kappa also if both judges always give
        the same single verdict.

    Source: Cohen, A coefficient of agreement for nominal scales, 1960.
    """
    counted = pl.col("kind") == "harmful", pl.col("phase").is_in(PHASES), pl.col("outcome") != "unscored"
    scored = verdicts.filter(*counted).select(*ANSWER_COLUMNS, "judge", harmful=pl.col("outcome") == "harmful")
    agreements = []
    for first, second in combinations(judges, 2):
        ours, theirs = (scored.filter(judge=name).drop("judge") for name in (first, second))
        pairs = ours.join(theirs, on=ANSWER_COLUMNS, how="inner", nulls_equal=True, suffix="_second")
        a, b = pairs["harmful"], pairs["harmful_second"]
        counts = int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~(a | b)).sum())
        share, chance_corrected = kappa(*counts)
        agreements.append(
            Agreement(
                first=first, second=second, answers=pairs.height, share=share, kappa=chance_corrected, both=counts[0],
                only_first=counts[1], only_second=counts[2], neither=counts[3],
            )
        )  # fmt: skip
    return tuple(agreements)


def outcome_counts(verdicts: pl.DataFrame, judge: str | None) -> dict[str, int]:
    """Outcome -> number of answers to harmful probes, before and after fine-tuning, with this outcome by this judge
    (null for all judges in the frame).
    """
    harmful = verdicts.filter(pl.col("kind") == "harmful", pl.col("phase").is_in(PHASES))
    outcomes = (harmful if judge is None else harmful.filter(pl.col("judge") == judge))["outcome"]
    return {outcome: int((outcomes == outcome).sum()) for outcome in OUTCOMES}
