"""suite.html: the paper's tables, every comparison with its outcome, and figures of the sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from curator import wording
from curator.conclusions import Rate
from curator.report import drawing
from curator.report.cells import Cell, Row, Table, interval, number, points, table
from curator.suite.model import Contrast, Run, RunDecision, Suite
from curator.suite.recovered import PaperNumber
from curator.suite.results import HIGH, LOW

if TYPE_CHECKING:
    from markupsafe import Markup

COLUMNS = {HIGH: "High", LOW: "Low", "random": "Random", "full": "Full", "none": "None", "curated": "Ours"}
"""The arms of the paper's tables in its order, then the curated set; the user's own arms come after them."""

MEASURES = {
    "log_det": "log det(I + XX'): larger is more diverse",
    "vendi": "Vendi score, the effective number of different rows: larger is more diverse",
    "pairwise": "Mean cosine of two rows of the set: smaller is more diverse",
}

AXES = {"log_det": "log det(I + XX')", "vendi": "Vendi score", "pairwise": "mean cosine of two rows"}

TONES = {"less harmful": "good", "more harmful": "bad"}


OPEN = "not distinguishable"

_STATUSES = ("done", "failed", "waiting")


def html(suite: Suite) -> str:
    """The page of a suite, one file that loads nothing from the network."""
    from curator.report.html import fill

    done = [run for run in suite.runs if run.found]
    arms = _arms(done)
    styles = {arm: f"a{number % 8}" for number, arm in enumerate(arms)}
    blocks = list(dict.fromkeys((judge, run.k) for run in done for judge in run.result.judges))
    made = {
        **{f"grid {judge} {k}": _grid(suite, done, arms, judge, k) for judge, k in blocks},
        "before": _before(done, arms),
        "contrasts": _contrasts(suite),
        "sets": _sets(done),
        "utility": _utility(done, arms),
        "runs": _runs(suite),
    }
    drawn = {"contrasts": _differences(primary(suite)), "harm": _harm(done, styles)}
    drawn |= {name: _diversity(done, styles, name) for name in MEASURES}
    return fill(
        "suite.html.j2",
        suite=suite,
        done=done,
        blocks=blocks,
        deciding={judge for run in done for judge, judged in run.result.judges.items() if judged.decides},
        run_name=suite.name,
        tone=_tone(suite),
        counts={status: sum(run.status == status for run in suite.runs) for status in _STATUSES},
        said=_headline(suite),
        styles=styles,
        tables={name: shown for name, shown in made.items() if shown.rows},
        drawn={name: figure for name, figure in drawn.items() if figure is not None},
        measures=MEASURES,
        columns=COLUMNS,
    )


def _arms(done: Sequence[Run]) -> list[str]:
    present = dict.fromkeys(arm for run in done for arm in run.result.utility)
    return [*(arm for arm in COLUMNS if arm in present), *(arm for arm in present if arm not in COLUMNS)]


def primary(suite: Suite) -> list[Contrast]:
    """Every low-similarity against high-similarity comparison by the verdicts that decide."""
    return [pair for pair in suite.contrasts if pair.decides and (pair.treatment, pair.control) == (LOW, HIGH)]


def _headline(suite: Suite) -> str:
    """The result of the finished runs in a sentence: low against high similarity, or, without those arms, the curated
    set.
    """
    contrasts = primary(suite)
    if contrasts:
        counts: Counter[str] = Counter(pair.outcome for pair in contrasts)
        return (
            "After fine-tuning, models aligned on the rows least similar to the task were less harmful than models "
            f"aligned on the most similar rows in {counts['less harmful']:,} of "
            f"{wording.these(len(contrasts), 'comparison', 'comparisons')}, more harmful in "
            f"{counts['more harmful']:,}, and not distinguishable in {counts[OPEN]:,}."
        )
    decided: Counter[str] = Counter(run.result.decision.outcome for run in suite.runs if run.found)
    if not decided:
        return "No run has finished yet."
    each = ", ".join(f"{decided[name]:,} {name}" for name in ("durable", "trade-off", "worse", OPEN) if decided[name])
    count = wording.these(sum(decided.values()), "finished run", "finished runs")
    return f"The decisions about the curated set in {count}: {each}."


def _tone(suite: Suite) -> str:
    """The tone of the finding, if all comparisons agree."""
    outcomes = {pair.outcome for pair in primary(suite)}
    return TONES.get(outcomes.pop(), "open") if len(outcomes) == 1 else "open"


def _grid(suite: Suite, done: Sequence[Run], arms: Sequence[str], judge: str, k: int | None) -> Table:
    known = {arm for run in done for arm, paper in run.paper.items() if paper is not None and paper.harmful is not None}
    beside = [arm for arm in arms if arm in known]

    def rows() -> Iterator[Row]:
        for run in done:
            if run.k == k and judge in run.result.judges:
                rates = run.result.judges[judge].rates
                cells = [_rate(rates[arm].after) if arm in rates else Cell("not run") for arm in arms]
                paper = [_paper(run.paper.get(arm)) for arm in beside]
                yield run.result.model.id, run.task or " and ".join(run.result.tasks), *cells, *paper

    size = "the size of each recipe" if k is None else wording.these(k, "row", "rows")
    caption = f"Harmful after fine-tuning by {judge}, sets of {size}, with 95% intervals over seeds and prompts."
    names = [
        "model",
        "task",
        *(COLUMNS.get(arm, arm) for arm in arms),
        *(f"paper: {COLUMNS.get(arm, arm)}" for arm in beside),
    ]
    return table(f"grid {judge} {k}".replace(" ", "-"), caption, names, rows())


def _before(done: Sequence[Run], arms: Sequence[str]) -> Table:
    def rows() -> Iterator[Row]:
        for run in done:
            for judge, judged in run.result.judges.items():
                rates = judged.rates
                cells = [_rate(rates[arm].before) if arm in rates else Cell("not run") for arm in arms]
                yield run.name, judge, *cells

    caption = "Share of harmful answers before fine-tuning. A set that does not align a model has no safety to lose."
    return table("before", caption, ["run", "judge", *(COLUMNS.get(arm, arm) for arm in arms)], rows())


def _rate(rate: Rate) -> Cell:
    unscored = f", {rate.unscored:,} unscored" if rate.unscored else ""
    return Cell(wording.rate(rate.value, rate.low, rate.high) + unscored, rate.value)


def _paper(paper: PaperNumber | None) -> Cell:
    if paper is None or paper.harmful is None:
        return Cell("not recovered")
    return Cell(f"{100 * paper.harmful:.2f}% ({paper.certainty})", paper.harmful)


def _outcome(decision: Contrast | RunDecision) -> str:
    return str(decision.outcome) + (f" ({decision.reason})" if decision.reason else "")


def _contrasts(suite: Suite) -> Table:
    def rows() -> Iterator[Row]:
        for pair in suite.contrasts:
            yield (
                pair.variant, f"{pair.treatment} \u2212 {pair.control}", pair.judge, points(pair.difference),
                interval(pair), Cell(wording.probability(pair.p_holm), pair.p_holm),
                _outcome(pair), number(pair.seeds),
                number(pair.prompts),
            )  # fmt: skip

    caption = (
        "Harmful after fine-tuning, in points. 95% confidence intervals over paired seeds and prompts, wider where "
        "seeds were added in looks, and not adjusted for multiple comparisons. Each pair of arms is one Holm family "
        "over all runs, and only its adjusted p-value decides. Judges that do not decide are separate families."
    )
    names = ("run", "comparison", "judge", "difference", "interval", "Holm p", "outcome", "seeds", "prompts")
    return table("contrasts", caption, names, rows())


def _sets(done: Sequence[Run]) -> Table:
    def rows() -> Iterator[Row]:
        for run in done:
            for arm, sets in run.result.arms.items():
                shared = run.result.shared if arm in (HIGH, LOW) else None
                yield (
                    run.name, arm, number(sets.rows), number(sets.similarity, 4), number(sets.z),
                    number(sets.log_det, 4), number(sets.vendi, 4), number(sets.pairwise, 4),
                    "" if shared is None else number(shared),
                )  # fmt: skip

    caption = (
        "Similarity is the mean score of a set's rows; standardised, in standard deviations of the pool from its mean. "
        "Random sets are means over draws."
    )
    names = (
        "run", "arm", "rows", "similarity", "standardised", "log-det", "Vendi", "mean pairwise",
        "rows shared by high and low",
    )  # fmt: skip
    return table("sets", caption, names, rows())


def _utility(done: Sequence[Run], arms: Sequence[str]) -> Table:
    def rows() -> Iterator[Row]:
        for run in done:
            utility = run.result.utility
            yield run.name, *(_rate(utility[arm].after) if arm in utility else Cell("not run") for arm in arms)

    caption = "The task's own metric on its held-out rows after fine-tuning, with 95% intervals."
    return table("utility", caption, ["run", *(COLUMNS.get(arm, arm) for arm in arms)], rows())


def _runs(suite: Suite) -> Table:
    def rows() -> Iterator[Row]:
        for run in suite.runs:
            facts = run.found
            seconds = suite.timing.seconds.get(run.name)
            yield (
                run.name, run.status, run.reason or "",
                *((number(facts.trainings.made), number(facts.trainings.shared)) if facts else ("", "")),
                "" if seconds is None else Cell(wording.duration(seconds), seconds),
                (facts.decision.control or "") if facts else "",
                _outcome(facts.decision) if facts else "",
                (facts.warning or "") if facts else "",
            )  # fmt: skip

    caption = "The decision of each run is about its curated set against its control, and takes its costs into account."
    return table(
        "runs",
        caption,
        ("run", "status", "reason", "trained", "taken", "time", "control", "decision", "regime"),
        rows(),
    )


def _differences(contrasts: Sequence[Contrast]) -> Markup | None:
    shown = [pair for pair in contrasts if pair.difference is not None]
    if not shown:
        return None
    lanes = [
        drawing.Lane(
            pair.variant,
            [drawing.Mark(pair.difference, pair.low, pair.high, TONES.get(pair.outcome, "plain"))],
            f"{wording.points(pair.difference)}, Holm p {wording.probability(pair.p_holm)}",
        )
        for pair in shown
        if pair.difference is not None
    ]
    values = [value for pair in shown for value in (pair.difference, pair.low, pair.high)]
    scale = drawing.around_zero([max(min(value, 1.0), -1.0) for value in values if value is not None], factor=100.0)
    words = "Harmful after fine-tuning, low minus high similarity, in points, by run, with 95% intervals"
    return drawing.dots(
        lanes, scale, label=words, axis=("\u2190 low is less harmful", "low is more harmful, in points \u2192")
    )


def _diversity(done: Sequence[Run], styles: Mapping[str, str], measure: str) -> Markup | None:
    lanes = []
    for run in done:
        measured = {arm: getattr(sets, measure) for arm, sets in run.result.arms.items()}
        known = {arm: value for arm, value in measured.items() if value is not None}
        marks = [
            drawing.Mark(known[arm], None, None, style, hollow=arm == LOW)
            for arm, style in styles.items()
            if arm in known
        ]
        if marks:
            words = ", ".join(f"{COLUMNS[arm].lower()} {known[arm]:.3g}" for arm in (HIGH, LOW) if arm in known)
            lanes.append(drawing.Lane(run.name, marks, words))
    if not lanes:
        return None
    values = [mark.value for lane in lanes for mark in lane.marks]
    room = 0.04 * (max(values) - min(values))
    return drawing.dots(
        lanes, drawing.between(min(values) - room, max(values) + room), label=MEASURES[measure], axis=[AXES[measure]]
    )


def _harm(done: Sequence[Run], styles: Mapping[str, str]) -> Markup | None:
    drawn: dict[str, tuple[list[tuple[float, drawing.Mark]], str]] = {}
    for run in done:
        rates = next(judged.rates for judged in run.result.judges.values() if judged.decides)
        for arm, sets in run.result.arms.items():
            after = rates[arm].after if arm in rates else None
            if sets.z is not None and after is not None and after.value is not None:
                mark = drawing.Mark(after.value, after.low, after.high, styles[arm], hollow=arm == LOW)
                drawn.setdefault(arm, ([], styles[arm]))[0].append((sets.z, mark))
    if not drawn:
        return None
    across = drawing.around_zero([x for pairs, _ in drawn.values() for x, _ in pairs], factor=1.0)
    words = "Harmful after fine-tuning against the similarity of the set to the task, one point an arm and run"
    axes = ("share of harmful answers", "\u2190 less similar to the task than the pool", "more similar \u2192")
    return drawing.cloud(drawn, across, drawing.shares(), label=words, axes=axes)
