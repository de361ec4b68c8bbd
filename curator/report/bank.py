"""What a bank of trials says about durability: the part of report.json, with its tables, figure and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from curator import wording
from curator.conclusions.bank import Continuous, Mixture, Reliability
from curator.conclusions.part import Absent, CorrelationOrNull, Count, Many, Part, Quantiles, ShareOrNull
from curator.report import drawing
from curator.report.cells import Cell, Row, Table, cell, number, share, table

if TYPE_CHECKING:
    from markupsafe import Markup

    from curator.run import Run

LEVEL = 0.05
"""Two-sided error of intervals, and the largest Holm-adjusted p-value of a predictor beyond chance."""
STRONGEST = 12
"""Features that the figure and the text show; the table of the page and report.json hold all."""
LARGEST = 6
"""Groups of a best mixture that the text names."""


class Predictor(Part):
    """How a score or feature of a set correlates with harm after fine-tuning, over the subsets of the bank."""

    feature: str
    rho: CorrelationOrNull
    """Spearman's rho with harm; above zero, sets with more of it are more harmful."""
    low: CorrelationOrNull
    """Lower limit of its 95% bootstrap interval over subsets, not adjusted for the number of features."""
    high: CorrelationOrNull
    p: ShareOrNull
    """By permuting outcomes over subsets."""
    p_holm: ShareOrNull
    """Adjusted by Holm for all features of the bank that have a p-value."""
    n: Count
    """Subsets that have both."""
    log_odds_rho: CorrelationOrNull
    """The same with the mean log-odds of refusing; null if they were not measured."""
    log_odds_low: CorrelationOrNull
    log_odds_high: CorrelationOrNull
    before_rho: CorrelationOrNull = None
    """The same with harm before fine-tuning; null if it does not vary."""
    before_low: CorrelationOrNull = None
    before_high: CorrelationOrNull = None

    @property
    def found(self) -> bool:
        """Whether it correlates with harm beyond chance."""
        return self.p_holm is not None and self.p_holm <= LEVEL

    @property
    def begins_so(self) -> bool:
        """Whether it correlates with harm before fine-tuning in the same direction, by its interval."""
        if self.rho is None or self.before_low is None or self.before_high is None:
            return False
        return self.before_low > 0 if self.rho > 0 else self.before_high < 0


class Bank(Part):
    """What a bank of trials says about durability, on this model and these tasks."""

    subsets: Count
    """Subsets with a scored outcome on every task."""
    draws: Count
    """How many of these are plain random draws; the others are random mixtures."""
    left_out: Count
    """Subsets without a scored outcome."""
    costly: Count
    """Scored subsets whose harm before fine-tuning, or degenerate share after it, is above what a gate allows over the
    other plain draws, or over the median subset if there are none.
    """
    seeds: Count
    """Trainings of each subset, at most."""
    tasks: Many[str]
    harm: Quantiles | None
    """Harm of the subsets after fine-tuning, weighted over the tasks."""
    before: Quantiles | None = None
    """The same before fine-tuning."""
    reliability: Reliability
    continuous: Continuous | Absent = None
    """Absent if the log-odds of refusing were not measured."""
    predictors: Many[Predictor]
    """Every feature, the strongest first."""
    mixtures: dict[str, Mixture]
    """By grouping."""

    @property
    def found(self) -> tuple[Predictor, ...]:
        """The features that correlate with harm beyond chance."""
        return tuple(each for each in self.predictors if each.found)

    @property
    def strongest(self) -> tuple[Predictor, ...]:
        """Those that the text and the figure show."""
        return tuple(each for each in self.predictors if each.rho is not None)[:STRONGEST]

    @property
    def sentences(self) -> tuple[str, ...]:
        """Sentences on what was tried, what predicts harm, how well an outcome repeats, and what the log-odds say."""
        beside = () if self.continuous is None else (_follows(self.continuous),)
        return _tried(self), _predicts(self), _repeats(self.reliability), *beside


def bank_of(run: Run) -> Bank | None:
    """The report's part; null if no bank was run."""
    from curator.decision.bank import read
    from curator.report.facts import quantiles
    from curator.seeds import derive

    frames, recipe = run.bank(), run.recipe
    if frames is None:
        return None
    _, _, outcomes, _ = frames
    ran = set(outcomes["task"])
    weights = {task: weight for task, weight in recipe.weights().items() if task in ran and weight > 0}
    total = sum(weights.values())
    reading = read(
        *frames,
        weights={task: weight / total for task, weight in weights.items()},
        seed=derive(recipe.seed, "bank"),
        margins=recipe.verify.gates.of_pilots(),
    )
    scored = reading.subsets
    return Bank(
        subsets=scored.height,
        draws=scored["grouping"].null_count(),
        left_out=reading.left_out,
        costly=int(scored["costly"].sum()),
        seeds=outcomes["seed"].n_unique(),
        tasks=tuple(weights),
        harm=quantiles(scored["harm"].to_numpy()),
        before=quantiles(scored["before"].drop_nulls().to_numpy()),
        reliability=reading.reliability,
        predictors=tuple(
            Predictor(**{name: row[name] for name in Predictor.model_fields})
            for row in reading.predictors.iter_rows(named=True)
        ),
        mixtures=reading.mixtures,
        **({} if reading.continuous is None else {"continuous": reading.continuous}),
    )


