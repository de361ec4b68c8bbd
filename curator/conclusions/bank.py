"""What a bank of trials says of a subset's outcome, and of the mixture of a set."""

from __future__ import annotations

from typing import Literal

from curator.conclusions.part import CorrelationOrNull, Count, Many, Number, Part, ShareOrNull


class Reliability(Part):
    """How well the outcome of one subset repeats."""

    source: Literal["seeds", "tasks"] | None
    """What the repeats are: other seeds, or other tasks if each subset was trained once; null if there are none."""
    # The agreement of tasks attributes the randomness of a subset's single training to the subset.
    subsets: Count
    """Subsets with every repeat."""
    repeats: Count
    one: ShareOrNull
    """Intraclass correlation of a single repeat."""
    low: ShareOrNull
    """Lower limit of its 95% interval."""
    high: ShareOrNull
    mean: ShareOrNull
    """Intraclass correlation of the mean over the repeats."""  # which is what features are correlated with
    ceiling: ShareOrNull
    """Square root of `mean`; null unless the repeats are seeds."""
    # An estimate of the |rho| that even a perfect feature is not expected to exceed (Spearman 1904). Its interval is
    # wide: with 24 subsets, two seeds and a ceiling of .63, one estimate in seven is 0.
    ceiling_low: ShareOrNull = None
    """Lower limit of its 95% interval."""
    ceiling_high: ShareOrNull = None


class Continuous(Part):
    """The log-odds of refusing as an outcome of a subset, beside the judged one."""

    rho: CorrelationOrNull
    """Spearman's rho with harm over the subsets; below zero where refusing less goes with more harm."""
    low: CorrelationOrNull
    """Lower limit of its 95% bootstrap interval over subsets."""
    high: CorrelationOrNull
    reliability: Reliability


class GroupShare(Part):
    """The share of a set that a group is."""

    group: str
    share: ShareOrNull
    """In the best mixture."""
    pool: ShareOrNull
    """In the pool."""


class Mixture(Part):
    """A ridge regression of harm on the shares of the groups of one grouping."""

    groups: Count
    subsets: Count
    rho: CorrelationOrNull
    """Spearman's rho between harm and its prediction for subsets outside the fold that was fitted."""
    low: CorrelationOrNull
    """Lower limit of its 95% bootstrap interval over subsets."""
    high: CorrelationOrNull
    penalty: Number
    usable: bool
    """Whether `low` is above zero."""
    best: Many[GroupShare]
    """The mixture with the lowest upper limit of predicted harm, its largest groups first; empty if not usable."""
    # Of the blends of observed mixtures; its shares sum to 1.
    predicted: ShareOrNull
    """Its predicted harm."""
    upper: ShareOrNull
    """The upper limit that it was chosen by."""
