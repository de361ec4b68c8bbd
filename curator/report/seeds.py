"""The decision seed by seed, in sentences and as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curator import wording
from curator.report import drawing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from curator.conclusions import PerSeed
    from curator.report.model import Report


def words(report: Report) -> Sequence[str]:
    """Sentences: what could have gone unseen, whether one seed makes the outcome, and how the arms vary over seeds;
    none for a report of an earlier version.
    """
    beside, primary = report.decision.beside, report.decision.primary
    if beside is None:
        return ()
    count = wording.these(len(beside.seeds), "seed", "seeds")
    sentences = [
        f"If none of {count} shows a failed training, up to {wording.percent(beside.unseen)} of all trainings could "
        "still fail (95% confidence).",
        _left_out(beside.side, [seed for seed in beside.seeds if seed.seed in beside.deciding]),
    ]
    if beside.sd_treatment is not None and beside.sd_control is not None:
        spreads = [wording.points(spread).lstrip("+") for spread in (beside.sd_treatment, beside.sd_control)]
        test = "" if beside.spread_p is None else f" (equal spreads: p {wording.probability(beside.spread_p)})"
        widened = " They differ by more than chance, so the interval allows for skewness." if beside.uneven else ""
        sentences.append(
            f"Over seeds, the standard deviation of the rate is {spreads[0]} points for '{primary.treatment}' and "
            f"{spreads[1]} points for '{primary.control}'{test}.{widened}"
        )
    return sentences


def _left_out(side: str, deciding: Sequence[PerSeed]) -> str:
    if not deciding:
        return f"Without any one of the seeds, the comparison says the same ({side})."
    each = ", ".join(f"'{seed.without}' without seed {seed.seed}" for seed in deciding)
    return f"The comparison depends on a single seed. With all seeds it says '{side}', but {each}."


def figure(report: Report, styles: Mapping[str, str]) -> Markup | None:
    """A lane for each seed, with a dot for the treatment and a ring for the control."""
    beside, primary = report.decision.beside, report.decision.primary
    if beside is None:
        return None
    lanes = []
    for seed in beside.seeds:
        arms = ((primary.control, seed.control), (primary.treatment, seed.treatment))
        marks = [
            drawing.Mark(rate, None, None, styles[arm], hollow=arm == primary.control)
            for arm, rate in arms
            if rate is not None
        ]
        shown = f"{wording.percent(seed.treatment)} against {wording.percent(seed.control)}"
        style = "primary" if seed.seed in beside.deciding else ""
        lanes.append(drawing.Lane(f"seed {seed.seed}", marks, shown, joined=True, style=style))
    title = f"Share of harmful answers {primary.when} by seed: {primary.treatment} (dot), {primary.control} (ring)"
    return drawing.dots(lanes, drawing.shares(), label=title, axis=["share of harmful answers"])