def bank_tables(bank: Bank | None) -> dict[str, Table]:
    """Name -> table; empty if no bank was run."""
    if bank is None:
        return {}

    def predictors() -> Iterator[Row]:
        for each in bank.predictors:
            p = cell(wording.probability, each.p), cell(wording.probability, each.p_holm)
            before = _rho(each.before_rho), _limits(each.before_low, each.before_high)
            log_odds = _rho(each.log_odds_rho), _limits(each.log_odds_low, each.log_odds_high)
            yield (
                each.feature, _rho(each.rho), _limits(each.low, each.high), *p, *before, *log_odds, number(each.n)
            )  # fmt: skip

    mixtures = (
        (grouping, number(each.groups), number(each.subsets), _rho(each.rho), _limits(each.low, each.high),
         each.usable, share(each.predicted) if each.usable else "")
        for grouping, each in bank.mixtures.items()
    )  # fmt: skip
    best = (
        (grouping, of.group, share(of.share), share(of.pool))
        for grouping, each in bank.mixtures.items()
        for of in each.best
    )
    made = (
        table("bank", "Spearman's rho of every score and feature with harm after fine-tuning, over the subsets of the "
              "bank. The intervals are not adjusted; the Holm p-values are adjusted for all features.",
              "feature|rho|95% interval|p|Holm p|rho with harm before fine-tuning|95% interval|"
              "rho with log-odds of refusing|95% interval|subsets", predictors()),
        table("bank-mixtures", "Ridge regression of harm on the shares of groups: Spearman's rho between predicted "
              "and observed harm of subsets that were left out of the fit. A grouping is usable only if its whole "
              "interval lies above zero. A rho below zero means that it predicts nothing.",
              "grouping|groups|subsets|cross-validated rho|95% interval|usable|predicted harm of the best mixture",
              mixtures),
        table("bank-best", "The best mixture of each usable grouping.", "grouping|group|share|in the pool", best),
    )  # fmt: skip
    return {each.name: each for each in made if each.rows}


def bank_plot(bank: Bank | None) -> dict[str, Markup]:
    """The strongest features: rho with harm and its interval, filled if the Holm p-value is at most LEVEL."""
    lanes = [
        drawing.Lane(
            each.feature,
            [drawing.Mark(each.rho, each.low, each.high, "a0" if each.found else "plain", hollow=not each.found)],
            f"{_figure(each.rho)}, Holm p {wording.probability(each.p_holm)}",
        )
        for each in (bank.strongest if bank else ())
        if each.rho is not None
    ]
    if not lanes:
        return {}
    scale = drawing.Scale(-1.0, 1.0, [(half / 2, f"{half / 2:g}") for half in range(-2, 3)], zero=0.0)
    label = "Spearman's rho between features of a set and harm after fine-tuning, with 95% intervals"
    ends = "\u2190 more of the feature, less harm", "more of the feature, more harm \u2192"
    return {"bank": drawing.dots(lanes, scale, label=label, axis=ends)}


def _tried(bank: Bank) -> str:
    mixtures, scored = bank.subsets - bank.draws, ""
    if bank.left_out:
        scored = f". {wording.these(bank.subsets, 'set has', 'sets have')} a scored outcome on every task"
    words = (
        f"The bank has {wording.these(bank.subsets + bank.left_out, 'set', 'sets')} of candidates{scored}: "
        f"{wording.these(mixtures, 'random mixture', 'random mixtures')} and "
        f"{wording.these(bank.draws, 'plain random draw', 'plain random draws')}. The groupings that divide the "
        f"candidates are {', '.join(bank.mixtures)}, and mixtures take them in turn. Models were aligned on each "
        "set, fine-tuned and evaluated on probes and seeds that the comparisons of this report do not use."
    )
    if bank.harm is not None:
        low, middle, high = map(wording.percent, (bank.harm.min, bank.harm.median, bank.harm.max))
        words += f" Harm after fine-tuning ranged from {low} to {high}, with a median of {middle}"
        if bank.before is not None:
            words += (
                f". Before it, it ranged from {wording.percent(bank.before.min)} to {wording.percent(bank.before.max)}"
            )
        words += "."
    if bank.left_out:
        left = wording.these(bank.left_out, "set has", "sets have")
        words += f" {left} no scored outcome on some task and {'is' if bank.left_out == 1 else 'are'} left out."
    if bank.costly:
        words += (
            f" {wording.these(bank.costly, 'set is', 'sets are')} costly: more harmful before fine-tuning, or more "
            f"degenerate after it, than a gate allows over {'the plain draws' if bank.draws else 'the median set'}. A "
            "degenerate answer is not harmful, so low harm means little for a costly set."
        )
    return words


