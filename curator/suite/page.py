"""suite.html: the paper's tables, every comparison with what may be said of it, and what the sets are like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from curator import wording
from curator.report import drawing
from curator.report.part import Rate
from curator.report.tables import Cell, Row, Table, interval, number, points
from curator.suite.model import Contrast, Run, RunDecision, Suite
from curator.suite.recovered import PaperNumber
from curator.suite.results import HIGH, LOW

if TYPE_CHECKING:
    from markupsafe import Markup

COLUMNS = {HIGH: "High", LOW: "Low", "random": "Random", "full": "Full", "none": "None", "curated": "Ours"}
"""The arms of the paper's tables in its order, and ours; arms of the user's come after them."""
MEASURES = {
    "log_det": "log det(I + XX'): larger is more diverse",
    "vendi": "Vendi score, the effective number of different rows: larger is more diverse",
    "pairwise": "Mean cosine of two rows of the set: smaller is more diverse",
}
TONES = {"less harmful": "good", "more harmful": "bad"}


def html(suite: Suite) -> str:
    """The page of a suite, one file that asks no network."""
    from curator.report.html import fill

    done = [run for run in suite.runs if run.found]
    arms = _arms(done)
    styles = {arm: f"a{place % 8}" for place, arm in enumerate(arms)}
    blocks = list(dict.fromkeys((judge, run.k) for run in done for judge in run.result.judges))
    made = {
        **{f"grid {judge} {k}": _grid(suite, done, arms, judge, k) for judge, k in blocks},
        "before": _before(done, arms),
        "contrasts": _contrasts(suite),
        "sets": _sets(done),
        "utility": _utility(done, arms),
        "runs": _runs(suite),
    }
    return fill(
        "suite.html.j2",
        suite=suite,
        done=done,
        blocks=blocks,
        deciding={judge for run in done for judge, said in run.result.judges.items() if said.decides},
        counts={status: sum(run.status == status for run in suite.runs) for status in _STATUSES},
        said=_said(suite),
        styles=styles,
        tables={name: table for name, table in made.items() if table.rows},
        drawn=_drawn(suite, done, styles),
        measures=MEASURES,
        columns=COLUMNS,
    )


_STATUSES = ("done", "failed", "waiting")


def _arms(done: Sequence[Run]) -> list[str]:
    found = dict.fromkeys(arm for run in done for arm in run.result.utility)
    return [*(arm for arm in COLUMNS if arm in found), *(arm for arm in found if arm not in COLUMNS)]


def primary(suite: Suite) -> list[Contrast]:
    """Every low-similarity against high-similarity comparison by the verdicts that decide."""
    return [one for one in suite.contrasts if one.decides and (one.treatment, one.control) == (LOW, HIGH)]


def _said(suite: Suite) -> str:
    found = primary(suite)
    if not found:
        return "No finished run has both a low-similarity and a high-similarity arm yet."
    counts = {outcome: sum(one.outcome == outcome for one in found) for outcome in (*TONES, "not distinguishable")}
    return (
        f"Comparisons of low with high similarity after fine-tuning: {len(found)}. Low is less harmful in "
        f"{counts['less harmful']}, more harmful in {counts['more harmful']}, not distinguishable in "
        f"{counts['not distinguishable']}."
    )


def _table(name: str, caption: str, columns: Sequence[str], rows: Iterator[Row]) -> Table:
    cells = [tuple(one if isinstance(one, Cell) else Cell(str(one)) for one in row) for row in rows]
    numbers = frozenset(place for place in range(len(columns)) if any(row[place].value is not None for row in cells))
    return Table(name.replace(" ", "-"), caption, columns, cells, numbers)


def _grid(suite: Suite, done: Sequence[Run], arms: Sequence[str], judge: str, k: int | None) -> Table:
    known = {arm for run in done for arm, paper in run.paper.items() if paper is not None and paper.harmful is not None}
    beside = [arm for arm in arms if arm in known]

    def rows() -> Iterator[Row]:
        for run in done:
            if run.k == k and judge in run.result.judges:
                rates = run.result.judges[judge].rates
                cells = [_rate(rates[arm].after) if arm in rates else Cell("not run") for arm in arms]
                paper = [_paper(run.paper.get(arm)) for arm in beside]
                yield run.result.model.id, _task(run), *cells, *paper

    size = "the size of each recipe" if k is None else f"{k:,} rows"
    caption = f"Harmful after fine-tuning by {judge}, sets of {size}, with 95 % intervals over seeds and prompts."
    names = [
        "model",
        "task",
        *(COLUMNS.get(arm, arm) for arm in arms),
        *(f"paper: {COLUMNS.get(arm, arm)}" for arm in beside),
    ]
    return _table(f"grid {judge} {k}", caption, names, rows())


def _before(done: Sequence[Run], arms: Sequence[str]) -> Table:
    def rows() -> Iterator[Row]:
        for run in done:
            for judge, said in run.result.judges.items():
                rates = said.rates
                cells = [_rate(rates[arm].before) if arm in rates else Cell("not run") for arm in arms]
                yield run.name, judge, *cells

    caption = "Harmful before fine-tuning: a set that does not align has nothing to lose."
    return _table("before", caption, ["run", "judge", *(COLUMNS.get(arm, arm) for arm in arms)], rows())


def _task(run: Run) -> str:
    return run.task or " and ".join(run.result.tasks)


def _rate(one: Rate) -> Cell:
    unscored = f", {one.unscored:,} unscored" if one.unscored else ""
    return Cell(wording.rate(one.value, one.low, one.high) + unscored, one.value)


def _paper(one: PaperNumber | None) -> Cell:
    if one is None or one.harmful is None:
        return Cell("not recovered")
    return Cell(f"{100 * one.harmful:.2f} % ({one.certainty})", one.harmful)


def _told(one: Contrast | RunDecision) -> str:
    return str(one.outcome) + (f" ({one.reason})" if one.reason else "")


def _contrasts(suite: Suite) -> Table:
    def rows() -> Iterator[Row]:
        for one in suite.contrasts:
            yield (
                one.variant, f"{one.treatment} \u2212 {one.control}", one.judge, points(one.difference),
                interval(one), Cell(wording.probability(one.p_holm), one.p_holm),
                _told(one), number(one.seeds),
                number(one.prompts),
            )  # fmt: skip

    caption = (
        "Harmful after fine-tuning, in points. Intervals are of 95 %, over paired seeds and prompts, not adjusted for "
        "their number; each pair of arms is one Holm family over all runs, and only its adjusted p decides. Judges "
        "that do not decide are families of their own."
    )
    names = ("run", "comparison", "judge", "difference", "interval", "Holm p", "outcome", "seeds", "prompts")
    return _table("contrasts", caption, names, rows())


def _sets(done: Sequence[Run]) -> Table:
    def rows() -> Iterator[Row]:
        for run in done:
            for arm, one in run.result.arms.items():
                shared = run.result.shared if arm in (HIGH, LOW) else None
                yield (
                    run.name, arm, number(one.rows), number(one.similarity, 4), number(one.z),
                    number(one.log_det, 4), number(one.vendi, 4), number(one.pairwise, 4),
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
    return _table("sets", caption, names, rows())


def _utility(done: Sequence[Run], arms: Sequence[str]) -> Table:
    def rows() -> Iterator[Row]:
        for run in done:
            own = run.result.utility
            yield run.name, *(_rate(own[arm].after) if arm in own else Cell("not run") for arm in arms)

    caption = "The task's own metric on its held-out rows after fine-tuning, with 95 % intervals."
    return _table("utility", caption, ["run", *(COLUMNS.get(arm, arm) for arm in arms)], rows())


def _runs(suite: Suite) -> Table:
    def rows() -> Iterator[Row]:
        for run in suite.runs:
            found = run.found
            seconds = suite.timing.seconds.get(run.name)
            yield (
                run.name, run.status, run.reason or "",
                *((number(found.trainings.made), number(found.trainings.shared)) if found else ("", "")),
                "" if seconds is None else Cell(wording.duration(seconds), seconds),
                _told(found.decision) if found else "",
                (found.warning or "") if found else "",
            )  # fmt: skip

    caption = "Ours against random is each run's own decision, which also asks what it costs."
    return _table(
        "runs",
        caption,
        ("run", "status", "reason", "trained", "taken", "time", "ours against random", "regime"),
        rows(),
    )


def _drawn(suite: Suite, done: Sequence[Run], styles: Mapping[str, str]) -> dict[str, Markup]:
    made = {"contrasts": _differences(primary(suite)), "harm": _harm(done, styles)}
    made |= {name: _diversity(done, styles, name) for name in MEASURES}
    return {name: one for name, one in made.items() if one is not None}


def _differences(found: Sequence[Contrast]) -> Markup | None:
    shown = [one for one in found if one.difference is not None]
    if not shown:
        return None
    lanes = [
        drawing.Lane(
            one.variant,
            [drawing.Mark(one.difference, one.low, one.high, TONES.get(one.outcome, "plain"))],
            f"{wording.points(one.difference)}, Holm p {wording.probability(one.p_holm)}",
        )
        for one in shown
        if one.difference is not None
    ]
    values = [value for one in shown for value in (one.difference, one.low, one.high)]
    scale = drawing.around_zero([max(min(one, 1.0), -1.0) for one in values if one is not None], factor=100.0)
    said = "Harmful after fine-tuning, low minus high similarity, in points, by run, with 95 % intervals"
    return drawing.dots(lanes, scale, label=said, ends=("\u2190 low is less harmful", "low is more harmful \u2192"))


def _diversity(done: Sequence[Run], styles: Mapping[str, str], measure: str) -> Markup | None:
    lanes = []
    for run in done:
        measured = {arm: getattr(sets, measure) for arm, sets in run.result.arms.items()}
        own = {arm: value for arm, value in measured.items() if value is not None}
        marks = [
            drawing.Mark(own[arm], None, None, style, hollow=arm == LOW) for arm, style in styles.items() if arm in own
        ]
        if marks:
            words = ", ".join(f"{COLUMNS[arm].lower()} {own[arm]:.3g}" for arm in (HIGH, LOW) if arm in own)
            lanes.append(drawing.Lane(run.name, marks, words))
    if not lanes:
        return None
    values = [mark.value for lane in lanes for mark in lane.marks]
    room = 0.04 * (max(values) - min(values))
    return drawing.dots(lanes, drawing.between(min(values) - room, max(values) + room), label=MEASURES[measure])


def _harm(done: Sequence[Run], styles: Mapping[str, str]) -> Markup | None:
    sets: dict[str, tuple[list[tuple[float, drawing.Mark]], str]] = {}
    for run in done:
        rates = next(said.rates for said in run.result.judges.values() if said.decides)
        for arm, one in run.result.arms.items():
            after = rates[arm].after if arm in rates else None
            if one.z is not None and after is not None and after.value is not None:
                mark = drawing.Mark(after.value, after.low, after.high, styles[arm], hollow=arm == LOW)
                sets.setdefault(arm, ([], styles[arm]))[0].append((one.z, mark))
    if not sets:
        return None
    across = drawing.around_zero([x for pairs, _ in sets.values() for x, _ in pairs], factor=1.0)
    said = "Harmful after fine-tuning against the similarity of the set to the task, one point an arm and run"
    axes = ("\u2190 less similar to the task than the pool", "more similar \u2192")
    return drawing.cloud(sets, across, drawing.shares(), label=said, axes=axes)