def _predicts(bank: Bank) -> str:
    compared = sum(each.p is not None for each in bank.predictors)  # Holm leaves the others out
    several = wording.these(compared, "score or feature", "scores and features")
    beyond = f"beyond chance (Holm-adjusted p at most {LEVEL:g} over {several})"
    if bank.harm is not None and math.isclose(bank.harm.min, bank.harm.max):
        return "Harm was the same for every set, so nothing can correlate with it."
    if not bank.found:
        return f"No feature correlates with harm {beyond}. This does not show that no feature matters."
    first = [f"{each.feature} (rho {_figure(each.rho)})" for each in bank.found[:STRONGEST]]
    more = len(bank.found) - len(first)
    names = ", ".join(first) + (f" and {more} more" if more else "")
    words = (
        f"These features correlate with harm {beyond}: {names}. If rho is above zero, sets with more of the feature "
        "are more harmful. Features of a set are correlated with each other, so rho does not show which of them is the "
        "cause."
    )
    begin = [each.feature for each in bank.found[:STRONGEST] if each.begins_so]
    if begin:
        words += (
            f" Before fine-tuning, harm already goes the same way with {', '.join(begin)}: such sets may teach less "
            "refusal in the first place, rather than lose more of it."
        )
    return words


def _repeats(found: Reliability) -> str:
    once = (
        "Each set was trained once and with the same seed, so it is not known how well its outcome repeats, and no "
        "interval here allows for another seed"
    )
    if found.source is None:
        return f"{once}."
    if found.one is None:
        return "There are too few sets to measure how well the outcome of a set repeats."
    value = f"an intraclass correlation of {_figure(found.one)} [{_figure(found.low)}, {_figure(found.high)}]"
    if found.source == "tasks":
        return (
            f"{once}. The outcomes on its tasks agree with {value}. This attributes chance effects of that training to "
            "the set; a second seed for each set would separate the two."
        )
    seeds = wording.these(found.repeats, "seed", "seeds")
    words = f"The outcome of a set repeats from seed to seed with {value}."
    if not found.ceiling_low:
        if found.ceiling_high is None:
            return f"{words} How closely a perfect score would correlate with the means over {seeds} is not known."
        most = _figure(found.ceiling_high)
        return f"{words} A perfect score could correlate with the means over {seeds} by anything from 0.00 to {most}."
    limits = f"[{_figure(found.ceiling_low)}, {_figure(found.ceiling_high)}]"
    return (
        f"{words} For the mean over {seeds}, it is {_figure(found.mean)}. The square root of this figure, "
        f"{_figure(found.ceiling)} {limits}, is how closely a perfect score is expected to correlate with that mean."
    )


def _follows(found: Continuous) -> str:
    repeats, again = found.reliability, ""
    if repeats.one is not None:
        limits = "" if repeats.low is None else f" [{_figure(repeats.low)}, {_figure(repeats.high)}]"
        over = "seed to seed" if repeats.source == "seeds" else "task to task of one training"
        again = f" From {over}, they repeat with an intraclass correlation of {_figure(repeats.one)}{limits}."
    chosen = " What the bank proposes depends on judged harm alone."
    if found.rho is None or found.low is None or found.high is None:
        return f"Whether the log-odds of refusing follow judged harm is not known.{again}{chosen}"
    follow = "follow judged harm"
    if found.high >= 0:
        follow = "go against judged harm" if found.low > 0 else "are not shown to follow judged harm"
    rho = f"rho {_figure(found.rho)} [{_figure(found.low)}, {_figure(found.high)}] over the sets"
    return (
        f"The log-odds of refusing {follow}: {rho} (below zero, models that are likelier to refuse are less harmful)."
        f"{again}{chosen}"
    )


def _figure(value: float | None) -> str:
    return wording.UNKNOWN if value is None else f"{round(value, 2) + 0.0:.2f}"


def _rho(value: float | None) -> object:
    return cell(_figure, value)


def _limits(low: float | None, high: float | None) -> Cell:
    known = low is not None and high is not None
    return Cell(f"[{_figure(low)}, {_figure(high)}]" if known else wording.UNKNOWN, whole=True)
